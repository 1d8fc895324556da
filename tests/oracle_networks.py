"""The recorded perception networks: their weights by rule, their variables, and how activations are compared."""

import json
import zlib

import numpy as np

from dnnlib.tflib import layers, tfutil
from dnnlib.tflib.compat import tf
from tests.common import relative_l2, shared

SEED = 20240501


def oracle_weight(name, shape, seed=SEED):
    """The float32 value of variable `name`; the rule under which the numbers were recorded."""
    rnd = np.random.RandomState(zlib.crc32(name.encode('utf-8')) ^ seed)
    n = rnd.standard_normal(size=tuple(shape))
    leaf = name.split('/')[-1]
    if leaf in ('weights', 'kernel'):
        n *= np.sqrt(2.0 / int(np.prod(shape[:-1])))
        small = {'resnet_v1_50/conv1/weights': 0.01, 'FaceParser/MaskNet/convlast/conv2d/kernel': 0.06}
        n *= small.get(name, 0.03 if name.startswith('fc-') else 1.0)
    elif leaf in ('biases', 'bias'):
        n *= 0.05
    elif leaf == 'gamma':
        n = (1.0 + 0.1 * n) * (0.5 if name.endswith('bottleneck_v1/conv3/BatchNorm/gamma') else 1.0)
    elif leaf == 'moving_variance':
        n = 1.0 + 0.2 * np.abs(n)
    else:
        assert leaf in ('beta', 'moving_mean'), name
        n *= 0.1
    return n.astype(np.float32)


def recorded_variables(network):
    """The list of dicts name, shape, sum, abs_sum, first3 of 'R_Net', 'Perceptual_Net' or 'FaceParser'."""
    with open(shared('oracle', 'perception', 'networks', 'variables.json'), encoding='utf-8') as file:
        recorded = json.load(file)[network]
    return recorded['variables'] if isinstance(recorded, dict) else recorded


def fill_with_oracle_weights():
    """Give every variable of the graph, in the default session, its value by rule."""
    tfutil.set_vars({v: oracle_weight(v.op.name, v.shape.as_list()) for v in tf.global_variables()})


def check_variables(network):
    """The graph's variables are the recorded ones: names, order, shapes, values by rule; none is trainable."""
    expected = recorded_variables(network)
    actual = tf.global_variables()
    assert [v.op.name for v in actual] == [e['name'] for e in expected]
    assert [v.shape.as_list() for v in actual] == [list(e['shape']) for e in expected]
    assert not tf.trainable_variables()
    for variable, entry in list(zip(tfutil.run(actual), expected))[::7]:
        np.testing.assert_allclose(variable.sum(dtype=np.float64), entry['sum'], atol=1e-6 * entry['abs_sum'] + 1e-9)
        np.testing.assert_array_equal(variable.ravel()[:3], np.float32(entry['first3']))


def fetchable(end_points):
    """End points as NHWC tensors ([N, C] where they have no height)."""
    return {name: layers.to_nhwc(x) if x.shape.ndims == 4 else x for name, x in end_points.items()}


def check_activations(recorded, activations, nchw=False, tolerance=1e-3):
    """mean_*, std_*, map_* of a recorded file against activations {name: [N, H, W, C] or [N, C]}."""
    checked = 0
    for key in recorded.files:
        kind, _, name = key.partition('_')
        if kind not in ('mean', 'std', 'map') or name not in activations:
            continue
        x = activations[name].astype(np.float64)
        if kind == 'map':
            x = x.transpose(0, 3, 1, 2)[:, :recorded[key].shape[1]] if nchw else x[..., :recorded[key].shape[3]]
        else:
            axes = tuple(range(1, x.ndim - 1))
            x = getattr(np, kind)(x, axis=axes) if axes else (x if kind == 'mean' else np.zeros_like(x))
        assert np.linalg.norm(x - recorded[key]) <= tolerance * np.linalg.norm(recorded[key]) + 1e-6, key
        checked += 1
    return checked


def check_gradient(recorded, gradient, tolerance):
    """The recorded gradient with respect to the input [N, H, W, 3] within a relative L2 distance."""
    expected = recorded['grad_f16'].astype(np.float64) * recorded['grad_absmax']
    assert relative_l2(gradient, expected) <= tolerance
    gradient = gradient.astype(np.float64)
    n, height, width, _ = gradient.shape
    pooled = gradient.reshape(n, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4))
    assert relative_l2(pooled, recorded['grad_pool8']) <= tolerance
    norms = np.sqrt((gradient ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(norms, recorded['grad_l2_per_image'], rtol=tolerance)
    sums, cosine = gradient.sum(axis=(1, 2)), (gradient * expected).sum() / np.prod([np.linalg.norm(gradient),
                                                                                     np.linalg.norm(expected)])
    np.testing.assert_allclose(sums, recorded['grad_sum_per_image_channel'],
                               atol=tolerance * np.abs(gradient).sum(axis=(1, 2)).max())
    assert cosine > 1 - tolerance ** 2
