"""Coefficients -> 3-D face (paper section 3.2): shape, texture, normals, light, pose, projection.

No rasteriser here. World: x right, y up, z towards the camera at (0, 0, 10), decimetres. Points and
directions are ROW vectors: a matrix stands on their right. Colours are RGB, 0-255, before any clipping.
"""

import math
import os
from collections import namedtuple

import numpy as np

from dnnlib.tflib import custom_ops
from dnnlib.tflib.compat import tf
from renderer import camera, camera_utils, factors

KERNELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernels')
SOURCES = tuple(os.path.join(KERNELS, name) for name in ('face_decoder_impl.cc', 'face_decoder_op.cc'))
IMPLEMENTATIONS = ('cpp', 'ref')
AMBIENT = 0.8       # added to the constant harmonic of each colour channel
SHAPE_PARTS = factors.SHAPE, factors.EXPRESSION     # of the vector: columns of `shape_basis`
TEXTURE_PARTS = factors.TEXTURE,
PLACES = [factors.ANGLES.start, factors.LIGHTING.start, factors.TRANSLATION.start]     # in the vector
LARGEST = 2.0 ** 31 - 2 ** 13   # integer of a compact basis
MIN_SQUARE = 1e-12  # vectors of a smaller square are not stretched to length 1 (kMinSquare of the kernels)

# What `FaceDecoder.decode` returns; B faces, n vertices. What nobody fetches is never computed.
#   shape     [B, n, 3]  vertices of the face looking along +z, before the pose
#   normals   [B, n, 3]  unit normals of that
#   texture   [B, n, 3]  skin colour without light
#   colors    [B, n, 3]  the same under the lighting, not clipped
#   vertices  [B, n, 3]  shape turned by the pose, then moved by the translation
#   rotation  [B, 3, 3]  turned = point @ rotation
#   translation [B, 3]
#   patch     [B, m, 3]  shape with the vertices around behind it, which its normals need
#   projection [B, 4, 4] shape to clip space of renders, for column vectors
Face = namedtuple('Face', 'shape normals texture colors vertices rotation translation patch projection')


