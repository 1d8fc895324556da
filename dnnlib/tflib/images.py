"""Images as tensors: value ranges, channel orders, layouts, TensorFlow 1's resize, warps, blur. Knows no faces.

A name says what it wants: `_nchw` / `_nhwc` layout, `255` the range [0, 255], otherwise [-1, 1]; colours are RGB.
Everything is differentiable; resizes have no second derivative in TensorFlow 1.15.
"""

from typing import Sequence, Tuple, Union

import numpy as np

from dnnlib.tflib.compat import tf

# Ranges, channel orders, layouts.


def to_255(x: tf.Tensor) -> tf.Tensor:
    """[-1, 1] -> [0, 255], not clipped."""
    return (x + 1.0) * 127.5


def from_255(x: tf.Tensor) -> tf.Tensor:
    """[0, 255] -> [-1, 1], not clipped."""
    return x / 127.5 - 1.0


def clip_255(x: tf.Tensor) -> tf.Tensor:
    """Clip to [0, 255]. The gradient is 1 inside and at the bounds themselves (black stays trainable), 0 outside."""
    return tf.clip_by_value(x, 0.0, 255.0)


def swap_rgb_bgr(x_nhwc: tf.Tensor) -> tf.Tensor:
    """RGB <-> BGR: the last axis reversed."""
    return tf.reverse(x_nhwc, [-1])


def nchw_to_nhwc(x: tf.Tensor) -> tf.Tensor:
    """[N, C, H, W] -> [N, H, W, C]."""
    return tf.transpose(x, [0, 2, 3, 1])


def nhwc_to_nchw(x: tf.Tensor) -> tf.Tensor:
    """[N, H, W, C] -> [N, C, H, W]."""
    return tf.transpose(x, [0, 3, 1, 2])


# Resizing.


def resize(x_nhwc: tf.Tensor, height: int, width: int, align_corners: bool = False) -> tf.Tensor:
    """TensorFlow 1's bilinear resize of [N, H, W, C]: no half-pixel centres, no antialiasing.

    Without align_corners output pixel i is read at i * size_in / size_out (top-left corners meet); with it at
    i * (size_in - 1) / (size_out - 1) (first and last pixels meet). The published weights were trained with these.
    """
    if x_nhwc.shape.as_list()[1:3] == [height, width]:
        return x_nhwc
    return tf.image.resize_bilinear(x_nhwc, [height, width], align_corners=align_corners)


