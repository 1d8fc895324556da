"""Photos a second of each step of preprocess_data.py and of the whole, beside what the reconstruction network allows.

The photos are made here; give --image_path for others (with their .txt beside them). Speed is R_Net's with random
weights. With another --precision coefficients are compared with float32's, of --weights, or of the human world.
"""

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import common  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import PRECISIONS, run_main  # noqa: E402
from preprocess import alignment, landmarks, picture_files, pipeline, plan  # noqa: E402
from renderer.camera import RECON_SIZE  # noqa: E402

UNSEEN = 778            # seed of photos that no training set holds
TEMPLATE = np.array([[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0.0, -0.05, 0.55], [-0.25, -0.38, 0.22],
                     [0.25, -0.38, 0.22]])


def make_photos(folder, count, size=450):
    """Smooth noise with the landmarks of a frontal face whose eyes are a sixth of the width apart."""
    points = size * (0.5 + TEMPLATE[:, :2] * [1, -1] / 0.62 / 6)
    for k in range(count):
        noise = np.random.RandomState(k).randint(0, 256, [size // 4, size // 4, 3]).astype(np.uint8)
        Image.fromarray(noise).resize((size, size), Image.BICUBIC).save(os.path.join(folder, f'{k:05d}.png'))
        landmarks.write(os.path.join(folder, f'{k:05d}.txt'), points)


def release_way(photo, placement):
    """What the release did: resize the whole photo, then cut; the same pixels."""
    return np.asarray(Image.fromarray(photo).resize(placement.resized, Image.BICUBIC).crop(placement.box))


def time_steps(folder, rounds):
    """Rows of the table: milliseconds of one core for each step on the folder's first photo."""
    file = os.path.join(folder, picture_files.list_pictures(folder)[0])
    photo = picture_files.read_rgb(file)
    size = photo.shape[1::-1]
    points = landmarks.read(os.path.splitext(file)[0] + '.txt', size)
    placement = alignment.fit(points, TEMPLATE, size)
    aligned = alignment.align(photo, placement)
    assert np.abs(aligned.astype(int) - release_way(photo, placement)).max() == 0
    ours = dict.fromkeys(plan.result_files('x'), [None])         # written again and again
    with tempfile.TemporaryDirectory() as out:
        times = common.measure_interleaved({
            'decode': lambda: picture_files.read_rgb(file),
            'fit': lambda: alignment.fit(points, TEMPLATE, size),
            'align: the whole photo, as the release did': lambda: release_way(photo, placement),
            'align: the region only': lambda: alignment.align(photo, placement),
            'network input': lambda: alignment.recon_input(aligned),
            'crop': lambda: alignment.crop_face(aligned, (0, 0, 0)),
            'write': lambda: pipeline.write_results(out, 'x', aligned[:256, :256], np.zeros(257), known=ours),
        }, rounds)
    common.record_timings('preprocess', times)
    return [[name, common.milliseconds(timing)] for name, timing in times.items()]


def cpu_seconds():
    """Processor time of this process and of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def time_pipeline(folder, reconstruct, batch, workers):
    """(photos a second, processor time of one in ms) of the whole pipeline; starting the workers is in the latter."""
    with tempfile.TemporaryDirectory() as out:
        jobs, outcome = plan.plan(folder, folder, out)
        start, cpu = [], cpu_seconds()

        def timed(images):
            start.append(time.perf_counter())
            return reconstruct(images)

        pipeline.process(jobs, outcome, TEMPLATE, out, timed, batch, workers)
        return (len(jobs) - batch) / (time.perf_counter() - start[0]), (cpu_seconds() - cpu) / len(jobs) * 1e3


def network(batch, precision):
    """The reconstruction network with random weights as a callable, and photos a second it does alone."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from perception import networks_recon
    images = tf.placeholder(tf.uint8, [None, 224, 224, 3])
    coeff = networks_recon.R_Net(tf.cast(images, tf.float32)) * 0
    session = tfutil.init_tf(precision=precision)
    tfutil.init_uninitialized_vars()
    reconstruct = lambda x: session.run(coeff, {images: x})
    return reconstruct, network_rate(reconstruct, batch)


def network_rate(reconstruct, batch):
    """Photos a second of the network in batches, nothing else at work."""
    median, _, _ = common.measure(lambda: reconstruct(np.zeros([batch, 224, 224, 3], np.uint8)), 5)
    return batch / median


# ---- how far another precision is off

def network_inputs(folder):
    """Aligned photos of a folder, [N, 224, 224, 3] BGR uint8."""
    inputs = []
    for name in picture_files.list_pictures(folder):
        photo = picture_files.read_rgb(os.path.join(folder, name))
        size = photo.shape[1::-1]
        points = landmarks.read(os.path.join(folder, os.path.splitext(name)[0] + '.txt'), size)
        inputs.append(alignment.recon_input(alignment.align(photo, alignment.fit(points, TEMPLATE, size))))
    return np.stack(inputs)


def human_inputs(count):
    """Photos of the human world that its networks never saw, [N, 224, 224, 3] BGR uint8."""
    from human import prior
    from human.photos import Photographer
    coeffs, scenes, _ = zip(*[prior.draw(UNSEEN, i, True) for i in range(count)])
    photographer = Photographer(RECON_SIZE, 'free')
    parts = [photographer.draw(np.stack(coeffs[i:i + 8]), scenes[i:i + 8])[0] for i in range(0, count, 8)]
    photographer.close()
    return np.concatenate(parts)[..., ::-1]


def differences(specs, photos, batch, precision='bfloat16'):
    """(rms, largest) difference of coefficients in `precision` from float32's, in units of their spread."""
    from perception.experts import Reconstructor
    found = {}
    for name in ('float32', precision):         # in this order: tf32 stays switched on
        with Reconstructor(specs, batch, precision=name) as reconstruct:
            found[name] = reconstruct(photos).astype(np.float64)
    spread = found['float32'].std(axis=0)
    moves = spread > 1e-6 * spread.max()
    off = (found[precision] - found['float32'])[:, moves] / spread[moves]
    return np.sqrt(np.square(off).mean()), np.abs(off).max()


def network_specs(weights):
    """What --weights names, for perception.experts."""
    from perception import experts
    from worlds.parts import World
    if not weights:
        return World('human').expert_specs()
    if weights.endswith('.json'):
        return experts.load_specs(weights)
    specs = experts.released_specs()
    specs['recon'].weights = weights
    return specs


def report_precision(options):
    """Print how far coefficients in the precision asked for are off."""
    specs = network_specs(options.weights)
    photos = network_inputs(options.image_path) if options.image_path else human_inputs(64)
    rms, most = differences(specs, photos, options.batch, options.precision)
    print(f'coefficients by {options.precision} against float32, {len(photos)} photos, '
          f'{options.weights or "human world"}, in units of their spread: rms {rms:.4f}, largest {most:.3f}')


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--image_path', metavar='DIR', help='photos with their .txt (default: made here)')
    parser.add_argument('--count', type=whole(1), default=200, help='photos made (default: %(default)s)')
    parser.add_argument('--batch', type=whole(1), default=16, help='photos in a network run (default: %(default)s)')
    parser.add_argument('--workers', type=whole(1), default=os.cpu_count(), help='processes (default: one per core)')
    parser.add_argument('--network', action='store_true', help='the network too (default: the photos only)')
    parser.add_argument('--precision', choices=PRECISIONS, default='float32', help='of the network; '
                        'another than float32 implies --network and compares coefficients, too (default: %(default)s)')
    parser.add_argument('--weights', metavar='PATH', help='to compare with: as of preprocess_data.py (default: the '
                        "human world's)")
    options = parser.parse_args()
    if not options.image_path and options.count <= options.batch:
        parser.error(f'--count {options.count}: more than --batch, {options.batch}, for the first one warms up')
    print(common.machine_line())
    with tempfile.TemporaryDirectory() as made:
        folder = options.image_path or made
        if not options.image_path:
            make_photos(made, options.count)
        print(common.table([['step', 'one photo, one core, median (min-max)']] + time_steps(folder, 15)))
        rate, cpu = time_pipeline(folder, lambda x: np.zeros([len(x), 257]), options.batch, options.workers)
        print(f'decode, align, crop, write: {rate:.0f} photos/s with {options.workers} workers; {cpu:.1f} ms of '
              'processor time a photo')
        common.record('preprocess, without network', rate, 'photos/s')
        common.record('preprocess, without network, processor', cpu, 'ms')
        if options.precision != 'float32':
            report_precision(options)
        if options.network or options.precision != 'float32':
            reconstruct, alone = network(options.batch, options.precision)
            rate, _ = time_pipeline(folder, reconstruct, options.batch, options.workers)
            common.record(f'preprocess, with network, {options.precision}', rate, 'photos/s')
            alone = (alone + network_rate(reconstruct, options.batch)) / 2      # before and after: machines wander
            print(f'network alone: {alone:.1f} photos/s; everything together: {rate:.1f} photos/s '
                  f'({100 * rate / alone:.0f}%)')


if __name__ == '__main__':
    run_main(main)
