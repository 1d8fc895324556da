"""Colours of the human head: where the parts of the face are, the mean texture, and what each of the texture
columns does. RGB 0-255 of the surface itself; light comes later.

Everything is painted on the cage's own face (see head_mesh), in its coordinates x, y, z, decimetres.
"""

import functools

import numpy as np

from human import head_mesh

# Skin at the two ends of melanin (palest, darkest), and one deviation of the other two axes of skin.
PALEST, DARKEST = np.array([226.0, 185.0, 163.0]), np.array([98.0, 63.0, 46.0])
MELANIN_LIMIT = 1.73            # the two ends; coefficients are uniform between them: deviation 1
BLOOD, GOLD = np.array([5.0, -2.5, -2.0]), np.array([4.0, 1.0, -8.0])
# Names of the texture columns, in order; what they do stands in `columns`.
COLUMNS = ('melanin', 'blood', 'gold', 'dark brows', 'thick brows', 'red lips', 'stubble', 'moustache', 'light eyes',
           'blue eyes', 'freckles', 'blush', 'tired eyes', 'lines', 'dark lashes')
MEAN_LINES = 0.4                # how much of 'lines' the mean face has
SKIN = (PALEST + DARKEST) / 2
MELANIN = (DARKEST - PALEST) / (2 * MELANIN_LIMIT)


def bump(x, y, cx, cy, sx, sy, power=2.0):
    """exp(-|dx/sx|^power - |dy/sy|^power)."""
    return np.exp(-np.abs((x - cx) / sx) ** power - np.abs((y - cy) / sy) ** power)


def ramp(x, start, stop):
    """0 at start, 1 at stop (either order), smooth in between."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


@functools.lru_cache(maxsize=None)
def canvas():
    """Vertices [N, 3] of the drawn mesh on which all is painted: the cage's own face."""
    return head_mesh.mesh().subdivision @ head_mesh.cage().vertices


@functools.lru_cache(maxsize=None)
def regions():
    """Where the parts of the head are: {name: [N] float32, 0-1}."""
    mesh = head_mesh.mesh()
    x, y, z = canvas().T
    side = np.abs(x)
    skin = (mesh.part == 0) * 1.0
    part = lambda *ends: np.array([name.endswith(ends) for name in head_mesh.PARTS])[mesh.part] * 1.0
    inside = skin * np.maximum(ramp(mesh.masks['inside-mouth'], 0.3, 0.7), _behind_lips(x, y, z, mesh))
    lips = skin * ramp(mesh.masks['lips'], 0.2, 0.7) * (1 - inside)
    ears = skin * ramp(mesh.masks['ears'], 0.2, 0.6)
    face = skin * ramp(mesh.masks['face'], 0.2, 0.6)
    eye = (mesh.eye_ring >= 0) * 1.0
    pupil = eye * (mesh.eye_ring <= head_mesh.PUPIL_RING)
    iris = eye * (mesh.eye_ring <= head_mesh.IRIS_RING) * (1 - pupil)
    out = {
        'skin': skin * (1 - inside), 'inside': inside, 'lips': lips, 'ears': ears, 'face': face,
        'lids': skin * ramp(mesh.masks['eyelids'], 0.2, 0.7), 'eye': eye, 'iris': iris, 'pupil': pupil,
        'sclera': eye - iris - pupil, 'teeth': part('teeth'), 'tongue': part('tongue'),
        'lashes': part('lashes-1', 'lashes-2'), 'scalp': skin * _scalp(side, y, z) * (1 - ears),
        'neck': skin * ramp(y, -0.62, -0.9) * (1 - face), 'brows': skin * _brow(side, y, z, 0.033),
        'thick brows': skin * _brow(side, y, z, 0.060)}
    out.update(_beard(side, y, z, skin * (1 - lips) * (1 - inside)))
    return {name: mask.astype(np.float32) for name, mask in out.items()}


def _behind_lips(x, y, z, mesh):
    """The hidden inner side of the lips [N]."""
    front = 0.352 - 2.05 * x ** 2                       # depth at which the lips touch
    near = ramp(np.abs(y + 0.385), 0.055, 0.040)        # the edges towards the skin recede as well
    return (mesh.masks['lips'] > 0.3) * ramp(z - front, -0.002, -0.022) * near