def shrink(x_nhwc: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """[N, H, W, C] made smaller, by the mean over the area of each new pixel: antialiased, nothing moves."""
    channels = x_nhwc.shape.as_list()[3]
    rows, columns = [known or tf.shape(x_nhwc)[1 + axis] for axis, known in enumerate(x_nhwc.shape.as_list()[1:3])]
    x = tf.matmul(_area_weights(rows, height), tf.reshape(x_nhwc, [-1, rows, columns * channels]))
    x = tf.transpose(tf.reshape(x, [-1, height, columns, channels]), [0, 2, 1, 3])
    x = tf.matmul(_area_weights(columns, width), tf.reshape(x, [-1, columns, height * channels]))
    return tf.transpose(tf.reshape(x, [-1, width, height, channels]), [0, 2, 1, 3])


def _area_weights(size_in: Union[int, tf.Tensor], size_out: int) -> tf.Tensor:
    """[size_out, size_in]: how much of each new pixel each old one makes; rows sum to 1. size_in: int or tensor."""
    scale = tf.cast(size_in, tf.float32) / size_out
    edges, places = tf.range(size_out + 1, dtype=tf.float32) * scale, tf.cast(tf.range(size_in), tf.float32)
    overlap = tf.minimum(edges[1:, tf.newaxis], places + 1) - tf.maximum(edges[:-1, tf.newaxis], places)
    return tf.maximum(overlap, 0.0) / scale


def fade_and_upscale(x_nchw: tf.Tensor, lod: Union[float, tf.Tensor]) -> tf.Tensor:
    """Show [N, C, H, W] as the progressively growing networks see it at level of detail `lod` (number or scalar).

    The image is lerped with its own 2x2 means by the fraction of lod, then upscaled by nearest neighbour by
    2^floor(lod). Masks pass through it too and so become fractional during a fade. H and W must be even; they may be
    known at run time only.
    """
    channels = x_nchw.shape.as_list()[1]
    height, width = [static_size(x_nchw, axis) for axis in (2, 3)]
    blocks = tf.reshape(x_nchw, tf.stack([-1, channels, height // 2, 2, width // 2, 2]))
    coarse = tf.tile(tf.reduce_mean(blocks, axis=[3, 5], keepdims=True), [1, 1, 1, 2, 1, 2])
    coarse = tf.reshape(coarse, tf.stack([-1, channels, height, width]))
    lod = tf.convert_to_tensor(lod, dtype=tf.float32)
    x = x_nchw + (coarse - x_nchw) * (lod - tf.floor(lod))
    factor = tf.cast(tf.round(tf.pow(2.0, tf.floor(lod))), tf.int32)
    x = tf.tile(tf.reshape(x, tf.stack([-1, channels, height, 1, width, 1])), tf.stack([1, 1, 1, factor, 1, factor]))
    x = tf.reshape(x, tf.stack([-1, channels, height * factor, width * factor]))
    fixed = tf.get_static_value(factor)
    sizes = [None if fixed is None or size is None else size * int(fixed) for size in x_nchw.shape.as_list()[2:]]
    x.set_shape([x_nchw.shape.as_list()[0], channels] + sizes)
    return x


def static_size(x: tf.Tensor, axis: int) -> Union[int, tf.Tensor]:
    """Size of `x` along an axis: an int where the graph knows it, else a tensor."""
    size = x.shape.as_list()[axis]
    return tf.shape(x)[axis] if size is None else size


def mirror_at_random(x_nchw: tf.Tensor, seed: Union[Sequence[int], tf.Tensor]) -> tf.Tensor:
    """Each image of [N, C, H, W] mirrored left to right with probability 1/2; seed: two integers that decide it."""
    chosen = tf.random.stateless_uniform([static_size(x_nchw, 0)], seed) < 0.5
    return tf.where(chosen, tf.reverse(x_nchw, [3]), x_nchw)


# Warps.


def warp_by_flow(x_nhwc: tf.Tensor, flow: tf.Tensor) -> tf.Tensor:
    """Read [N, H, W, C] along a flow: output(row, column) = x(row + flow[..., 0], column + flow[..., 1]).

    flow: [N, H, W, 2], pixels. Bilinear; a query beyond the border reads the border. The gradient with respect to a
    flow component is 0 where its query lies beyond the border. H and W at least 2. (The negative of the sign that
    dense_image_warp uses.)
    """
    batch, height, width, channels = _sizes(x_nhwc)
    rows = flow[..., 0] + tf.reshape(tf.range(height, dtype=tf.float32), [1, -1, 1])
    columns = flow[..., 1] + tf.reshape(tf.range(width, dtype=tf.float32), [1, 1, -1])
    row, down = _clamped(rows, height)
    column, right = _clamped(columns, width)
    first = tf.reshape(tf.range(batch) * (height * width), [-1, 1, 1])
    index = first + row * width + column
    pixels = tf.reshape(x_nhwc, [-1, channels])
    top = _lerp(tf.gather(pixels, index), tf.gather(pixels, index + 1), right)
    bottom = _lerp(tf.gather(pixels, index + width), tf.gather(pixels, index + (width + 1)), right)
    return _lerp(top, bottom, down)


def sample(x_nhwc: tf.Tensor, columns: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Read [N, H, W, C] at points; pixel centres lie at whole numbers, everything outside the image is 0.

    columns, rows: [N, h, w] (or any common shape behind N), pixels. Bilinear, so values fade out over the last pixel
    before the border -> [N, h, w, C].
    """
    batch, height, width, channels = _sizes(x_nhwc)
    shape = tf.shape(columns)
    first = tf.reshape(tf.range(batch) * (height * width), [-1, 1])
    taps_y = _zero_outside(tf.reshape(rows, tf.stack([batch, -1])), height)
    taps_x = _zero_outside(tf.reshape(columns, tf.stack([batch, -1])), width)
    pixels = tf.reshape(x_nhwc, [-1, channels])
    total = tf.add_n([tf.gather(pixels, first + y * width + x) * (weight_y * weight_x)[..., None]
                      for y, weight_y in taps_y for x, weight_x in taps_x])
    result = tf.reshape(total, tf.concat([shape, [channels]], axis=0))
    result.set_shape(columns.shape.as_list() + [channels])
    return result


def _sizes(x_nhwc: tf.Tensor) -> Tuple[Union[int, tf.Tensor], int, int, int]:
    """(batch, height, width, channels); the batch is a tensor where its size is not known."""
    batch, height, width, channels = x_nhwc.shape.as_list()
    return (tf.shape(x_nhwc)[0] if batch is None else batch), height, width, channels


def _lerp(a: tf.Tensor, b: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """a + (b - a) * t, with t broadcast over the channels."""
    return a + (b - a) * t[..., None]


def _clamped(query: tf.Tensor, size: int) -> Tuple[tf.Tensor, tf.Tensor]:
    """(index of the pixel before a query, int32; the fraction towards the next), both held inside 0 .. size-1."""
    before = tf.clip_by_value(tf.floor(query), 0.0, size - 2.0)
    fraction = tf.minimum(tf.maximum(0.0, query - before), 1.0)
    return tf.cast(before, tf.int32), fraction


def _zero_outside(query: tf.Tensor, size: int) -> Tuple[Tuple[tf.Tensor, tf.Tensor], Tuple[tf.Tensor, tf.Tensor]]:
    """The two taps (index, weight) of a query along one axis; a tap outside the image has weight 0."""
    query = tf.clip_by_value(query, -2.0, size + 1.0)       # far queries must not overflow the integers
    before = tf.floor(query)
    fraction = query - before

    def tap(position, weight):
        inside = tf.cast((position >= 0.0) & (position <= size - 1.0), tf.float32)
        return tf.cast(tf.clip_by_value(position, 0.0, size - 1.0), tf.int32), weight * inside

    return tap(before, 1.0 - fraction), tap(before + 1.0, fraction)


# Blur.


def gaussian_taps(size: int, sigma: float) -> np.ndarray:
    """[size] float64 weights of a one-dimensional Gaussian, sum 1, centre at size // 2 (an even size is lop-sided)."""
    offsets = np.arange(size) - size // 2
    taps = np.exp(-offsets ** 2 / (2.0 * sigma ** 2))
    return taps / taps.sum()


def gaussian_blur(x_nhwc: tf.Tensor, size: int = 5, sigma: float = 2.0) -> tf.Tensor:
    """Blur [N, H, W, C] by a size x size Gaussian; outside counts as 0, so borders darken. sigma: pixels."""
    channels = x_nhwc.shape.as_list()[3]
    taps = np.tile(gaussian_taps(size, sigma).astype(np.float32)[:, None, None], [1, channels, 1])
    x = tf.nn.depthwise_conv2d(x_nhwc, tf.constant(taps[::-1, None].copy()), [1, 1, 1, 1], 'SAME')    # down
    return tf.nn.depthwise_conv2d(x, tf.constant(taps[None]), [1, 1, 1, 1], 'SAME')                   # across