class FaceDecoder:
    """Decodes some vertices of a FaceModel, and touches only these and what their normals need.

    model: FaceModel. vertices: their numbers, [n]; default the drawn region, so that triangles are
    `model.region_triangles`. impl: 'cpp', our own ops, on the CPU; or 'ref', the same in TensorFlow alone, anywhere.
    The constants are made once per graph and device; they lie in the graph itself. Our own ops keep the bases in 21
    bits a number, within 6e-7 of the column's largest, and compute in float32; 'ref' keeps them in float32.
    """

    def __init__(self, model, vertices=None, impl='cpp'):
        if impl not in IMPLEMENTATIONS:
            raise ValueError(f'impl must be one of {IMPLEMENTATIONS}, got {impl!r}')
        self.model = model
        self.vertices = np.asarray(model.region if vertices is None else vertices)
        self.impl = impl
        self._patch = None
        self._constants = {}

    def decode(self, coeff):
        """coeff: [B, 257] float32 reconstruction vector, or [B, 254] for no translation -> Face."""
        coeff = with_translation(coeff)
        count = len(self.vertices)
        patch = self._linear('shape', coeff)                                    # [B, m, 3], m >= n
        texture = self._linear('texture', coeff)                                # [B, n, 3]
        rotation, light, projection = self._pose(coeff)
        normals, colors = self._shade(patch, texture, light)
        shape = tf.split(patch, [count, len(self.patch.vertices) - count], axis=1)[0]
        return Face(shape=shape, normals=normals, texture=texture, colors=colors, vertices=self._place(shape, coeff),
                    rotation=rotation, translation=coeff[:, factors.TRANSLATION], patch=patch, projection=projection)

    def points(self, coeff):
        """The decoder's vertices alone, cheap for a few of them: coeff as in `decode` -> [B, n, 3], pose applied."""
        coeff = with_translation(coeff)
        return self._place(self._linear('points', coeff), coeff)

    def _pose(self, coeff):
        """[B, 257] -> rotation [B, 3, 3], light [B, 3 channels, 10 monomials], projection [B, 4, 4]."""
        if self.impl == 'ref':
            rotation = rotation_matrix(coeff[:, factors.ANGLES])
            light = tf.transpose(_light_weights(rotation, coeff[:, factors.LIGHTING]), [0, 2, 1])
            return rotation, light, _projection(rotation, coeff[:, factors.TRANSLATION])
        with tf.device('/device:CPU:0'):
            return _library().face_pose(coeff, tf.constant(_harmonics_table()), world_projection(1)[0], places=PLACES,
                                        ambient=AMBIENT)

    def _place(self, points, coeff):
        """points [B, n, 3] turned and moved as coeff [B, 257] says."""
        if self.impl == 'ref':
            rotation = rotation_matrix(coeff[:, factors.ANGLES])
            return tf.matmul(points, rotation) + coeff[:, None, factors.TRANSLATION]
        with tf.device('/device:CPU:0'):
            return _library().face_place(points, coeff, places=PLACES)

    def _linear(self, name, coeff):
        """mean + basis @ its part of coeff, for the vertices of `name`: [B, 257] -> [B, vertices, 3]."""
        model = self.model
        vertices = self.patch.vertices if name == 'shape' else self.vertices
        basis, mean, parts = ((model.texture_basis, model.mean_texture, TEXTURE_PARTS) if name == 'texture' else
                              (model.shape_basis, model.mean_shape, SHAPE_PARTS))
        if self.impl == 'ref':
            matrix = self._constant(name, lambda: _affine_matrix(basis, mean, vertices))        # [k + 1, 3 * vertices]
            coeff = tf.concat([coeff[:, part] for part in parts] + [tf.ones_like(coeff[:, :1])], axis=1)
            return tf.reshape(_thin_matmul(coeff, matrix), [-1, len(vertices), 3])
        with tf.device('/device:CPU:0'):
            scale = compact_scale(basis)
            lines = self._constant(name, lambda: compact_basis(_basis_rows(basis, vertices), scale))
            runs = [end for part in parts for end in (part.start, part.stop)]
            return _library().face_linear(coeff, lines, self._constant(name + '_scale', lambda: scale),
                                          self._constant(name + '_mean', lambda: mean[vertices]), runs=runs)

    def _shade(self, shape, texture, light):
        """shape [B, m, 3] of the patch, texture [B, n, 3], light [B, 3, 10] -> normals, colors [B, n, 3]."""
        if self.impl == 'ref':
            normals = self._normals(shape)                                      # [B, 3, n]
            light = tf.matmul(light, _monomials(normals))                       # [B, 3, n]
            return tf.transpose(normals, [0, 2, 1]), texture * tf.transpose(light, [0, 2, 1])
        with tf.device('/device:CPU:0'):
            inputs = [shape, texture, light]
            # Two ops, of which the one that nobody fetches never runs: pictures need no normals.
            normals = _library().face_shade(*inputs, **self._tables()).normals
            return normals, _library().face_shade(*inputs, with_normals=False, **self._tables()).colors

    def _tables(self):
        """The tables of the patch as constants, by name."""
        return {name: self._constant(name, lambda name=name: getattr(self.patch, name)) for name in _Patch.TABLES}

    @property
    def patch(self):
        """Vertices and triangles that the normals need (`_Patch`)."""
        if self._patch is None:
            self._patch = _Patch(self.model, self.vertices)
        return self._patch

    def _normals(self, shape):
        """Unit normals of the decoder's vertices: shape [B, m, 3] of the patch -> [B, 3, n]."""
        patch = self.patch
        batch = tf.shape(shape)[0]
        # Batch innermost: one row of a gather is then a run of 3 * B numbers.
        rows = tf.transpose(tf.reshape(shape, [-1, 3 * len(patch.vertices)]))                   # [m * 3, B]
        rows = tf.reshape(rows, [len(patch.vertices), 3, batch])
        sums = _sum_of_triangle_normals(rows, **self._tables())                                 # [n + 1, 3, B]
        return _unit(tf.transpose(tf.split(sums, [len(self.vertices), 1])[0], [2, 1, 0]), axis=1)

    def _constant(self, name, build):
        """The array `build()` as a constant of the current graph and device."""
        graph = tf.get_default_graph()
        with tf.control_dependencies(None), tf.name_scope(None):     # usable inside and outside of loops and branches
            key = (id(graph), tf.no_op(name='face_decoder_device').device, name)
            if key not in self._constants:
                self._constants[key] = (graph, tf.constant(build(), name='face_decoder_' + name))
        return self._constants[key][1]


