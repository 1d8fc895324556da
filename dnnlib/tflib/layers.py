"""Image layers in either data format: NHWC on the CPU (TensorFlow 1.15 has no other there), NCHW on GPUs (faster).

A network converts its input once with `from_nchw` or `from_nhwc`, calls these functions in between, and converts back
at its end; nothing else in the project asks which format is in use. Kernels are HWIO [height, width, in, out] and
all other variables keep their shape in both formats, so weights do not depend on it.
"""

import contextlib
import os

import numpy as np

from dnnlib.tflib import layer_ops
from dnnlib.tflib.compat import gpu_names, tf

_forced = []        # innermost `use_data_format` last
_with_ops = [False]     # innermost `use_ops` last


def data_format():
    """'NCHW' or 'NHWC': the format of activations now. The environment variable DISCO_DATA_FORMAT overrides."""
    if _forced:
        return _forced[-1]
    return os.environ.get('DISCO_DATA_FORMAT') or ('NCHW' if gpu_names() else 'NHWC')


@contextlib.contextmanager
def use_data_format(name):
    """Build the layers of this block in format `name`, 'NCHW' or 'NHWC'."""
    if name not in ('NCHW', 'NHWC'):
        raise ValueError(f'data format {name!r}: NCHW or NHWC expected')
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@contextlib.contextmanager
def use_ops(wanted):
    """Build the layers of this block, where they are NHWC, from our own ops (layer_ops), or from TensorFlow's alone."""
    _with_ops.append(wanted and layer_ops.available())
    try:
        yield
    finally:
        _with_ops.pop()


def has_ops():
    """Whether layers are built from our own ops now."""
    return _with_ops[-1] and data_format() == 'NHWC'


@contextlib.contextmanager
def for_devices(names):
    """Build the layers of this block for training on devices of these names: on CPUs NHWC and with our own ops.

    Whatever GPUs the machine has besides. The environment variable DISCO_DATA_FORMAT overrides the format here, too.
    """
    on_gpu = any('GPU' in name for name in names)
    with use_data_format(os.environ.get('DISCO_DATA_FORMAT') or ('NCHW' if on_gpu else 'NHWC')), use_ops(not on_gpu):
        yield


def from_nchw(x):
    """[N, C, H, W] -> the current format."""
    return x if data_format() == 'NCHW' else tf.transpose(x, [0, 2, 3, 1])


def to_nchw(x):
    """The current format -> [N, C, H, W]."""
    return x if data_format() == 'NCHW' else tf.transpose(x, [0, 3, 1, 2])


def from_nhwc(x):
    """[N, H, W, C] -> the current format."""
    return x if data_format() == 'NHWC' else tf.transpose(x, [0, 3, 1, 2])


def to_nhwc(x):
    """The current format -> [N, H, W, C]."""
    return x if data_format() == 'NHWC' else tf.transpose(x, [0, 2, 3, 1])


def channel_axis():
    """Axis of the channels: 1 or 3."""
    return data_format().index('C')


def spatial_axes():
    """Axes of height and width: [2, 3] or [1, 2]."""
    return [data_format().index('H'), data_format().index('W')]


def num_channels(x):
    """Number of channels of x, an int."""
    return x.shape.as_list()[channel_axis()]


def per_channel(v):
    """[C] or [N, C] -> a shape that broadcasts over the height and width of images in the current format."""
    if v.shape.ndims == 1:
        return tf.reshape(v, [1, -1, 1, 1] if data_format() == 'NCHW' else [1, 1, 1, -1])
    channels = v.shape.as_list()[1]
    return tf.reshape(v, [-1, channels, 1, 1] if data_format() == 'NCHW' else [-1, 1, 1, channels])


def spatial4(height, width):
    """[1, height, width, 1] arranged for the current format, e.g. strides or window sizes."""
    return [1, 1, height, width] if data_format() == 'NCHW' else [1, height, width, 1]


def pad(x, top, bottom, left, right):
    """Zero-pad height and width."""
    margins = [[0, 0], [0, 0], [0, 0], [0, 0]]
    margins[spatial_axes()[0]], margins[spatial_axes()[1]] = [top, bottom], [left, right]
    return tf.pad(x, margins)


def conv2d(x, kernel, stride=1, padding='SAME'):
    """Convolution (correlation). kernel: [h, w, in, out]; stride: int; padding: 'SAME' or 'VALID' as TensorFlow's."""
    return tf.nn.conv2d(x, kernel, strides=spatial4(stride, stride), padding=padding, data_format=data_format())


def bias_add(x, bias):
    """Add bias [C] to every pixel."""
    return tf.nn.bias_add(x, bias, data_format=data_format())


def max_pool(x, size, stride, padding):
    """Maximum over size x size windows; padding 'SAME' or 'VALID' as TensorFlow's."""
    return tf.nn.max_pool(x, ksize=spatial4(size, size), strides=spatial4(stride, stride), padding=padding,
                          data_format=data_format())