def _scalp(side, y, z):
    """Where hair grows: above the hairline, before and behind the ears, down to the nape."""
    line = 0.98 - 0.10 * ramp(side, 0.15, 0.45) + 0.04 * ramp(side, 0.0, 0.2)
    temple = 0.98 - 2.0 * np.maximum(side - 0.48, 0)
    above = ramp(y - np.minimum(line, np.maximum(temple, 0.25)), -0.03, 0.05)
    behind = ramp(z + 0.55, 0.10, -0.10) * ramp(y, -0.42, -0.25)
    burns = ramp(z + 0.46, 0.08, -0.04) * ramp(y, 0.02, 0.12)
    return np.clip(np.maximum(above, np.maximum(behind, burns)), 0, 1)


def _brow(side, y, z, thickness):
    """Brows: bold inside, thin outside, arched."""
    t = (side - 0.105) / 0.44                           # 0 at the inner end, 1 at the outer
    middle = 0.474 + 0.045 * np.sin(np.clip(t, 0, 1) * 2.4) - 0.058 * np.clip(t, 0, 1) ** 2
    half = thickness * (1 - 0.62 * np.clip(t, 0, 1)) * ramp(t, -0.10, 0.14) * ramp(t, 1.08, 0.80)
    return ramp(np.abs(y - middle) / np.maximum(half, 1e-3), 1.25, 0.55) * (half > 0.004) * (z > -0.3)


def _beard(side, y, z, skin):
    """Where beards grow: 'beard' with 'moustache' in it."""
    moustache = bump(side, y, 0.0, -0.245 - 0.12 * side, 0.24, 0.055, 4.0)
    cheek = -0.30 + 0.55 * np.maximum(side - 0.36, 0)            # upper edge of the beard on the cheeks
    chin = ramp(y - cheek, 0.05, -0.10) * ramp(y, -0.98, -0.82) * ramp(z, -0.58, -0.50)
    below_lip = 1 - 0.6 * bump(side, y, 0.11, -0.53, 0.05, 0.04)
    beard = np.maximum(chin * below_lip, moustache) * skin
    return {'moustache': moustache * skin, 'beard': beard}


@functools.lru_cache(maxsize=None)
def ambient():
    """How much of the sky each vertex sees [N], 0-1: soft shadows in folds. From the data file."""
    return np.clip(head_mesh.mesh().subdivision @ (head_mesh.stored('sky') / 255), 0, 1)


def compute_sky():
    """How much of the sky each vertex of the cage sees [n], 0-1; its quads shade each other."""
    cage = head_mesh.cage()
    quads = cage.quads[cage.quad_part == 0]
    corner = cage.vertices[quads]
    centre = corner.mean(axis=1)
    area2 = np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1])
    area = np.linalg.norm(area2, axis=1) / 2
    facing = area2 / (2 * area[:, None])
    normal = head_mesh.vertex_normals(cage.vertices, quads)
    shade = np.zeros(len(normal))
    for first in range(0, len(normal), 512):
        rows = slice(first, first + 512)
        to = centre[None] - cage.vertices[rows, None]                           # [512, quads, 3]
        far2 = (to ** 2).sum(axis=2) + 1e-4
        up = np.maximum((to * normal[rows, None]).sum(axis=2), 0)
        back = np.maximum((to * facing).sum(axis=2), 0)                         # quads that turn their back
        front = np.maximum(-(to * facing).sum(axis=2), 0)
        shade[rows] = ((up * (front + 0.3 * back) / far2) * area / (far2 + area)).sum(axis=1) / np.pi
    return np.clip(1 - shade, 0, 1)


# ------------------------------------------------------------------------------------------------ texture

