"""Garments and glasses of a photo, as meshes that fit the deformed head: vertices in the model's frame before the pose.

A garment is a sheet around the chest's middle: for each angle around and each angle from above, how far it stands.
"""

import functools
from collections import namedtuple

import cv2
import numpy as np

from human import anatomy
from human.shading import vertex_normals

# points, normals [n, 3]; triangles [t, 3]; place [n, 3]: decimetres along the cloth, and 1 where its rim is
Mesh = namedtuple('Mesh', 'points normals triangles place')

CHEST = (0.0, 5.0, 0.1)               # base mesh
COLUMNS = 72
_ABOVE = np.radians(np.arange(15, 116, 10))     # angles from above of the table below, and its angles from the front
_AROUND = np.radians(np.arange(0, 181, 22.5))
_TORSO = np.array([                             # distance of neck, shoulders and chest from the chest's middle
    [1.30, 1.15, 1.00, 0.88, 0.84, 0.84, 0.88, 0.93, 1.00, 1.14, 1.39],
    [1.32, 1.16, 1.02, 0.92, 0.89, 0.92, 0.98, 1.04, 1.15, 1.32, 1.61],
    [1.34, 1.18, 1.06, 1.00, 1.00, 1.12, 1.30, 1.38, 1.44, 1.57, 1.73],
    [1.36, 1.22, 1.08, 1.02, 1.12, 1.44, 1.74, 1.81, 1.76, 1.68, 1.66],
    [1.36, 1.23, 1.05, 1.08, 1.26, 1.60, 1.95, 1.97, 1.87, 1.82, 1.78],
    [1.32, 1.19, 1.07, 1.11, 1.22, 1.39, 1.58, 1.67, 1.69, 1.70, 1.58],
    [1.26, 1.12, 1.02, 1.01, 1.02, 1.03, 1.02, 1.04, 1.06, 1.05, 1.05],
    [1.20, 1.04, 0.93, 0.87, 0.82, 0.77, 0.73, 0.70, 0.72, 0.73, 0.76],
    [1.16, 0.99, 0.86, 0.78, 0.72, 0.67, 0.64, 0.62, 0.62, 0.63, 0.66]])
_SIZE = 64                                      # of maps of the torso: angle from above 0..120 degrees, around


def garment(clothes, shape):
    """Mesh of a scenes.Clothes over the model's vertices `shape` [N, 3] before the pose."""
    around = np.linspace(-np.pi, np.pi, COLUMNS, endpoint=False)[None]
    neck, rows = _cut(clothes, around)                  # [1, columns] angle from above; rows of (further down, off)
    above = np.minimum(neck + rows[:, :1], 2.05)
    radius = _torso(shape, above, around)
    way = np.stack([np.sin(above) * np.sin(around), np.cos(above), np.sin(above) * np.cos(around)], axis=-1)
    level = np.stack([np.sin(around), np.zeros_like(around), np.cos(around)], axis=-1)
    points = way * radius[..., None] + (0.5 * way + 0.8 * level) * rows[:, 1:2, None] + anatomy.from_base(*CHEST)
    points = np.float32(points).reshape(-1, 3)
    number = np.arange(len(points)).reshape(above.shape)
    after = np.roll(number, -1, axis=1)
    a, b, c, d = number[:-1], after[:-1], number[1:], after[1:]
    triangles = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    place = np.stack(np.broadcast_arrays(around * 1.2, above * radius, rows[:, 2:]), axis=-1).reshape(-1, 3)
    return Mesh(points, vertex_normals(points, triangles), np.int32(triangles), np.float32(place))


def _cut(clothes, around):
    """Neckline: angle from above [1, columns], and rows [r, 3] from there: radians further down, decimetres off the
    skin, 1 on the rim."""
    front = np.cos(around)
    loose, high = clothes.loose, clothes.height
    rim = [(0.04, -0.10, 0), (0.0, 0.02, 0), (0.0, 0.05, 0), (0.05, 0.05, 0), (0.06, 0.03, 0)]
    rest = [(t, 0.05 + loose * min(1, t * 3), 0) for t in (0.12, 0.22, 0.34, 0.5, 0.7, 0.9, 1.15, 1.4, 1.7)]
    if clothes.cut == 'turtle':
        neck = 0.30 + 0.03 * high + 0 * front
        rows = [(0.04, -0.10, 0), (0.0, 0.04, 0), (0.01, 0.07, 0), (0.08, 0.085, 0), (0.09, 0.06, 0), (0.16, 0.06, 0)]
        return neck, np.array(rows + rest[1:])
    if clothes.cut == 'shirt':
        opening = 0.30 * np.exp(-(around / 0.35) ** 2) * (1 + 0.8 * high)
        neck = 0.40 - 0.06 * front + opening
        rows = [(0.10, -0.12, 0), (0.0, 0.03, 0), (-0.03, 0.06, 0), (-0.02, 0.08, 0), (0.10, 0.14, 0), (0.13, 0.15, 0),
                (0.135, 0.09, 0)]
        return neck, np.array(rows + rest[2:])
    depth = {'crew': 0.06 + 0.05 * high, 'v': 0.34 + 0.14 * high, 'scoop': 0.26 + 0.12 * high}[clothes.cut]
    shape = np.exp(-(around / 0.45) ** 2) if clothes.cut == 'v' else np.clip(front, 0, 1) ** 1.3
    wide = 0.10 * (clothes.cut == 'scoop') * np.sin(around) ** 2
    if clothes.height > 0.3:
        rim = [(t, off, 1) for t, off, _ in rim]
    return 0.50 + depth * shape + wide, np.array(rim + rest)


