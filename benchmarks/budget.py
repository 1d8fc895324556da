"""Floating-point operations of a training step, by hand from the sizes of the layers (paper section 3).

`benchmarks/train.py` sets them beside the time measured and the machine's own product rate.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

from benchmarks.common import measure  # noqa: E402

NUM_INPUTS = 286
# Work of a pass over a network, in forward passes: the gradient of the inputs costs one more, that of the weights one.
# R1 differentiates the gradient of the pictures: forward, that gradient, the score's gradients of inputs and weights,
# and for the penalty both once more.
FORWARD, SCORED, TRAINED, PENALISED = 1, 2, 3, 6


def convolution(inputs, outputs, taps, size):
    """Operations of a convolution that makes size x size pixels of one picture: multiply and add are two."""
    return 2.0 * inputs * outputs * taps * size * size


def _feature_counts(options):
    base, most = options.get('fmap_base', 8192), options.get('fmap_max', 512)
    return lambda stage: min(int(base / 2.0 ** stage), most)


def generator_operations(options, active):
    """Operations of one picture up to the active resolution, as our layers compute it. options: of G_style."""
    fmaps, width = _feature_counts(options), options.get('dlatent_size', 512)
    hidden, layers = options.get('mapping_fmaps', 512), options.get('mapping_layers', 8)
    total = 2.0 * (NUM_INPUTS * hidden + (layers - 2) * hidden * hidden + hidden * width)
    total += convolution(fmaps(1), fmaps(1), 9, 4) + 2 * 2.0 * width * 2 * fmaps(1)
    levels = range(3, int(np.log2(active)) + 1)
    for level in levels:
        size, inputs, outputs = 2 ** level, fmaps(level - 2), fmaps(level - 1)
        total += convolution(inputs, outputs, 4, size)      # of upscaled pixels: 2x2 different ones for each
        total += convolution(outputs, outputs, 9, size)
        total += 2 * 2.0 * width * 2 * outputs              # the two layers' styles
    return total + convolution(fmaps(int(np.log2(active)) - 1), 3, 1, active)


def discriminator_operations(options, active):
    """Operations of one picture from the active resolution down. options: of D_basic."""
    fmaps, top = _feature_counts(options), int(np.log2(active))
    total = convolution(3, fmaps(top - 1), 1, active)
    for level in range(top, 2, -1):
        size, inputs, outputs = 2 ** level, fmaps(level - 1), fmaps(level - 2)
        total += convolution(inputs, inputs, 9, size)
        total += convolution(inputs, outputs, 16, size // 2)        # blurred, then 4x4 taps of stride 2
    return total + convolution(fmaps(1) + 1, fmaps(1), 9, 4) + 2.0 * 16 * fmaps(1) * fmaps(0)


def step_operations(config, active, minibatch, pairs=0):
    """{'D step', 'G step': operations} of G and D; frozen networks and the renderer come on top.

    pairs: fakes of the contrastive step, in stage 2.
    """
    G, D = generator_operations(config.generator, active), discriminator_operations(config.discriminator, active)
    fakes = minibatch + pairs
    return {'D step': fakes * (FORWARD * G + TRAINED * D) + minibatch * PENALISED * D,
            'G step': fakes * (TRAINED * G + SCORED * D)}


def forward_operations(ops):
    """Operations of one picture in the convolutions and matrix products among `ops` of a TensorFlow graph."""
    total = 0.0
    for op in ops:
        if op.type == 'Conv2D':
            height, width, inputs, outputs = op.inputs[1].shape.as_list()
            at = op.get_attr('data_format').decode()
            rows, columns = [op.outputs[0].shape.as_list()[at.index(axis)] for axis in 'HW']
            total += 2.0 * inputs * outputs * height * width * rows * columns
        elif op.type == 'MatMul' and op.inputs[0].shape.as_list()[0] is None:
            total += 2.0 * np.prod(op.inputs[1].shape.as_list(), dtype=np.float64)
    return total


def machine_rate(repeats=5):
    """Operations a second of TensorFlow's own (products, convolutions), float32 in memory, in the default session.

    Four run side by side, so that all cores are busy whatever share of them one operation may take.
    """
    from dnnlib.tflib import layers, tfutil
    from dnnlib.tflib.compat import tf
    random = np.random.RandomState(0)
    array = lambda *shape: random.standard_normal(shape).astype(np.float32)
    rates = []
    for shape, kernel, apply, operations in (
            ((1024, 1024), (1024, 1024), tf.matmul, 2.0 * 1024 ** 3),
            ((4, 32, 32, 128), (3, 3, 128, 128), lambda x, k: layers.conv2d(layers.from_nhwc(x), k),
             4 * convolution(128, 128, 9, 32))):
        inputs, weights = tf.placeholder(tf.float32, shape), tf.placeholder(tf.float32, kernel)
        # Values: what only a tf.group waits for, TensorFlow leaves out.
        run = [tf.reduce_sum(apply(inputs + i, weights)) for i in range(4)]
        feed = {inputs: array(*shape), weights: array(*kernel)}
        _, least, _ = measure(lambda run=run, feed=feed: tfutil.run(run, feed), repeats, warmup=2)
        rates.append(4 * operations / least)
    return tuple(rates)


def shares(operations, rate, milliseconds):
    """{row: number} of a table: each step's operations, the time they take at the machine's rate, its share.

    operations: {step: of an image}. rate: operations a second. milliseconds: {step: measured, of an image}.
    """
    rows = {}
    for step, count in operations.items():
        rows[f'{step}, GFLOP by hand'] = count / 1e9
        rows[f'{step}, ms at the machine\'s rate'] = ideal = 1e3 * count / rate
        rows[f'{step}, share of the rate'] = ideal / milliseconds[step]
    return rows
