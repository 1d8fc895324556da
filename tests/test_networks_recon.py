"""R_Net against the recorded network: variables, activations, coefficients, gradient with respect to the photo."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from perception.networks_recon import R_Net
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
    return np.load(shared('oracle', 'perception', 'networks', 'rnet.npz'))


@pytest.fixture(scope='module')
def ran(recorded):
    """One run of everything: a batch of the two photos and their mirrored, brightened twins."""
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        photos = tf.placeholder(tf.float32, [None, 224, 224, 3])
        end_points = {}
        with tf.variable_scope('somewhere'):        # names are absolute all the same
            coeff = R_Net(photos, end_points)
        before = len(tf.global_variables())
        again = R_Net(photos[:1])
        assert len(tf.global_variables()) == before
        fill_with_oracle_weights()
        check_variables('R_Net')
        gradient = tf.gradients(tf.reduce_sum(coeff[:2] * recorded['out_weight']), photos)[0][:2]
        bgr = recorded['input_bgr'].astype(np.float32)
        batch = np.concatenate([bgr, np.clip(bgr[:, :, ::-1] * 0.9 + 3.3, 0, 255)])
        points = {name: x[:2] for name, x in fetchable(end_points).items()}
        yield session.run(dict(coeff=coeff, again=again, gradient=gradient, points=points), {photos: batch})


def test_coefficients(recorded, ran):
    assert_close(recorded['out_weight'], np.random.RandomState(SEED).standard_normal(257).astype(np.float32))
    assert_close(ran['coeff'][:2], recorded['coeff'], atol=1e-4)
    assert_close(ran['coeff'][2:], recorded['coeff_on_flip09p33'], atol=1e-4)
    assert_close(ran['again'], recorded['coeff'][:1], atol=1e-4)


def test_activations(recorded, ran):
    assert check_activations(recorded, ran['points']) == 46


def test_gradient(recorded, ran):
    check_gradient(recorded, ran['gradient'], 0.03)
