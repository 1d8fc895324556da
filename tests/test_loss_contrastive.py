"""Contrastive losses against the release's recorded losses and gradients."""

import numpy as np
import pytest

from dnnlib.tflib.compat import tf
from tests.common import assert_close, data
from training import loss_contrastive


@pytest.fixture(scope='module')
def recorded():
    return np.load(data('face', 'losses_io.npz'))


def _nchw(x):
    return tf.transpose(tf.constant(x), [0, 3, 1, 2])


class RecordedExperts:
    """Answers for the two pictures of a pair with recorded tensors; keeps the landmarks it was given."""

    def __init__(self, recorded):
        self.coeff = tf.constant(recorded['gc_net_coeff'])
        self.embeddings = tf.constant(np.concatenate([recorded['gc_emb1'], recorded['gc_emb2']]))
        self.maps, self.landmarks = tf.constant(recorded['gc_seg'][..., 2]), None

    def reconstruct(self, fakes):
        return self.coeff

    def hair(self, fakes, landmarks_256):
        self.landmarks = landmarks_256
        return self.maps

    def identity(self, fakes):
        return self.embeddings


def test_expression(tf_session, recorded):
    fake1, fake2 = tf.constant(recorded['warp_fake1']), tf.constant(recorded['warp_fake2'])
    masks = [tf.constant(recorded[f'warp_mask{i}'][:, None]) for i in (1, 2)]
    pictures = [tf.transpose(x, [0, 3, 1, 2]) for x in (fake1, fake2)]
    terms = loss_contrastive.expression_terms(*pictures, flow=tf.constant(recorded['warp_flow']),
                                              mask1=masks[0], mask2=masks[1])
    value, gradients = tf_session.run([terms.exp_warp, tf.gradients(terms.exp_warp, [fake1, fake2])])
    assert_close(value, recorded['warp_loss'], rtol=1e-5)
    for actual, key in zip(gradients, ('warp_grad_fake1', 'warp_grad_fake2')):
        off = np.abs(actual - recorded[key]) > 1e-3 * np.abs(recorded[key]).max()
        assert off.any(axis=-1).mean() <= 1e-3


def test_lighting(tf_session, recorded):
    experts = RecordedExperts(recorded)
    given = tf.constant(recorded['gc_landmarks'] * np.float32(224 / 256))
    terms = loss_contrastive.lighting_terms(_nchw(recorded['gc_fake1']), _nchw(recorded['gc_fake2']), experts,
                                            landmarks_of=lambda coeff: given if coeff is experts.coeff else None)
    values, landmarks = tf_session.run([dict(terms), experts.landmarks])
    assert_close(landmarks, recorded['gc_landmarks'], rtol=1e-6)
    assert_close(values['hair'], recorded['gc_hair_loss'], rtol=1e-5)
    assert_close(values['id'], recorded['gc_id_consistent_loss'], rtol=1e-5)
    assert_close(values['gamma_change'], recorded['gc_loss'], rtol=1e-5)


def test_landmarks(tf_session, recorded):
    a, b = tf.constant(recorded['lm_a']), tf.constant(recorded['lm_b'])
    loss = loss_contrastive.landmark_consistent_loss(a, b)
    value, gradient = tf_session.run([loss, tf.gradients(loss, a)[0]])
    assert_close(value, recorded['lm_loss'], rtol=1e-5)
    assert_close(gradient, recorded['lm_grad_a'], atol=1e-4 * np.abs(recorded['lm_grad_a']).max())


def test_blur_follows_the_resolution():
    assert loss_contrastive.blur_at(256) == (5, 2.0)
    assert loss_contrastive.blur_at(128) == (3, 1.0)
    assert loss_contrastive.blur_at(64) == (3, 0.7)
    assert loss_contrastive.blur_at(512) == (9, 4.0)


@pytest.mark.parametrize('size', [32, 128])
def test_flow_is_in_256_pixels_at_any_size(tf_session, size):
    y, x = np.mgrid[:size, :size] / size
    shift = 16 / 256                                        # 16 pixels of a 256 picture

    def wave(x):
        return np.stack([np.sin(7 * x), np.cos(5 * y)])[[0, 1, 0]][None].astype(np.float32)
    flow = np.zeros([1, size, size, 2], np.float32)
    flow[..., 1] = 16
    mask = np.zeros([1, 1, size, size], np.float32)
    mask1 = mask.copy()
    mask1[..., size * 3 // 4:] = mask1[..., :size // 8] = 1     # the border does not count: it is not in face 2
    first, second = tf.constant(wave(x)), tf.constant(wave(x + shift))
    right = loss_contrastive.warp_loss(first, second, tf.constant(flow), tf.constant(mask1), tf.constant(mask))
    wrong = loss_contrastive.warp_loss(first, second, tf.constant(0 * flow), tf.constant(mask1), tf.constant(mask))
    right, wrong = tf_session.run([right, wrong])
    assert right < 0.02 * wrong + 1e-3
