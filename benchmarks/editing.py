"""Editing of photos: how near edits come to the truth, in the human world, where a person can be photographed again
with another expression, light or pose; and the time of the search: `python benchmarks/editing.py`."""

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

import config  # noqa: E402
from benchmarks.common import machine_line, measure, milliseconds, record, table  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402
from renderer import factors  # noqa: E402

SEED = 777              # photos that no training set holds
TURN = 0.45             # radians


def _wishes(coeffs):
    """Another pose, expression, lighting each: {word: [N, 257]}; the latter two are the neighbour's."""
    wishes = {word: coeffs.copy() for word in ('expression', 'lighting', 'pose')}
    yaw = factors.ANGLES.start + 1
    wishes['pose'][:, yaw] -= TURN * np.where(coeffs[:, yaw] < 0, -1, 1)
    for word, part in (('expression', factors.EXPRESSION), ('lighting', factors.LIGHTING)):
        wishes[word][:, part] = np.roll(coeffs[:, part], 1, axis=0)
    return wishes


def _face(pictures):
    """Where faces are in pictures [N, S, S, 3]."""
    size = pictures.shape[1]
    return pictures[:, 12 * size // 64:52 * size // 64, 14 * size // 64:50 * size // 64]


def _photographs(count, size):
    """Photos of people [N, size, size, 3], their coefficients, {word: photos of the same people with a wish}."""
    from human import prior
    from human.photos import Photographer
    coeffs, scenes, _ = zip(*[prior.draw(SEED, i, False) for i in range(count)])
    coeffs, photographer = np.stack(coeffs), Photographer(size)
    photos = photographer.draw(coeffs, scenes)[0]
    truth = {word: photographer.draw(wish, scenes)[0] for word, wish in _wishes(coeffs).items()}
    photographer.close()
    return photos, coeffs, truth


def differences(model, count, steps):
    """Mean difference from the truth, of 255: ({word: (of the edited photo, of the photo left as it is)}, seconds).

    `redrawn` is among the words: the whole picture, nothing changed. seconds: of the search, for one photo.
    """
    from sampling import editing, inversion
    from sampling.faces import Face
    from sampling.generator import FaceGenerator
    from worlds.parts import of_model
    with FaceGenerator(model) as faces:
        photos, coeffs, truth = _photographs(count, faces.resolution)
        inverter = inversion.Inverter(faces, of_model(model).expert_specs(), batch=count)
        start = time.perf_counter()
        found = inverter.invert(photos, list(coeffs), steps)
        seconds = (time.perf_counter() - start) / count
        results = {'redrawn': (np.mean([one.error for one in found]), 0.0)}
        for word, wish in _wishes(coeffs).items():
            wanted = [Face(np.concatenate([row[:factors.NUM_COEFFS], np.zeros(faces.noise_dim)])) for row in wish]
            edited = editing.PhotoEditor(faces).images([editing.Edit(*pair) for pair in zip(found, wanted)])
            results[word] = tuple(np.abs(_face(x).astype(float) - _face(truth[word])).mean() for x in (edited, photos))
    return results, seconds


def _step_time(resolution, batch):
    """Time of one step of the search for one photo, by a random network of the released size, without experts."""
    from benchmarks.sampling import write_random_model, write_random_vaes
    from sampling import inversion
    from sampling.generator import FaceGenerator
    with tempfile.TemporaryDirectory() as folder:
        model, vaes = os.path.join(folder, 'model.pkl'), os.path.join(folder, 'vaes')
        write_random_model(model, resolution)
        write_random_vaes(vaes)
        with FaceGenerator(model, vaes) as faces:
            inverter = inversion.Inverter(faces, w_id=0, batch=batch)
            photos, people = faces.images(faces.random_faces(batch, seed=1), rate=1), faces.random_faces(batch, seed=2)
            steps = 8
            spread = measure(lambda: inverter.invert(photos, people, steps), repeats=2)
    return tuple(value / steps / batch for value in spread)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default=os.path.join(config.DEMO_DIR, config.DEMO_NAME),
                        help='of the human world (default: %(default)s)')
    parser.add_argument('--photos', type=whole(1), default=16, help='how many (default: %(default)s)')
    parser.add_argument('--steps', type=whole(1), default=400, help='of the search (default: %(default)s)')
    parser.add_argument('--resolution', type=whole(1), default=256, help='pixels, of the timing (default: %(default)s)')
    args = parser.parse_args()
    from dnnlib.tflib.compat import VERSION

    print(machine_line() + f', TensorFlow {VERSION[0]}.{VERSION[1]}')
    results, seconds = differences(args.model, args.photos, args.steps)
    print(f'\nmean difference from the true photo of the face, of 255; {args.photos} photos, {args.steps} steps')
    print(table([['', 'edited', 'photo left as it is']]
                + [[word, f'{edited:.1f}', f'{left:.1f}'] for word, (edited, left) in results.items()]))
    print(f'\nsearch: {seconds:.1f} s a photo')
    step = _step_time(args.resolution, 4)
    print(f'search at {args.resolution} x {args.resolution}, batch 4: {milliseconds(step)} a step and photo')
    record(f'editing, small model, search of {args.steps} steps', seconds, 's')
    record(f'editing, {args.resolution}x{args.resolution}, step', 1e3 * step[0], 'ms')


if __name__ == '__main__':
    run_main(main)
