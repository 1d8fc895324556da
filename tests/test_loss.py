"""Adversarial terms on plain arrays; with the recorded networks in test_networks_stylegan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnnlib.tflib.compat import tf
from tests.common import assert_close
from training import loss

SCORES = hnp.arrays(np.float32, [3, 1], elements=st.floats(-60, 60, width=32))


def _log_sigmoid(x):
    return -np.logaddexp(0, -x.astype(np.float64))


@settings(max_examples=20, deadline=None)
@given(SCORES, SCORES)
def test_terms(real, fake):
    with tf.Graph().as_default(), tf.Session() as session:
        G_loss, D_loss = session.run([loss.generator_loss(tf.constant(fake)),
                                      loss.discriminator_loss(tf.constant(real), tf.constant(fake))])
    assert_close(G_loss, -_log_sigmoid(fake)[:, 0], rtol=1e-5, atol=1e-6)
    assert_close(D_loss, -(_log_sigmoid(real) + _log_sigmoid(-fake))[:, 0], rtol=1e-5, atol=1e-6)


def test_r1_of_a_known_function(tf_session):
    """score = sum of x^2 / 2, so the gradient is x itself and the penalty's own gradient 2x."""
    reals = tf.constant(np.random.RandomState(0).randn(3, 2, 4, 4), tf.float32)
    penalty = loss.r1_penalty(tf.reduce_sum(tf.square(reals), axis=[1, 2, 3])[:, np.newaxis] / 2, reals)
    x, value, gradient = tf_session.run([reals, penalty, tf.gradients(penalty, reals)[0]])
    assert_close(value, (x ** 2).sum(axis=(1, 2, 3)), rtol=1e-5)
    assert_close(gradient, 2 * x, rtol=1e-5)


def test_r1_needs_scores_of_these_images(tf_session):
    with pytest.raises(ValueError, match='do not depend'):
        loss.r1_penalty(tf.zeros([2, 1]), tf.zeros([2, 3, 4, 4]))
