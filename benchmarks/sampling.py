"""Speed of sampling with a random network of the real size, end to end and by part: `python benchmarks/sampling.py`."""

import argparse
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

import config  # noqa: E402
from benchmarks.common import machine_line, measure, milliseconds, record, table  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import PRECISION_HELP, PRECISIONS, run_main  # noqa: E402


def write_random_model(path, resolution=256, **options):
    """Write a snapshot that holds one random generator, of the released size unless `options` of G_style say else.

    Its constant is random too: of ones, the first instance norm would divide rounding errors by almost nothing.
    """
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.network import Network
    options = dict(dict(latent_size=286, label_size=0, num_channels=3), resolution=resolution, **options)
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph):
        tf.set_random_seed(1)
        Gs = Network('Gs', 'training.networks_stylegan.G_style', **options)
        const = Gs.find_var('synthesis/4x4/Const/const')
        Gs.set_var(const, np.random.RandomState(1).standard_normal(const.shape.as_list()))
        pickles.save_states([Gs.state()], path)


def write_random_vaes(folder, seed=0):
    """Write the four VAE decoders with random weights of the released shapes."""
    from dnnlib.tflib import checkpoints
    from renderer.factors import FACTORS
    from vae.model import decoder_shapes
    rng = np.random.RandomState(seed)
    for factor in FACTORS:
        values = {name: rng.standard_normal(shape).astype(np.float32) / np.sqrt(shape[0])
                  for name, shape in decoder_shapes(factor.name).items()}
        checkpoints.save(os.path.join(folder, factor.name, 'stage1_epoch_395.ckpt'), values)


def _end_to_end(faces, count, batch, folder):
    """Seconds for `count` pictures, from random latents to files; the first ones are left out of the clock."""
    from sampling import bulk, latents
    from sampling.image_folder import ImageFolder

    def run(name, subjects):
        names = {bulk.picture_name(i, j): {} for i in range(subjects) for j in range(5)}
        target = ImageFolder(os.path.join(folder, name), {}, names, coeffs='npz')
        jobs = bulk.subject_jobs(faces, latents.draw_subjects(1, subjects, 5), target.todo.__contains__)
        start = time.perf_counter()
        bulk.generate(faces, jobs, target, subjects * 5, batch=batch)
        return time.perf_counter() - start

    run(f'warm-{batch}', 2)
    return run(f'timed-{batch}', max(1, count // 5))


def _parts(faces, batch, folder):
    """Rows (part, milliseconds per picture, spread) of what a picture takes."""
    from dnnlib import pictures
    from sampling import latents
    subject = next(latents.draw_subjects(1, 1, batch))
    people = faces.subject_faces([subject])[0]
    w = faces.dlatents(people, 0.7)
    picture = faces.images_from_dlatents(w, batch)[0]
    smooth = pictures.enlarge(picture[None, ::8, ::8], 8, 'bicubic')[0]     # random networks give noise, photos do not
    parts = {
        'draw latents': (batch, lambda: list(latents.draw_subjects(1, 1, batch))),
        'decode to coefficients': (batch, lambda: faces.subject_faces([subject])),
        'mapping, twice, and truncation': (batch, lambda: faces.dlatents(people, 0.7)),
        f'synthesis, batch {batch}': (batch, lambda: faces.images_from_dlatents(w, batch)),
        'write coefficients, .npz': (1, lambda: people[0].save(os.path.join(folder, 'x.npz'))),
    }
    for level in (1, 6):
        parts[f'write PNG, level {level}'] = (1, lambda level=level: pictures.save_image(
            smooth, os.path.join(folder, 'x.png'), level))
    rows = []
    for name, (count, function) in parts.items():
        timing = tuple(value / count for value in measure(function, 3))
        record(f'sampling, {name}', 1e3 * timing[0], 'ms')
        rows.append([name, milliseconds(timing)])
    return rows


def _start_up(model, vaes, precision, folder):
    """Seconds of a whole `generate_images.py` that makes one picture, the average of w being known."""
    command = [sys.executable, os.path.join(config.ROOT, 'generate_images.py'), '--model', model, '--vae_weights', vaes,
               '--subject', '1', '--variation', '1', '--overwrite', '--outdir', os.path.join(folder, 'start'),
               '--precision', precision]
    return measure(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
                   repeats=2, warmup=0)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--resolution', type=whole(1), default=256, help='pixels (default: %(default)s)')
    parser.add_argument('--images', type=whole(1), default=40, help='pictures per timing (default: %(default)s)')
    parser.add_argument('--batch', type=whole(1), nargs='+', default=[1, 4, 8], help='to try (default: 1 4 8)')
    parser.add_argument('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP)
    args = parser.parse_args()
    from dnnlib.tflib.compat import VERSION
    from sampling.generator import FaceGenerator

    print(machine_line() + f', TensorFlow {VERSION[0]}.{VERSION[1]}')
    with tempfile.TemporaryDirectory() as folder:
        model, vaes = os.path.join(folder, 'model.pkl'), os.path.join(folder, 'vaes')
        write_random_model(model, args.resolution)
        write_random_vaes(vaes)
        with FaceGenerator(model, vaes, precision=args.precision) as faces:
            start = time.perf_counter()
            faces.average_w     # noqa: B018
            average = time.perf_counter() - start
            speeds = {batch: args.images / _end_to_end(faces, args.images, batch, folder) for batch in args.batch}
            parts = _parts(faces, max(args.batch), folder)
        start_up = _start_up(model, vaes, args.precision, folder)
    print(f'\n{args.resolution} x {args.resolution}, latents to files, {args.images} pictures')
    print(table([['batch', 'images/s']] + [[batch, f'{speed:.2f}'] for batch, speed in speeds.items()]))
    print('\n' + table([['part', 'time per picture']] + parts))
    print(f'\naverage of w, once per model: {average:.1f} s\nwhole command, one picture: {milliseconds(start_up)}')
    for batch, speed in speeds.items():
        record(f'sampling, {args.resolution}x{args.resolution}, batch {batch}', speed, 'images/s')
    record('sampling, whole command, one picture', start_up[0], 's')


if __name__ == '__main__':
    run_main(main)