def avg_pool(x, size, stride, padding='VALID'):
    """Mean over size x size windows; padding 'SAME' or 'VALID' as TensorFlow's."""
    return tf.nn.avg_pool(x, ksize=spatial4(size, size), strides=spatial4(stride, stride), padding=padding,
                          data_format=data_format())


def global_avg_pool(x):
    """Mean over height and width -> [N, C]."""
    return tf.reduce_mean(x, axis=spatial_axes())


def upscale2d(x, factor=2):
    """Nearest-neighbour upscaling by an integer factor."""
    if factor == 1:
        return x
    channels = num_channels(x)
    height, width = [x.shape.as_list()[axis] for axis in spatial_axes()]
    if data_format() == 'NCHW':
        x = tf.tile(tf.reshape(x, [-1, channels, height, 1, width, 1]), [1, 1, 1, factor, 1, factor])
        return tf.reshape(x, [-1, channels, height * factor, width * factor])
    x = tf.tile(tf.reshape(x, [-1, height, 1, width, 1, channels]), [1, 1, factor, 1, factor, 1])
    return tf.reshape(x, [-1, height * factor, width * factor, channels])


def downscale2d(x, factor=2):
    """Mean over factor x factor blocks."""
    return x if factor == 1 else avg_pool(x, factor, factor)


def upscale_conv2d(x, kernel):
    """`conv2d(upscale2d(x), kernel)` for a 3x3 kernel, at 4/9 of its multiplications.

    Every output pixel sees only 2x2 different input pixels.
    """
    if data_format() == 'NHWC' and num_channels(x) > 8 * x.shape.as_list()[2]:
        return _upscale_conv2d_by_phases(x, kernel)     # on CPUs faster for small images of many channels
    height, width = [size * 2 for size in _height_width(x)]
    channels = kernel.shape.as_list()[3]
    kernel = tf.transpose(_combine_taps(kernel, np.kron(_SUM_OF_SHIFTS[:, ::-1], _SUM_OF_SHIFTS[:, ::-1])), [0, 2, 1])
    kernel = tf.reshape(kernel, [4, 4, channels, num_channels(x)])
    shape = [tf.shape(x)[0], channels, height, width] if data_format() == 'NCHW' else \
        [tf.shape(x)[0], height, width, channels]
    return tf.nn.conv2d_transpose(x, kernel, shape, strides=spatial4(2, 2), padding='SAME', data_format=data_format())


def _upscale_conv2d_by_phases(x, kernel):
    """Even and odd rows and columns by a 2x2 convolution each; then they are interleaved. NHWC."""
    height, width = _height_width(x)
    inputs, outputs = kernel.shape.as_list()[2:]
    # tf.unstack, not slices: their gradients would each fill a kernel of zeros, a quarter of a small step's time.
    kernels = tf.unstack(tf.reshape(_combine_taps(kernel, _PHASES), [4, 2, 2, inputs, outputs]))
    phases = [conv2d(pad(x, 1 - i, i, 1 - j, j), kernels[2 * i + j], padding='VALID') for i in (0, 1) for j in (0, 1)]
    top, low = tf.stack(phases[:2], axis=3), tf.stack(phases[2:], axis=3)       # [N, H, W, 2, C]
    return tf.reshape(tf.stack([top, low], axis=2), [-1, 2 * height, 2 * width, outputs])


def conv_downscale2d(x, kernel):
    """`downscale2d(conv2d(x, kernel))` for a 3x3 kernel and even sizes, as one convolution of stride 2."""
    taps = _combine_taps(kernel, np.kron(_SUM_OF_SHIFTS, _SUM_OF_SHIFTS) / 4)
    return conv2d(x, tf.reshape(taps, [4, 4] + kernel.shape.as_list()[2:]), stride=2)


# Along one axis, from the 3 taps of a kernel: the sum of its two positions among 4 taps.
_SUM_OF_SHIFTS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]])

# The 2 taps that make the even, then the odd, pixels of a convolution of doubled pixels: [phase, tap, tap of kernel];
# for both axes a matrix whose rows are [row phase, column phase, row tap, column tap].
_PHASE = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
_PHASES = np.einsum('ptk,qul->pqtukl', _PHASE, _PHASE).reshape(16, 9)


def _combine_taps(kernel, matrix):
    """Linear combinations, by a constant matrix [K, 9], of a 3x3 kernel's taps -> [K, in, out]."""
    inputs, outputs = kernel.shape.as_list()[2:]
    taps = tf.matmul(matrix.astype(np.float32), tf.reshape(kernel, [9, inputs * outputs]))
    return tf.reshape(taps, [-1, inputs, outputs])


def _height_width(x):
    return [x.shape.as_list()[axis] for axis in spatial_axes()]


