"""Hair: strands that grow from the scalp of the deformed head, combed, pulled down, kept outside the head, curled, cut.

Strands are polylines [n, K, 3] in the model's frame before the pose; `ribbons` turns them into thin strips.
"""

import functools
from collections import namedtuple

import cv2
import numpy as np

from human import anatomy, face_model
from human.scenes import LONG
from human.shading import unit
from renderer import factors

GREY = np.array([150.0, 148.0, 145.0])
CROWN, KNOT = np.array([0.08, 8.38, -0.05]), np.array([0.0, 7.95, -0.55])      # base mesh: whorl; where hair is tied
BROW = 7.50                 # base mesh: where a full fringe ends
EYES = 7.28

# style: strands of all roots, points of a strand, pull of gravity a step, width of a strand in decimetres
_Cut = namedtuple('_Cut', 'share points pull width')
_CUTS = {'buzz': _Cut(1.0, 3, 0.0, 0.009), 'crop': _Cut(1.0, 6, 0.05, 0.010), 'side': _Cut(0.9, 8, 0.09, 0.011),
         'back': _Cut(0.9, 8, 0.05, 0.011), 'balding': _Cut(0.9, 5, 0.05, 0.010), 'bob': _Cut(0.8, 11, 0.28, 0.015),
         'long': _Cut(0.8, 12, 0.28, 0.015), 'tied': _Cut(0.9, 8, 0.0, 0.011), 'afro': _Cut(1.0, 8, 0.0, 0.013)}

# points [n, K, 3]; colors [n, K, 3] RGB 0-255 without light; width [n, K]; outwards [n, K, 3]; texture [n] 0-1
Strands = namedtuple('Strands', 'points colors width outwards texture')


def line(hair, angle):
    """How far above the plain hairline this scene's hair begins, by the angle from the front [n] -> [n]."""
    corner = np.exp(-((angle - 33) / 14) ** 2)
    front = np.clip((62 - angle) / 30, 0, 1)
    up = front * (-0.06 + hair.hairline) + 0.26 * hair.recede * corner + 0.08 * hair.recede * front
    if hair.style not in LONG:
        up = up + 0.30 * np.clip((angle - 106) / 20, 0, 1)          # a cropped nape
    if hair.style == 'balding':
        up = up + np.clip((70 - angle) / 12, 0, 1) * 3
    return up


def grows(hair, above, angle, height):
    """Share 0..1 of hair that grows at places [n] of the scalp, see anatomy.Roots: soft at the hairline."""
    if hair.style == 'bald':
        return np.zeros_like(above)
    there = np.clip((above - line(hair, angle)) / 0.07, 0, 1)
    if hair.style == 'balding':
        there = there * np.clip((7.82 - height) / 0.12, 0, 1)
    return there


class _Draws:
    """Random numbers of some roots that do not depend on which other roots there are."""

    def __init__(self, seed):
        self._random, self.rows = np.random.RandomState(seed), slice(None)

    def uniform(self, low=0.0, high=1.0, shape=()):
        """[n, *shape] float32 for the rows."""
        return self.normal(shape, self._random.random_sample) * np.float32(high - low) + np.float32(low)

    def normal(self, shape=(), draw=None):
        """As `uniform`, of deviation 1."""
        drawn = (draw or self._random.standard_normal)((anatomy.NUM_ROOTS,) + shape)
        return drawn.astype(np.float32)[self.rows]


