"""Perceptual_Net: face photo -> identity embedding (Facenet 20170512-110547, Inception-ResNet-v1). Graph only.

Used by the identity losses of the paper, sections 3.2 and 3.3.
"""

from dnnlib.tflib import images, layers
from dnnlib.tflib.compat import tf
from perception.networks_frozen import batch_norm_variables, conv, fold_batch_norm, keep, network_scope, variable

SCOPES = ('InceptionResnetV1',)         # in the checkpoint
EMBEDDING = 128

STEM = (('Conv2d_1a_3x3', 32, 3, 2, 'VALID'),       # layer, channels, size, stride, padding
        ('Conv2d_2a_3x3', 32, 3, 1, 'VALID'),
        ('Conv2d_2b_3x3', 64, 3, 1, 'SAME'),
        ('MaxPool_3a_3x3', 64, 3, 2, 'VALID'),
        ('Conv2d_3b_1x1', 80, 1, 1, 'VALID'),
        ('Conv2d_4a_3x3', 192, 3, 1, 'VALID'),
        ('Conv2d_4b_3x3', 256, 3, 2, 'VALID'))

# Branches of the residual blocks: (layer, channels, (height, width)) each; the first of a branch sees the input.
BLOCK35 = ((('Conv2d_1x1', 32, (1, 1)),),
           (('Conv2d_0a_1x1', 32, (1, 1)), ('Conv2d_0b_3x3', 32, (3, 3))),
           (('Conv2d_0a_1x1', 32, (1, 1)), ('Conv2d_0b_3x3', 32, (3, 3)), ('Conv2d_0c_3x3', 32, (3, 3))))
BLOCK17 = ((('Conv2d_1x1', 128, (1, 1)),),
           (('Conv2d_0a_1x1', 128, (1, 1)), ('Conv2d_0b_1x7', 128, (1, 7)), ('Conv2d_0c_7x1', 128, (7, 1))))
BLOCK8 = ((('Conv2d_1x1', 192, (1, 1)),),
          (('Conv2d_0a_1x1', 192, (1, 1)), ('Conv2d_0b_1x3', 192, (1, 3)), ('Conv2d_0c_3x1', 192, (3, 1))))

# Branches of the reductions; the last layer of each has stride 2 and no padding, a 3x3 pool of stride 2 comes beside.
MIXED_6A = ((('Conv2d_1a_3x3', 384, (3, 3)),),
            (('Conv2d_0a_1x1', 192, (1, 1)), ('Conv2d_0b_3x3', 192, (3, 3)), ('Conv2d_1a_3x3', 256, (3, 3))))
MIXED_7A = ((('Conv2d_0a_1x1', 256, (1, 1)), ('Conv2d_1a_3x3', 384, (3, 3))),
            (('Conv2d_0a_1x1', 256, (1, 1)), ('Conv2d_1a_3x3', 256, (3, 3))),
            (('Conv2d_0a_1x1', 256, (1, 1)), ('Conv2d_0b_3x3', 256, (3, 3)), ('Conv2d_1a_3x3', 256, (3, 3))))


def Perceptual_Net(images_rgb255, end_points=None):
    """Identity embeddings of faces.

    images_rgb255: [N, 160, 160, 3] float32, RGB, 0-255 (clipped to it here).
    end_points: a dict to receive the activations, in the current data format, or None.
    Returns [N, 128] float32, not normalised; identities are compared by the cosine.
    """
    with network_scope('Perceptual_Net'):
        x = layers.from_nhwc((images.clip_255(images_rgb255) - 127.5) / 128.0)
        x = _stem(x, end_points)
        for i in range(1, 6):
            x = _residual(x, f'InceptionResnetV1/Repeat/block35_{i}', BLOCK35, 0.17)
            keep(end_points, f'block35_{i}', x)
        keep(end_points, 'Mixed_5a', x)
        x = keep(end_points, 'Mixed_6a', _reduction(x, 'InceptionResnetV1/Mixed_6a', MIXED_6A))
        for i in range(1, 11):
            x = _residual(x, f'InceptionResnetV1/Repeat_1/block17_{i}', BLOCK17, 0.10)
        keep(end_points, 'Mixed_6b', x)
        x = keep(end_points, 'Mixed_7a', _reduction(x, 'InceptionResnetV1/Mixed_7a', MIXED_7A))
        for i in range(1, 6):
            x = _residual(x, f'InceptionResnetV1/Repeat_2/block8_{i}', BLOCK8, 0.20)
        keep(end_points, 'Mixed_8a', x)
        x = keep(end_points, 'Mixed_8b', _residual(x, 'InceptionResnetV1/Block8', BLOCK8, 1.0, relu=False))
        return _bottleneck(keep(end_points, 'AvgPool', layers.global_avg_pool(x)))


def _conv_bn(x, name, channels, size, stride=1, padding='SAME'):
    kernel = variable(name + '/weights', list(size) + [layers.num_channels(x), channels], 'he')
    norm = batch_norm_variables(name + '/BatchNorm', channels, gamma=False)
    kernel, bias = fold_batch_norm(kernel, None, epsilon=0.001, **norm)
    return conv(x, kernel, bias, stride, padding)


def _stem(x, end_points):
    """Six convolutions and a pool: 160 pixels and 3 channels -> 17 pixels and 256 channels."""
    for name, channels, size, stride, padding in STEM:
        if name.startswith('MaxPool'):
            x = layers.max_pool(x, size, stride, padding)
        else:
            x = _conv_bn(x, 'InceptionResnetV1/' + name, channels, (size, size), stride, padding)
        keep(end_points, name, x)
    return x


def _branch(x, name, convolutions, last_stride=1):
    for i, (layer, channels, size) in enumerate(convolutions):
        stride = last_stride if i == len(convolutions) - 1 else 1
        x = _conv_bn(x, f'{name}/{layer}', channels, size, stride, 'SAME' if stride == 1 else 'VALID')
    return x


def _residual(x, name, branches, scale, relu=True):
    """x + scale * (all branches, joined and led back to x's channels by a 1x1 convolution with a bias)."""
    joined = tf.concat([_branch(x, f'{name}/Branch_{i}', branch) for i, branch in enumerate(branches)],
                       axis=layers.channel_axis())
    channels = layers.num_channels(x)
    kernel = variable(name + '/Conv2d_1x1/weights', [1, 1, layers.num_channels(joined), channels], 'he')
    bias = variable(name + '/Conv2d_1x1/biases', [channels])
    x = x + conv(joined, kernel * scale, bias * scale, relu=False)
    return tf.nn.relu(x) if relu else x


def _reduction(x, name, branches):
    """Half the size: strided branches and a max pool, joined."""
    parts = [_branch(x, f'{name}/Branch_{i}', branch, last_stride=2) for i, branch in enumerate(branches)]
    return tf.concat(parts + [layers.max_pool(x, 3, 2, 'VALID')], axis=layers.channel_axis())


def _bottleneck(pooled):
    """Dense layer without bias, then batch norm -> the embedding."""
    name = 'InceptionResnetV1/Bottleneck'
    kernel = variable(name + '/weights', [pooled.shape.as_list()[1], EMBEDDING], 'he')
    norm = batch_norm_variables(name + '/BatchNorm', EMBEDDING, gamma=False)
    kernel, bias = fold_batch_norm(kernel, None, epsilon=0.001, **norm)
    return tf.matmul(pooled, kernel) + bias
