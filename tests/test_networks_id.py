"""Perceptual_Net against the recorded network: variables, activations, embeddings, gradient."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from perception.networks_id import Perceptual_Net
from tests.common import assert_close, shared
from tests.oracle_networks import (
    SEED,
    check_activations,
    check_gradient,
    check_variables,
    fetchable,
    fill_with_oracle_weights,
)


@pytest.fixture(scope='module')
def recorded():
    return np.load(shared('oracle', 'perception', 'networks', 'perceptual.npz'))


@pytest.fixture(scope='module')
def ran(recorded):
    """One run of everything: a batch of the two photos and of the two with out-of-range contrast."""
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        photos = tf.placeholder(tf.float32, [None, 160, 160, 3])
        end_points = {}
        embedding = Perceptual_Net(photos, end_points)
        before = len(tf.global_variables())
        again = Perceptual_Net(photos[:1])
        assert len(tf.global_variables()) == before
        fill_with_oracle_weights()
        check_variables('Perceptual_Net')
        gradient = tf.gradients(tf.reduce_sum(embedding * recorded['out_weight']), photos)[0]
        rgb = recorded['input_rgb'].astype(np.float32)
        points = {name: x[:2] for name, x in fetchable(end_points).items()}
        yield session.run(dict(embedding=embedding, again=again, gradient=gradient, points=points),
                          {photos: np.concatenate([rgb, rgb * np.float32(1.3) - np.float32(25)])})


def test_embeddings(recorded, ran):
    assert_close(recorded['out_weight'], np.random.RandomState(SEED + 1).standard_normal(128).astype(np.float32))
    assert_close(ran['embedding'][:2], recorded['embedding'], atol=1e-4)
    assert_close(ran['embedding'][2:], recorded['embedding_on_1p3m25'], atol=1e-4)
    assert_close(ran['again'], recorded['embedding'][:1], atol=1e-4)


def test_activations(recorded, ran):
    for name, shape in [entry.split(':') for entry in recorded['shape_map']]:
        expected = [int(n) for n in shape.split('x')]
        assert list(ran['points'][name].shape) == (expected if name != 'AvgPool' else [2, 1792])
    assert check_activations(recorded, ran['points']) == 41


def test_gradient(recorded, ran):
    check_gradient(recorded, ran['gradient'][:2], 0.01)
    zero = np.mean(ran['gradient'][2:] == 0)        # clipped, or never reached by the VALID strides
    assert_close(zero, recorded['embedding_on_1p3m25_grad_zero_frac'], atol=1e-4)
