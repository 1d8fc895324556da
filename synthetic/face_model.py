"""The synthetic world's face model: a head made by formulas, in the very format of the real one, free of any licence.

`python -m synthetic.face_model --save_path DIR` writes it; then DISCO_FACE_MODEL_DIR=DIR makes every command use it.
"""

import argparse
import functools
import os

import numpy as np

from dnnlib.util import UserError, atomic_path, run_main
from renderer import camera
from renderer.face_model import MODEL_FILE, NUM_EXPRESSION, NUM_SHAPE, NUM_TEXTURE, face_model_from_arrays
from synthetic import head_paint, head_shape
from synthetic.head_shape import EYE, EYE_WIDTH, MOUTH_WIDTH, eye_lines, mouth_lines
from worlds import label

WORLD = 'synthetic'
TEMPLATE_FILE = 'similarity_Lm3D_all.mat'
TEMPLATE_SCALE = 102.0      # pixels of R_Net's picture per unit of a template, as the alignment takes it

REGION_TOP, REGION_BOTTOM, REGION_SIDE = 0.98, -0.885, 1.36      # the drawn region: heights of the front, angle


@functools.lru_cache(maxsize=None)
def head():
    """Grid of the head, mean shape [rows, columns, 3], named bases {part: {name: field}}."""
    grid = head_shape.Grid()
    mean = grid.shape + head_shape.features(grid)
    bases = {'shape': head_shape.identities(grid, mean), 'expression': head_shape.expressions(grid),
             'texture': head_paint.identities(grid)}
    return grid, mean, bases


def column(part, name):
    """Column of a named coefficient within its part ('shape', 'texture', 'expression'), e.g. 'expression', 'smile'."""
    return list(head()[2][part]).index(name)


@functools.lru_cache(maxsize=None)
def arrays():
    """The model file as a dict: the arrays, types and counting from 1 of BFM_model_front_gan.mat."""
    grid, mean, bases = head()
    triangles = grid_triangles(*grid.p.shape)
    rows = np.nonzero((grid.front_y <= REGION_TOP) & (grid.front_y >= REGION_BOTTOM) & (_is_above_chin(grid)))[0]
    columns = np.nonzero(np.abs(grid.theta[0]) <= REGION_SIDE)[0]
    region = (rows[:, None] * grid.p.shape[1] + columns).reshape(-1)
    drawn = np.isin(triangles, region).all(axis=1)
    number = np.zeros(grid.p.size, np.int64)
    number[region] = np.arange(len(region))
    count = grid.p.size
    return {
        'meanshape': mean.reshape(1, -1).astype(np.float32),
        'meantex': head_paint.mean_texture(grid).reshape(1, -1).astype(np.float32),
        'idBase': _basis(bases['shape'], count, NUM_SHAPE, np.float32),
        'exBase': _basis(bases['expression'], count, NUM_EXPRESSION, np.float64),
        'texBase': _basis(bases['texture'], count, NUM_TEXTURE, np.float32),
        'tri': (triangles + 1).astype(np.float32),
        'point_buf': (_triangles_around(triangles, count) + 1).astype(np.float32),
        'keypoints': (landmark_vertices(grid, mean) + 1).astype(np.float32).reshape(1, -1),
        'gan_mask': (region + 1).astype(np.float32).reshape(-1, 1),
        'gan_tl': (number[triangles[drawn]] + 1).astype(np.int32),
    }


@functools.lru_cache(maxsize=None)
def load_model():
    """The synthetic head as a FaceModel."""
    return face_model_from_arrays(arrays(), 'synthetic head')


def template():
    """The 68 landmarks of the mean face as the alignment wants them, [68, 3] float32.

    x and y are those of the picture that R_Net would see of the mean face without translation, in units of
    TEMPLATE_SCALE pixels: so that aligning such a picture neither moves nor scales it.
    """
    points = load_model().mean_shape[load_model().landmarks].astype(np.float64)
    scale = camera.FOCAL_224 / TEMPLATE_SCALE / (camera.DISTANCE - points[:, 2:])
    return np.concatenate([points[:, :2] * scale, points[:, 2:]], axis=1).astype(np.float32)


def save(folder):
    """Write the face model, the template of landmarks and world.json into `folder`. Raises UserError."""
    label.write(folder, WORLD)
    for name, content in ((MODEL_FILE, arrays()), (TEMPLATE_FILE, {'lm': template()})):
        with atomic_path(os.path.join(folder, name)) as temporary:
            # Here, for only making the model needs it.
            import scipy.io
            scipy.io.savemat(temporary, content, do_compression=True)


def grid_triangles(rows, columns, closed=True):
    """Triangles [T, 3] of a grid of vertices numbered row by row, row 0 on top, columns to the right seen from outside.

    closed: the last column is followed by the first.
    """
    number = np.arange(rows * columns).reshape(rows, columns)
    after = np.roll(number, -1, axis=1)
    keep = slice(None) if closed else slice(-1)
    a, b, c, d = number[:-1, keep], after[:-1, keep], number[1:, keep], after[1:, keep]
    quads = np.stack([np.stack([a, c, b], axis=-1), np.stack([b, c, d], axis=-1)], axis=2)
    return quads.reshape(-1, 3)