def grow(hair, surface, down, front):
    """Strands of a scenes.Hair on an anatomy.Surface. down, front: [3] unit, where gravity pulls, where the camera is.
    None: bald."""
    if hair.style == 'bald':
        return None
    random, cut, table = _Draws(hair.seed), _CUTS[hair.style], anatomy.roots()
    keep = grows(hair, table.above, table.angle, table.height) > random.uniform() * (1 - 1e-6)
    facing = surface.normals @ front
    hidden = 0.4 if hair.style in LONG else 0.0 if hair.style != 'afro' else 0.3    # share that is drawn nevertheless
    keep &= random.uniform() < cut.share * (1 - hair.thin) * np.where(facing < -0.35, hidden, 1.0)
    rows = np.nonzero(keep)[0]
    if len(rows) < 8:
        return None
    rows = rows[np.argsort(surface.roots[rows] @ -front, kind='stable')]    # nearest first: what they hide costs less
    random.rows = rows
    table = anatomy.Roots(*(column[rows] for column in table))
    root, normal = surface.roots[rows], surface.normals[rows]
    comb, lift = _combed(hair, table, normal, random)
    length = _lengths(hair, table) * random.uniform(0.85, 1.1)
    layer = random.uniform()
    points = _pulled(hair, surface, root, unit(comb + lift[:, None] * normal), length, layer, table, down, random)
    leader = _leaders(root, comb, random)
    points = _styled(hair, points, leader, length, random)
    width = _widths(hair, points, random) * np.where(facing[rows] < -0.35, 1.5, 1.0)[:, None]
    return Strands(points, _colors(hair, points.shape[:2], leader, layer, table, random), np.float32(width),
                   unit(points - surface.centre), random.uniform())


def beard(hair, coeff, shape, normals, texture):
    """Strands of the beard that the coefficients [257] speak of, as many and as long as they darken the skin; or None.

    shape, normals, texture: [N, 3] of the model's vertices with the expression.
    """
    corners, weights = anatomy.beard_roots()
    columns = [factors.TEXTURE.start + face_model.column('texture', name) for name in ('stubble', 'moustache')]
    dark = np.einsum('nk,nkc,c->n', weights, _beard_darkness()[corners], np.maximum(coeff[columns], 0))
    random = np.random.RandomState(hair.seed)
    chance, jitter = random.uniform(size=[2, len(dark)]), random.standard_normal([len(dark), 3])
    rows = np.nonzero((dark > 4) & (chance[0] < dark / 36))[0]
    if len(rows) < 8:
        return None
    root, normal, skin = (np.einsum('nk,nkj->nj', weights[rows], field[corners[rows]])
                          for field in (shape, normals, texture))
    way = unit(unit(normal) * 0.55 + [0, -0.6, 0] + root * [0.25, 0, 0] + 0.3 * jitter[rows])
    length = (0.005 + 0.0012 * np.minimum(dark[rows], 60)) * (0.7 + 0.6 * chance[1][rows])
    length = length[:, None]
    points = np.stack([root + length * (way * t - [0, 0.3 * t * t, 0]) for t in (0, 0.5, 1)], axis=1)
    color = 0.5 * np.minimum(hair.color, 110) + 0.5 * np.array([38.0, 30, 25])
    color = color + np.clip(1.2 * hair.grey, 0, 1) * (GREY - color)
    color = skin + np.clip(0.25 + dark[rows] / 45, 0, 1)[:, None] * (color * (1 + 0.12 * jitter[rows, :1]) - skin)
    colors = np.repeat(color[:, None], 3, axis=1)
    width = np.broadcast_to(np.float32([0.006, 0.005, 0.003]), points.shape[:2])
    return Strands(*map(np.float32, (points, colors, width, np.repeat(unit(normal)[:, None], 3, axis=1),
                                     chance[1][rows])))


@functools.lru_cache(maxsize=None)
def _beard_darkness():
    """[N, 2] how much stubble and moustache darken each vertex, per unit of their coefficients."""
    model = face_model.load_model()
    columns = [face_model.column('texture', name) for name in ('stubble', 'moustache')]
    return -model.texture_basis.reshape(-1, 3, model.texture_basis.shape[1])[:, :, columns].mean(axis=1)


# ------------------------------------------------------------------------------------------------ growing

