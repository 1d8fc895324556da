"""Coefficients -> 3-D face (paper section 3.2): shape, texture, normals, light, pose, projection.

No rasteriser here. World: x right, y up, z towards the camera at (0, 0, 10), decimetres. Points and
directions are ROW vectors: a matrix stands on their right. Colours are RGB, 0-255, before any clipping.
"""

import math
import os
from collections import namedtuple
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from dnnlib.tflib import custom_ops
from dnnlib.tflib.compat import tf
from dnnlib.tflib.tfutil import exact_matmul
from renderer import camera, camera_utils, factors
from renderer.face_model import FaceModel
from renderer.implementations import KERNELS, check_implementation, current_device, implementation

SOURCES = tuple(os.path.join(KERNELS, name) for name in ('face_decoder_impl.cc', 'face_decoder_op.cc'))
AMBIENT = 0.8       # added to the constant harmonic of each colour channel
MIN_SQUARE = 1e-12  # vectors of a smaller square are not stretched to length 1 (kMinSquare of the kernels)
BLOCK_ROWS = 16     # kBlockRows of the kernels

# What `FaceDecoder.decode` returns; B faces, n vertices. What nobody fetches is never computed.
#   shape     [B, n, 3]  vertices of the face looking along +z, before the pose
#   normals   [B, n, 3]  unit normals of that
#   texture   [B, n, 3]  skin colour without light
#   colors    [B, n, 3]  the same under the lighting, not clipped
#   vertices  [B, n, 3]  shape turned by the pose, then moved by the translation
#   rotation  [B, 3, 3]  turned = point @ rotation
#   translation [B, 3]
#   patch     [B, m, 3]  shape with the vertices around behind it, which its normals need
#   projection [B, 4, 4] shape to clip space of renders, for COLUMN vectors
Face = namedtuple('Face', 'shape normals texture colors vertices rotation translation patch projection')


