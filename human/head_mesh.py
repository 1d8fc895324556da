"""The mesh of the human head: its coarse cage and named displacements (head_data.npz, whose text `origin` says
where they come from), and the finer mesh that is drawn, every vertex of which is a fixed mixture of the cage's.

Decimetres; x right, y up, z towards the camera.
"""

import functools
import os
from collections import namedtuple

import numpy as np
import scipy.sparse

DATA_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'head_data.npz')
DELTA_UNIT = 0.001                      # decimetres per unit of a displacement in the file
SOURCE_ORIGIN = (0.0, 6.99, 1.2)        # the world's origin in the frame of the source

# Eyeballs of our own: rings of vertices around the axis of the eye, at these angles (degrees). Pupil and iris end at
# two of them.
EYE_RINGS = (0.0, 4.0, 8.0, 9.5, 12.0, 15.0, 18.0, 21.0, 23.5, 25.5, 29.0, 36.0, 46.0, 60.0, 78.0)
PUPIL_RING, IRIS_RING = 3, 8            # the last ring of each
EYE_COLUMNS = 24
_SMOOTH_ABOVE, _SMOOTH_BESIDE = 0.66, 0.62          # the face is subdivided below and within
_TEETH_FROM = 0.00                      # teeth further back than this z are left out
_SOCKET = 0.05                          # what lies behind the eyeballs, too: z from their centres
_OPENING = (0.140, 0.048)               # half width and height of where the eye can be seen into
_MOUTH, _CAVITY = -0.385, 0.6           # height of the mouth; its inside, above and below, is made this much smaller
_LASHES = 0.36                          # length of the lashes, as a share of the source's

# cage        [n, 3] float64, corners of quads; quads [m, 4]; quad_part [m]: index into PARTS; mirror [n]: vertex at the
#             mirror image; targets {name: (vertices [k], displacements [k, 3])}
Cage = namedtuple('Cage', 'vertices quads quad_part uv masks mirror targets')

# subdivision [N, n] csr matrix: the drawn mesh's vertices = subdivision @ cage's; triangles [F, 3] int32, seen from
# outside counter-clockwise; part [N]: index into PARTS; masks {name: [N] 0-1}; uv [N, 2]; eye_ring [N]: ring of an
# eyeball's vertex, else -1
Mesh = namedtuple('Mesh', 'subdivision triangles part masks uv eye_ring')

PARTS = ('skin', 'l-eye', 'r-eye', 'upper-teeth', 'lower-teeth', 'tongue', 'l-eyelashes-1', 'l-eyelashes-2',
         'r-eyelashes-1', 'r-eyelashes-2')      # left and right of the person; lashes: 1 below, 2 above the eye


@functools.lru_cache(maxsize=None)
def cage():
    """The coarse head with its named displacements, a Cage."""
    with np.load(DATA_FILE) as data:
        starts, deltas = data['target_starts'], data['target_deltas'] * DELTA_UNIT
        indices = data['target_indices'].astype(np.int64)
        targets = {str(name): (indices[a:b], deltas[a:b])
                   for name, a, b in zip(data['target_names'], starts[:-1], starts[1:])}
        masks = {str(name): mask / 255.0 for name, mask in zip(data['mask_names'], data['masks'])}
        assert tuple(data['parts']) == PARTS
        return Cage(data['vertices'].astype(np.float64) - SOURCE_ORIGIN, data['quads'].astype(np.int64),
                    data['part'].astype(np.int64), data['uv'].astype(np.float32), masks,
                    data['mirror'].astype(np.int64), targets)


def stored(name):
    """An array of the data file: what `make_head_data` computed once from the rest ('sky', 'people_basis', ...)."""
    with np.load(DATA_FILE) as data:
        return data[name].astype(np.float64)


def target(name, mirrored=False):
    """Displacement of the cage's vertices [n, 3], decimetres. mirrored: that of the other side of the face."""
    indices, deltas = cage().targets[name]
    out = np.zeros_like(cage().vertices)
    out[cage().mirror[indices] if mirrored else indices] = deltas * ([-1, 1, 1] if mirrored else 1)
    return out


def part_vertices(name):
    """Numbers of the cage's vertices that belong to a part."""
    return np.unique(cage().quads[cage().quad_part == PARTS.index(name)])