# ------------------------------------------------------------------------------------------------ our own ops

def _library():
    return custom_ops.get_library('face_decoder', SOURCES)


@tf.RegisterGradient('FaceLinear')
def _linear_gradient(op, df_dpoints):
    with tf.device('/device:CPU:0'):
        df = _library().face_linear_grad(*op.inputs[:3], df_dpoints, runs=op.get_attr('runs'))
    return df, None, None, None


@tf.RegisterGradient('FacePose')
def _pose_gradient(op, *df):
    with tf.device('/device:CPU:0'):
        gradient = _library().face_pose_grad(*op.inputs, *df, places=op.get_attr('places'),
                                             ambient=op.get_attr('ambient'))
    return gradient, None, None


@tf.RegisterGradient('FacePlace')
def _place_gradient(op, df_dplaced):
    with tf.device('/device:CPU:0'):
        return tuple(_library().face_place_grad(*op.inputs, df_dplaced, places=op.get_attr('places')))


@tf.RegisterGradient('FaceShade')
def _shade_gradient(op, df_dnormals, df_dcolors, *_rows):
    with tf.device('/device:CPU:0'):
        gradient = _library().face_shade_grad(*op.inputs, *op.outputs[2:], df_dnormals, df_dcolors)
    return tuple(gradient) + (None,) * 4


# ------------------------------------------------------------------------------------------------ pieces

def with_translation(coeff):
    """[B, 257], or [B, 254] with zeros put behind it, -> [B, 257]."""
    width = coeff.shape.as_list()[-1]
    if width == factors.NUM_RECON:
        return coeff
    if width != factors.NUM_COEFFS:
        raise ValueError(f'coefficients have {width} columns; {factors.NUM_RECON} are expected, or '
                         f'{factors.NUM_COEFFS} for no translation')
    return tf.pad(coeff, [[0, 0], [0, factors.NUM_RECON - factors.NUM_COEFFS]])


def rotation_matrix(angles):
    """[B, 3] pitch, yaw, roll in radians (about x, y, z) -> [B, 3, 3] for row vectors: (Rz Ry Rx) transposed."""
    values = tf.concat([tf.ones_like(angles[:, :1]), tf.sin(angles), tf.cos(angles)], axis=1)       # [B, 7]
    turns = tf.reshape(tf.matmul(values, tf.constant(_turn_table())), [-1, 3, 3, 3])                # [B, axis, 3, 3]
    return tf.matmul(tf.matmul(turns[:, 0], turns[:, 1]), turns[:, 2])      # (Rz Ry Rx)^T = Rx^T Ry^T Rz^T


def project_224(points):
    """World points [B, n, 3] -> [B, n, 2] in R_Net's 224-pixel picture: x right, y UP from the bottom left, pixels."""
    return _project(points, camera.FOCAL_224, camera.RECON_SIZE / 2)


def project_256(points):
    """World points [B, n, 3] -> [B, n, 2] in 256-pixel renders: x right, y UP from the bottom left, pixels."""
    return _project(points, camera.FOCAL_256, camera.RENDER_SIZE / 2)


def _project(points, focal, centre):
    """[..., 3] -> [..., 2]. The gradient is written out: TensorFlow's own takes many more small steps."""
    @tf.custom_gradient
    def call(points):
        plane, depth = points[..., :2], camera.DISTANCE - points[..., 2:]
        scale = focal / depth

        def gradient(upstream):
            df = upstream * scale
            return tf.concat([df, tf.reduce_sum(df * plane, axis=-1, keepdims=True) / depth], axis=-1)
        return plane * scale + centre, gradient
    return call(points)


def world_projection(batch, fov_y=camera.FOV_Y_DEGREES):
    """World space to clip space of a camera with that field of view in degrees: [batch, 4, 4] for column vectors."""
    return _projection(tf.eye(3, batch_shape=[batch]), tf.zeros([batch, 3]), fov_y)


