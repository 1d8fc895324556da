"""What is around the synthetic face: hair, neck, clothes and background, as meshes and pictures of NumPy arrays.

Meshes are in the frame of the world, pose already applied, so that one lighting serves everything in a photo.
"""

import functools
from collections import namedtuple

import cv2
import numpy as np

from renderer import factors
from synthetic import face_model
from synthetic.head_shape import bump, ramp

# shape, normals, texture: [m, 3]; texture RGB 0-255.
Mesh = namedtuple('Mesh', 'shape normals texture')

HAIR_ROWS = 34                      # of the hair's grid; its columns are the head's
BODY_ROWS, BODY_COLUMNS = 14, 40
_BACKGROUND_SIZE = 64               # it is smooth: drawn this small, then enlarged
_BODY_TURN = 0.3                    # share of the head's pose that the shoulders follow


def hair_triangles():
    """[T, 3] of the hair's vertices, see `hair`."""
    return face_model.grid_triangles(HAIR_ROWS, face_model.head()[0].p.shape[1])


def body_triangles():
    """[T, 3] of the body's vertices, see `body`."""
    return face_model.grid_triangles(BODY_ROWS, BODY_COLUMNS)


def rotation(angles):
    """[3] pitch, yaw, roll -> [3, 3] for row vectors, as renderer.face_decoder.rotation_matrix."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return rx @ ry @ rz


# ------------------------------------------------------------------------------------------------ hair

@functools.lru_cache(maxsize=None)
def _scalp():
    """The plain head without ears and features: theta [columns], rows' parameter, centred shape [rows, columns, 3],
    and the identity's basis there [rows, columns, 3, identities], all float32."""
    grid, mean, bases = face_model.head()
    shape = (grid.shape - mean.reshape(-1, 3).mean(axis=0)).astype(np.float32)
    basis = np.stack(list(bases['shape'].values()), axis=-1).astype(np.float32)
    return grid.theta[0], shape[..., 1], shape, basis


def hair(scene, coeff):
    """A shell over the head, from the crown down to where this scene's hair ends -> Mesh, HAIR_ROWS x columns."""
    theta, height, shape, basis = _scalp()
    deformed = shape + basis @ coeff[factors.SHAPE][:basis.shape[-1]]
    end = _lower_edge(theta, scene)                                             # [columns] height where hair ends
    along = np.linspace(0, 1, HAIR_ROWS)[:, None] ** 1.15
    wanted = height[0] + (end - height[0]) * along                              # [rows, columns] heights
    surface = _at_heights(height, deformed, np.maximum(wanted, -0.10))
    surface[..., 1] += np.minimum(wanted + 0.10, 0)                             # long hair hangs straight down
    outwards = np.stack([surface[..., 0], np.maximum(surface[..., 1] - 0.25, 0), surface[..., 2] + 0.5], axis=-1)
    outwards /= np.linalg.norm(outwards, axis=-1, keepdims=True) + 1e-6
    lift = _thickness(theta, along, wanted, end, scene)
    surface = surface + outwards * lift[..., None]
    texture = scene.hair * _strands(theta, along, scene)[..., None]
    turn = rotation(coeff[factors.ANGLES])
    surface = surface @ turn + coeff[factors.TRANSLATION]
    return _mesh(surface, texture)


def _lower_edge(theta, scene):
    """Height at which the hair ends, by angle: hairline or fringe in front, length at the sides and behind."""
    around = np.abs(theta)
    brow = 0.86 + 0.07 * scene.hairline
    part = np.exp(-((np.sin(theta) - 0.5 * scene.parting) / 0.45) ** 2)         # the fringe opens at the parting
    front = brow - scene.fringe * (brow - 0.60) * (1 - 0.55 * part) - 0.10 * ramp(around, 0.3, 0.95)
    front = front + 0.12 * part * (1 - scene.fringe)                            # no fringe: hair falls to both sides
    side = -0.05 + 0.25 * (1 - scene.length) - 1.0 * ramp(scene.length, 0.15, 1.0)
    nape = np.minimum(side, -0.35)
    temple = ramp(around, 0.92 - 0.12 * scene.length, 1.22)
    edge = front + (side - front) * temple + (nape - side) * ramp(around, 1.7, 2.3)
    ragged = np.random.RandomState(scene.strands + 2).uniform(-1, 1, len(theta))
    return edge + ragged * (0.012 + 0.028 * scene.fringe + 0.03 * temple)


def _at_heights(height, deformed, wanted):
    """Points [rows, columns, 3] of the deformed head where the plain head has the wanted heights [rows, columns]."""
    top = height.shape[0] - 12                                                  # rows of decreasing height everywhere
    rows = np.arange(top)
    place = np.stack([np.interp(-wanted[:, c], -height[:top, c], rows) for c in range(wanted.shape[1])], axis=1)
    above = np.minimum(place.astype(int), top - 2)
    share = (place - above)[..., None]
    columns = np.arange(wanted.shape[1])
    return deformed[above, columns] * (1 - share) + deformed[above + 1, columns] * share


