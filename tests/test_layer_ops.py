"""Our own ops for image layers: values and gradients of the plain layers, the same bits by any number of threads."""

import numpy as np
import pytest

from dnnlib.tflib import custom_ops, layer_ops, layers, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from tests.common import assert_close, relative_l2
from training import loss, networks_stylegan  # noqa: F401 (registers networks)

SHAPES = [      # images, height, width, channels, noise maps
    (2, 3, 5, 7, 2), (1, 1, 1, 3, 1), (3, 16, 16, 32, 1), (4, 4, 4, 512, 4), (1, 33, 17, 5, 1)]
NET = dict(resolution=16, fmap_base=64, fmap_max=16)


@pytest.fixture(autouse=True)
def with_ops():
    with layers.use_data_format('NHWC'), layers.use_ops(True):
        yield


def _arrays(n, height, width, channels, noises):
    """x, noise, weight, bias, scale, shift and a gradient for the result."""
    random = np.random.RandomState(n + channels)
    shapes = [(n, height, width, channels), (noises, 1, height, width), (channels,), (channels,), (n, channels),
              (n, channels), (n, height, width, channels)]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def _plain(x, noise, weight, bias, scale, shift):
    return layers.instance_norm(layers.leaky_relu(layers.add_noise_and_bias(x, noise, weight, bias)), scale, shift)


def _with_gradients(function, arrays):
    """[value, gradients by all but the noise]."""
    inputs, dy = [tf.constant(array) for array in arrays[:-1]], tf.constant(arrays[-1])
    y = function(*inputs)
    return [y] + tf.gradients(y, inputs[:1] + inputs[2:], tf.cast(dy, y.dtype))


@pytest.mark.parametrize('shape', SHAPES)
def test_noise_style_is_the_plain_layers(tf_session, shape):
    arrays = _arrays(*shape)
    ours = _with_gradients(layers.noise_style, arrays)
    with layers.use_ops(False):
        plain = _with_gradients(_plain, arrays)
    ours, plain = tf_session.run([ours, plain])
    assert relative_l2(ours[0], plain[0]) < 1e-6
    for one, other in zip(ours[1:], plain[1:]):
        assert relative_l2(one, other) < 4e-5     # of the plain layers' own rounding, most


def test_mean_far_above_the_deviation(tf_session):
    arrays = _arrays(2, 40, 40, 6, 1)
    far = [arrays[0] + np.float32(1000)] + arrays[1:]
    exact = _normalised([array.astype(np.float64) for array in far])
    assert relative_l2(tf_session.run(_with_gradients(layers.noise_style, far)[0]), exact) < 2e-4


def _normalised(arrays):
    x, noise, weight, bias, scale, shift, _ = arrays
    u = x + noise[:, 0, :, :, np.newaxis] * weight + bias
    v = np.maximum(u, 0.2 * u)
    normal = (v - v.mean(axis=(1, 2), keepdims=True)) / np.sqrt(v.var(axis=(1, 2), keepdims=True) + 1e-8)
    return normal * scale[:, np.newaxis, np.newaxis] + shift[:, np.newaxis, np.newaxis]


@pytest.mark.parametrize('shape', [(1, 64, 48, 20, 1), (5, 24, 24, 16, 5)])
def test_bits_do_not_depend_on_threads(shape):
    found = []
    for threads in (1, 2, 5):
        with tf.Graph().as_default(), tfutil.create_session(threads_per_op=threads) as session:
            found.append(session.run(_with_gradients(layers.noise_style, _arrays(*shape))))
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize('shape', SHAPES[:3])
def test_bfloat16_in_memory(tf_session, shape):
    """x, the result and their gradients lose all but 8 bits when stored; nothing else does."""
    arrays = _arrays(*shape)
    rounded = [np.array(tf_session.run(tf.cast(tf.cast(a, tf.bfloat16), tf.float32))) for a in arrays]
    arrays[0], arrays[-1] = rounded[0], rounded[-1]

    def short(x, *others):
        return layers.noise_style(tf.cast(x, tf.bfloat16), *others)
    for a, b in zip(*tf_session.run([[tf.cast(y, tf.float32) for y in _with_gradients(function, arrays)]
                                     for function in (short, layers.noise_style)])):
        assert relative_l2(a, b) < 4e-3
    for function in (layers.blur2d, layers.leaky_relu):
        x = tf.constant(arrays[0])
        a, b = [tf.cast(function(x), tf.float32) for x in (tf.cast(x, tf.bfloat16), x)]
        assert relative_l2(*tf_session.run([a, b])) < 4e-3


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_nan_stays_nan(tf_session, dtype):
    arrays = _arrays(2, 8, 8, 4, 1)
    arrays[0][1, 2, 3, 1] = np.nan
    y, *gradients = _with_gradients(lambda x, *others: layers.noise_style(tf.cast(x, dtype), *others), arrays)
    found = tf_session.run([tf.cast(value, tf.float32) for value in [y, gradients[0]]])
    for values in found:
        assert np.isnan(values[1, :, :, 1]).all() and np.isfinite(values[0]).all()


