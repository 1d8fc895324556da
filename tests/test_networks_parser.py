"""The face parser against the recorded network: variables, activations, warps, maps, gradient; any batch."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from perception import parser_warp
from perception.networks_parser import Parsing
from tests.common import assert_close, relative_l2, shared
from tests.oracle_networks import (
    check_activations,
    check_gradient,
    check_variables,
    fetchable,
    fill_with_oracle_weights,
)


@pytest.fixture(scope='module')
def recorded():
    return np.load(shared('oracle', 'perception', 'networks', 'parser.npz'))


@pytest.fixture(scope='module')
def ran(recorded):
    """One run of everything, the two recorded photos as one batch (they were recorded one by one)."""
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        photos = tf.placeholder(tf.float32, [None, 256, 256, 3])
        landmarks = tf.placeholder(tf.float32, [None, 68, 2])
        end_points = {}
        output = Parsing(photos, landmarks, end_points)
        before = len(tf.global_variables())
        Parsing(photos, landmarks)
        assert len(tf.global_variables()) == before
        fill_with_oracle_weights()
        check_variables('FaceParser')
        weight = (np.arange(256 * 256 * 3).reshape(256, 256, 3) % 7 - 3).astype(np.float32)
        losses = tf.reduce_sum(output * weight, axis=[1, 2, 3])
        gradient, through_landmarks = tf.gradients(losses, [photos, landmarks])
        assert through_landmarks is None
        names = ('block0', 'pool0', 'c1', 'c2', 'c3', 'c4')
        points = fetchable({name: end_points[name] for name in names})
        rest = {name: end_points[name] for name in ('warp_image', 'logits', 'raw512')}
        fpn = fetchable(end_points)['fpn']
        yield session.run(dict(rest, output=output, losses=losses, gradient=gradient, points=points, fpn=fpn),
                          {photos: recorded['image_rgb'], landmarks: recorded['lm68']})


def test_warp(recorded, ran, tf_session):
    exact = parser_warp.warp(tf.constant(recorded['image_rgb'], tf.float32), tf.constant(recorded['t']))
    assert_close(tf_session.run(exact)[:, ::4, ::4], recorded['warp_image_stride4'], atol=0.06)
    # With our own transform: the recorded one is 1.3e-3 off the true least squares, ours is not.
    difference = np.abs(ran['warp_image'] - recorded['warp_image_f16'].astype(np.float32))
    assert difference.max() < 0.5 and difference.mean() < 0.02


def test_activations(recorded, ran):
    assert check_activations(recorded, ran['points'], nchw=True, tolerance=1e-3) == 16
    fpn = ran['fpn'].astype(np.float64)
    assert relative_l2(fpn.mean(axis=(1, 2)), recorded['fpn_mean']) < 1e-3
    assert relative_l2(fpn.std(axis=(1, 2)), recorded['fpn_std']) < 1e-3
    assert relative_l2(fpn[:, ::2, ::2, :2].transpose(0, 3, 1, 2), recorded['fpn_map']) < 1e-3


def test_maps(recorded, ran):
    assert_close(ran['logits'], recorded['logits128'], atol=1e-2)
    softmax = np.exp(ran['logits'] - ran['logits'].max(axis=-1, keepdims=True))
    assert_close(softmax / softmax.sum(axis=-1, keepdims=True), recorded['softmax128_f16'], atol=2e-3)
    raw = ran['raw512'].transpose(0, 3, 1, 2)
    assert_close(raw[:, :, ::8, ::8], recorded['raw512_stride8'], atol=2e-3)
    for kind in ('mean', 'std', 'min', 'max'):
        assert_close(getattr(np, kind)(raw, axis=(2, 3)), recorded['raw512_' + kind], atol=2e-3)
    assert_close(ran['output'], recorded['output'], atol=2e-3)


def test_gradient(recorded, ran):
    weight = (np.arange(256 * 256 * 3).reshape(256, 256, 3) % 7 - 3)
    allowed = 2e-3 * np.abs(weight).sum() / 256     # output's tolerance, spread at random over the pixels
    assert_close(ran['losses'], recorded['loss'], atol=allowed)
    check_gradient(recorded, ran['gradient'], 0.08)
