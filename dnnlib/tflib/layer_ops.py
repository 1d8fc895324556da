"""Our own C++ ops for image layers on CPUs, NHWC, float32 and bfloat16: few passes over memory in place of many.

What they save is time and memory of training; results are those of the plain layers up to rounding.
"""

import os
import sys
from typing import Any, Tuple

from dnnlib.tflib import custom_ops
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError

SOURCES = tuple(os.path.join(custom_ops.HEADERS, name) for name in ('image_layers_impl.cc', 'image_layers_op.cc'))
SWITCH = 'DISCO_LAYER_OPS'      # environment variable; 0, off, false or no: the plain layers everywhere
# TensorFlow's own variable: ops that its rewriting for bfloat16 may change to it where their neighbours are.
_INFERLIST = 'TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_INFERLIST_ADD'
NAMES = ('NoiseStyle', 'NoiseStyleGrad', 'Blur2d', 'LeakySlope')

_problem = []       # why there are none, said once


def available() -> bool:
    """Whether the ops may be used and can be built here; builds them when they are not in the cache."""
    if os.environ.get(SWITCH, '').lower() in ('0', 'off', 'false', 'no') or _problem:
        return False
    try:
        _library()
    except UserError as error:
        _problem.append(error)
        print(f'custom op: image_layers cannot be built, slower layers take its place ({error})', file=sys.stderr)
        return False
    return True


def noise_style(x: Any, noise: Any, weight: Any, bias: Any, scale: Any, shift: Any, alpha: float,
                epsilon: float) -> Any:
    """The generator's noise, bias, leaky ReLU, instance norm and style in two passes over x [N, H, W, C].

    noise: [N or 1, 1, H, W] float32. weight, bias: [C]. scale, shift: [N, C]. It has first derivatives only, by all but
    the noise.
    """
    return _library().noise_style(x, noise, weight, bias, scale, shift, alpha=alpha, epsilon=epsilon).y


def blur2d(x: Any) -> Any:
    """layers.blur2d of x [N, H, W, C]; any derivatives."""
    return _library().blur2d(x)


def leaky_relu(x: Any, alpha: float) -> Any:
    """max(x, alpha * x), whose gradient looks at the output; any derivatives.

    So nothing else needs x, and TensorFlow can make it part of the convolution before it.
    """
    with tf.get_default_graph().gradient_override_map({'LeakyRelu': 'LeakyReluByOutput'}):
        return tf.nn.leaky_relu(x, alpha)


def _library():
    library = custom_ops.get_library('image_layers', SOURCES)
    listed = [name for name in os.environ.get(_INFERLIST, '').split(',') if name]
    os.environ[_INFERLIST] = ','.join(listed + [name for name in NAMES if name not in listed])
    return library


# ---- gradients

@tf.RegisterGradient('NoiseStyle')
def _noise_style_gradient(op: Any, dy: Any, *_: Any) -> Tuple:
    x, noise, weight, bias, scale, _ = op.inputs
    found = _library().noise_style_grad(dy, x, noise, weight, bias, scale, op.outputs[1], op.outputs[2],
                                        alpha=op.get_attr('alpha'), epsilon=op.get_attr('epsilon'))
    return found.dx, None, found.dweight, found.dbias, found.dscale, found.dshift


@tf.RegisterGradient('NoiseStyleGrad')
def _no_second_gradient(op: Any, *_: Any) -> Tuple:
    raise NotImplementedError(f'{op.name}: second derivatives of the generator were asked for, which its C++ op has '
                              f'not; set {SWITCH}=0 for the plain layers, which have them')


@tf.RegisterGradient('Blur2d')
def _blur_gradient(op: Any, dy: Any) -> Any:
    return _library().blur2d(dy)


@tf.RegisterGradient('LeakyReluByOutput')
def _leaky_relu_gradient(op: Any, dy: Any) -> Any:
    return _library().leaky_slope(dy, op.outputs[0], alpha=op.get_attr('alpha'))


@tf.RegisterGradient('LeakySlope')
def _leaky_slope_gradient(op: Any, ddx: Any) -> Tuple:
    return _library().leaky_slope(ddx, op.inputs[1], alpha=op.get_attr('alpha')), None
