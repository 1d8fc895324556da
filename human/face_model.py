"""The human world's face model: a head from free measurements (head_mesh), in the very format of the real one.

`python -m human.face_model --save_path DIR` writes it, for programs that read such files; the world needs none.
"""

import argparse
import functools
import os

import numpy as np

from dnnlib.util import UserError, atomic_path, run_main
from human import expressions, head_mesh, paint, people
from renderer import camera, factors
from renderer.face_model import MODEL_FILE, NUM_EXPRESSION, NUM_SHAPE, NUM_TEXTURE, face_model_from_arrays
from worlds import label

WORLD = 'human'
TEMPLATE_FILE = 'similarity_Lm3D_all.mat'
TEMPLATE_SCALE = 102.0      # pixels of R_Net's picture per unit of a template, as the alignment takes it

# A friendly face at rest: amounts of expression units that belong to the mean face.
_REST = dict(mouthSmile=0.20, eyeWide=0.12, browInnerUp=0.15, browOuterUp=0.10)
# Moves of what is in the mouth, so that it is seen when people smile.
_TEETH = {'upper-teeth': (0.0, -0.040, -0.008), 'tongue': (0.0, -0.035, -0.03)}
_LIPS_CLOSER = 0.007        # decimetres that the lower lip is raised at rest: subdivision opens the lips by that much


@functools.lru_cache(maxsize=None)
def head():
    """Cage of the mean face [n, 3] and named bases {part: {name: field}}: 'shape' and 'expression' columns as fields of
    the cage [n, 3], 'texture' as fields of the drawn mesh [N, 3]; float64."""
    mean_weights, basis = people.components()
    mean = head_mesh.cage().vertices + np.tensordot(mean_weights, people.displacements(), 1)
    mean = mean + np.tensordot(expressions.units(**_REST), expressions.displacements(), 1) + _mouth_at_rest()
    shape = np.tensordot(basis, people.displacements(), 1)
    return mean, {'shape': {f'person {i}': field for i, field in enumerate(shape)},
                  'expression': {f'expression {i}': field for i, field in enumerate(expressions.basis())},
                  'texture': paint.columns()}


def _mouth_at_rest():
    """Displacement of the cage [n, 3] that closes the lips and brings teeth and tongue to their place."""
    x, y, z = head_mesh.cage().vertices.T
    near = paint.bump(x, y, 0, -0.40, 0.20, 0.09, 2.0) * (y < -0.380) * (z > 0.15)
    out = np.stack([0 * x, _LIPS_CLOSER * near, 0 * x], axis=1)
    for part, move in _TEETH.items():
        out[head_mesh.part_vertices(part)] = move
    return out


def column(part, name):
    """Column of a named coefficient within its part ('shape', 'expression', 'texture'), e.g. 'texture', 'freckles'."""
    return list(head()[1][part]).index(name)


@functools.lru_cache(maxsize=None)
def arrays():
    """The model file as a dict: the arrays, types and counting from 1 of BFM_model_front_gan.mat."""
    mean, bases = head()
    mesh = head_mesh.mesh()
    fine = {part: _drawn(bases[part].values()) for part in ('shape', 'expression')}
    count = len(mesh.part)
    drawn = region()
    number = np.zeros(count, np.int64)
    number[drawn] = np.arange(len(drawn))
    inside = np.isin(mesh.triangles, drawn).all(axis=1)
    return {
        'meanshape': (mesh.subdivision @ mean).reshape(1, -1).astype(np.float32),
        'meantex': np.clip(paint.mean_texture(), 0, 255).reshape(1, -1).astype(np.float32),
        'idBase': _basis(fine['shape'], count, NUM_SHAPE, np.float32),
        'exBase': _basis(fine['expression'], count, NUM_EXPRESSION, np.float64),
        'texBase': _basis(bases['texture'].values(), count, NUM_TEXTURE, np.float32),
        'tri': (mesh.triangles + 1).astype(np.float32),
        'point_buf': (_triangles_around(mesh.triangles, count) + 1).astype(np.float32),
        'keypoints': (landmark_vertices() + 1).astype(np.float32).reshape(1, -1),
        'gan_mask': (drawn + 1).astype(np.float32).reshape(-1, 1),
        'gan_tl': (number[mesh.triangles[inside]] + 1).astype(np.int32),
    }


def _drawn(fields):
    """Fields of the cage [n, 3] -> fields of the drawn mesh [N, 3], a list."""
    fields = list(fields)
    flat = np.concatenate(fields, axis=1)
    return np.split(head_mesh.mesh().subdivision @ flat, len(fields), axis=1)


@functools.lru_cache(maxsize=None)
def load_model():
    """The human head as a FaceModel."""
    return face_model_from_arrays(arrays(), 'human head')


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


# ------------------------------------------------------------------------------------------------ one face

def identity_shape(coeff):
    """Coefficients [257] -> vertices [N, 3] float32 of the person at rest, decimetres, without pose."""
    model = load_model()
    moved = model.shape_basis[:, :NUM_SHAPE] @ np.asarray(coeff, np.float32)[factors.SHAPE]
    return model.mean_shape + moved.reshape(-1, 3)


def deform(coeff):
    """Coefficients [257] -> vertices [N, 3] float32 with the expression, decimetres, without pose."""
    moved = load_model().shape_basis[:, NUM_SHAPE:] @ np.asarray(coeff, np.float32)[factors.EXPRESSION]
    return identity_shape(coeff) + moved.reshape(-1, 3)


def colors(coeff):
    """Coefficients [257] -> texture [N, 3] float32, RGB 0-255."""
    model = load_model()
    change = model.texture_basis @ np.asarray(coeff, np.float32)[factors.TEXTURE]
    return np.clip(model.mean_texture + change.reshape(-1, 3), 0, 255)


