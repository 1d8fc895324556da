"""Camera matrices of tf_mesh_renderer (Genova et al. 2018): 4x4, float32, for column vectors, batched.

The eye looks along its -z axis, x right, y up (right-handed); clip space is OpenGL's.
"""

import math
from typing import Any

from dnnlib.tflib.compat import tf
from dnnlib.tflib.tfutil import exact_matmul

MIN_LENGTH = 1e-6       # of a direction that can still be told


def perspective(aspect_ratio: Any, fov_y: Any, near_clip: Any, far_clip: Any) -> tf.Tensor:
    """Eye space to clip space.

    aspect_ratio: width / height, scalar (or [B]). fov_y: [B] vertical field of view in DEGREES. near_clip, far_clip:
    [B] distances > 0. Returns [B, 4, 4]; visible depths end in -1..1 after division by w.
    """
    fov_y = tf.convert_to_tensor(fov_y, tf.float32)
    near_clip = tf.convert_to_tensor(near_clip, tf.float32)
    far_clip = tf.convert_to_tensor(far_clip, tf.float32)
    focal = 1.0 / tf.tan(fov_y * (math.pi / 360.0))     # in half picture heights
    depth = far_clip - near_clip
    zero = tf.zeros_like(focal)
    rows = [[focal / aspect_ratio, zero, zero, zero],
            [zero, focal, zero, zero],
            [zero, zero, -(far_clip + near_clip) / depth, -2.0 * far_clip * near_clip / depth],
            [zero, zero, zero - 1.0, zero]]
    return _matrices(rows)


def look_at(eye: Any, center: Any, world_up: Any) -> tf.Tensor:
    """World space to eye space, for an eye that looks at `center`.

    eye, center, world_up: [B, 3] world coordinates; world_up need not be unit. Returns [B, 4, 4]. Running it raises
    InvalidArgumentError when eye and center coincide or world_up points along the line of sight.
    """
    eye = tf.convert_to_tensor(eye, tf.float32)
    forward = _unit(tf.convert_to_tensor(center, tf.float32) - eye, 'look_at: eye and center must not coincide')
    world_up = tf.convert_to_tensor(world_up, tf.float32)
    side = _unit(tf.linalg.cross(forward, world_up), 'look_at: world_up must not be 0 or along the line of sight')
    up = tf.linalg.cross(side, forward)
    rotation = tf.stack([side, up, -forward], axis=1)                               # [B, 3, 3]
    translation = -tf.reduce_sum(rotation * eye[:, None, :], axis=2, keepdims=True)   # [B, 3, 1]
    return homogeneous(tf.concat([rotation, translation], axis=2))


def euler_matrices(angles: Any) -> tf.Tensor:
    """Rotations about x, then y, then z. angles: [B, 3] radians about x, y, z. Returns [B, 4, 4] = Rz Ry Rx."""
    angles = tf.convert_to_tensor(angles, tf.float32)
    sx, sy, sz = tf.unstack(tf.sin(angles), axis=1)
    cx, cy, cz = tf.unstack(tf.cos(angles), axis=1)
    zero, one = tf.zeros_like(sx), tf.ones_like(sx)
    return _matrices([[cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx, zero],
                      [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx, zero],
                      [-sy, cy * sx, cy * cx, zero],
                      [zero, zero, zero, one]])


def transform_homogeneous(matrices: Any, vertices: Any) -> tf.Tensor:
    """Points as (x, y, z, 1) through matrices. matrices: [B, 4, 4]. vertices: [B, N, 3]. Returns [B, N, 4].

    Raises ValueError for other shapes.
    """
    matrices = tf.convert_to_tensor(matrices, tf.float32)
    vertices = tf.convert_to_tensor(vertices, tf.float32)
    for name, tensor, shape in (('matrices', matrices, [None, 4, 4]), ('vertices', vertices, [None, None, 3])):
        if not tensor.shape.is_compatible_with(shape):
            expected = '[batch, 4, 4]' if name == 'matrices' else '[batch, vertices, 3]'
            raise ValueError(f'{name} must have shape {expected}, got {tensor.shape}')
    rotated = exact_matmul(vertices, matrices[:, :, :3], transpose_b=True)           # [B, N, 4]
    return rotated + matrices[:, None, :, 3]


def _matrices(rows):
    """Rows of [B] tensors -> [B, rows, columns]."""
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def homogeneous(top: tf.Tensor) -> tf.Tensor:
    """Affine maps [B, 3, 4] -> [B, 4, 4] with the last row 0 0 0 1."""
    bottom = tf.zeros_like(top[:, :1, :]) + tf.constant([0.0, 0.0, 0.0, 1.0])
    return tf.concat([top, bottom], axis=1)


def _unit(vectors, message):
    """vectors [B, 3] at length 1; running it fails with `message` where one is too short to have a direction."""
    length = tf.norm(vectors, axis=1, keepdims=True)
    with tf.control_dependencies([tf.debugging.assert_greater(length, MIN_LENGTH, message=message)]):
        return vectors / length
