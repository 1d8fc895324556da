"""Contrastive losses: the paper's against recorded losses and gradients, ours against numbers worked out by hand."""

import numpy as np
import pytest

from dnnlib.tflib.compat import tf
from renderer import factors, surface
from tests.common import assert_close, kept, recording
from training import loss_contrastive


@pytest.fixture(scope='module')
def recorded():
    return np.load(recording('face', 'losses_io.npz'))


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
        actual, expected = kept(actual, recorded[key])
        assert np.mean(np.abs(actual - expected) > 1e-3 * np.abs(expected).max()) <= 5e-4


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


# ---- ours

def _plain(color, size=16):
    """[1, size, size, 3] of one colour."""
    return np.broadcast_to(np.float32(color), [1, size, size, 3]).copy()


def _part(rows, size=16):
    """[1, size, size]: 1 in these rows."""
    share = np.zeros([1, size, size], np.float32)
    share[:, rows] = 1
    return share


TOP = slice(0, 8)               # half of the picture
COUNTED = 0.5 / 0.52            # what the colour of so much hair counts


@pytest.mark.parametrize('second,options,expected', [
    ([0.4, 0.2, 0.1], {}, 0.0),
    ([0.2, 0.1, 0.05], {}, np.sqrt(0.04 + 0.01 + 0.0025)),                              # half as bright
    ([0.2, 0.1, 0.05], {'brightness': 0.25}, 0.25 * np.sqrt(0.04 + 0.01 + 0.0025)),
    ([0.1, 0.2, 0.4], {'brightness': 0.25}, np.sqrt(0.18)),                             # as bright, another hue
    ([0.2, 0.1, 0.05], {'lamp': [[0.5, 0.5, 0.5]]}, 0.0),                               # the lamp's doing
    ([0.4, 0.1, 0.2], {'lamp': [[1.0, 0.5, 2.0]]}, 0.0),
    ([0.4, 0.2, 0.1], {'lamp': [[4.0, 4.0, 4.0]]}, 1.5 * np.sqrt(0.21))])               # it should have changed
def test_colour_of_hair(tf_session, second, options, expected):
    first, second, hair = _plain([0.4, 0.2, 0.1]), _plain(second), _part(TOP)
    first[:, 8:] = 0.9                                  # what is no hair may change
    options = {name: tf.constant(value) if name == 'lamp' else value for name, value in options.items()}
    loss = loss_contrastive.hair_color_loss(*map(tf.constant, (first, second, hair, hair)), **options)
    assert tf_session.run(loss) == pytest.approx(COUNTED * expected, rel=2e-4, abs=2e-4)


def test_colour_of_hair_that_hardly_is_there(tf_session):
    first, second, hair, bald = _plain(0.9), _plain(0.1), _part(TOP), _part(slice(0, 0))
    losses = [loss_contrastive.hair_color_loss(*map(tf.constant, (first, second, a, b))) for a, b in
              ((hair, hair), (hair, bald), (bald, bald), (hair / 25, hair / 25))]
    full, *none, half = tf_session.run(losses)
    assert full > 1.3 and none == [0, 0] and half == pytest.approx(0.5 * full / COUNTED, rel=0.01)


def test_background_counts_where_both_pictures_have_it(tf_session):
    first, second = _plain(0.5), _plain(0.5)
    second[:, 4:8, 4:8] += [0.3, 0.0, -0.4]             # 16 pixels, .5 each
    second[:, 12:] = 0                                  # a head in one of them
    background = _part(slice(0, 16)), _part(slice(0, 12))
    terms = [loss_contrastive.background_loss(*map(tf.constant, pair)) for pair in (
        (first, second) + background, (second, first) + background[::-1], (first, first) + background,
        (first, second, _part(slice(0, 8)), _part(slice(8, 16))))]
    value, swapped, equal, nothing = tf_session.run(terms)
    assert value == pytest.approx(16 * 0.5 / (12 * 16), abs=2e-4) and swapped == pytest.approx(value, rel=1e-5)
    assert max(abs(equal), abs(nothing)) < 1e-4


@pytest.mark.parametrize('loss', [loss_contrastive.hair_color_loss, loss_contrastive.background_loss])
def test_gradients_reach_the_colours_where_they_count_and_no_mask(tf_session, loss):
    random = np.random.RandomState(1)
    given = [tf.constant(x) for x in (_plain(random.rand(3)), _plain(random.rand(3)), _part(TOP), _part(TOP))]
    gradients = tf.gradients(loss(*given), given)
    assert gradients[2:] == [None, None]
    for gradient in tf_session.run(gradients[:2]):
        assert np.isfinite(gradient).all() and np.abs(gradient[:, TOP]).min() > 1e-5 and not gradient[:, 8:].any()
    same = tf.gradients(loss(given[0], given[0], *given[2:]), given[0])
    assert not tf_session.run(same)[0].any()


class HalfHair:
    """Experts of pictures whose upper half is hair, and the lower one background."""

    def reconstruct(self, fakes):
        return tf.tile(tf.reduce_mean(fakes, axis=[1, 2, 3])[:, None], [1, factors.NUM_RECON])

    def regions(self, fakes, landmarks_256):
        hair = tf.tile(_part(TOP), [2, 1, 1])
        return (tf.transpose(fakes, [0, 2, 3, 1]) + 1) / 2, {'hair': hair, 'background': 1 - hair}


def test_terms_of_ours_are_those_that_are_named(tf_session):
    """Each of its own pair, in the order of the names; the light's hair is forgiven what the lamp did."""
    dim, grey, bright = [tf.constant(np.transpose(_plain(x), [0, 3, 1, 2])) for x in (-0.5, 0.0, 0.5)]
    pictures = {'gamma': (grey, dim), 'rot': (dim, grey), 'id': (dim, bright)}

    def terms(names, **options):
        wanted = {loss_contrastive.CONSTANCY[name].factor for name in names}
        return loss_contrastive.constancy_terms(
            names, {factor: pictures[factor] for factor in wanted}, HalfHair(), lambda estimate: estimate[:, :2],
            surface.Quantity('expression', 'exp', 'mm', factors.EXPRESSION, np.eye(64)), **options)
    names = list(loss_contrastive.CONSTANCY)
    found = terms(names, lamp=tf.constant([[0.5, 0.5, 0.5]]))
    assert list(found) == names
    found = tf_session.run(dict(found))
    assert found['light_hair'] < 2e-4 and found['light_background'] > 0.3
    assert found['pose_hair'] == pytest.approx(COUNTED * 0.25 * 3 ** 0.5, rel=1e-3)
    assert (found['pose_exp'], found['id_exp']) == (pytest.approx(4.0, rel=1e-4), pytest.approx(8.0, rel=1e-4))
    assert list(terms(['id_exp', 'pose_hair'])) == ['id_exp', 'pose_hair'] and not terms([])