def _projection(rotation, translation, fov_y=camera.FOV_Y_DEGREES):
    """Rotation [B, 3, 3] for row vectors and translation [B, 3], then the camera -> [B, 4, 4]."""
    ones = tf.ones_like(translation[:, :1])                                     # [B, 1]
    moved = translation - tf.constant([0.0, 0.0, camera.DISTANCE])              # seen from the camera
    pose = tf.concat([tf.transpose(rotation, [0, 2, 1]), moved[:, :, None]], axis=2)                # [B, 3, 4]
    last = tf.concat([tf.zeros_like(translation), ones], axis=1)[:, None]                           # [B, 1, 4]
    lens = camera_utils.perspective(1.0, fov_y * ones[:, 0], camera.NEAR_CLIP * ones[:, 0],
                                    camera.FAR_CLIP * ones[:, 0])
    return tf.matmul(lens, tf.concat([pose, last], axis=1))


def _basis_rows(basis, vertices):
    """Rows of the basis [3N, k] for some vertices -> [3 * vertices, k]."""
    return basis[(3 * vertices[:, None] + np.arange(3)).reshape(-1)]


def compact_scale(basis):
    """What the integers of `compact_basis` stand for: [rows, k] -> [k] float32."""
    return (np.abs(basis).max(axis=0, initial=0) / LARGEST).astype(np.float32)