def _combed(hair, table, normal, random):
    """Direction along the skin [n, 3] that roots are combed in, and how steeply they rise [n]."""
    count = len(table.side)
    x, front, top = table.side * 0.75, 1 - table.back, np.clip((table.height - 7.55) / 0.4, 0, 1)
    right = np.where(x > hair.parting * 0.4, 1.0, -1.0)
    zero, one = np.zeros(count), np.ones(count)
    beside = np.stack([1.2 * right * top, -(1 - top), 0.15 - 0.9 * (1 - top)], axis=1)
    if hair.style in ('crop', 'buzz', 'balding'):
        place = np.stack([x, table.height, 1.45 - 1.8 * table.back], axis=1)
        way = unit(place - CROWN) + np.stack([0.5 * hair.parting * top, zero, 0.35 * one], axis=1)
    elif hair.style == 'back':
        way = np.stack([0.35 * x, -0.8 * (1 - top), -one], axis=1)
    elif hair.style == 'tied':
        place = np.stack([x, table.height, 1.45 - 1.8 * table.back], axis=1)
        way = unit(KNOT - place)
    elif hair.style == 'afro':
        way = random.normal((3,))
    else:
        way = beside + np.stack([-0.4 * right * front * top, 0.3 * front * top, -1.1 * front * top], axis=1)
        if hair.style == 'side':
            way = beside + np.stack([zero, zero, (hair.fringe - 0.45) * top], axis=1)
    if hair.style in LONG or hair.style == 'side':
        fall = _fringed(hair, table)[:, None]
        forward = np.stack([0.8 * (x - hair.parting * 0.15), -0.2 * one, 1.3 * one], axis=1)
        way = way * (1 - fall) + forward * fall
    way = np.float32(way + 0.10 * random.normal((3,)))
    way -= np.einsum('nj,nj->n', way, normal)[:, None] * normal
    rise = {'buzz': 0.9, 'crop': 0.32, 'balding': 0.3, 'afro': 2.2, 'tied': 0.05, 'back': 0.35}.get(hair.style, 0.30)
    rise = rise + 1.2 * hair.volume * (hair.style not in ('tied', 'buzz'))
    return unit(way).astype(np.float32), (rise * random.uniform(0.6, 1.2))


def _fringed(hair, table):
    """1 for roots [n] whose hair falls over the forehead, else 0."""
    if hair.fringe <= 0.05:
        return np.zeros(len(table.side))
    edge = 0.16 * np.sin(table.side * 37 + table.back * 91)            # ragged, but the same whenever asked
    return ((np.abs(table.side) < 0.62 + 0.5 * edge) & (table.back < 0.36 + edge)).astype(np.float32)


def _lengths(hair, table):
    """Length of strands [n], decimetres."""
    top = np.clip((table.height - 7.55) / 0.4, 0, 1)
    length = hair.length * {'crop': 0.35 + 0.65 * top, 'side': 0.25 + 0.75 * top, 'back': 0.5 + 0.5 * top,
                            'afro': 0.7 + 0.3 * top}.get(hair.style, np.ones(len(top)))
    fall = _fringed(hair, table)
    if hair.style in LONG or hair.style == 'side':
        end = BROW + 0.05 + 0.28 * (1 - hair.fringe)
        length = length * (1 - fall) + fall * np.clip(1.25 * (table.height - end), 0.12, 1.3)
    return length.astype(np.float32)


