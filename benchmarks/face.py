"""Speed of the face decoder and renderer on a face model of the real size: `python benchmarks/face.py`.

Wall time of 2 threads and processor time, of our own ops ('cpp') and of TensorFlow's ('ref'), in turns.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

from benchmarks.common import machine_line, memory_bandwidth, record, table  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402

GRID = 189, 189         # vertices, about the 35709 of the real model
DRAWN = 166, 167        # of them drawn, about 27742, with about 54864 triangles


def full_size_model(seed=0):
    """A bump with a nose on a regular grid, and smooth random bases, of the real model's size -> FaceModel."""
    from renderer.face_model import FaceModel
    random = np.random.RandomState(seed)
    rows, columns = GRID
    v, u = np.meshgrid(np.linspace(1, -1, rows), np.linspace(-1, 1, columns), indexing='ij')
    z = np.sqrt(np.maximum(2.2 - u ** 2 - v ** 2, 0)) - 1.2 + 0.25 * np.exp(-(u ** 2 + (v + 0.1) ** 2) / 0.03)
    shape = np.stack([0.8 * u, 1.0 * v, z], axis=-1).reshape(-1, 3)

    def smooth(components, scale):
        waves = [np.sin(random.uniform(-6, 6) * u + random.uniform(-6, 6) * v + random.uniform(0, 6)).reshape(-1)
                 for _ in range(3 * components)]
        return (scale * np.stack(waves, axis=1).reshape(-1, 3, components)).reshape(-1, components).astype(np.float32)

    number = np.arange(rows * columns).reshape(rows, columns)
    top, left = (rows - DRAWN[0]) // 2, (columns - DRAWN[1]) // 2
    drawn = number[top:top + DRAWN[0], left:left + DRAWN[1]]
    triangles = _grid_triangles(number)
    around = [[] for _ in range(number.size)]
    for i, triangle in enumerate(triangles):
        for vertex in triangle:
            around[vertex].append(i)
    return FaceModel(
        mean_shape=(shape - shape.mean(axis=0)).astype(np.float32),
        mean_texture=np.full([number.size, 3], (180, 140, 120), np.float32),
        shape_basis=np.concatenate([smooth(80, 0.01), smooth(64, 0.01)], axis=1), texture_basis=smooth(80, 2.0),
        triangles=triangles,
        vertex_triangles=np.array([a + [len(triangles)] * (8 - len(a)) for a in around], np.int32),
        landmarks=random.choice(drawn.reshape(-1), 68).astype(np.int32), region=drawn.reshape(-1).astype(np.int32),
        region_triangles=_grid_triangles(np.arange(drawn.size).reshape(drawn.shape)))


def _grid_triangles(number):
    """Vertex numbers [rows, columns] -> [T, 3] int32, counter-clockwise seen from +z with row 0 on top."""
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    halves = [np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, c, b), (b, c, d))]
    return np.concatenate(halves).astype(np.int32)


def _decoder_cases(model, batch, impl, threads):
    """Name -> function that runs it once: landmarks and the drawn region, forward and with gradient."""
    from dnnlib.tflib.compat import tf
    from renderer.face_decoder import FaceDecoder, project_224
    coeff = tf.placeholder(tf.float32, [None, 257])         # a constant would be folded, and the face with it
    points = project_224(FaceDecoder(model, model.landmarks, impl).points(coeff))
    face = FaceDecoder(model, impl=impl).decode(coeff)
    weight = np.random.RandomState(1).standard_normal([2, batch, len(model.region), 3]).astype(np.float32)
    total = tf.reduce_sum(weight[0] * face.vertices) + tf.reduce_sum(weight[1] * face.colors)
    return _calls('decode', {
        'landmarks, forward': points,
        'landmarks, with gradient': [points, tf.gradients(points, coeff)[0]],
        'region, forward': [face.vertices.op, face.colors.op],
        'region, with gradient': [total, tf.gradients(total, coeff)[0]],
    }, coeff, batch, threads)