class FaceDecoder:
    """Decodes some vertices of a FaceModel, and touches only these and what their normals need.

    model: FaceModel. vertices: their numbers, [n]; default the drawn region, so that triangles are
    `model.region_triangles`. impl: see implementations.implementation. Arrays of the model become
    constants of the graph, once per graph and device.
    """

    def __init__(self, model: FaceModel, vertices: Optional[np.ndarray] = None, impl: Optional[str] = None) -> None:
        check_implementation(impl)
        self.model = model
        self.vertices = np.asarray(model.region if vertices is None else vertices)
        self.impl = impl
        self._patch: Optional[_Patch] = None
        self._constants: Dict[Tuple, Tuple[tf.Graph, tf.Tensor]] = {}

    def decode(self, coeff: tf.Tensor) -> Face:
        """coeff: [B, 257] float32 reconstruction vector, or [B, 254] for no translation -> Face."""
        coeff = with_translation(coeff)
        patch = self._affine('shape', coeff)                                    # [B, m, 3], m >= n
        shape = patch[:, :len(self.vertices)]
        texture = self._affine('texture', coeff)                                # [B, n, 3]
        rotation, translation = rotation_matrix(coeff[:, factors.ANGLES]), coeff[:, factors.TRANSLATION]
        normals, colors = self._shade(patch, texture, light_matrices(rotation, coeff[:, factors.LIGHTING]))
        return Face(shape=shape, normals=normals, texture=texture, colors=colors, patch=patch,
                    vertices=exact_matmul(shape, rotation) + translation[:, None], rotation=rotation,
                    translation=translation, projection=_projection(rotation, translation))

    def points(self, coeff: tf.Tensor) -> tf.Tensor:
        """The decoder's vertices alone, cheap for a few of them: coeff as in `decode` -> [B, n, 3], pose applied."""
        coeff = with_translation(coeff)
        turned = exact_matmul(self._affine('points', coeff), rotation_matrix(coeff[:, factors.ANGLES]))
        return turned + coeff[:, None, factors.TRANSLATION]

    def _affine(self, name: str, coeff: tf.Tensor) -> tf.Tensor:
        """mean + basis @ its part of coeff, for the vertices of `name`: [B, 257] -> [B, vertices, 3]."""
        model = self.model
        vertices = self.patch.vertices if name == 'shape' else self.vertices
        if name == 'texture':
            basis, mean, parts = model.texture_basis, model.mean_texture, [factors.TEXTURE]
        else:
            basis, mean, parts = model.shape_basis, model.mean_shape, [factors.SHAPE, factors.EXPRESSION]
        coeff = tf.concat([coeff[:, part] for part in parts] + [tf.ones_like(coeff[:, :1])], axis=1)    # [B, k + 1]
        if implementation(self.impl) == 'ref':
            matrix = self._constant(name, lambda: affine_rows(basis, mean, vertices).T)
            values = exact_matmul(coeff, matrix)                                                   # [B, 3 * vertices]
        else:
            blocks = self._constant(name + '_blocks', lambda: row_blocks(affine_rows(basis, mean, vertices)))
            with tf.device('/device:CPU:0'):
                values = _library().face_linear(coeff, blocks, rows=3 * len(vertices))
        return tf.reshape(values, [-1, len(vertices), 3])

    def _shade(self, patch: tf.Tensor, texture: tf.Tensor, light: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
        """patch [B, m, 3], texture [B, n, 3], light [B, 3, 4, 4] -> normals, colors [B, n, 3]."""
        corners = self._constant('corners', lambda: self.patch.corners)
        around = self._constant('around', lambda: self.patch.around)
        if implementation(self.impl) == 'cpp':
            with tf.device('/device:CPU:0'):
                return tuple(_library().face_shade(patch, texture, light, corners, around))
        a, b, c = (tf.gather(patch, corners[:, k], axis=1) for k in range(3))                   # [B, F, 3] each
        of_triangles = _unit(tf.linalg.cross(a - b, b - c))
        normals = _unit(tf.reduce_sum(tf.gather(of_triangles, around, axis=1), axis=2))         # [B, n, 3]
        return normals, texture * _light_of(normals, light)

    @property
    def patch(self) -> '_Patch':
        """Vertices and triangles that the normals need."""
        if self._patch is None:
            self._patch = _Patch(self.model, self.vertices)
        return self._patch

    def _constant(self, name: str, build: Callable[[], np.ndarray]) -> tf.Tensor:
        """The array `build()` as a constant of the current graph and device."""
        graph = tf.get_default_graph()
        with tf.control_dependencies(None), tf.name_scope(None):     # usable inside and outside of loops and branches
            key = (id(graph), current_device(), name)
            if key not in self._constants:
                self._constants[key] = (graph, tf.constant(build(), name='face_decoder_' + name))
        return self._constants[key][1]


# ------------------------------------------------------------------------------------------------ our own ops

def _library() -> Any:
    return custom_ops.get_library('face_decoder', SOURCES)


@tf.RegisterGradient('FaceLinear')
def _linear_gradient(op, df_dvalues):
    with tf.device('/device:CPU:0'):
        return _library().face_linear_grad(op.inputs[1], df_dvalues), None


@tf.RegisterGradient('FaceShade')
def _shade_gradient(op, df_dnormals, df_dcolors):
    with tf.device('/device:CPU:0'):
        gradient = _library().face_shade_grad(*op.inputs, df_dnormals, df_dcolors)
    return tuple(gradient) + (None, None)


# ------------------------------------------------------------------------------------------------ pieces

def with_translation(coeff: tf.Tensor) -> tf.Tensor:
    """[B, 257], or [B, 254] with zeros put behind it, -> [B, 257]. Raises ValueError for another width."""
    width = coeff.shape.as_list()[-1]
    if width == factors.NUM_RECON:
        return coeff
    if width != factors.NUM_COEFFS:
        raise ValueError(f'coefficients have {width} columns; {factors.NUM_RECON} are expected, or '
                         f'{factors.NUM_COEFFS} for no translation')
    return tf.pad(coeff, [[0, 0], [0, factors.NUM_RECON - factors.NUM_COEFFS]])


def rotation_matrix(angles: tf.Tensor) -> tf.Tensor:
    """[B, 3] pitch, yaw, roll in radians (about x, y, z) -> [B, 3, 3] for row vectors: (Rz Ry Rx) transposed."""
    return tf.transpose(camera_utils.euler_matrices(angles)[:, :3, :3], [0, 2, 1])


def project_224(points: tf.Tensor) -> tf.Tensor:
    """World points [B, n, 3] -> [B, n, 2] in R_Net's 224-pixel picture: x right, y UP from the bottom left, pixels."""
    return _project(points, camera.FOCAL_224, camera.RECON_SIZE / 2)


def project_256(points: tf.Tensor) -> tf.Tensor:
    """World points [B, n, 3] -> [B, n, 2] in 256-pixel renders: x right, y UP from the bottom left, pixels."""
    return _project(points, camera.FOCAL_256, camera.RENDER_SIZE / 2)


def _project(points: tf.Tensor, focal: float, centre: float) -> tf.Tensor:
    return focal * points[..., :2] / (camera.DISTANCE - points[..., 2:]) + centre


def world_projection(batch: Any, fov_y: float = camera.FOV_Y_DEGREES) -> tf.Tensor:
    """World space to clip space of a camera with that field of view in degrees: [batch, 4, 4] for column vectors."""
    return _projection(tf.eye(3, batch_shape=[batch]), tf.zeros([batch, 3]), fov_y)


def _projection(rotation: tf.Tensor, translation: tf.Tensor, fov_y: float = camera.FOV_Y_DEGREES) -> tf.Tensor:
    """Rotation [B, 3, 3] for row vectors and translation [B, 3], then the camera -> [B, 4, 4]."""
    ones = tf.ones_like(translation[:, 0])                                      # [B]
    moved = translation - tf.constant([0.0, 0.0, camera.DISTANCE])              # seen from the camera
    pose = tf.concat([tf.transpose(rotation, [0, 2, 1]), moved[:, :, None]], axis=2)                # [B, 3, 4]
    lens = camera_utils.perspective(1.0, fov_y * ones, camera.NEAR_CLIP * ones, camera.FAR_CLIP * ones)
    return exact_matmul(lens, camera_utils.homogeneous(pose))


def affine_rows(basis: np.ndarray, mean: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Basis [3N, k] and mean [N, 3] at some vertices -> [3 * vertices, k + 1] float32.

    The mean, the largest number of the sum, is the last column: it is added last, when the small ones have met.
    """
    rows = (3 * vertices[:, None] + np.arange(3)).reshape(-1)
    return np.concatenate([basis[rows], mean[vertices].reshape(-1, 1)], axis=1).astype(np.float32)


def row_blocks(rows: np.ndarray) -> np.ndarray:
    """[rows, k] float32 as our own op reads them: [blocks, k, BLOCK_ROWS], the last block filled up with zeros."""
    padded = np.pad(rows, [[0, -len(rows) % BLOCK_ROWS], [0, 0]], 'constant')
    blocks = padded.reshape(-1, BLOCK_ROWS, rows.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks)


def _unit(x: tf.Tensor) -> tf.Tensor:
    """x / |x| along the last axis; zero stays zero."""
    return x * tf.rsqrt(tf.maximum(tf.reduce_sum(tf.square(x), axis=-1, keepdims=True), MIN_SQUARE))


def harmonic_light(normals: tf.Tensor, rotation: tf.Tensor, lighting: tf.Tensor) -> tf.Tensor:
    """Factor on the texture: unit normals [B, n, 3] before the pose, lighting [B, 27] -> [B, n, 3 channels]."""
    return _light_of(normals, light_matrices(rotation, lighting))


def light_matrices(rotation: tf.Tensor, lighting: tf.Tensor) -> tf.Tensor:
    """rotation [B, 3, 3], lighting [B, 27] -> M [B, 3 channels, 4, 4] symmetric.

    The light on a normal n before the pose is h M h with h = (n, 1). The pose turns the few numbers of M back, not the
    many normals.
    """
    harmonics = tf.reshape(lighting, [-1, 3, 9]) + tf.constant([AMBIENT] + 8 * [0.0])
    matrices = exact_matmul(tf.reshape(harmonics, [-1, 9]), tf.constant(_harmonics_table()))
    turn = camera_utils.homogeneous(tf.pad(rotation, [[0, 0], [0, 0], [0, 1]]))[:, None]            # [B, 1, 4, 4]
    return exact_matmul(exact_matmul(turn, tf.reshape(matrices, [-1, 3, 4, 4])), turn, transpose_b=True)


def _light_of(normals: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """h M h: normals [B, n, 3], matrices [B, 3 channels, 4, 4] -> [B, n, 3 channels]."""
    h = tf.concat([normals, tf.ones_like(normals[..., :1])], axis=-1)[:, None]                      # [B, 1, n, 4]
    light = tf.reduce_sum(exact_matmul(h, matrices) * h, axis=-1)                                    # [B, channel, n]
    return tf.transpose(light, [0, 2, 1])


def _harmonics_table() -> np.ndarray:
    """[9, 16] float32: each spherical harmonic of a unit vector n as a symmetric matrix M [4, 4]: h M h, h = (n, 1)."""
    a0, a1, a2 = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)
    c0, c1, c2 = (math.sqrt(k / (4 * math.pi)) for k in (1, 3, 15))
    x, y, z, one = range(4)
    table = np.zeros([9, 4, 4])
    table[0, one, one] = a0 * c0
    for row, i, j, factor in ((1, y, one, -a1 * c1), (2, z, one, a1 * c1), (3, x, one, -a1 * c1),
                              (4, x, y, a2 * c2), (5, y, z, -a2 * c2), (7, x, z, -a2 * c2)):
        table[row, i, j] = table[row, j, i] = factor / 2
    table[6, z, z], table[6, one, one] = 3 * a2 * c2 / (2 * math.sqrt(3)), -a2 * c2 / (2 * math.sqrt(3))
    table[8, x, x], table[8, y, y] = a2 * c2 / 2, -a2 * c2 / 2
    return table.reshape(9, 16).astype(np.float32)


class _Patch:
    """What the normals of `wanted` vertices need: more vertices, and the triangles around.

    vertices  [m] numbers in the model, the wanted first
    corners   [F, 3] patch vertices of each triangle; the last triangle is (0, 0, 0), without area
    around    [n, 8] triangles around each wanted vertex, padded with that last triangle, whose normal is zero
    """

    def __init__(self, model: FaceModel, wanted: Sequence[int]) -> None:
        listed = model.vertex_triangles[wanted]
        count = len(model.triangles)
        used = np.unique(listed[listed < count])
        others = np.setdiff1d(model.triangles[used], wanted)
        self.vertices = np.concatenate([wanted, others])
        number = np.zeros(model.num_vertices, np.int32)
        number[self.vertices] = np.arange(len(self.vertices))
        self.corners = np.concatenate([number[model.triangles[used]], np.zeros([1, 3], np.int32)])
        new_number = np.full(count + 1, len(used), np.int32)
        new_number[used] = np.arange(len(used))
        self.around = new_number[listed]