def _pulled(hair, surface, points, way, length, layer, table, down, random):
    """Strands [n, K, 3] from roots [n, 3] into directions [n, 3]: gravity pulls, the head pushes."""
    cut, count = _CUTS[hair.style], len(points)
    steps = cut.points - 1 if hair.style not in LONG or hair.curl < 0.35 else 21
    pull = cut.pull * (cut.points - 1) / steps * random.uniform(0.7, 1.3, (1,))
    with_ears = not hair.tucked and hair.style in LONG
    over = 0.012 + layer * (hair.volume if hair.style != 'tied' else 0.03) * (0.35 + np.clip(table.above * 4, 0, 0.65))
    line_of = [points]
    step = (length / steps)[:, None]
    back = np.zeros([count, 3], np.float32)
    if hair.style in LONG:
        back[:, 2] = -0.10 * (hair.tucked + 0.35) * (1 - _fringed(hair, table))
    ears = anatomy.from_base(0, 7.0, 0)[1]
    force = 36.0 / steps if hair.style != 'afro' else 0.0       # with which hair lies down on the head
    stick = lambda at: force * (np.clip((at[:, 1] - ears) / 0.5, 0, 1) * 0.8 if hair.style in LONG else 1.0)
    for i in range(steps):
        way = unit(way + pull * min(1.0, 0.5 + 2.0 * i / steps) * down + back * pull)
        points = points + step * way
        depth, outwards = surface.depth(points, with_ears)
        inside = np.clip(over * min(1.0, (i + 1) * 3.0 / steps) - depth, 0, 0.25)[:, None]
        points = np.float32(points + inside * outwards)
        inwards = np.minimum(np.einsum('nj,nj->n', way, outwards), 0)[:, None] * (inside > 0)
        way = way - 0.9 * inwards * outwards - (stick(points) * np.clip(depth - over, 0, 0.4))[:, None] * outwards
        line_of.append(points)
    points = np.stack(line_of, axis=1)
    if hair.style in LONG:
        points = _cut_at(points, table, anatomy.from_base(0, EYES - hair.cut, 0)[1], random)
    return points


def _cut_at(points, table, height, random):
    """Strands [n, K, 3] shortened where they fall below `height`, evenly spaced anew."""
    count, size = points.shape[:2]
    ragged = height + 0.05 * random.normal()
    below = points[:, :, 1] < ragged[:, None]
    below[:, 0] = False
    first = np.where(below.any(axis=1), below.argmax(axis=1), size - 1)
    rows = np.arange(count)
    high, low = points[rows, first - 1, 1], points[rows, first, 1]
    part = np.clip((high - ragged) / np.maximum(high - low, 1e-4), 0, 1)
    end = np.where(below.any(axis=1), first - 1 + part, size - 1.0)
    place = np.linspace(0, 1, size) * end[:, None]
    start = np.minimum(place.astype(int), size - 2)
    share = (place - start)[..., None].astype(np.float32)
    return points[rows[:, None], start] * (1 - share) + points[rows[:, None], start + 1] * share


def _leaders(root, comb, random):
    """[n] for each strand the one that leads its lock: near it and combed alike."""
    chosen = np.nonzero(random.uniform() < 1 / 16)[0]
    if len(chosen) == 0:
        return np.arange(len(root))
    marks = np.concatenate([root, 0.2 * comb], axis=1).astype(np.float32)
    squares = np.square(marks[chosen]).sum(axis=1) - 2 * cv2.gemm(marks, marks[chosen], 1, None, 0, flags=cv2.GEMM_2_T)
    return chosen[squares.argmin(axis=1)]


def _styled(hair, points, leader, length, random):
    """Strands drawn together to locks, then waved or curled, with some that fly."""
    size = points.shape[1]
    along = np.linspace(0, 1, size, dtype=np.float32)[None, :, None]
    clump = random.uniform(0.25, 0.75, (1, 1)) * (0.7 if hair.style != 'buzz' else 0)
    points = points + clump * along * (points[leader] - points) * (0.5 + 0.5 * hair.curl)
    loose = 0.03 if hair.style in LONG else 0.012 + 0.03 * hair.curl
    loose = loose * np.where(random.uniform(shape=(1, 1)) < 0.05, np.float32(2.5), np.float32(0.6))
    points = points + loose * along * random.normal((1, 3)) * np.minimum(length, 1)[:, None, None]
    if hair.curl > 0.05 and hair.style != 'buzz':
        points = points + _curl(hair, points, leader, along, length, random)
    return np.float32(points)


