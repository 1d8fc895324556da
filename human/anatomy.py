"""Where things grow and cast shadows on the head: hairline, roots of hair, occlusion by the head itself.

Facts about the mesh, found once; they hold for every identity, since they are tied to its vertices. Places are named
in the frame of the cage's source: decimetres above the floor that its body stands on.
"""

import functools
from collections import namedtuple

import cv2
import numpy as np

from human import canvas, face_model, head_mesh, paint, shading

SKULL = (0.0, 7.40, 0.45)         # middle of the skull
NUM_ROOTS, NUM_BEARD = 4200, 3200           # of hair on the whole scalp, of the beard
# Hairline: height of its lower edge by the angle from the front, degrees: forehead, temple, sideburn, ear, nape.
_LINE_ANGLE = (0, 16, 28, 38, 47, 55, 60, 64, 75, 79, 84, 96, 110, 124, 140, 180)
_LINE_HEIGHT = (7.85, 7.86, 7.85, 7.78, 7.66, 7.50, 7.28, 7.06, 7.02, 7.30, 7.54, 7.50, 7.10, 6.70, 6.42, 6.34)

# Roots: corners [n, 3] vertices, weights [n, 3], above [n] distance over the hairline, angle [n] from the front,
# side [n] -1..1 across the head, height [n], back [n] 0 at the forehead .. 1 at the back of the head.
Roots = namedtuple('Roots', 'corners weights above angle side height back')


@functools.lru_cache(maxsize=None)
def base():
    """The model's vertices [N, 3] on the cage's own face, in the source's frame."""
    return paint.canvas() + np.array(head_mesh.SOURCE_ORIGIN)


def from_base(*point):
    """x, y, z in the source's frame -> [3] float32 in the model's."""
    return np.float32(point) - np.float32(head_mesh.SOURCE_ORIGIN)


def angle_height(points):
    """Base points [n, 3] -> angle from the front about the skull's axis in degrees, 0..180; height [n]."""
    return np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - SKULL[2])), points[:, 1]


def above_hairline(points):
    """Base points [n, 3] -> how far they lie above the hairline, decimetres, roughly."""
    angle, height = angle_height(points)
    return height - np.interp(angle, _LINE_ANGLE, _LINE_HEIGHT)


def is_ear():
    """[N] bool of the model's vertices: beside the head."""
    return paint.regions()['ears'] > 0.3


def is_skin():
    """[N] bool of the model's vertices: outer skin, without eyes, teeth and the inside of the mouth."""
    return paint.regions()['skin'] > 0.5


@functools.lru_cache(maxsize=None)
def scalp():
    """[N] float32 of the model's vertices: distance above the hairline, decimetres; -1 where hair never grows."""
    points = base()
    above = above_hairline(points)
    return np.where(is_ear() | ~is_skin() | (points[:, 1] < 6.2), -1.0, above).astype(np.float32)


@functools.lru_cache(maxsize=None)
def roots():
    """Roots, spread evenly over the scalp: any first part of them is spread as evenly."""
    face, weights, random = _spread(scalp() > -0.10, NUM_ROOTS)
    points = base()
    places = (points[face] * weights[..., None]).sum(axis=1)
    angle, height = angle_height(places)
    above = above_hairline(places) + 0.035 * random.standard_normal(NUM_ROOTS)
    return Roots(face, weights, above.astype(np.float32), angle.astype(np.float32),
                 places[:, 0].astype(np.float32) / 0.75, height.astype(np.float32),
                 np.clip((1.45 - places[:, 2]) / 1.8, 0, 1).astype(np.float32))


@functools.lru_cache(maxsize=None)
def beard_roots():
    """Corners [n, 3] and weights [n, 3] of places spread evenly where beards can grow."""
    return _spread(paint.regions()['beard'] > 0.05, NUM_BEARD)[:2]


