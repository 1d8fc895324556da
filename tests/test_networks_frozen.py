"""Layers of the frozen networks in their cheap forms: values and gradients of the plain ones, in every data format."""

import numpy as np
import pytest

from dnnlib.tflib import layers
from dnnlib.tflib.compat import IS_TF1, gpu_names, tf
from perception import networks_frozen as frozen
from tests.common import relative_l2

NO_NCHW = pytest.mark.skipif(IS_TF1 and not gpu_names(), reason='TensorFlow 1.15 has no NCHW convolution on CPUs')


@pytest.fixture(params=['NHWC', pytest.param('NCHW', marks=NO_NCHW)])
def data_format(request):
    with layers.use_data_format(request.param):
        yield request.param


def _constant(random, *shape):
    return tf.constant(random.standard_normal(shape).astype(np.float32))


def _agree(session, y, plain, sources):
    """The two tensors agree, and so do the gradients of a function of them by `sources`."""
    with_gradients = [[z] + tf.gradients(tf.reduce_sum(tf.tanh(z)), sources) for z in (y, plain)]
    for one, other in zip(*session.run(with_gradients)):
        assert relative_l2(one, other) < 2e-5
        assert np.abs(other).max() > 1e-3


@pytest.mark.parametrize('has_gamma', [True, False])
@pytest.mark.parametrize('has_bias', [True, False])
def test_folded_batch_norm_is_that_after_the_convolution(tf_session, data_format, has_gamma, has_bias):
    random = np.random.RandomState(0)
    x, kernel = layers.from_nhwc(_constant(random, 2, 9, 8, 3)), _constant(random, 3, 3, 3, 5) * 0.2
    mean, beta = _constant(random, 5), _constant(random, 5)
    variance = tf.square(_constant(random, 5)) + 0.1
    gamma, bias = _constant(random, 5) if has_gamma else None, _constant(random, 5) if has_bias else None
    folded = frozen.conv(x, *frozen.fold_batch_norm(kernel, bias, mean, variance, beta, gamma, 0.01), relu=False)
    plain = layers.conv2d(x, kernel)
    plain = plain if bias is None else layers.bias_add(plain, bias)
    plain = layers.to_nhwc(plain)           # tf.nn.batch_normalization wants the channels last
    plain = layers.from_nhwc(tf.nn.batch_normalization(plain, mean, variance, beta, gamma, 0.01))
    _agree(tf_session, folded, plain, [x])


@pytest.mark.parametrize('size', [(1, 1), (3, 3), (1, 7), (7, 1)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('padding', ['SAME', 'VALID', 'EVEN'])
def test_gradients_by_forward_convolutions(tf_session, data_format, size, stride, padding):
    """Of pictures and kernels, those of TensorFlow's own operations for them."""
    random = np.random.RandomState(1)
    x, kernel = _constant(random, 2, 9, 12, 3), _constant(random, *size, 3, 4) * 0.2
    bias = _constant(random, 4)
    margin_y, margin_x = [(side - 1) // 2 if padding == 'EVEN' else 0 for side in size]
    padded = tf.pad(x, [[0, 0], [margin_y, margin_y], [margin_x, margin_x], [0, 0]])
    plain = layers.conv2d(layers.from_nhwc(padded), kernel, stride, 'SAME' if padding == 'SAME' else 'VALID')
    plain = tf.nn.relu(layers.bias_add(plain, bias))
    cheap = frozen.conv(layers.from_nhwc(x), kernel, bias, stride, padding)
    _agree(tf_session, cheap, plain, [x, kernel, bias])
