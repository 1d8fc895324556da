"""Layers of the frozen perception networks: variables under full, fixed names; batch norm folded into its convolution.

The variables are not trainable and always lie at the root of the graph's names, whatever scopes are open, so building
a network again shares them. Folding is exact: norm(conv(x)) = conv(x, kernel * scale) + shift.
"""

import contextlib

import numpy as np

from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf


@contextlib.contextmanager
def network_scope(name):
    """Build the ops of one network under the name scope `name`; variables get full names and are shared."""
    root = tf.VariableScope(reuse=tf.AUTO_REUSE, name='')
    with tf.variable_scope(root, auxiliary_name_scope=False), tf.name_scope(name):
        yield


def variable(name, shape, initial=0.0, trainable=False):
    """The variable with the full name `name`. initial: a number, or 'he' (normal, variance 2 / fan_in)."""
    initialiser = (tf.random_normal_initializer(0.0, np.sqrt(2.0 / np.prod(shape[:-1]))) if initial == 'he'
                   else tf.constant_initializer(initial))
    return tf.get_variable(name, shape, tf.float32, initializer=initialiser, trainable=trainable)


def fold_batch_norm(kernel, bias, mean, variance, beta, gamma, epsilon):
    """(kernel, bias) of the convolution or dense layer that equals `kernel`, `bias` and then the frozen batch norm.

    kernel: [..., C]; the others [C] each; bias and gamma may be None.
    """
    scale = tf.rsqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = beta - mean * scale
    return kernel * scale, shift if bias is None else shift + bias * scale


def batch_norm_variables(name, channels, gamma):
    """dict(mean, variance, beta, gamma) of the batch norm `name`; gamma is None where the layer has none."""
    scale = variable(name + '/gamma', [channels], 1.0) if gamma else None
    beta, mean = [variable(f'{name}/{leaf}', [channels]) for leaf in ('beta', 'moving_mean')]
    return dict(gamma=scale, beta=beta, mean=mean, variance=variable(name + '/moving_variance', [channels], 1.0))


def conv(x, kernel, bias, stride=1, padding='SAME', relu=True):
    """Convolution with bias, then ReLU unless relu=False. Odd kernel sizes; padding: 'SAME', 'VALID' or 'EVEN'.

    'EVEN' pads (size - 1) // 2 on each side whatever the stride; TensorFlow's 'SAME' pads a strided layer unevenly.
    """
    if padding == 'EVEN' and stride == 1:
        padding = 'SAME'
    if padding == 'EVEN':
        margin_y, margin_x = [(size - 1) // 2 for size in kernel.shape.as_list()[:2]]
        if margin_y or margin_x:
            x = layers.pad(x, margin_y, margin_y, margin_x, margin_x)
        padding = 'VALID'
    with tf.get_default_graph().gradient_override_map({'Conv2D': 'Conv2DByForwardConv'}):
        x = layers.conv2d(x, kernel, stride=stride, padding=padding)
    x = layers.bias_add(x, bias)
    return tf.nn.relu(x) if relu else x


@tf.RegisterGradient('Conv2DByForwardConv')
def _conv2d_gradient(op, upstream):
    """Gradient of Conv2D; on the CPU a forward convolution is 15% faster than the op made for the input's gradient."""
    x, kernel = op.inputs
    strides, padding, data_format = op.get_attr('strides'), op.get_attr('padding'), op.get_attr('data_format')
    how = dict(strides=strides, padding=padding.decode(), data_format=data_format.decode())
    if how['data_format'] == 'NHWC' and strides == [1, 1, 1, 1] and how['padding'] == 'SAME':
        turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])         # odd sizes: SAME stays SAME
        to_x = tf.nn.conv2d(upstream, turned, **how)
    else:
        to_x = tf.nn.conv2d_backprop_input(tf.shape(x), kernel, upstream, **how)
    return to_x, tf.nn.conv2d_backprop_filter(x, tf.shape(kernel), upstream, **how)


def keep(end_points, name, x):
    """Store x under `name` where the caller asked for end points (a dict), and return it."""
    if end_points is not None:
        end_points[name] = x
    return x