def _spread(chosen, count):
    """Places spread evenly over the triangles whose vertices are all chosen [N]: corners, weights [count, 3], and the
    RandomState that they were drawn with."""
    points, triangles = base(), face_model.load_model().triangles
    faces = triangles[chosen[triangles].all(axis=1)]
    a, b, c = (points[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    random = np.random.RandomState(0)
    face = faces[np.searchsorted(np.cumsum(area) / area.sum(), (np.arange(count) + 0.5) / count)]
    face = face[random.permutation(count)]
    u, v = random.uniform(size=[2, count])
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return face, np.stack([1 - u - v, u, v], axis=1).astype(np.float32), random


@functools.lru_cache(maxsize=None)
def occlusion(directions=48, size=192):
    """[N] float32 0-1 of the model's vertices: share of the sky they see, on the mean head."""
    model = face_model.load_model()
    normals = shading.vertex_normals(model.mean_shape, model.triangles)
    seen, total = np.zeros(model.num_vertices), np.full(model.num_vertices, 1e-6)
    with canvas.Canvas() as drawing:
        for direction in _sphere(directions):
            facing = np.maximum(normals @ direction, 0)
            shadows = drawing.shadows(model.mean_shape, model.triangles, direction, size)
            seen += facing * shadows.lit(model.mean_shape + 0.03 * normals, 25.0, 1.0)
            total += facing
    return np.clip(seen / total, 0, 1).astype(np.float32)


def _sphere(count):
    """[count, 3] unit vectors, spread evenly."""
    i = np.arange(count) + 0.5
    y, turn = 1 - 2 * i / count, np.pi * (1 + 5 ** 0.5) * i
    return np.stack([np.cos(turn) * np.sqrt(1 - y * y), y, np.sin(turn) * np.sqrt(1 - y * y)], axis=1)


class Surface:
    """A deformed head before its pose, as hair needs it: roots on it, and its distance from the middle of the skull.

    shape: [N, 3] of the model's vertices, normals: [N, 3]. Everything here is in the model's frame.
    """

    ROWS, COLUMNS = 40, 80          # of the map of distances: angle from above, angle around

    def __init__(self, shape, normals):
        table = roots()
        self.roots = np.einsum('nk,nkj->nj', table.weights, shape[table.corners])
        self.normals = np.einsum('nk,nkj->nj', table.weights, normals[table.corners])
        self.normals /= np.linalg.norm(self.normals, axis=1, keepdims=True) + 1e-9
        self.centre = from_base(*SKULL)
        is_head = is_skin() & (base()[:, 1] > 6.15)
        self._maps = [self._distances(shape[is_head & ~is_ear()]), self._distances(shape[is_head])]

    def _distances(self, points):
        row, column, radius = self._polar(points)
        where = np.int32(row + 0.5) * self.COLUMNS + np.int32(column + 0.5) % self.COLUMNS
        size = self.ROWS * self.COLUMNS
        sums = np.stack([np.bincount(where, radius ** power, size) for power in (8, 7)]).astype(np.float32)
        maps = [cv2.GaussianBlur(_around(one.reshape(self.ROWS, self.COLUMNS)), (0, 0), 1.1) for one in sums]
        wide = [cv2.GaussianBlur(_around(one.reshape(self.ROWS, self.COLUMNS)), (0, 0), 4.0) for one in sums]
        return (maps[0] + 1e-4 * wide[0]) / (maps[1] + 1e-4 * wide[1] + 1e-12)

    def _polar(self, points):
        q = points - self.centre
        radius = np.sqrt(np.einsum('nj,nj->n', q, q)) + 1e-6
        row = np.arccos(np.clip(q[:, 1] / radius, -1, 1)) * ((self.ROWS - 1) / np.pi)
        column = (np.arctan2(q[:, 0], q[:, 2]) / (2 * np.pi) + 0.5) * self.COLUMNS
        return row, column, radius

    def depth(self, points, with_ears):
        """Points [n, 3] -> distance from the skull's middle minus the head's there [n], outwards [n, 3]."""
        row, column, radius = self._polar(points)
        there = canvas.sample(self._maps[int(with_ears)], column + _MARGIN, row)
        return radius - there, (points - self.centre) / radius[:, None]


_MARGIN = 12


def _around(picture):
    """A map with some columns of the other end at both ends."""
    return np.concatenate([picture[:, -_MARGIN:], picture, picture[:, :_MARGIN]], axis=1)