def _calls(what, fetches, coeff, batch, threads):
    """Name -> function without arguments, each with a session of so many threads."""
    from dnnlib.tflib import tfutil
    session = tfutil.create_session(threads)
    value = random_coefficients(batch)
    calls = {name: session.make_callable(fetch, [coeff]) for name, fetch in fetches.items()}
    return {f'{what}, {name}, batch {batch}': lambda call=call: call(value) for name, call in calls.items()}


def random_coefficients(batch, seed=2):
    """[batch, 257] float32: moderate faces, poses and lights, no translation."""
    value = np.random.RandomState(seed).standard_normal([batch, 257]) * 0.3
    value[:, 254:] = 0
    value[:, 227:254] *= 0.3
    return value.astype(np.float32)


def _render_cases(model, resolution, batch, impl, threads):
    """Name -> function that runs it once: decode and draw, forward and with gradient."""
    from dnnlib.tflib.compat import tf
    from renderer.face_decoder import FaceDecoder
    from renderer.face_renderer import FaceRenderer
    coeff = tf.placeholder(tf.float32, [None, 257])
    renderer = FaceRenderer(model)                          # the rasteriser is ours in both: its twin is for tests
    renderer.decoder = FaceDecoder(model, impl=impl)
    render = renderer.render(coeff, resolution)
    weight = np.random.RandomState(1).standard_normal([batch, resolution, resolution, 3]).astype(np.float32)
    total = tf.reduce_sum(weight * render.image)
    fetches = {'forward': [render.image, render.mask], 'with gradient': [total, tf.gradients(total, coeff)[0]]}
    return _calls(f'render {resolution}x{resolution}', fetches, coeff, batch, threads)


def _measure(cases, repeats, warmup=3):
    """Runs (name, impl) -> function in turns -> (name, impl) -> [repeats, 2] seconds: wall and processor time."""
    for call in cases.values():
        for _ in range(warmup):
            call()
    times = {key: [] for key in cases}
    for _ in range(repeats):
        for key, call in cases.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            times[key].append((time.perf_counter() - wall, time.process_time() - processor))
    return {key: np.array(value) for key, value in times.items()}


def _cell(times):
    median, least = np.median(times, axis=0) * 1e3, times.min(axis=0) * 1e3
    return f'{median[0]:.3g} (least {least[0]:.3g}), {least[1]:.3g}'


def main():
    """Prints the machine, the memory to read at least, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--repeats', type=whole(1), default=15, help='timed calls of each case')
    parser.add_argument('--threads', type=whole(1), default=2, help='threads of TensorFlow')
    args = parser.parse_args()
    model = full_size_model()
    cases = {}
    for impl in ('cpp', 'ref'):
        made = _decoder_cases(model, 8, impl, args.threads)
        made.update(_render_cases(model, 64, 8, impl, args.threads))
        made.update(_render_cases(model, 256, 4, impl, args.threads))
        cases.update({(name, impl): call for name, call in made.items()})
    gigabytes = (144 + 80) * 3 * len(model.region) * 4 / 1e9                    # float32
    print(machine_line())
    print(f'{model.num_vertices} vertices, {len(model.region)} drawn, {len(model.region_triangles)} triangles; their '
          f'bases are {1e3 * gigabytes:.0f} MB to read, once forward, once more for the gradient: at the speed of a '
          f'copy {1e3 * gigabytes / memory_bandwidth():.1f} ms each')
    times = _measure(cases, args.repeats)
    for (name, impl), spent in times.items():
        if impl == 'cpp':
            record(f'face, {name}', 1e3 * np.median(spent[:, 0]), 'ms')
    names = list(dict.fromkeys(name for name, _ in times))
    heading = ('case', 'cpp: wall ms, processor ms', 'ref: wall ms, processor ms')
    print(table([heading] + [(name, _cell(times[name, 'cpp']), _cell(times[name, 'ref'])) for name in names]))


if __name__ == '__main__':
    run_main(main)