@functools.lru_cache(maxsize=None)
def _plain_torso():
    """[_SIZE, _SIZE] float32: the table, angle from above 0..120 degrees by angle around."""
    above = np.linspace(0, 2 * np.pi / 3, _SIZE)
    around = np.abs(np.linspace(-np.pi, np.pi, _SIZE, endpoint=False))
    wide = np.stack([np.interp(above, _ABOVE, row) for row in _TORSO])          # [table's around, _SIZE]
    return np.stack([np.interp(around, _AROUND, column) for column in wide.T]).astype(np.float32)


def _torso(shape, above, around):
    """Distance of the skin from the chest's middle at angles [r, c]: the model's where it has any, else the table's."""
    place = anatomy.base()
    is_neck = (place[:, 1] < 5.95) | ((place[:, 1] < 6.3) & (place[:, 2] < 0.7))
    points = shape[is_neck] - anatomy.from_base(*CHEST)
    radius = np.linalg.norm(points, axis=1)
    row = np.int32(np.arccos(points[:, 1] / radius) * (1.5 * _SIZE / np.pi) + 0.5)
    column = np.int32((np.arctan2(points[:, 0], points[:, 2]) / (2 * np.pi) + 0.5) * _SIZE + 0.5) % _SIZE
    kept = row < _SIZE
    plain, where = _plain_torso(), (row * _SIZE + column)[kept]
    weight, total = (np.bincount(where, radius[kept] ** power, _SIZE ** 2).reshape(_SIZE, _SIZE).astype(np.float32)
                     for power in (8, 9))                   # what stands out counts most
    total -= weight * plain
    blur = lambda x, by: cv2.GaussianBlur(np.concatenate([x[:, -16:], x, x[:, :16]], axis=1), (0, 0), by)
    more = sum(blur(total, by) * s for by, s in ((1.5, 1), (7, 0.01))) / (
        sum(blur(weight, by) * s for by, s in ((1.5, 1), (7, 0.01))) + 1e-4)
    picture = np.concatenate([plain[:, -16:], plain, plain[:, :16]], axis=1) + more
    columns = (around / (2 * np.pi) + 0.5) * _SIZE + 16 + 0 * above
    return cv2.remap(picture, np.float32(columns), np.float32(above * (1.5 * _SIZE / np.pi)), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


# ------------------------------------------------------------------------------------------------ glasses

def glasses(frame, landmarks):
    """Points [n, K, 3] and width [n, K] of the strips of a scenes.Glasses. landmarks: [68, 3] of the model's vertices
    before the pose."""
    left, right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    front = max(landmarks[27:28, 2].max() + 0.02, left[2] + 0.16)
    turn = np.linspace(0, 2 * np.pi, 25)
    power = 1 - 0.55 * frame.shape
    square = lambda x: np.sign(x) * np.abs(x) ** power
    rims, half = [], min(1.12 * frame.size, (right[0] - left[0]) / 2 - 0.05)
    for eye in (left, right):
        x = eye[0] + half * square(np.cos(turn))
        y = eye[1] - 0.02 + (0.92 - 0.25 * frame.shape) * frame.size * square(np.sin(turn))
        rims.append(np.stack([x, y, front - 0.35 * np.maximum(np.abs(x) - 0.25, 0) ** 1.5], axis=1))
    inner = [rims[0][:, 0].max(), rims[1][:, 0].min()]
    share = np.linspace(0, 1, 25)
    bridge = np.stack([inner[0] + (inner[1] - inner[0]) * share, left[1] + 0.04 + 0.05 * np.sin(np.pi * share),
                       np.full(25, front + 0.01)], axis=1)
    arms = []
    for side, rim, jaw in ((-1, rims[0], landmarks[0]), (1, rims[1], landmarks[16])):
        hinge = rim[np.argmax(side * rim[:, 0])] + [0, 0.06, 0]
        ear = np.array([side * abs(jaw[0]), hinge[1] + 0.02, anatomy.from_base(0, 0, 0.38)[2]])
        arms.append(hinge + (ear - hinge) * np.stack([share ** 2, share, share], axis=1))
    points = np.float32(np.stack(rims + [bridge] + arms))
    return points, np.full(points.shape[:2], 2 * frame.rim, np.float32)