@functools.lru_cache(maxsize=None)
def _layers():
    """What lies over the plain skin: shadow factor [N, 3], and how much skin shows through everything else [N]."""
    r = regions()
    x, y, z = canvas().T
    side = np.abs(x)
    sky = ambient()[:, None] ** np.array([0.55, 0.75, 0.80])            # shadows on skin are warm
    crease = bump(side, y, 0.31, 0.368 + 0.02 * (0.31 - side), 0.13, 0.014, 2.0) * (z > 0)
    lash_line = r['lids'] * _lid_edge()
    nostril = bump(side, y, 0.062, -0.145, 0.040, 0.022, 3.0) * (z < 0.47)
    seam = r['lips'] * bump(y, 0, -0.380 + 0.02 * side, 0, 0.016, 1) * (z < 0.37)
    shadow = sky.copy()
    for mask, tint in ((crease, (0.80, 0.74, 0.72)), (lash_line, (0.42, 0.36, 0.36)), (nostril, (0.42, 0.34, 0.33)),
                       (seam, (0.62, 0.52, 0.52)), (r['lids'], (0.96, 0.91, 0.90)),
                       (bump(side, y, 0.30, 0.20, 0.13, 0.05), (0.95, 0.92, 0.93)),             # below the eyes
                       (bump(side, y, 0.145, 0.32, 0.05, 0.08), (0.93, 0.90, 0.90)),            # beside the bridge
                       (bump(side, y, 0.40, -0.02, 0.16, 0.13), (1.01, 0.96, 0.96)),            # cheeks
                       (bump(x, y, 0, -0.03, 0.10, 0.09) * (z > 0.3), (1.02, 0.95, 0.95)),      # tip of the nose
                       (bump(x, y, 0, 0.80, 0.40, 0.20), (1.02, 1.01, 0.99)),                   # forehead
                       (r['ears'], (1.0, 0.92, 0.92))):
        shadow *= 1 + mask[:, None] * (np.array(tint) - 1)
    return shadow, r['skin']


def _lid_edge():
    """1 at the edge of the lids, where lashes grow [N]."""
    lashes = np.concatenate([head_mesh.cage().vertices[head_mesh.part_vertices(name)] for name in head_mesh.PARTS[6:]])
    from scipy.spatial import cKDTree
    distance = cKDTree(lashes).query(canvas())[0]
    upper = canvas()[:, 1] > 0.27
    return np.exp(-(distance / np.where(upper, 0.013, 0.008)) ** 2) * np.where(upper, 1.0, 0.55)


_BROW, _LIP_TINT = np.array([52.0, 38.0, 32.0]), np.array([0.90, 0.70, 0.71])


def mean_texture():
    """[N, 3] float64 RGB 0-255 of the mean face."""
    r = regions()
    shadow, skin = _layers()
    color = SKIN * shadow * _lip_factor()
    lay = lambda mask, rgb: color + (np.asarray(rgb) - color) * mask[:, None]
    color = lay(_brow_cover(), _BROW)
    color = lay(r['inside'], _inside_color())
    color = lay(r['teeth'], _teeth_color())
    color = lay(r['tongue'], _tongue_color())
    color = lay(r['sclera'], _sclera_color())
    color = lay(r['iris'], _iris_pattern() * np.array([92.0, 72.0, 54.0]))
    color = lay(r['pupil'], (10, 8, 9))
    color = lay(r['lashes'], (30, 23, 21))
    return color + MEAN_LINES * columns()['lines']


def _brow_cover():
    """How much of the skin the mean face's brows hide [N]."""
    r = regions()
    return 0.82 * r['brows'] + 0.32 * np.maximum(r['thick brows'] - r['brows'], 0)


def _lip_factor():
    return 1 + regions()['lips'][:, None] * (_LIP_TINT - 1)


def _inside_color():
    z = canvas()[:, 2:]
    return np.array([104.0, 46.0, 46.0]) * np.clip(ramp(z, 0.02, 0.34), 0.10, 1)


def _teeth_color():
    x, y, z = canvas().T
    depth = np.clip(ramp(z, 0.02, 0.30), 0.25, 1)
    gap = 1 - 0.16 * np.exp(-(((np.abs(x) / 0.082 + 1e-9) % 1 - 0.5) ** 2 - 0.25) ** 2 / 0.002)
    return np.array([226.0, 216.0, 196.0]) * (depth * gap)[:, None]


def _tongue_color():
    z = canvas()[:, 2:]
    return np.array([166.0, 88.0, 84.0]) * np.clip(ramp(z, -0.25, 0.22), 0.2, 1)


def _eye_place():
    """Across and up [N] from the centre of the nearer eye, as shares of its radius."""
    x, y, _ = canvas().T
    return (np.abs(x) - 0.3078) / 0.138, (y - 0.294) / 0.138


def _sclera_color():
    across, up = _eye_place()
    shade = (1 - 0.32 * ramp(up, -0.05, 0.45)) * (1 - 0.25 * ramp(np.abs(across), 0.45, 0.95))
    warm = np.array([218.0, 210.0, 203.0]) - np.array([2.0, 14.0, 16.0]) * ramp(np.abs(across), 0.4, 0.9)[:, None]
    return warm * shade[:, None]


