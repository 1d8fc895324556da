"""The face parser's view of a face: similarity alignment by five points, then the RoI-tanh warp (arXiv 1906.01342).

Image points are (x, y), pixels, y DOWN from the top left, pixel centres at whole numbers; transforms are 3x3 matrices
for row vectors [x y 1], the result divided by its third number. Standard points lie in a 512-pixel square, aligned.
"""

import numpy as np

from dnnlib.tflib import images
from dnnlib.tflib.compat import tf
from renderer import camera

SIZE = camera.PARSER_SIZE
STANDARD = np.array([[196, 226], [316, 226], [256, 286], [220, 360.4], [292, 360.4]])   # eyes, nose, mouth corners
LIMIT = np.float32(0.999)       # of the tanh; beyond lies what the warp cuts off


def five_points(landmarks, height=camera.RENDER_SIZE):
    """Eye centres, nose tip and mouth corners of 68 landmarks.

    landmarks: [N, 68, 2] float32, x right, y UP from the bottom left, pixels of an image `height` pixels high.
    Returns [N, 5, 2], y DOWN from the top left.
    """
    eyes = [tf.reduce_mean(landmarks[:, first:first + 6], axis=1) for first in (36, 42)]
    points = tf.stack(eyes + [landmarks[:, i] for i in (30, 48, 54)], axis=1)
    return tf.stack([points[..., 0], height - points[..., 1]], axis=2)


def similarity_transform(points):
    """The rotation, scale and shift that take the standard five points closest to `points`, and its inverse.

    points: [N, 5, 2] image points. Returns (t, tinv), [N, 3, 3] each: [x y 1] @ t maps standard to image points,
    @ tinv image to standard points. 1e-5 is added to the diagonal of t, as in the release. No gradient flows.
    """
    points = tf.stop_gradient(points)
    source = (STANDARD - STANDARD.mean(axis=0)).astype(np.float32)
    centre = tf.reduce_mean(points, axis=1)                                         # [N, 2]
    target = points - centre[:, None]
    norm = float((source ** 2).sum())
    a = tf.reduce_sum(target * source, axis=[1, 2]) / norm + 1e-5                   # scale * cosine
    b = tf.reduce_sum(target[..., 1] * source[:, 0] - target[..., 0] * source[:, 1], axis=1) / norm
    mean_x, mean_y = [float(x) for x in STANDARD.mean(axis=0)]
    shift_x = centre[:, 0] - (a - 1e-5) * mean_x + b * mean_y
    shift_y = centre[:, 1] - b * mean_x - (a - 1e-5) * mean_y
    zero, one = tf.zeros_like(a), tf.ones_like(a) * 1.00001
    t = tf.stack([tf.stack([a, b, zero], axis=1), tf.stack([-b, a, zero], axis=1),
                  tf.stack([shift_x, shift_y, one], axis=1)], axis=1)
    return t, tf.linalg.inv(t)


def roi_tanh_grid():
    """[512] float32: the standard coordinate that each row or column of the warped image shows.

    (atanh(clip(k / 256 - 1)) + 1) * 256, in the float32 steps of the release: -716.85 .. 1054.23.
    """
    a = np.arange(SIZE, dtype=np.float32) / np.float32(SIZE // 2) - np.float32(1)
    t = np.arctanh(np.clip(a, -LIMIT, LIMIT))
    sign = np.sign(a)
    return ((t + sign) - sign + np.float32(1)) * np.float32(SIZE // 2)


def warp(x_nhwc, t):
    """What the parser sees: [N, H, W, C] -> [N, 512, 512, C]; 0 outside the image. t: [N, 3, 3]."""
    grid = tf.constant(roi_tanh_grid())
    columns, rows = [_outer(t, grid, grid, i) for i in (0, 1)]
    return images.sample(x_nhwc, columns, rows)


def unwarp(x_nhwc, tinv, height, width):
    """Back from the parser's view: [N, 512, 512, C] -> [N, height, width, C]. tinv: [N, 3, 3]."""
    x, y = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)
    columns, rows = [(tf.tanh(_outer(tinv, x, y, i) / (SIZE / 2) - 1.0) + 1.0) * (SIZE / 2) for i in (0, 1)]
    return images.sample(x_nhwc, columns, rows)


def _outer(transform, x, y, component):
    """x (component 0) or y (1) of the homogeneous points [x y 1] @ transform at the grid x by y -> [N, |y|, |x|]."""
    along_x, along_y, shift = [(transform[:, row, component] / transform[:, 2, 2])[:, None, None] for row in range(3)]
    return x[None, None, :] * along_x + y[None, :, None] * along_y + shift