def blur2d(x):
    """Convolution of each channel with [1, 2, 1] x [1, 2, 1] / 16, zeros outside."""
    if has_ops():
        return layer_ops.blur2d(x)

    @tf.custom_gradient
    def blur(y):        # symmetric, so it is its own transpose: every derivative is a blur again
        kernel = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
        kernel = np.tile(kernel[:, :, np.newaxis, np.newaxis], [1, 1, num_channels(x), 1])
        return tf.nn.depthwise_conv2d_native(y, kernel, strides=[1, 1, 1, 1], padding='SAME',
                                             data_format=data_format()), blur2d
    return blur(x)


def leaky_relu(x, alpha=0.2):
    """max(x, alpha * x)."""
    return layer_ops.leaky_relu(x, alpha) if has_ops() else tf.nn.leaky_relu(x, alpha)


def add_noise_and_bias(x, noise, weight, bias):
    """x + noise * weight + bias. noise: [N or 1, 1, height, width] (NCHW); weight, bias: [C]."""
    if data_format() == 'NCHW':
        return bias_add(x + noise * per_channel(weight), bias)
    height, width = _height_width(x)
    noise = tf.reshape(noise, [-1, 1])
    added = tf.matmul(tf.concat([noise, tf.ones_like(noise)], axis=1), tf.stack([weight, bias]))    # one pass on CPUs
    return x + tf.reshape(added, [-1, height, width, num_channels(x)])


def scale_and_shift(x, scale, shift):
    """x * scale + shift, with scale and shift [N, C] or [C]."""
    return x * per_channel(scale) + per_channel(shift)


def instance_norm(x, scale=None, shift=None, epsilon=1e-8):
    """Each channel of each image minus its mean, times 1 / sqrt(mean square + epsilon); then `scale_and_shift`.

    scale, shift: [N, C], or both None for no such step.
    """
    mean = _pixel_mean(x)
    factor = tf.rsqrt(_pixel_mean(tf.math.squared_difference(x, mean)) + epsilon)
    if scale is None:
        return (x - mean) * factor
    factor *= per_channel(scale)
    return x * factor + (per_channel(shift) - mean * factor)


def noise_style(x, noise, weight, bias, scale, shift, alpha=0.2, epsilon=1e-8):
    """`add_noise_and_bias`, `leaky_relu`, `instance_norm` with scale and shift [N, C] as one op, where `has_ops`."""
    return layer_ops.noise_style(x, noise, weight, bias, scale, shift, alpha, epsilon)


def _pixel_mean(x):
    """Mean over height and width, which stay as axes of size 1."""
    if data_format() == 'NCHW':
        return tf.reduce_mean(x, axis=[2, 3], keepdims=True)
    height, width = _height_width(x)
    batch, pixels, channels = tf.shape(x)[0], height * width, num_channels(x)
    mean = tf.matmul(tf.fill([batch, 1, pixels], 1.0 / pixels), tf.reshape(x, [-1, pixels, channels]))
    return tf.reshape(mean, [-1, 1, 1, channels])       # on CPUs a product is several times faster than reduce_mean


def pixel_norm(x, epsilon=1e-8):
    """Each pixel's vector of channels divided by its root mean square."""
    return x * tf.rsqrt(tf.reduce_mean(tf.square(x), axis=channel_axis(), keepdims=True) + epsilon)


def minibatch_stddev(x, group_size=4, num_features=1):
    """Append `num_features` channels that tell how much the images of a group differ.

    Groups have the size of the largest divisor of the batch up to group_size; sample i belongs to group
    i mod (number of groups). A feature is the mean over its share of the channels, and over all pixels, of
    sqrt(variance within the group + 1e-8).
    """
    x = to_nchw(x)
    _, channels, height, width = x.shape.as_list()
    group = _largest_divisor(x, group_size)
    y = tf.reshape(x, [group, -1, num_features, channels // num_features, height, width])   # [GMFcHW]
    y -= tf.reduce_mean(y, axis=0, keepdims=True)
    y = tf.sqrt(tf.reduce_mean(tf.square(y), axis=0) + 1e-8)                                # [MFcHW]
    y = tf.reduce_mean(y, axis=[2, 3, 4])                                                   # [MF]
    y = tf.reshape(tf.tile(y, [group, 1]), [-1, num_features, 1, 1])                        # [NF11]
    y = tf.tile(y, [1, 1, height, width])
    return from_nchw(tf.concat([x, y], axis=1))


def _largest_divisor(x, limit):
    """Largest divisor up to `limit` of the batch of x: an int where the batch is known, else a tensor."""
    batch = x.shape.as_list()[0]
    if batch is not None:
        return max(size for size in range(1, limit + 1) if batch % size == 0)
    sizes = tf.range(1, limit + 1)
    return tf.reduce_max(tf.where(tf.equal(tf.shape(x)[0] % sizes, 0), sizes, tf.ones_like(sizes)))
