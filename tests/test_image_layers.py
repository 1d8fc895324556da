"""Image layers: cheap forms against plain NumPy, in every data format, with first and second derivatives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib import layers
from dnnlib.tflib.compat import IS_TF1, gpu_names, tf
from tests.common import assert_close, relative_l2

NO_NCHW = pytest.mark.skipif(IS_TF1 and not gpu_names(), reason='TensorFlow 1.15 has no NCHW convolution on CPUs')
RANDOM = np.random.RandomState(3)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    RANDOM.seed(3)


@pytest.fixture(params=['NHWC', 'NHWC with our own ops', pytest.param('NCHW', marks=NO_NCHW)])
def data_format(request):
    with layers.use_data_format(request.param[:4]), layers.use_ops('ops' in request.param):
        assert layers.has_ops() == ('ops' in request.param)
        yield request.param[:4]


def test_format_follows_the_devices_in_use(monkeypatch):
    monkeypatch.delenv('DISCO_DATA_FORMAT', raising=False)
    monkeypatch.setattr(layers, 'gpu_names', lambda: ['/device:GPU:0'])
    for names, expected in ((['/device:CPU:0', '/device:CPU:1'], 'NHWC'),
                            (['/job:worker/replica:0/task:1/device:GPU:0'], 'NCHW')):
        with layers.for_devices(names):
            assert layers.data_format() == expected and layers.has_ops() == (expected == 'NHWC')
    assert layers.data_format() == 'NCHW' and not layers.has_ops()
    monkeypatch.setenv('DISCO_DATA_FORMAT', 'NCHW')
    with layers.for_devices(['/device:CPU:0']):
        assert layers.data_format() == 'NCHW' and not layers.has_ops()


def _array(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


def _apply(session, function, x, *others):
    """function on NCHW arrays -> NCHW array."""
    return session.run(layers.to_nchw(function(layers.from_nchw(tf.constant(x)), *map(tf.constant, others))))


# ---- plain NumPy, NCHW

def _conv(x, kernel):
    height, width = x.shape[2:]
    margin = kernel.shape[0] // 2
    padded = np.pad(x, [(0, 0), (0, 0), (margin, margin), (margin, margin)], 'constant')
    return sum(np.einsum('nchw,cd->ndhw', padded[:, :, i:i + height, j:j + width], kernel[i, j])
               for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))


def _up(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def _down(x):
    return x.reshape(x.shape[0], x.shape[1], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean(axis=(3, 5))


def _blur(x):
    kernel = np.outer([1, 2, 1], [1, 2, 1])[:, :, np.newaxis, np.newaxis] / 16 * np.eye(x.shape[1])
    return _conv(x, kernel)


def _stddev(x, group, features=1):
    count, channels = x.shape[:2]
    groups = count // group
    out = np.zeros([count, features] + list(x.shape[2:]))
    for i in range(count):
        members = x[i % groups::groups]
        std = np.sqrt(members.var(axis=0) + 1e-8)
        out[i] = std.reshape(features, -1).mean(axis=1)[:, np.newaxis, np.newaxis]
    return np.concatenate([x, out], axis=1)


# ---- values

@pytest.mark.parametrize('shape', [(2, 33, 4, 4), (2, 50, 2, 6), (2, 3, 16, 34)])
def test_upscale_conv(tf_session, data_format, shape):
    """The form for small images of many channels and the transposed convolution are both upscale, then convolve."""
    x, kernel = _array(*shape), _array(3, 3, shape[1], 5) / np.float32(np.sqrt(shape[1]))
    assert_close(_apply(tf_session, layers.upscale_conv2d, x, kernel), _conv(_up(x), kernel), atol=2e-5)
    assert_close(_apply(tf_session, lambda x, k: layers.conv2d(layers.upscale2d(x), k), x, kernel),
                 _conv(_up(x), kernel), atol=2e-5)


def test_conv_downscale(tf_session, data_format):
    x, kernel = _array(2, 3, 8, 6), _array(3, 3, 3, 5)
    assert_close(_apply(tf_session, layers.conv_downscale2d, x, kernel), _down(_conv(x, kernel)), atol=2e-5)


def test_blur(tf_session, data_format):
    x = _array(2, 3, 5, 4)
    assert_close(_apply(tf_session, layers.blur2d, x), _blur(x), atol=1e-6)
    inside = _apply(tf_session, layers.blur2d, np.ones([1, 1, 5, 5], np.float32))
    assert_close(inside[0, 0, 1:-1, 1:-1], np.ones([3, 3], np.float32), atol=1e-7)
    assert_close(inside[0, 0, 0, 0], 9 / 16, atol=1e-7)         # zeros outside


@pytest.mark.parametrize('factor', [1, 2, 4])
def test_upscale_and_downscale(tf_session, data_format, factor):
    x = _array(2, 3, 4, 8)
    big = _apply(tf_session, lambda x: layers.upscale2d(x, factor), x)
    assert_close(big, x.repeat(factor, axis=2).repeat(factor, axis=3))
    assert_close(_apply(tf_session, lambda x: layers.downscale2d(x, factor), big), x, atol=1e-6)


@pytest.mark.parametrize('offset', [0, 1000])
def test_instance_norm(tf_session, data_format, offset):
    """Also with a mean much larger than the deviation."""
    x, scale, shift = _array(2, 3, 16, 16) + np.float32(offset), _array(2, 3), _array(2, 3)
    centred = x.astype(np.float64) - x.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    plain = centred / np.sqrt((centred ** 2).mean(axis=(2, 3), keepdims=True) + 1e-8)
    tolerance = 2e-6 if offset == 0 else 2e-3
    assert_close(_apply(tf_session, layers.instance_norm, x), plain, atol=tolerance)
    styled = plain * scale[:, :, np.newaxis, np.newaxis] + shift[:, :, np.newaxis, np.newaxis]
    assert_close(_apply(tf_session, layers.instance_norm, x, scale, shift), styled, atol=2 * tolerance)


def test_instance_norm_of_flat_channels(tf_session, data_format):
    x = np.full([1, 2, 8, 8], 0.3, np.float32)
    assert np.abs(_apply(tf_session, layers.instance_norm, x)).max() < 1e-2


def test_pixel_norm(tf_session, data_format):
    x = _array(2, 3, 4, 5)
    assert_close(_apply(tf_session, layers.pixel_norm, x), x / np.sqrt((x ** 2).mean(axis=1, keepdims=True) + 1e-8),
                 atol=1e-6)


@pytest.mark.parametrize('batch', [1, 2])
def test_noise_and_bias(tf_session, data_format, batch):
    x, noise, weight, bias = _array(2, 3, 4, 5), _array(batch, 1, 4, 5), _array(3), _array(3)
    with tf.name_scope('test'):
        result = _apply(tf_session, layers.add_noise_and_bias, x, noise, weight, bias)
    assert_close(result, x + noise * weight[:, np.newaxis, np.newaxis] + bias[:, np.newaxis, np.newaxis], atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 13), st.integers(1, 5), st.sampled_from([1, 2, 4]), st.booleans())
def test_minibatch_stddev(count, limit, features, static):
    x = _array(count, 4, 3, 2)
    group = max(size for size in range(1, limit + 1) if count % size == 0)
    with tf.Graph().as_default(), tf.Session() as session, layers.use_data_format('NHWC'):
        inputs = tf.placeholder(tf.float32, [count if static else None, 4, 3, 2])
        y = layers.to_nchw(layers.minibatch_stddev(layers.from_nchw(inputs), limit, features))
        assert y.shape.as_list()[1:] == [4 + features, 3, 2]
        assert_close(session.run(y, {inputs: x}), _stddev(x, group, features), atol=2e-6)


# ---- derivatives

KERNEL = _array(3, 3, 2, 3) / np.float32(4)       # keeps tanh below smooth on the scale of the differences

DIFFERENTIABLE = {
    'blur2d': layers.blur2d,
    'upscale2d': layers.upscale2d,
    'downscale2d': layers.downscale2d,
    'upscale_conv2d': lambda x: layers.upscale_conv2d(x, tf.constant(KERNEL)),
    'conv_downscale2d': lambda x: layers.conv_downscale2d(x, tf.constant(KERNEL)),
    'leaky_relu': layers.leaky_relu,
    'instance_norm': layers.instance_norm,
    'minibatch_stddev': layers.minibatch_stddev,
}


def _directional(session, values, x, point, direction, step=1e-2):
    """Difference of `values` along `direction`, of fourth order, as a float64."""
    at = {k: float(session.run(values, {x: (point + k * step * direction).astype(np.float32)})) for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)


@pytest.mark.parametrize('name', list(DIFFERENTIABLE))
def test_derivatives(tf_session, data_format, name):
    """First and second derivatives against differences: of f = sum of tanh(layer(x)), and of |grad f|^2 as in R1."""
    x = tf.placeholder(tf.float32, [2, 2, 6, 6])
    value = tf.reduce_sum(tf.tanh(layers.to_nchw(DIFFERENTIABLE[name](layers.from_nchw(x)))))
    first = tf.gradients(value, x)[0]
    penalty = tf.reduce_sum(tf.square(first))
    second = tf.gradients(penalty, x)[0]
    point, direction = _array(2, 2, 6, 6), _array(2, 2, 6, 6)
    point = np.abs(point) + 0.2                 # away from the kinks: of leaky ReLU at 0,
    point[1] *= -1                              # of the deviation where two images are equal
    for target, gradient in ((value, first), (penalty, second)):
        expected = _directional(tf_session, target, x, point, direction)
        actual = (tf_session.run(gradient, {x: point}).astype(np.float64) * direction).sum()
        assert abs(actual - expected) < 1e-2 * max(abs(expected), 1)


def test_blur_is_its_own_transpose(tf_session, data_format):
    x, dy = _array(2, 3, 5, 4), tf.placeholder(tf.float32, [2, 3, 5, 4])
    inputs = tf.constant(x)
    gradient = tf.gradients(layers.to_nchw(layers.blur2d(layers.from_nchw(inputs))), inputs, dy)[0]
    direction = _array(2, 3, 5, 4)
    assert_close(tf_session.run(gradient, {dy: direction}), _blur(direction), atol=1e-6)
    again = tf.gradients(gradient, dy, tf.constant(x))[0]       # linear in dy: its derivative is a blur too
    assert_close(tf_session.run(again), _blur(x), atol=1e-6)


def test_kernel_gradients_of_cheap_forms(tf_session, data_format):
    """Kernels of the merged convolutions get the gradients of the plain ones."""
    for cheap, plain, channels in [
            (layers.upscale_conv2d, lambda x, k: layers.conv2d(layers.upscale2d(x), k), 3),
            (layers.upscale_conv2d, lambda x, k: layers.conv2d(layers.upscale2d(x), k), 40),
            (layers.conv_downscale2d, lambda x, k: layers.downscale2d(layers.conv2d(x, k)), 3)]:
        x, kernel = layers.from_nchw(tf.constant(_array(2, channels, 4, 4))), tf.constant(_array(3, 3, channels, 4))
        gradients = [tf.gradients(tf.reduce_sum(tf.tanh(f(x, kernel))), [kernel, x]) for f in (cheap, plain)]
        for one, other in zip(*tf_session.run(gradients)):
            assert relative_l2(one, other) < 1e-4


def test_gradients_of_phases_are_those_of_slices(tf_session, monkeypatch):
    """Kernels taken by tf.unstack get the same gradients as kernels taken by slices, first and second ones."""
    x, kernel = tf.constant(_array(2, 40, 4, 4)), tf.constant(_array(3, 3, 40, 4) / np.float32(19))

    def gradients():
        with layers.use_data_format('NHWC'):
            y = tf.reduce_sum(tf.tanh(layers.upscale_conv2d(layers.from_nchw(x), kernel)))
        first = tf.gradients(y, [kernel, x])
        return first + tf.gradients(tf.reduce_sum(tf.square(first[1])), [kernel])
    asked = []
    unstacked = gradients()
    monkeypatch.setattr(layers.tf, 'unstack', lambda value: asked.append(value) or [value[i] for i in range(4)])
    sliced = gradients()
    assert len(asked) == 1
    for one, other in zip(*tf_session.run([unstacked, sliced])):
        assert relative_l2(one, other) < 1e-6


@pytest.mark.parametrize('batch', [1, 2])
def test_gradients_of_noise_and_bias(tf_session, data_format, batch):
    """One product of matrices for both has the gradients of a sum written out."""
    x, noise, weight, bias = [tf.constant(_array(*shape)) for shape in
                              ((2, 3, 4, 5), (batch, 1, 4, 5), (3,), (3,))]
    cheap = layers.to_nchw(layers.add_noise_and_bias(layers.from_nchw(x), noise, weight, bias))
    plain = x + noise * weight[:, np.newaxis, np.newaxis] + bias[:, np.newaxis, np.newaxis]
    found = [tf.gradients(tf.reduce_sum(tf.tanh(y)), [x, noise, weight, bias]) for y in (cheap, plain)]
    for one, other in zip(*tf_session.run(found)):
        assert relative_l2(one, other) < 1e-5