def _is_above_chin(grid):
    """Rows before the lowest: those after it run back below the chin."""
    return np.arange(len(grid.front_y)) <= np.argmin(grid.front_y)


def _basis(fields, count, width, dtype):
    """Named fields as the first columns of [3 * count, width], the others zero."""
    basis = np.zeros([3 * count, width], dtype)
    for i, field in enumerate(fields.values()):
        basis[:, i] = field.reshape(-1).astype(np.float32)
    return basis


def _triangles_around(triangles, count):
    """[count, 8] triangles around each vertex, padded with their number."""
    flat = triangles.reshape(-1)
    order = np.argsort(flat, kind='stable')
    first = np.searchsorted(flat[order], np.arange(count + 1))
    table = np.full([count, 8], len(triangles))
    for vertex in range(count):
        mine = order[first[vertex]:first[vertex + 1]] // 3
        table[vertex, :len(mine)] = mine
    return table


# ------------------------------------------------------------------------------------------------ landmarks

def landmark_vertices(grid, mean):
    """Vertex numbers [68] of the standard (iBUG) landmarks, image left (negative x) first."""
    front = np.where(grid.front > 0.9, 0.0, 9.0)
    picked = []
    for x, y in _canonical_landmarks():
        picked.append(int(np.argmin(np.hypot(grid.p - x, grid.q - y) + front)))
    jaw = [int(np.argmin(np.linalg.norm(mean - point, axis=-1))) for point in _jaw_points(grid, mean)]
    return np.array(jaw + picked)


def _jaw_points(grid, mean):
    """Seventeen points of the outline [17, 3], ear to ear by the chin: 1/16 of its length apart."""
    angle = np.linspace(-1.36, 1.36, 201)
    chin = int(np.argmin(grid.front_y))
    height = mean[chin, mean.shape[1] // 2, 1] + 0.05 + (0.20 - mean[chin, 48, 1]) * np.abs(angle / 1.36) ** 2.2
    line = []
    for a, y in zip(angle, height):
        column = int(np.argmin(np.abs(grid.theta[0] - a)))
        row = int(np.argmin(np.abs(mean[:chin + 1, column, 1] - y)))
        line.append(mean[row, column])
    line = np.array(line)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.stack([np.interp(np.linspace(0, length[-1], 17), length, line[:, i]) for i in range(3)], axis=1)


def _canonical_landmarks():
    """Landmarks 17-67 as (p, q) of the canonical face."""
    brow = [(0.505, 0.468), (0.42, 0.495), (0.32, 0.502), (0.22, 0.488), (0.13, 0.465)]     # outer to inner
    nose = [(0.0, 0.28), (0.0, 0.17), (0.0, 0.06), (0.0, -0.05)]
    base = [(-0.105, -0.10), (-0.055, -0.135), (0.0, -0.145), (0.055, -0.135), (0.105, -0.10)]
    across = [-1, -0.42, 0.42, 1, 0.42, -0.42]          # outer corner, two above, inner corner, two below: image left
    eye = []
    for i, t in enumerate(across):
        low, high, _ = eye_lines(np.array(EYE[0] - EYE_WIDTH * t))
        eye.append((EYE[0] - EYE_WIDTH * t, float(high if i in (1, 2) else low)))
    left = lambda points: [(-x, y) for x, y in points]
    right_eye = [eye[i] for i in (3, 2, 1, 0, 5, 4)]    # inner corner first
    return left(brow) + brow[::-1] + nose + base + left(eye) + right_eye + _mouth_landmarks()


def _mouth_landmarks():
    outer = [(-1, None), (-0.62, 3), (-0.26, 3), (0, 3), (0.26, 3), (0.62, 3), (1, None),
             (0.55, 0), (0.26, 0), (0, 0), (-0.26, 0), (-0.55, 0)]
    inner = [(-0.88, None), (-0.35, 2), (0, 2), (0.35, 2), (0.88, None), (0.35, 1), (0, 1), (-0.35, 1)]
    points = []
    for t, line in outer + inner:
        lines = mouth_lines(np.array(t * MOUTH_WIDTH))
        corner = (lines[1] + lines[2]) / 2
        points.append((t * MOUTH_WIDTH, float(corner if line is None else lines[line])))
    return points


def main():
    """Command line -> the head as files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--save_path', metavar='DIR', required=True, help='folder to write into (no default)')
    args = parser.parse_args()
    if os.path.isfile(args.save_path):
        raise UserError(f'--save_path {args.save_path}: a file; a folder was expected')
    save(args.save_path)
    model = load_model()
    print(f'{args.save_path}: {MODEL_FILE} with {model.num_vertices} vertices, {TEMPLATE_FILE}, {label.FILE}')


if __name__ == '__main__':
    run_main(main)