@functools.lru_cache(maxsize=None)
def mesh():
    """The drawn mesh: the face subdivided once (Catmull-Clark), the rest of the head as it is, eyeballs of our own."""
    coarse = cage()
    count = len(coarse.vertices)
    skin = coarse.quads[coarse.quad_part == 0]
    skin = skin[~_is_socket(skin)]
    pieces = [_Piece(*_refine_twice(skin, coarse.vertices), 0)]
    for name in PARTS[1:]:
        if name.endswith('lashes-1'):
            continue                                            # those below the eye are painted only
        number = PARTS.index(name)
        if name.endswith('-eye'):
            pieces.append(_eyeball(number))
        else:
            quads = coarse.quads[coarse.quad_part == number]
            quads = quads[coarse.vertices[quads][..., 2].min(axis=1) > (_TEETH_FROM if 'teeth' in name else -9)]
            if name.endswith('teeth'):
                rows, quads, rest = _refine(quads, np.full(len(quads), True), count)
            else:
                rows, rest = scipy.sparse.identity(count), []
            pieces.append(_Piece(rows, _triangles(quads, rest, rows @ coarse.vertices), number))
    subdivision, triangles, part = _join(pieces)
    subdivision = subdivision @ _adjustment()
    rings = np.full(len(part), -1)
    ring = np.repeat(np.arange(len(EYE_RINGS)), [1] + [EYE_COLUMNS] * (len(EYE_RINGS) - 1))
    for name in ('l-eye', 'r-eye'):
        rings[part == PARTS.index(name)] = ring
    masks = {name: np.clip(subdivision @ mask, 0, 1) for name, mask in coarse.masks.items()}
    return Mesh(subdivision, triangles, part, masks, (subdivision @ coarse.uv).astype(np.float32), rings)


# rows: [k, n] sparse, vertices as mixtures of the cage's; triangles [t, 3] of these; part: index into PARTS.
_Piece = namedtuple('_Piece', 'rows triangles part')


def _join(pieces):
    """Pieces -> one subdivision matrix, triangles, part of each vertex. Vertices that no triangle uses are left out."""
    rows, triangles, part = [], [], []
    total = 0
    for piece in pieces:
        used, index = np.unique(piece.triangles, return_inverse=True)
        rows.append(scipy.sparse.csr_matrix(piece.rows)[used])
        triangles.append(index.reshape(-1, 3) + total)
        part.append(np.full(len(used), piece.part))
        total += len(used)
    return (scipy.sparse.vstack(rows).tocsr().astype(np.float64), np.concatenate(triangles).astype(np.int32),
            np.concatenate(part))


def _is_socket(quads):
    """Quads [m] behind the eyeballs, which nobody sees unless they come through the skin."""
    corner = cage().vertices[quads]
    facing = np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1])
    facing /= np.linalg.norm(facing, axis=1, keepdims=True) + 1e-12
    out = np.zeros(len(quads), bool)
    for part in ('l-eye', 'r-eye'):
        away = corner - cage().vertices[part_vertices(part)].mean(axis=0)
        middle = away.mean(axis=1)
        turned = (facing * middle).sum(axis=1) / np.linalg.norm(middle, axis=1)
        opening = np.hypot(middle[:, 0] / _OPENING[0], (middle[:, 1] - 0.006) / _OPENING[1]) < 1
        hidden = ~opening | (middle[:, 2] < _SOCKET)
        out |= (np.linalg.norm(away, axis=2).max(axis=1) < 0.17) & (turned < -0.7) & hidden
    return out


def _refine_twice(skin, vertices):
    """The skin's quads, the face's subdivided once, the brows' twice -> rows [k, n], triangles [t, 3]."""
    masks = cage().masks
    x, y, _ = vertices.T
    face = np.maximum(np.maximum(masks['face'], masks['lips']), masks['eyelids']) > 0.3
    face &= (y < _SMOOTH_ABOVE) & (np.abs(x) < _SMOOTH_BESIDE)
    inside = masks['inside-mouth'] > 0.9
    chosen = face[skin].any(axis=1) & ~inside[skin].all(axis=1)
    rows, quads, polygons = _refine(skin, chosen, len(vertices))
    corner = (rows @ vertices)[quads]
    x, y, z = np.moveaxis(corner, -1, 0)
    brow = (z > 0) & (np.abs(np.abs(x) - 0.34) < 0.27) & (np.abs(y - 0.48) < 0.09)
    finer, quads, more = _refine(quads, brow.all(axis=1), rows.shape[0])
    rows = finer @ rows
    return rows, _triangles(quads, polygons + more, rows @ vertices)


def lash_roots(part):
    """Vertices of a part of lashes [k] and the skin's nearest to each [k]."""
    from scipy.spatial import cKDTree
    vertices, skin = cage().vertices, part_vertices('skin')
    members = part_vertices(part)
    return members, skin[cKDTree(vertices[skin]).query(vertices[members])[1]]