def _iris_pattern():
    """Brightness of the iris [N, 1]: fibres, a dark ring at its edge, darker above, where the lid shades it."""
    ring = head_mesh.mesh().eye_ring
    across, up = _eye_place()
    fibres = 1 + 0.14 * np.sin(11 * np.arctan2(up, across)) * (ring % 2)
    edge = np.where(ring >= head_mesh.IRIS_RING, 0.42, np.where(ring == head_mesh.IRIS_RING - 1, 0.80, 1.0))
    inner = np.where(ring == head_mesh.PUPIL_RING + 1, 0.75, 1.0)
    light = 1.10 - 0.38 * ramp(up, -0.1, 0.4)
    return (fibres * edge * inner * light)[:, None]


def columns():
    """{name: [N, 3]} change of the texture per unit, in the order of the face model's texture columns."""
    r = regions()
    shadow, skin = _layers()
    x, y, z = canvas().T
    side = np.abs(x)
    bare = (skin * (1 - _brow_cover()))[:, None] * shadow * _lip_factor()      # how much of the skin's colour shows
    paint = lambda mask, rgb: mask[:, None] * np.array(rgb, np.float64)
    front = (z > -0.2) * r['face'] * (1 - r['lips'])
    pattern = paint(r['iris'], (1, 1, 1)) * _iris_pattern()
    below = bump(side, y, 0.29, 0.185, 0.13, 0.055) + 0.5 * bump(side, y, 0.20, 0.25, 0.05, 0.05)
    return {
        'melanin': bare * MELANIN, 'blood': bare * BLOOD, 'gold': bare * GOLD,
        'dark brows': paint(_brow_cover(), (-22, -17, -13)),
        'thick brows': paint(0.19 * (r['thick brows'] - r['brows']), _BROW - SKIN),
        'red lips': paint(r['lips'], (5, -9, -5)) * shadow,
        'stubble': paint(r['beard'], (-17, -12, -8)),
        'moustache': paint(r['moustache'] + 0.5 * r['beard'] * bump(x, y, 0, -0.75, 0.20, 0.20, 4.0), (-30, -25, -20)),
        'light eyes': pattern * (26, 28, 26), 'blue eyes': pattern * (-14, 8, 34),
        'freckles': paint(_freckles(side, y, z) * front, (-15, -19, -17)),
        'blush': paint((bump(side, y, 0.42, -0.03, 0.15, 0.12) + 0.6 * bump(x, y, 0, -0.03, 0.09, 0.08)) * front,
                       (6, -8, -6)),
        'tired eyes': paint(below * front * (1 - r['lids']), (-12, -13, -8)),
        'lines': paint(_lines(side, y, z) * front, (-17, -18, -16)),
        'dark lashes': paint(r['lids'] * _lid_edge(), (-26, -22, -20)) + paint(
            r['lids'] * bump(side, y, 0.31, 0.35, 0.15, 0.04), (-9, -10, -8)),
    }


def _freckles(side, y, z):
    random = np.random.RandomState(7).uniform(size=len(y)) ** 5
    where = bump(side, y, 0.30, 0.0, 0.28, 0.16) + bump(side, y, 0, 0.02, 0.14, 0.16)
    where = where + 0.3 * bump(side, y, 0, 0.75, 0.5, 0.2)
    return np.clip(where, 0, 1) * random * 1.5


def _lines(side, y, z):
    """Where age draws lines: beside the mouth, on the forehead, beside the eyes, between the brows."""
    fold = bump(side - 0.60 * (-0.10 - y), y, 0.175, -0.22, 0.020, 0.13)
    wavy = y - 0.02 * np.cos(5 * side)
    forehead = sum(bump(wavy, side, height, 0, 0.013, 0.40) for height in (0.66, 0.76, 0.86))
    crow = bump(side, y, 0.54, 0.28, 0.06, 0.10) * (0.5 + 0.5 * np.cos((y - 0.28) * 120))
    between = bump(side, y, 0.055, 0.47, 0.013, 0.07)
    marionette = 0.7 * bump(side - 0.25 * (-0.40 - y), y, 0.27, -0.48, 0.016, 0.08)
    return fold + 0.35 * forehead + 0.5 * crow + 0.6 * between + marionette