def _curl(hair, points, leader, along, length, random):
    """Offsets [n, K, 3] of waves (curl below half) and curls."""
    tangent = unit(np.gradient(points, axis=1))
    across = unit(np.cross(tangent, np.float32([0.0, 0.2, 1.0])))
    other = np.cross(tangent, across)
    phase = random.uniform(0, 2 * np.pi)[leader] + 0.5 * random.normal()
    turns = (1.2 + 2.6 * hair.curl) * np.maximum(length, 0.35)[:, None, None] * (3.0 if hair.style == 'afro' else 1.0)
    limit = (points.shape[1] - 1) / 7                         # no more turns than its points can show
    angle = 2 * np.pi * np.minimum(turns, limit) * along + phase[:, None, None]
    size = (0.02 + 0.05 * hair.curl) * np.minimum(along * 4, 1) * np.minimum(length / 0.5, 1)[:, None, None]
    return size * (np.cos(angle) * across + min(1.0, hair.curl * 1.2) * np.sin(angle) * other)


# ------------------------------------------------------------------------------------------------ looks

def _colors(hair, shape, leader, layer, table, random):
    """[n, K, 3]: from roots to tips, strand by strand and lock by lock, darker deep inside."""
    count, size = shape
    along = np.linspace(0, 1, size)[None, :, None]
    color = hair.color + (hair.tips - hair.color) * along ** 1.5                # [1, K, 3]
    lock = 1 + 0.09 * random.normal()[leader] + 0.06 * random.normal()
    white = np.clip(1.3 * hair.grey - 0.25 * table.above + 0.12 * random.normal(), 0, 1) * (hair.grey > 0)
    color = color + white[:, None, None] * (GREY - color)
    depth = 0.75 + 0.25 * layer if hair.style != 'buzz' else np.ones(count)
    root = 0.80 + 0.20 * np.minimum(along * 3, 1)
    return np.float32(color * (np.clip(lock, 0.6, 1.5) * depth)[:, None, None] * root)


def _widths(hair, points, random):
    """[n, K] decimetres: pointed tips."""
    along = np.linspace(0, 1, points.shape[1])
    profile = np.minimum(1.0, 0.6 + 2 * along) * np.sqrt(np.maximum(1 - along ** 3, 0.02))
    return np.float32(_CUTS[hair.style].width * profile * random.uniform(0.7, 1.3, (1,)))


def ribbons(points, width, view):
    """Strips that face the camera. points [n, K, 3], width [n, K], view: unit [n, K, 3] towards the camera ->
    vertices [n, K, 2, 3], tangents [n, K, 3]."""
    tangents = np.empty_like(points)
    tangents[:, 1:-1] = points[:, 2:] - points[:, :-2]
    tangents[:, 0], tangents[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    tangents = unit(tangents)
    side = unit(np.cross(tangents, view)) * (0.5 * width)[..., None]
    return np.stack([points - side, points + side], axis=2).astype(np.float32), tangents


def ribbon_triangles(count, size, first=0):
    """[t, 3] of the strips' vertices in their order, numbered from `first`."""
    number = first + np.arange(count * size * 2, dtype=np.int32).reshape(count, size, 2)
    a, b, c, d = number[:, :-1, 0], number[:, :-1, 1], number[:, 1:, 0], number[:, 1:, 1]
    return np.stack([a, b, c, c, b, d], axis=-1).reshape(-1, 3)


def scalp_cover(hair):
    """[N] float32 of the model's vertices: how much of the skin is dark with hair roots, before any noise."""
    angle, height = anatomy.angle_height(anatomy.base())
    cover = grows(hair, anatomy.scalp() - 0.03, angle, height)
    return np.float32(cover * (1 - 0.5 * hair.thin) * (0.8 if hair.style in ('buzz', 'balding') else 1.0))