def _adjustment():
    """[n, n] sparse: the cage with lashes nearer to the lids, and a smaller inside of the mouth."""
    vertices = cage().vertices
    out = scipy.sparse.identity(len(vertices)).tolil()
    for part in ('l-eyelashes-2', 'r-eyelashes-2'):
        members, roots = lash_roots(part)
        out[members, members] = _LASHES
        out[members, roots] = 1 - _LASHES
    cavity = np.nonzero(cage().masks['inside-mouth'] > 0.5)[0]
    above = np.abs(vertices[cavity, 1] - _MOUTH)
    pull = (1 - _CAVITY) * np.clip((above - 0.10) / 0.15, 0, 1)             # none at the lips
    out[cavity, cavity] = 1 - pull
    anchors = cavity[::20]
    out[np.ix_(cavity, anchors)] = out[np.ix_(cavity, anchors)].toarray() + pull[:, None] / len(anchors)
    return out.tocsr()


def _attached(anchors, points):
    """Weights [k, m] of anchors [m, 3] that give the points [k, 3] and follow whatever affine move the anchors make."""
    local = anchors - anchors.mean(axis=0)
    return 1.0 / len(anchors) + (points - anchors.mean(axis=0)) @ np.linalg.solve(local.T @ local, local.T)


def vertex_normals(vertices, quads):
    """Unit normals [n, 3] of a mesh of quads, weighted by area."""
    corner = vertices[quads]
    facing = np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1])
    out = np.zeros_like(vertices)
    np.add.at(out, quads.ravel(), np.repeat(facing, 4, axis=0))
    return out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-12)


def _eyeball(number):
    """The front of an eyeball: rings around the axis, each vertex an affine mixture of the source's eyeball."""
    members = part_vertices(PARTS[number])
    points = cage().vertices[members]
    radius = (points[:, 0].max() - points[:, 0].min()) / 2
    angle = np.radians(EYE_RINGS)
    around = 2 * np.pi * np.arange(EYE_COLUMNS) / EYE_COLUMNS
    distance = radius * (1 + 0.055 * np.exp(-(np.degrees(angle) / 20) ** 2))       # the cornea stands out
    rings = np.stack([np.sin(angle)[:, None] * np.cos(around), np.sin(angle)[:, None] * np.sin(around),
                      np.broadcast_to(np.cos(angle)[:, None], (len(angle), EYE_COLUMNS))], axis=-1)
    rings = (rings * distance[:, None, None]).reshape(-1, 3)[EYE_COLUMNS - 1:]     # one vertex at the centre
    weights = _attached(points, points.mean(axis=0) + rings)
    place = np.repeat(np.arange(len(rings)), len(members)), np.tile(members, len(rings))
    rows = scipy.sparse.csr_matrix((weights.ravel(), place), (len(rings), len(cage().vertices)))
    return _Piece(rows, _ring_triangles(len(EYE_RINGS) - 1, EYE_COLUMNS), number)


def _ring_triangles(rings, columns):
    """Triangles [t, 3] of a centre (vertex 0) and rings around it, counter-clockwise."""
    number = 1 + np.arange(rings * columns).reshape(rings, columns)
    after = np.roll(number, -1, axis=1)
    fan = np.stack([np.zeros(columns, int), number[0], after[0]], axis=-1)
    a, b, c, d = number[:-1].ravel(), after[:-1].ravel(), number[1:].ravel(), after[1:].ravel()
    return np.concatenate([fan, np.stack([a, c, d], axis=-1), np.stack([a, d, b], axis=-1)])


# ------------------------------------------------------------------------------------------------ subdivision

def _refine(quads, chosen, count):
    """Catmull-Clark subdivision of the chosen quads only, without cracks towards the others.

    quads: [m, 4]; chosen: [m] bool; count: number of vertices. Returns (rows [count + k, count] sparse: old vertices
    first, quads [m', 4], polygons: lists of five and more corners, the others beside chosen ones).
    """
    chosen = _without_notches(quads, chosen)
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    edges, edge_of = np.unique(edges, axis=0, return_inverse=True)
    edge_of = edge_of.reshape(-1, 4)                            # [m, 4] edge from corner i to i + 1
    split = np.zeros(len(edges), bool)
    split[edge_of[chosen]] = True
    edge_point = np.full(len(edges), -1)
    edge_point[split] = count + np.arange(split.sum())
    centre = count + split.sum() + np.arange(chosen.sum())
    after = edge_point[edge_of]
    rows = _catmull_clark(quads, edges, edge_of, chosen, split, count)
    small = np.stack([quads[chosen], after[chosen], np.repeat(centre[:, None], 4, axis=1),
                      np.roll(after[chosen], 1, axis=1)], axis=-1)              # corner, edge point, centre, edge point
    touched = ~chosen & (after >= 0).any(axis=1)
    polygons = [[p for pair in zip(quad, points) for p in pair if p >= 0]
                for quad, points in zip(quads[touched], after[touched])]
    return rows, np.concatenate([small.reshape(-1, 4), quads[~chosen & ~touched]]), polygons