def test_second_derivatives_of_noise_style_say_what_to_do(tf_session):
    y, dx, *_ = _with_gradients(layers.noise_style, _arrays(2, 4, 4, 3, 1))
    with pytest.raises(NotImplementedError, match=f'{layer_ops.SWITCH}=0'):
        tf.gradients(tf.reduce_sum(tf.square(dx)), y.op.inputs[0])


def test_bad_shapes_are_refused(tf_session):
    arrays = _arrays(2, 4, 4, 3, 1)[:-1]
    for index, shape in ((1, (3, 1, 4, 4)), (2, (4,)), (4, (1, 3)), (5, (2, 4))):
        wrong = list(arrays)
        wrong[index] = np.zeros(shape, np.float32)
        with pytest.raises(tf.errors.InvalidArgumentError, match='must have shape'):
            tf_session.run(layers.noise_style(*map(tf.constant, wrong)))


# ---- networks

def _networks():
    tf.set_random_seed(5)
    return (Network('G', 'G_style', latent_size=6, mapping_layers=2, mapping_fmaps=16, dlatent_size=16, **NET),
            Network('D', 'D_basic', **NET))


def _evaluate(G, D):
    """Pictures, scores, R1, and gradients of both networks; while the resolution grows."""
    tfutil.set_vars({net.find_var('lod'): 0.5 for net in (G, G.components.synthesis, D)})
    coeffs = tf.constant(np.random.RandomState(0).standard_normal([3, 6]), tf.float32)
    images = G.get_output_for(coeffs, None, randomize_noise=False, is_validation=True)
    scores = D.get_output_for(images, None)
    penalty = tf.reduce_sum(loss.r1_penalty(scores, images))
    gradients = [(v, g) for y, net in ((scores, G), (penalty, D))
                 for v, g in zip(net.trainables.values(), tf.gradients(y, list(net.trainables.values())))]
    return [images, scores, penalty] + [tf.zeros_like(v) if g is None else g for v, g in gradients]


def test_networks_are_the_same_with_and_without(tf_session):
    G, D = _networks()
    random = np.random.RandomState(1)
    for net in (G, D):
        tfutil.set_vars({v: random.standard_normal(v.shape.as_list()) for name, v in net.trainables.items()
                         if 'Noise' in name or 'bias' in name})
    ours = _evaluate(G, D)
    assert {'NoiseStyle', 'Blur2d', 'LeakySlope'} <= {op.type for op in tf_session.graph.get_operations()}
    with layers.use_ops(False):
        plain = _evaluate(G, D)
    assert len(ours) == len(plain)
    for one, other in zip(*tf_session.run([ours, plain])):
        assert relative_l2(one, other) < 1e-4 or np.abs(one - other).max() < 1e-6


def test_new_networks_begin_with_the_same_weights():
    found = []
    for wanted in (True, False):
        with tf.Graph().as_default(), tfutil.create_session() as session, layers.use_ops(wanted):
            found.append([session.run(net.trainables) for net in _networks()])
    for ours, plain in zip(*found):
        assert list(ours) == list(plain)
        for name in ours:
            assert_close(ours[name], plain[name])


@pytest.mark.skipif(not tfutil.cpu_has_bfloat16(), reason='this CPU has no bfloat16')
@pytest.mark.skipif(not hasattr(tf.ConfigProto().graph_options.rewrite_options, 'auto_mixed_precision_onednn_bfloat16'),
                    reason='TensorFlow has no such rewriting')
def test_stays_in_bfloat16_between_convolutions():
    """TensorFlow's rewriting takes our ops for what they are: no casts around them."""
    with tf.Graph().as_default(), tfutil.create_session(precision='bfloat16') as session:
        arrays = _arrays(2, 16, 16, 32, 1)
        arrays[-1] = np.random.RandomState(0).standard_normal([3, 3, 32, 32]).astype(np.float32) / np.float32(17)
        feed = {tf.placeholder(tf.float32, array.shape): array for array in arrays}     # not folded as constants are
        x, *others, kernel = feed
        y = layers.conv2d(layers.blur2d(layers.noise_style(layers.conv2d(x, kernel), *others)), kernel)
        y = layers.leaky_relu(layers.conv2d(layers.leaky_relu(y), kernel))
        gradient = tf.gradients(tf.reduce_sum(layers.conv2d(y, kernel)), kernel)[0]
        metadata = tf.RunMetadata()
        session.run(gradient, feed, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
    types = {}
    for graph in metadata.partition_graphs:
        for node in graph.node:
            types.setdefault(node.op, set()).add(node.attr['T'].type)
    for name in layer_ops.NAMES:
        assert types[name] == {tf.bfloat16.as_datatype_enum}


# ---- when they are used

def test_switch_and_format(monkeypatch):
    assert layers.has_ops()
    with layers.use_data_format('NCHW'):
        assert not layers.has_ops()
    monkeypatch.setenv(layer_ops.SWITCH, '0')
    with layers.use_ops(True):
        assert not layers.has_ops()


def test_without_a_compiler_the_plain_layers_train(monkeypatch, capfd):
    def fail(*_):
        raise UserError('no C++ compiler found')
    monkeypatch.setattr(custom_ops, 'get_library', fail)
    monkeypatch.setattr(layer_ops, '_problem', [])
    for _ in range(2):
        with layers.use_ops(True):
            assert not layers.has_ops()
    assert capfd.readouterr().err.count('no C++ compiler found') == 1