def _thickness(theta, along, wanted, end, scene):
    """Distance from the head [rows, columns]: thin at the hairline, thick on top and at the sides."""
    edge = ramp(wanted - end, -0.01, 0.16)
    behind = ramp(np.abs(theta), 0.7, 1.3)
    thin = 0.025 + 0.030 * behind + 0.05 * scene.length * behind
    part = np.exp(-((np.sin(theta) * along ** 0.5 - 0.5 * scene.parting) / 0.12) ** 2) * ramp(np.abs(theta), 1.4, 0.9)
    wave = scene.wave * 0.022 * np.sin(9 * wanted + 5 * np.sin(3 * theta + scene.strands % 7)) * behind
    return thin + scene.volume * np.maximum(edge, 0.8 * behind) * (1 - 0.45 * part) + wave


def _strands(theta, along, scene):
    """Brightness of the hair [rows, columns]: streaks from the crown downwards, darker at the parting and the roots."""
    random = np.random.RandomState(scene.strands)
    streaks = random.uniform(0.72, 1.28, [len(theta)])
    streaks = 0.6 * streaks + 0.4 * np.roll(streaks, 1)
    shift = np.sin(5 * along + random.uniform(0, 6)) * 0.10 * scene.wave
    part = np.exp(-((np.sin(theta) * along ** 0.5 - 0.5 * scene.parting) / 0.05) ** 2) * ramp(np.abs(theta), 1.4, 0.9)
    return (streaks + shift) * (1 - 0.35 * part) * (0.80 + 0.25 * along)


# ------------------------------------------------------------------------------------------------ body

def body(scene, coeff, skin):
    """Neck and shoulders -> Mesh, BODY_ROWS x BODY_COLUMNS. skin: RGB of the neck."""
    angle = np.linspace(-np.pi, np.pi, BODY_COLUMNS, endpoint=False)
    rows = np.array([   # height, half width, depth behind the origin, half depth, share of the shoulders' pose
        [-0.34, 0.28, -0.50, 0.24, 0.0], [-0.55, 0.34, -0.54, 0.29, 0.0], [-0.78, 0.39, -0.55, 0.34, 0.2],
        [-0.92, 0.41, -0.55, 0.36, 0.5], [-1.02, 0.43, -0.56, 0.37, 0.8], [-1.08, 0.47, -0.57, 0.40, 1.0],
        [-1.12, 0.54, -0.57, 0.42, 1.0], [-1.15, 0.64, -0.58, 0.44, 1.0], [-1.19, 0.80, -0.58, 0.46, 1.0],
        [-1.25, 1.00, -0.58, 0.48, 1.0], [-1.34, 1.22, -0.58, 0.50, 1.0], [-1.50, 1.42, -0.58, 0.52, 1.0],
        [-1.80, 1.52, -0.58, 0.54, 1.0], [-2.60, 1.55, -0.58, 0.56, 1.0]])
    y, width, z, depth, share = (rows[:, i:i + 1] for i in range(5))
    points = np.stack([width * np.sin(angle), y + 0.07 * (1 - np.cos(angle)), z + depth * np.cos(angle)], axis=-1)
    points[..., 0] *= 1 + 0.05 * coeff[factors.SHAPE][0]
    head, trunk = (points @ rotation(coeff[factors.ANGLES] * k) for k in (1.0, _BODY_TURN))
    points = head + (trunk - head) * share[..., None] + coeff[factors.TRANSLATION]
    collar = ramp(y + 0.10 * np.cos(angle), -1.04, -1.10)[..., None]
    texture = np.asarray(skin) * 0.92 + (scene.shirt - np.asarray(skin) * 0.92) * collar
    return _mesh(points, texture)


def _mesh(points, texture):
    """Grid of points [rows, columns, 3], closed around, seen from outside -> Mesh with smooth normals."""
    across = np.roll(points, -1, axis=1) - np.roll(points, 1, axis=1)
    down = np.gradient(points, axis=0)
    normals = np.cross(down, across)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), np.broadcast_to(texture, points.shape).reshape(-1, 3))


# ------------------------------------------------------------------------------------------------ background

def background(scene, size):
    """[size, size, 3] float32 RGB 0-255: a colour that fades across the picture, with soft blotches."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, _BACKGROUND_SIZE)])
    random = np.random.RandomState(scene.strands + 1)
    picture = scene.sky + scene.slope * (np.cos(scene.turn) * x + np.sin(scene.turn) * y)[..., None]
    for _ in range(4):
        cx, cy = random.uniform(-1, 1, 2)
        spread = random.uniform(0.2, 0.6)
        picture = picture + bump(x, y, cx, cy, spread, spread)[..., None] * scene.blotch * random.standard_normal(3)
    return cv2.resize(np.clip(picture, 0, 255).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