def compact_basis(basis, scale):
    """Rows of a basis as our own op reads them: [rows, k] -> [blocks of 48 rows, k, 32] int32.

    Three numbers of 21 bits lie in 64 bits (the order is in kernels/face_decoder_impl.h): off by less than 6e-7 of the
    column's largest.
    """
    rows, columns = basis.shape
    out = np.empty([-(-rows // 48), columns, 32], np.int32)
    unit = 1.0 / np.where(scale > 0, scale, 1).astype(np.float64)
    for start in range(0, len(out), 128):                                       # float64 takes much memory
        part = basis[48 * start:48 * (start + 128)] * unit
        part = np.pad(part, [[0, -len(part) % 48], [0, 0]], 'constant')
        first, second, third = part.reshape(-1, 3, 16, columns).transpose(1, 0, 3, 2)
        third = np.rint(third / 2 ** 10).astype(np.int64)
        for k, numbers, low in ((0, first, third >> 11), (16, second, third)):
            low = low & (2 ** 11 - 1)
            out[start:start + 128, :, k:k + 16] = np.rint((numbers - low) / 2 ** 11).astype(np.int64) * 2 ** 11 + low
    return out


def _affine_matrix(basis, mean, vertices):
    """Basis [3N, k] and mean at some vertices -> [k + 1, 3 * vertices] float32. The mean, the largest number of the
    sum, is the last row: it is added last, when the small ones have met."""
    return np.concatenate([_basis_rows(basis, vertices).T, mean[vertices].reshape(1, -1)]).astype(np.float32)


def _thin_matmul(thin, wide):
    """thin [B, k] @ wide [k, M] for few rows B and a constant `wide`. The gradient is ordered for speed: `wide` is
    read along its rows, once, whatever the TensorFlow."""
    @tf.custom_gradient
    def call(thin):
        return tf.matmul(thin, wide), lambda upstream: tf.transpose(tf.matmul(wide, tf.transpose(upstream)))
    return call(thin)


def _turn_table():
    """[7, 27]: (1, three sines, three cosines) -> the three transposed turns about x, y and z."""
    table = np.zeros([7, 3, 3, 3], np.float32)
    for axis in range(3):
        j, k = (axis + 1) % 3, (axis + 2) % 3
        table[0, axis, axis, axis] = 1
        table[4 + axis, axis, j, j] = table[4 + axis, axis, k, k] = 1
        table[1 + axis, axis, j, k] = 1         # row vectors: sin right of the diagonal
        table[1 + axis, axis, k, j] = -1
    return table.reshape(7, 27)


def _unit(x, axis):
    """x / |x| along `axis`; zero stays zero."""
    return x * tf.rsqrt(tf.maximum(tf.reduce_sum(tf.square(x), axis=axis, keepdims=True), MIN_SQUARE))


def harmonic_light(normals, rotation, lighting):
    """Factor on the texture: unit normals [B, 3, n] before the pose, lighting [B, 27] -> [B, 3 channels, n]."""
    return tf.matmul(_light_weights(rotation, lighting), _monomials(normals), transpose_a=True)


def _light_weights(rotation, lighting):
    """rotation [B, 3, 3], lighting [B, 27] -> [B, 10, 3 channels]: light is their product with `_monomials`.

    The pose turns the (few) lighting coefficients back instead of the (many) normals: light is a polynomial
    c + l.N + N Q N of the turned normal N = n @ rotation, so l and Q become rotation @ l and rotation Q rotation^T.
    """
    terms = tf.reshape(tf.matmul(tf.reshape(lighting, [-1, 9]), tf.constant(_harmonics_table())), [-1, 3, 13])
    terms += tf.constant(AMBIENT * _harmonics_table()[0])                       # the 13 numbers of c, l, Q per channel
    turn = lambda x: tf.matmul(rotation, x)                                     # x: [B, 3, columns]
    flat = tf.transpose(terms[..., 1:], [0, 2, 1])                              # [B, 3 + 9, channel]
    linear = turn(flat[:, :3])                                                  # [B, 3, channel]
    square = turn(tf.reshape(flat[:, 3:], [-1, 3, 9]))                          # [B, i, (j, channel)]
    square = tf.transpose(tf.reshape(square, [-1, 3, 3, 3]), [0, 2, 1, 3])      # [B, j, i, channel]
    square = tf.reshape(turn(tf.reshape(square, [-1, 3, 9])), [-1, 9, 3])       # [B, (j, i), channel]
    diagonal, off = tf.gather(square, [0, 4, 8], axis=1), tf.gather(square, [1, 5, 6], axis=1)     # xy yz zx
    return tf.concat([terms[:, None, :, 0], linear, diagonal, 2 * off], axis=1)


@tf.custom_gradient
def _monomials(v):
    """[B, 3, n] -> [B, 10, n]: 1, x, y, z, xx, yy, zz, xy, yz, zx. (TensorFlow's gradient of slices is slow.)"""
    following = tf.concat([v[:, 1:], v[:, :1]], axis=1)                         # y z x

    def gradient(g):
        mixed = g[:, 7:] * v                                                    # for y, z, x
        mixed = tf.concat([mixed[:, 2:], mixed[:, :2]], axis=1)                 # for x, y, z
        return g[:, 1:4] + 2 * g[:, 4:7] * v + g[:, 7:] * following + mixed
    return tf.concat([tf.ones_like(v[:, :1]), v, tf.square(v), v * following], axis=1), gradient


def _harmonics_table():
    """[9, 13]: each spherical harmonic of a unit vector N as numbers c, l (3), Q (3x3, symmetric): c + l.N + N Q N."""
    a0, a1, a2 = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)
    c0, c1, c2 = (math.sqrt(k / (4 * math.pi)) for k in (1, 3, 15))
    table = np.zeros([9, 13])
    linear, square = table[:, 1:4], table[:, 4:].reshape(9, 3, 3)
    x, y, z = range(3)
    table[0, 0] = a0 * c0
    linear[1, y], linear[2, z], linear[3, x] = -a1 * c1, a1 * c1, -a1 * c1
    for row, i, j, sign in ((4, x, y, 1), (5, y, z, -1), (7, x, z, -1)):
        square[row, i, j] = square[row, j, i] = sign * a2 * c2 / 2
    table[6, 0], square[6, z, z] = -a2 * c2 / (2 * math.sqrt(3)), 3 * a2 * c2 / (2 * math.sqrt(3))
    square[8, x, x], square[8, y, y] = a2 * c2 / 2, -a2 * c2 / 2
    return table.astype(np.float32)


# ------------------------------------------------------------------------------------------------ normals

class _Patch:
    """What the normals of `wanted` vertices need: more vertices, the triangles around, and tables of who touches whom.

    vertices      [m] numbers in the model, the wanted first
    corners       [3, F] patch vertices of first, second, third corners; the last triangle is (0, 0, 0), without area
    around        [n + 1, 8] triangles around each wanted vertex, padded with that last triangle, whose normal is zero;
                  the last row is padding alone
    *_back        the transposed tables, for gradients, padded with numbers of rows that hold zeros
    """

    TABLES = ('corners', 'corners_back', 'around', 'around_back')

    def __init__(self, model, wanted):
        listed = model.vertex_triangles[wanted]
        count = len(model.triangles)
        used = np.unique(listed[listed < count])
        others = np.setdiff1d(model.triangles[used], wanted)
        self.vertices = np.concatenate([wanted, others])
        number = np.zeros(model.num_vertices, np.int32)
        number[self.vertices] = np.arange(len(self.vertices), dtype=np.int32)
        corners = np.concatenate([number[model.triangles[used]], np.zeros([1, 3], np.int32)])
        self.corners = np.ascontiguousarray(corners.T)
        new_triangle = np.full(count + 1, len(used), np.int32)
        new_triangle[used] = np.arange(len(used), dtype=np.int32)
        nothing = np.full([1, listed.shape[1]], len(used), np.int32)
        self.around = np.concatenate([new_triangle[listed], nothing])
        flat = self.corners.reshape(-1, 1)
        real = np.arange(len(flat)) % len(corners) != len(used)             # the one without area gives nothing back
        self.corners_back = _transposed(flat, len(self.vertices), real[:, None], pad=len(used))
        self.around_back = _transposed(self.around, len(corners), self.around != len(used), pad=len(wanted))


def _transposed(table, count, real, pad):
    """Which rows of `table` name each of 0..count-1 in entries that are `real`: [count, most], padded with `pad`."""
    rows, columns = np.nonzero(real)
    ids = table[rows, columns]
    order = np.argsort(ids, kind='stable')
    rows, ids = rows[order], ids[order]
    counts = np.bincount(ids, minlength=count)
    out = np.full([count, max(counts.max(), 1)], pad, np.int32)
    out[ids, np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)] = rows
    return out


def _sum_of_triangle_normals(rows, corners, corners_back, around, around_back):
    """Sum of the unit normals of the triangles around: vertices [m, 3, B], tables of a `_Patch` -> [n + 1, 3, B].

    The gradient is written out: it gathers and sums by the transposed tables, where TensorFlow's own would add single
    rows into scattered places, many times slower.
    """
    batch = tf.shape(rows)[2]

    @tf.custom_gradient
    def call(rows):
        points = tf.reshape(_twice(rows), [-1, 5 * batch])
        v1, v2, v3 = (tf.reshape(tf.gather(points, ids), [-1, 5, batch]) for ids in tf.unstack(corners))
        a, b = v1 - v2, v2 - v3                                                 # [F, 5, B]
        cross = _cross(a, b)                                                    # [F, 3, B]
        square = tf.reduce_sum(tf.square(cross), axis=1, keepdims=True)
        length = tf.rsqrt(tf.maximum(square, MIN_SQUARE))
        unit = cross * length

        def gradient(upstream):
            g = _gather_sum(upstream, around_back)                              # [F, 3, B]
            along = tf.reduce_sum(g * unit, axis=1, keepdims=True) * tf.cast(square > MIN_SQUARE, tf.float32)
            g = _twice((g - unit * along) * length)
            of_a, of_b = _cross(b, g), _cross(g, a)
            return _gather_sum(tf.concat([of_a, of_b - of_a, -of_b], axis=0), corners_back)
        return _gather_sum(unit, around), gradient
    return call(rows)


def _gather_sum(x, table):
    """out[i] = sum over j of x[table[i, j]]: [m, 3, B], [n, k] -> [n, 3, B]."""
    batch = tf.shape(x)[2]
    return tf.reshape(tf.reduce_sum(tf.gather(tf.reshape(x, [-1, 3 * batch]), table), axis=1), [-1, 3, batch])


def _twice(x):
    """x y z -> x y z x y along axis 1, what `_cross` wants."""
    return tf.concat([x, x[:, :2]], axis=1)


def _cross(a, b):
    """Cross product of a and b, both [F, 5, B] as `_twice` makes them -> [F, 3, B]."""
    return a[:, 1:4] * b[:, 2:5] - a[:, 2:5] * b[:, 1:4]