def _without_notches(quads, chosen):
    """Choose also every quad that shares more than two edges with chosen ones."""
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    edge_of = np.unique(edges, axis=0, return_inverse=True)[1].reshape(-1, 4)
    chosen = chosen.copy()
    while True:
        beside = np.zeros(edge_of.max() + 1, int)
        np.add.at(beside, edge_of[chosen].ravel(), 1)
        more = ~chosen & ((beside[edge_of] > 0).sum(axis=1) > 2)
        if not more.any():
            return chosen
        chosen |= more


def _catmull_clark(quads, edges, edge_of, chosen, split, count):
    """Sparse rows of old vertices, edge points, face points."""
    incidence = lambda which: scipy.sparse.csr_matrix(
        (np.ones(4 * len(which)), (np.repeat(np.arange(len(which)), 4), which.ravel())), (len(which), count))
    faces = incidence(quads[chosen]) / 4                                                    # [f, n]
    ends = scipy.sparse.csr_matrix((np.ones(2 * len(edges)), (np.repeat(np.arange(len(edges)), 2), edges.ravel())),
                                   (len(edges), count))                                     # [e, n]
    face_of_edge = scipy.sparse.csr_matrix(
        (np.ones(4 * chosen.sum()), (edge_of[chosen].ravel(), np.repeat(np.arange(chosen.sum()), 4))),
        (len(edges), int(chosen.sum())))                                                    # [e, f]
    beside = np.asarray(face_of_edge.sum(axis=1)).ravel()                                   # chosen quads at each edge
    inner = scipy.sparse.diags((beside == 2).astype(float))
    outer = scipy.sparse.diags((beside != 2).astype(float))
    edge_rows = outer @ ends / 2 + inner @ (ends + face_of_edge @ faces) / 4
    # A vertex moves only where all quads around it are chosen.
    around = lambda selection: np.bincount(quads[selection].ravel(), minlength=count)
    edge_count = np.bincount(edges.ravel(), minlength=count)
    whole = (around(chosen) == around(slice(None))) & (around(chosen) == edge_count) & (edge_count > 0)
    n = np.maximum(edge_count, 1).astype(float)
    face_mean = scipy.sparse.diags(1 / n) @ (incidence(quads[chosen]).T @ faces)
    edge_mean = scipy.sparse.diags(1 / n) @ (ends.T @ ends / 2)
    moved = scipy.sparse.diags(1 / n) @ (face_mean + 2 * edge_mean) + scipy.sparse.diags((n - 3) / n)
    vertex_rows = scipy.sparse.diags(whole.astype(float)) @ moved + scipy.sparse.diags((~whole).astype(float))
    return scipy.sparse.vstack([vertex_rows, edge_rows.tocsr()[split], faces]).tocsr()


def _triangles(quads, polygons, vertices):
    """Quads and polygons cut into triangles [t, 3]; vertices [n, 3] tell which diagonals are short.

    A polygon is cut from its fifth corner on: one in the middle of a side, where few triangles meet.
    """
    triangles = [_shorter_diagonals(quads, polygons, vertices)]
    for polygon in polygons:
        start = int(np.argmax(polygon))                         # new vertices have the highest numbers
        turned = polygon[start:] + polygon[:start]
        triangles.append(np.array([(turned[0], turned[i], turned[i + 1]) for i in range(1, len(turned) - 1)]))
    return np.concatenate(triangles)


def _shorter_diagonals(quads, polygons, vertices):
    """[2m, 3] triangles: each quad cut along its shorter diagonal, or so that at most eight triangles meet anywhere."""
    a, b, c, d = (vertices[quads[:, i]] for i in range(4))
    first = np.linalg.norm(a - c, axis=1) < np.linalg.norm(b - d, axis=1)
    meeting = np.zeros(len(vertices), int)
    np.add.at(meeting, quads.ravel(), 1)
    for polygon in polygons:
        np.add.at(meeting, polygon, 1)
        meeting[max(polygon)] += len(polygon) - 3
    out = np.empty([len(quads), 2, 3], int)
    for i, (p, q, r, s) in enumerate(quads):
        along = first[i]
        if max(meeting[p], meeting[r]) > 6 or max(meeting[q], meeting[s]) > 6:
            along = max(meeting[p], meeting[r]) < max(meeting[q], meeting[s])
        ends = (p, r) if along else (q, s)
        meeting[list(ends)] += 1
        out[i] = [(p, q, r), (p, r, s)] if along else [(q, r, s), (q, s, p)]
    return out.reshape(-1, 3)