def normals(shape):
    """Vertices [N, 3] -> unit normals [N, 3] float32, as the decoder: sums over the triangles around."""
    model = load_model()
    v1, v2, v3 = (shape[model.triangles[:, i]] for i in range(3))
    facing = np.cross(v1 - v2, v2 - v3)
    facing /= np.linalg.norm(facing, axis=1, keepdims=True) + 1e-12
    facing = np.concatenate([facing, np.zeros([1, 3], facing.dtype)])
    out = facing[model.vertex_triangles].sum(axis=1)
    return (out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-12)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ parts of the format

def region():
    """Vertices that are drawn, ascending: face to the ears and the hairline, eyes, mouth, nostrils."""
    mesh, r = head_mesh.mesh(), paint.regions()
    covered = np.max([r[name] for name in ('face', 'lips', 'lids', 'inside')], axis=0) > 0.5
    # Nostrils and folds that no mask covers lie within the face's outline.
    x, y, z = paint.canvas().T
    covered |= (mesh.part == 0) & (np.hypot(x / 0.5, (y + 0.1) / 0.5) < 1) & (z > 0.0)
    wanted = covered | (mesh.part != 0)
    whole = wanted[mesh.triangles].all(axis=1)
    return np.unique(mesh.triangles[whole])


def _basis(fields, count, width, dtype):
    """Fields [N, 3] as the first columns of [3 * count, width], the others zero."""
    basis = np.zeros([3 * count, width], dtype)
    for i, field in enumerate(fields):
        basis[:, i] = field.reshape(-1).astype(np.float32)
    return basis


def _triangles_around(triangles, count):
    """[count, 8] triangles around each vertex, padded with their number; of more than eight, seven spread evenly."""
    flat = triangles.reshape(-1)
    order = np.argsort(flat, kind='stable')
    first = np.searchsorted(flat[order], np.arange(count + 1))
    table = np.full([count, 8], len(triangles))
    for vertex in range(count):
        mine = order[first[vertex]:first[vertex + 1]] // 3
        if len(mine) > 8:
            mine = mine[np.arange(7) * len(mine) // 7]
        table[vertex, :len(mine)] = mine
    return table


# Landmarks of the left half of the picture (x < 0) and the middle on the cage's own face: (x, y), decimetres.
_BROW = ((-0.555, 0.425), (-0.470, 0.485), (-0.375, 0.510), (-0.265, 0.500), (-0.150, 0.465))
_NOSE = ((0.0, 0.300), (0.0, 0.185), (0.0, 0.065), (0.0, -0.030))
_NOSE_BASE = ((-0.120, -0.125), (-0.062, -0.150), (0.0, -0.165))
_EYE = ((-0.441, 0.292), (-0.362, 0.334), (-0.268, 0.330), (-0.184, 0.283), (-0.268, 0.256), (-0.362, 0.256))
_LIPS = ((-0.252, -0.378), (-0.160, -0.318), (-0.055, -0.288), (0.0, -0.294))
_LOWER_LIP = ((-0.140, -0.447), (-0.070, -0.478), (0.0, -0.490))
_INNER_LIPS = ((-0.235, -0.376), (-0.070, -0.370), (0.0, -0.376), (-0.070, -0.402), (0.0, -0.402))
_OUTLINE = np.radians(np.linspace(158, 270, 9))       # directions of the jaw's outline from `_OUTLINE_CENTRE`
_OUTLINE_CENTRE = (0.0, -0.07)


@functools.lru_cache(maxsize=None)
def landmark_vertices():
    """Vertex numbers [68] of the standard (iBUG) landmarks, image left (negative x) first."""
    mirrored = lambda points: [(-x, y) for x, y in reversed(points)]
    brows = list(_BROW) + mirrored(_BROW)
    base = list(_NOSE_BASE) + mirrored(_NOSE_BASE[:2])
    eyes = list(_EYE) + [(-_EYE[i][0], _EYE[i][1]) for i in (3, 2, 1, 0, 5, 4)]
    outer = list(_LIPS) + mirrored(_LIPS[:3]) + [(-x, y) for x, y in _LOWER_LIP] + list(_LOWER_LIP[1::-1])
    a, b, c, d, e = _INNER_LIPS
    inner = [a, b, c, (-b[0], b[1]), (-a[0], a[1]), (-d[0], d[1]), e, d]
    points = brows + list(_NOSE) + base + eyes + outer + inner
    return np.concatenate([_outline_vertices(), [_visible_vertex(x, y) for x, y in points]])


def _visible_vertex(x, y):
    """The skin's vertex nearest to (x, y) as seen from in front, on the cage's own face."""
    at = paint.canvas()
    usable = (head_mesh.mesh().part == 0) & (paint.regions()['inside'] < 0.5)
    distance = np.hypot(at[:, 0] - x, at[:, 1] - y) - 0.15 * at[:, 2]
    return int(np.argmin(np.where(usable, distance, np.inf)))


def _outline_vertices():
    """The seventeen points of the jaw's outline, from the picture's left ear by the chin to the right."""
    at = paint.canvas() - np.array(_OUTLINE_CENTRE + (0.0,))
    face = np.nonzero((paint.regions()['face'] > 0.5) & (at[:, 2] > -0.62))[0]
    half = []
    for angle in _OUTLINE:
        along = at[face, 0] * np.cos(angle) + at[face, 1] * np.sin(angle)
        aside = np.abs(-at[face, 0] * np.sin(angle) + at[face, 1] * np.cos(angle))
        half.append(face[np.argmax(along - 1.5 * aside)])
    from scipy.spatial import cKDTree
    mirror = cKDTree(paint.canvas()).query(paint.canvas()[half[:8]] * [-1, 1, 1])[1]
    return np.array(half + list(mirror[::-1]))


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
