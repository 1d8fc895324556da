"""Imitative losses against the release's recorded losses and gradients."""

import numpy as np
import pytest

from dnnlib.tflib import images, tfutil
from dnnlib.tflib.compat import tf
from renderer import factors, surface
from renderer.face_model import load_face_model_file
from renderer.face_renderer import FaceRenderer
from tests.common import assert_close, data, recording
from training import loss_imitative
from training.loss_imitative import imitative_terms


@pytest.fixture(scope='module')
def recorded():
    return np.load(recording('face', 'losses_io.npz'))


class RecordedExperts:
    """Answers with recorded tensors and keeps what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = {name: tf.constant(x) for name, x in answers.items()}, []

    def reconstruct(self, fake):
        self.asked.append(('reconstruct', fake))
        return self.answers['coeff']

    def identity(self, picture, mask=None):
        self.asked.append(('identity', picture))
        return self.answers['render' if mask is None else 'fake']


def _gradients(session, loss, xs, expected, tolerance=1e-4):
    for actual, key in zip(session.run(tf.gradients(loss, xs)), expected):
        assert_close(actual, key, atol=tolerance * np.abs(key).max())


def test_l1_and_skin(tf_session, recorded):
    render, fake = tf.constant(recorded['l1_render']), tf.constant(recorded['l1_fake'])
    terms = imitative_terms(('l1', 'skin'), fake, render, tf.constant(recorded['l1_mask'][:, None]))
    assert sorted(terms) == ['l1', 'skin']
    assert_close(tf_session.run(terms.l1), recorded['l1_loss'], rtol=1e-5)
    assert_close(tf_session.run(terms.skin), recorded['skin_loss'], rtol=1e-5)
    _gradients(tf_session, terms.l1, [render, fake], [recorded['l1_grad_render'], recorded['l1_grad_fake']])
    _gradients(tf_session, terms.skin, [fake], [recorded['skin_grad_fake']])


def test_landmarks_and_lighting(tf_session, recorded):
    faces = FaceRenderer(load_face_model_file(data('face', 'face_model.mat')), impl='ref')
    experts = RecordedExperts(coeff=recorded['rec_net_coeff'])
    fake = tf.constant(recorded['rec_fake'])
    terms = imitative_terms(('lm', 'gamma'), fake, None, None, experts, coeff=tf.constant(recorded['rec_coeff_label']),
                            landmarks_256=tf.constant(recorded['rec_landmark_label']),
                            landmarks_of=faces.landmarks_224)
    assert experts.asked == [('reconstruct', fake)]         # once for both terms
    assert_close(tf_session.run(terms.lm), recorded['rec_lm_loss'], rtol=1e-5)
    assert_close(tf_session.run(terms.gamma), recorded['rec_gamma_loss'], rtol=1e-5)
    _gradients(tf_session, terms.lm, [experts.answers['coeff']], [recorded['rec_grad_lm_coeff']])
    _gradients(tf_session, terms.gamma, [experts.answers['coeff']], [recorded['rec_grad_gamma_coeff']])


def test_identity(tf_session, recorded):
    experts = RecordedExperts(fake=recorded['id_emb_fake'], render=recorded['id_emb_render'])
    fake, render = tf.constant(recorded['id_fake']), tf.constant(recorded['id_render'])
    terms = imitative_terms(['id'], fake, render, tf.constant(recorded['id_mask'][:, None]), experts)
    assert experts.asked == [('identity', fake), ('identity', render)]
    assert_close(tf_session.run(terms.id), recorded['id_loss'], rtol=1e-5)
    _gradients(tf_session, terms.id, [experts.answers['fake'], experts.answers['render']],
               [recorded['id_grad_emb_fake'], recorded['id_grad_emb_render']])


@pytest.mark.parametrize('name, coeffs, unit', [
    ('shape', factors.SHAPE, 100), ('exp', factors.EXPRESSION, 100), ('albedo', factors.TEXTURE, 3 ** -0.5)])
def test_surface_terms_compare_what_coefficients_do_to_the_drawn_face(tf_session, name, coeffs, unit):
    model = load_face_model_file(data('face', 'face_model.mat'))
    found, asked = np.random.RandomState(0).standard_normal([2, 3, factors.NUM_RECON]).astype(np.float32)
    same = np.zeros_like(found)
    same[:, coeffs] = found[:, coeffs]
    basis = model.texture_basis if name == 'albedo' else \
        model.shape_basis[:, :80] if name == 'shape' else model.shape_basis[:, 80:]
    moves = unit * ((found - asked)[:, coeffs] @ basis.T.astype(np.float64)).reshape(3, -1, 3)[:, model.region]
    expected = np.sqrt((moves ** 2).sum(axis=2) @ surface.vertex_weights(model)).mean()
    experts = RecordedExperts(coeff=found)
    terms = [imitative_terms([name], None, None, None, experts, coeff=tf.constant(x), model=model)
             for x in (asked, same)]
    assert [list(x) for x in terms] == [[name], [name]]
    value, equal = tf_session.run([x[name] for x in terms])
    assert_close(value, np.float32(expected), rtol=1e-4)
    assert expected > 0.1 and equal == pytest.approx(1e-4, rel=1e-2)
    gradient, = tf_session.run(tf.gradients(terms[0][name], experts.answers['coeff']))
    inside = np.zeros(factors.NUM_RECON, bool)
    inside[coeffs] = True
    assert np.isfinite(gradient).all() and not gradient[:, ~inside].any() and np.abs(gradient[:, inside]).max() > 0


@pytest.mark.parametrize('batch, size', [(1, 8), (3, 16)])
def test_any_batch_and_resolution(tf_session, batch, size):
    rnd = np.random.RandomState(0)
    render, fake = [tf.constant(rnd.randn(batch, 3, size, size).astype(np.float32)) for _ in range(2)]
    mask = tf.constant(rnd.rand(batch, 1, size, size).astype(np.float32))
    same = tf_session.run(imitative_terms(('l1', 'skin'), render, render, mask))
    assert_close(same['l1'], 1e-4, rtol=1e-3)
    assert_close(same['skin'], 1e-4, rtol=1e-3)
    terms = imitative_terms(('l1', 'skin'), fake, render, mask)
    bigger = imitative_terms(('l1', 'skin'), *[images.fade_and_upscale(x, 1.0) for x in (fake, render, mask)])
    for name in terms:
        small, large = tf_session.run([terms[name], bigger[name]])
        assert small > 0.01
        assert_close(large, small, rtol=1e-4)


def test_unknown_term_is_refused():
    with pytest.raises(ValueError, match='sharpness'):
        imitative_terms(('l1', 'sharpness'), None, None, None)


def test_terms_that_are_not_asked_build_nothing():
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=1, graph=graph):
        assert imitative_terms((), None, None, None) == {}
        assert not graph.get_operations()
    assert set(loss_imitative.L1_TERMS + loss_imitative.FULL_TERMS) == set(loss_imitative.TERMS)
