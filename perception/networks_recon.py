"""R_Net: face photo -> reconstruction vector (Deep3DFaceReconstruction's ResNet-50; paper section 3.2). Graph only.

TF-slim's resnet_v1_50: the stride of a block sits in its last unit, in the 3x3 convolution.
"""

from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf
from perception.networks_frozen import batch_norm_variables, conv, fold_batch_norm, keep, network_scope, variable

SCOPES = ('resnet_v1_50', 'fc-id', 'fc-ex', 'fc-tex', 'fc-angles', 'fc-gamma', 'fc-XY', 'fc-Z')    # in the checkpoint
BLOCKS = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))        # inner channels, units, stride of the last unit
HEADS = (('fc-id', 80), ('fc-ex', 64), ('fc-tex', 80), ('fc-angles', 3), ('fc-gamma', 27), ('fc-XY', 2), ('fc-Z', 1))
OUTPUT_ORDER = ('fc-id', 'fc-tex', 'fc-ex', 'fc-angles', 'fc-gamma', 'fc-XY', 'fc-Z')


def R_Net(images_bgr255, end_points=None):
    """Reconstruction vectors of faces.

    images_bgr255: [N, 224, 224, 3] float32, BGR, 0-255, no mean subtracted (other sizes run but mean nothing).
    end_points: a dict to receive the activations, in the current data format, or None.
    Returns [N, 257] float32 in the order of renderer/factors.py (identity shape, texture, expression, angles in
    radians, lighting, translation).
    """
    with network_scope('R_Net'):
        x = layers.from_nhwc(images_bgr255)
        x = keep(end_points, 'conv1', _conv_bn(x, 'resnet_v1_50/conv1', 64, 7, stride=2))
        x = keep(end_points, 'pool1', layers.max_pool(x, 3, 2, 'SAME'))
        for number, (inner, units, last_stride) in enumerate(BLOCKS, start=1):
            for unit in range(1, units + 1):
                name = f'resnet_v1_50/block{number}/unit_{unit}/bottleneck_v1'
                x = _bottleneck(x, name, inner, last_stride if unit == units else 1)
                keep(end_points, f'block{number}_unit{unit}', x)
        pooled = keep(end_points, 'pool5', layers.global_avg_pool(x))
        heads = {name: _head(pooled, name, width) for name, width in HEADS}
        return tf.concat([heads[name] for name in OUTPUT_ORDER], axis=1)


def _conv_bn(x, name, channels, size, stride=1, relu=True):
    kernel = variable(name + '/weights', [size, size, layers.num_channels(x), channels], 'he')
    norm = batch_norm_variables(name + '/BatchNorm', channels, gamma=True)
    kernel, bias = fold_batch_norm(kernel, None, epsilon=1e-5, **norm)
    return conv(x, kernel, bias, stride, 'EVEN', relu)


def _bottleneck(x, name, inner, stride):
    """relu(1x1, 3x3 with the stride, 1x1 to 4 * inner channels, plus the shortcut)."""
    if layers.num_channels(x) != 4 * inner:
        shortcut = _conv_bn(x, name + '/shortcut', 4 * inner, 1, stride, relu=False)
    else:
        shortcut = x if stride == 1 else layers.max_pool(x, 1, stride, 'VALID')     # plain subsampling
    y = _conv_bn(x, name + '/conv1', inner, 1)
    y = _conv_bn(y, name + '/conv2', inner, 3, stride)
    return tf.nn.relu(_conv_bn(y, name + '/conv3', 4 * inner, 1, relu=False) + shortcut)


def _head(pooled, name, width):
    """A 1x1 convolution of the pooled features, stored as [1, 1, in, out]."""
    inputs = pooled.shape.as_list()[1]
    kernel, bias = variable(name + '/weights', [1, 1, inputs, width], 'he'), variable(name + '/biases', [width])
    return tf.matmul(pooled, tf.reshape(kernel, [inputs, width])) + bias
