"""Milliseconds of the rasteriser on a face-sized mesh, forward and with gradient; the NumPy twin beside it.

`python benchmarks/rasterize.py [--repeats 20] [--skip-ref]`
"""

import argparse
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import (  # noqa: E402
    machine_line,
    measure,
    measure_interleaved,
    milliseconds,
    record_timings,
    table,
)
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402

CASES = ((64, 8), (256, 4))     # resolution, batch: as in training with 4 GPUs
ROWS, COLUMNS = 194, 143        # 27742 vertices, as many as the cropped region of the real face model


def face_mesh(batch, seed=0):
    """A face-like surface: vertices [batch, 27742, 3] around the origin, in decimetres; triangles [54812, 3]."""
    random = np.random.RandomState(seed)
    v, u = np.meshgrid(np.linspace(-1.0, 1.0, ROWS), np.linspace(-1.0, 1.0, COLUMNS), indexing='ij')
    bump = 0.3 * np.exp(-((u / 0.15) ** 2 + (v / 0.3) ** 2))                    # a nose, so that something occludes
    head = np.stack([0.8 * np.sin(1.5 * u), 1.05 * v, 0.8 * np.cos(1.5 * u) * np.cos(v) + bump], axis=-1)
    angles = random.uniform(-0.5, 0.5, batch)
    turned = [head.reshape(-1, 3) @ [[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in angles]
    corner = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).reshape(-1, 1)
    halves = np.array([[0, 1, COLUMNS + 1], [0, COLUMNS + 1, COLUMNS]])
    return np.float32(turned), np.int32((corner[:, None] + halves).reshape(-1, 3))


def build(resolution, batch, impl):
    """{name: function to time} of one case, in the default session."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from renderer import camera, camera_utils, rasterize_triangles
    meshes, triangles = face_mesh(batch)
    vertices = tf.get_variable(f'vertices_{resolution}_{impl}', initializer=meshes)
    colours = tf.get_variable(f'colours_{resolution}_{impl}', initializer=127.5 + 100.0 * meshes)
    ones = tf.ones([batch])
    projection = tf.matmul(
        camera_utils.perspective(1.0, camera.FOV_Y_DEGREES * ones, camera.NEAR_CLIP * ones, camera.FAR_CLIP * ones),
        camera_utils.look_at(ones[:, None] * [0.0, 0.0, camera.DISTANCE], tf.zeros([batch, 3]),
                             ones[:, None] * [0.0, 1.0, 0.0]))
    clip = camera_utils.transform_homogeneous(projection, vertices)
    ndc = tf.get_variable(f'ndc_{resolution}_{impl}', initializer=clip[:, :, :3] / clip[:, :, 3:], trainable=False)
    coverage = rasterize_triangles.rasterize(ndc, triangles, resolution, resolution, impl)
    upstream = tf.get_variable(f'upstream_{resolution}_{impl}', initializer=tf.ones(coverage[0].shape))
    image, _ = rasterize_triangles.rasterize_triangles(vertices, colours, triangles, projection, resolution,
                                                       resolution, [0.0] * 3, impl)
    tfutil.init_uninitialized_vars()
    targets = {
        'op': [coverage[2]],
        'op + gradient': tf.gradients(coverage[0], ndc, upstream),
        'project, draw, interpolate': [image],
        'the same + gradient': tf.gradients(tf.reduce_sum(image * image), [vertices, colours]),
    }
    return {name: (lambda ops=[tensor.op for tensor in tensors]: tfutil.run(ops)) for name, tensors in targets.items()}


def main():
    """Parse the options, time every case, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=whole(1), default=20, help='timed calls each (default: %(default)s)')
    parser.add_argument('--skip-ref', action='store_true', help='leave out the NumPy twin, which takes seconds '
                        'for one picture (default: time it)')
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f'--repeats must be at least 1, got {args.repeats}')
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    tfutil.init_tf()
    print(machine_line() + f', TensorFlow {tf.__version__}; median (least-most), whole batch')
    rows = [['resolution', 'batch', 'what', 'C++', 'NumPy twin, 1 picture']]
    for resolution, batch in CASES:
        timings = measure_interleaved(build(resolution, batch, 'cpp'), args.repeats, warmup=3)
        record_timings(f'rasterize, {resolution}x{resolution}, batch {batch},', timings)
        twins = {} if args.skip_ref else build(resolution, 1, 'ref')
        for name, timing in timings.items():
            twin = milliseconds(measure(twins[name], 1, 0)) if twins else '-'
            rows.append([resolution, batch, name, milliseconds(timing), twin])
    print(table(rows))


if __name__ == '__main__':
    run_main(main)
