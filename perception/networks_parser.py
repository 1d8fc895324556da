"""Parsing: photo -> map of skin, hair and background (Lin et al., arXiv 1906.01342; paper section 3.3). Graph only.

ResNet-18, feature pyramid and mask head on the RoI-tanh warped 512-pixel face.
"""

from dnnlib.tflib import images, layers
from dnnlib.tflib.compat import tf
from perception import parser_warp
from perception.networks_frozen import batch_norm_variables, conv, fold_batch_norm, keep, network_scope, variable

SCOPES = ('FaceParser',)            # in the checkpoint
CLASSES = 3
HAIR = 2                            # the channel of hair
MEAN_RGB = (0.485, 0.456, 0.406)    # of ImageNet, range [0, 1]
STD_RGB = (0.229, 0.224, 0.225)


def Parsing(images_rgb255, landmarks, end_points=None):
    """Class probabilities at every pixel, any batch.

    images_rgb255: [N, 256, 256, 3] float32, RGB, 0-255.
    landmarks: [N, 68, 2] float32, x right, y UP from the bottom left, pixels of that image; no gradient reaches them.
    end_points: a dict to receive the activations, in the current data format, and the warps (NHWC), or None.
    Returns [N, 256, 256, 3], channel 2 = hair; about 0 in all channels where the warp cut the image off.
    """
    height, width = images_rgb255.shape.as_list()[1:3]
    with network_scope('Parsing'):
        t, tinv = parser_warp.similarity_transform(parser_warp.five_points(landmarks, height))
        warped = keep(end_points, 'warp_image', parser_warp.warp(images_rgb255, t))
        normalised = (warped / 255.0 - tf.constant(MEAN_RGB)) / tf.constant(STD_RGB)
        maps = keep(end_points, 'raw512', FaceParser(normalised, end_points))
        return parser_warp.unwarp(maps, tinv, height, width)


def FaceParser(warped, end_points=None):
    """The network: [N, 512, 512, 3] RGB, ImageNet's mean and spread taken off -> [N, 512, 512, 3] probabilities.

    The softmax comes before the upscaling, as in the release.
    """
    with network_scope('FaceParser'):
        size = warped.shape.as_list()[1:3]
        levels = _resnet18(layers.from_nhwc(warped), end_points)
        features = keep(end_points, 'fpn', _pyramid(levels))
        logits = keep(end_points, 'logits', layers.to_nhwc(_mask_head(features)))
        return images.resize(tf.nn.softmax(logits), size[0], size[1], align_corners=True)


def _conv_bn(x, scope, index, channels, size, stride=1, relu=True, bias=False):
    """Convolution `index` of a scope and its batch norm; names count up as conv2d, conv2d_1, ..."""
    suffix = f'_{index}' if index else ''
    kernel = variable(f'{scope}/conv2d{suffix}/kernel', [size, size, layers.num_channels(x), channels], 'he')
    shift = variable(f'{scope}/conv2d{suffix}/bias', [channels]) if bias else None
    norm = batch_norm_variables(f'{scope}/batch_normalization{suffix}', channels, gamma=True)
    kernel, shift = fold_batch_norm(kernel, shift, epsilon=1e-5, **norm)
    return conv(x, kernel, shift, stride, 'EVEN', relu)


def _conv_bias(x, scope, channels, size):
    kernel = variable(scope + '/conv2d/kernel', [size, size, layers.num_channels(x), channels], 'he')
    return conv(x, kernel, variable(scope + '/conv2d/bias', [channels]), relu=False)


def _resnet18(x, end_points):
    """The outputs of the four blocks, 1/4 to 1/32 of the input's size."""
    x = keep(end_points, 'block0', _conv_bn(x, 'FaceParser/resnet/block0', 0, 64, 7, stride=2))
    x = keep(end_points, 'pool0', layers.max_pool(x, 3, 2, 'SAME'))
    levels = []
    for number, channels in ((1, 64), (2, 128), (3, 256), (4, 512)):
        scope = f'FaceParser/resnet/block{number}'
        stride = 1 if number == 1 else 2
        shortcut = x if number == 1 else _conv_bn(x, scope + '/downsample', 0, channels, 1, stride, relu=False)
        for unit in (0, 1):
            y = _conv_bn(x, scope, 2 * unit, channels, 3, stride if unit == 0 else 1)
            x = tf.nn.relu(_conv_bn(y, scope, 2 * unit + 1, channels, 3, relu=False) + shortcut)
            shortcut = x
        levels.append(keep(end_points, f'c{number}', x))
    return levels


def _pyramid(levels):
    """Sum of all levels at the finest one's size, 256 channels, then a 3x3 convolution."""
    total = None
    for number in (4, 3, 2, 1):
        x = _conv_bias(levels[number - 1], f'FaceParser/fpn/c{number}', 256, 1)
        total = x if total is None else x + _double(total)
    return _conv_bias(total, 'FaceParser/fpn/convlast', 256, 3)


def _double(x):
    """Twice the size, bilinear with align_corners."""
    height, width = [2 * x.shape.as_list()[axis] for axis in layers.spatial_axes()]
    return layers.from_nhwc(images.resize(layers.to_nhwc(x), height, width, align_corners=True))


def _mask_head(x):
    """Two 3x3 convolutions and the 1x1 classifier -> logits."""
    for index in (0, 1):
        x = _conv_bn(x, 'FaceParser/MaskNet/neck', index, 256, 3, bias=True)
    return _conv_bias(x, 'FaceParser/MaskNet/convlast', CLASSES, 1)
