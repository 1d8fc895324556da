"""Small perception networks for small worlds: reconstruction, identity, parsing, at 64 to 128 pixels. Graph only.

Residual networks without normalisation: each residual branch has a trained gain that starts small, so training is
stable and nothing has to be folded or frozen afterwards. `trainable=True` builds them for training.
"""

from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf
from perception.networks_frozen import conv, network_scope, variable
from renderer import factors

EMBEDDING = 128
CLASSES = 4             # the face as renders show it, the rest of the person, hair, background
HAIR = 2                # the channel of hair, as in the large parser
BACKGROUND = 3          # the channel of what is behind the person
SMALLEST = 7            # pixels: pictures are halved until they are no larger
FIRST_GAIN = 0.2        # of a residual branch


def small_recon(images_rgb255, width=24, trainable=False):
    """Reconstruction vectors: [N, S, S, 3] RGB 0-255, S a multiple of 16 as 64 or 96 -> [N, 257] as R_Net's.

    The network predicts in units of the spread of each coefficient; the variables `small_recon/output/mean` and
    `small_recon/output/std` [257], never trained, are set to the training set's by whoever trains it.
    """
    with network_scope('small_recon'):
        y = _head(_trunk(images_rgb255, 'small_recon', width, trainable), 'small_recon', factors.NUM_RECON, trainable)
        mean = variable('small_recon/output/mean', [factors.NUM_RECON], 0.0)
        return mean + y * variable('small_recon/output/std', [factors.NUM_RECON], 1.0)


def small_id(images_rgb255, width=24, trainable=False):
    """Identity embeddings: [N, S, S, 3] RGB 0-255, S as for `small_recon` -> [N, 128], compared by the cosine."""
    with network_scope('small_id'):
        return _head(_trunk(images_rgb255, 'small_id', width, trainable), 'small_id', EMBEDDING, trainable)


def small_parser(images_rgb255, width=24, trainable=False):
    """Class probabilities: [N, S, S, 3] RGB 0-255, S a multiple of 8 -> [N, S, S, CLASSES]."""
    return tf.nn.softmax(small_parser_logits(images_rgb255, width, trainable))


def small_parser_logits(images_rgb255, width=24, trainable=False):
    """`small_parser` before its softmax, for training by cross-entropy."""
    name = 'small_parser'
    with network_scope(name):
        x = _conv(_normalised(images_rgb255), name + '/down0', width // 2, trainable)
        skips = []
        for level in (1, 2, 3):                                     # 1/2, 1/4 and 1/8 of the size
            skips.append(x)
            x = _conv(x, f'{name}/down{level}', width * 2 ** (level - 1), trainable, stride=2)
            x = _residual(x, f'{name}/down{level}', trainable)
        for level in (2, 1, 0):
            skip = skips[level]
            y = _conv(layers.upscale2d(x), f'{name}/up{level}', layers.num_channels(skip), trainable, relu=False)
            x = tf.nn.relu(y + skip)
        return layers.to_nhwc(_conv(x, name + '/classes', CLASSES, trainable, relu=False))


def _normalised(images_rgb255):
    return layers.from_nhwc((images_rgb255 - 127.5) / 64.0)


def _conv(x, name, channels, trainable, size=3, stride=1, relu=True):
    kernel = variable(name + '/kernel', [size, size, layers.num_channels(x), channels], 'he', trainable)
    return conv(x, kernel, variable(name + '/bias', [channels], 0.0, trainable), stride, 'SAME', relu)


def _residual(x, name, trainable):
    """relu(x + gain * two 3x3 convolutions)."""
    channels = layers.num_channels(x)
    y = _conv(x, name + '/residual0', channels, trainable)
    gain = variable(name + '/gain', [], FIRST_GAIN, trainable)
    return tf.nn.relu(x + gain * _conv(y, name + '/residual1', channels, trainable, relu=False))


def _trunk(images_rgb255, name, width, trainable):
    """Halve down to 4 to 7 pixels, a residual block after each step; channels width, 2 * width, then 4 * width."""
    x = _normalised(images_rgb255)
    side = images_rgb255.shape.as_list()[1]
    if side % 16:
        raise ValueError(f'{name}: pictures of {side} pixels; a multiple of 16 is expected')
    step = 0
    while side > SMALLEST:
        if side % 2:
            raise ValueError(f'{name}: pictures of {images_rgb255.shape.as_list()[1]} pixels do not halve down to '
                             f'{SMALLEST} or fewer')
        x = _conv(x, f'{name}/step{step}', width * min(2 ** step, 4), trainable, stride=2)
        x = _residual(x, f'{name}/step{step}', trainable)
        side, step = side // 2, step + 1
    return x


def _head(x, name, outputs, trainable):
    """Squeeze to 32 channels, then one dense layer that still sees where things are (pose needs that)."""
    x = layers.to_nhwc(_conv(x, name + '/squeeze', 32, trainable, size=1))
    numbers = int(x.shape[1] * x.shape[2] * x.shape[3])
    x = tf.reshape(x, [-1, numbers])                                # in NHWC order, whatever the data format
    kernel = variable(name + '/dense/kernel', [numbers, outputs], 'he', trainable)
    return tf.matmul(x, kernel) + variable(name + '/dense/bias', [outputs], 0.0, trainable)
