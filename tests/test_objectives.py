"""Objectives of both stages on a small world: terms by NumPy, where gradients go, seeds, sizes, a little training."""

import contextlib
import os
from collections import namedtuple
from unittest import mock

import numpy as np
import pytest

from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.util import EasyDict
from perception import experts as perception
from renderer import factors, surface
from renderer.face_model import load_face_model_file
from renderer.face_renderer import FaceRenderer
from tests.common import assert_close, data, recording
from training import configs, loss, loss_contrastive, networks_stylegan, objectives  # noqa: F401
from vae.model import RELEASED, Decoders, decoder_shapes

WEIGHTS = dict(w_id=3.0, w_lm=500.0, w_gamma=10.0, w_skin=20.0, w_exp_warp=10.0, w_gamma_change=10.0)
CONFIGS = {name: configs.load(name) for name in ('ffhq256', 'demo64')}
Batch = namedtuple('Batch', 'coeff fakes')
NOISE_DIM = 5
EXPERTS = {'recon': dict(network='small_recon', size=32, width=4), 'id': dict(network='small_id', size=16, width=4),
           'parser': dict(network='small_parser', size=32, width=4)}
OURS = dict(w_light_hair=2.0, w_light_background=3.0, w_pose_hair=5.0, w_pose_background=7.0, w_pose_exp=11.0,
            w_id_exp=13.0)
SURFACE = dict(w_shape=0.5, w_albedo=0.1, w_exp=2.0)
IMITATIVE = ['Loss/skin_loss', 'Loss/lm_loss', 'Loss/gamma_loss', 'Loss/id_loss']
SURFACE_TERMS = ['Loss/shape_loss', 'Loss/albedo_loss', 'Loss/exp_loss']
CONTRASTIVE = ['Loss/Exp_warp_loss', 'Loss/Hair_region_loss', 'Loss/ID_consistent_loss', 'Loss/Lm_consistent_loss']


def _store_world(folder):
    """Narrow decoders and small experts with random weights."""
    rng = np.random.RandomState(0)
    for factor in factors.FACTORS:
        values = {name: (rng.randn(*shape) * (1.2 / np.sqrt(shape[0]))).astype(np.float32)
                  for name, shape in decoder_shapes(factor.name, 16).items()}
        checkpoints.save(os.path.join(folder, factor.name, RELEASED), values)
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        tf.set_random_seed(1)
        for entry in EXPERTS.values():
            perception.KINDS[entry['network']].build(tf.zeros([1, entry['size'], entry['size'], 3]), entry['width'])
        session.run(tf.global_variables_initializer())
        for name, entry in EXPERTS.items():
            values = {v.op.name: session.run(v) for v in tf.global_variables()
                      if v.op.name.startswith(entry['network'] + '/')}
            checkpoints.save(os.path.join(folder, name + '-expert'), values)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """(folder of the weights, face model)."""
    folder = str(tmp_path_factory.mktemp('world'))
    _store_world(folder)
    return folder, load_face_model_file(data('face', 'face_model.mat'))


def _specs(folder):
    return {name: EasyDict(entry, weights=os.path.join(folder, name + '-expert')) for name, entry in EXPERTS.items()}


class Built:
    """A graph with networks, a context and one generator and one discriminator step for fed inputs."""

    def __init__(self, world, resolution, stage, full, config='ffhq256', weights=WEIGHTS):
        folder, model = world
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(3)
            self.session = tfutil.create_session(threads=2, graph=self.graph)
            with self.session.as_default():
                experts = perception.Experts(_specs(folder), perception.EXPERTS)
                self.context = objectives.Context(
                    stage=stage, config=EasyDict(CONFIGS[config], resolution=resolution, r1_interval=1),
                    noise_dim=NOISE_DIM, weights=weights, decoders=Decoders(folder), faces=FaceRenderer(model),
                    experts=experts)
                self._networks(resolution)
                self.inputs = objectives.placeholders()
                self.reals = tf.placeholder(tf.uint8, [None, 3, None, None])
                self._steps(full)
                self.context.decoders.restore()
                self.context.experts.restore()

    def _networks(self, resolution):
        small = dict(fmap_base=64, fmap_max=8, resolution=resolution)
        self.G = Network('G', 'G_style', latent_size=factors.NUM_COEFFS + NOISE_DIM, dlatent_size=16, mapping_fmaps=16,
                         mapping_layers=2, mapping_lrmul=1.0, **small)
        self.D = Network('D', 'D_basic', **small)
        rng = np.random.RandomState(5)      # noise strengths and biases start at 0: nothing would depend on them
        tfutil.set_vars({variable: rng.randn(*variable.shape.as_list()) * 0.1
                         for net in (self.G, self.D) for name, variable in net.trainables.items()
                         if name.endswith(('bias', 'Noise/weight'))})

    def _steps(self, full):
        """Build both steps and keep what they are made of: results of the functions that they call."""
        nets = self.context, self.G, self.D, self.inputs
        with _recording(objectives, 'generate') as parts, _recording(objectives, 'scores') as scores:
            self.G_loss, self.G_terms = objectives.generator_step(*nets, full=full)
            self.G_scores = list(scores)
            with _recording(objectives, 'process_reals') as shown, _recording(loss, 'r1_penalty') as penalties:
                self.D_loss, self.D_terms = objectives.discriminator_step(*nets, self.reals)
        self.D_scores, self.shown_reals, self.penalty = scores[len(self.G_scores):], shown[0], penalties[0]
        self.G_parts, self.D_parts = [[Batch(*part) for part in zip(*batches)] for batches in parts]

    def feed(self, lod=0.0, minibatch=3, nimg=100, seed=1000, reals=None):
        feed = dict(zip(self.inputs, (lod, minibatch, nimg, seed)))
        if reals is not None:
            feed[self.reals] = reals
        return feed

    def run(self, fetch, **feed):
        return self.session.run(fetch, self.feed(**feed))


def _reals(minibatch, size):
    return np.random.RandomState(minibatch).randint(0, 256, [minibatch, 3, size, size]).astype(np.uint8)


@contextlib.contextmanager
def _recording(module, name):
    """Yields a list that receives what the module's function `name` returns."""
    function, results = getattr(module, name), []

    def record(*args, **kwargs):
        results.append(function(*args, **kwargs))
        return results[-1]
    with mock.patch.object(module, name, record):
        yield results


@pytest.fixture(scope='module')
def stage2(world):
    """Stage 2 at 32 pixels with every term there is (the demonstration's configuration)."""
    built = Built(world, 32, stage=2, full=True, config='demo64')
    with built.graph.as_default():
        built.seeds = {place: objectives.seed_of(built.inputs, *place, purpose=0)
                       for place in (('D', 0), ('D', 1), ('G', 0), ('G', 1))}
        built.reference = Reference(built)
        with built.session.as_default():
            yield built


# ---- what each term is

def _softplus(x):
    return np.logaddexp(0, x.astype(np.float64))


def _shown(x_nchw, lod):
    """Faded by the fraction of lod with its own 2x2 means, then upscaled by 2^floor(lod)."""
    n, c, h, w = x_nchw.shape
    coarse = x_nchw.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5)).repeat(2, axis=2).repeat(2, axis=3)
    x = x_nchw + (coarse - x_nchw) * (lod - np.floor(lod))
    return x.repeat(2 ** int(lod), axis=2).repeat(2 ** int(lod), axis=3)


def _cosine(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


class Reference:
    """Renders, the experts' answers and contrastive terms for fed pictures and coefficients."""

    def __init__(self, built):
        self.context, self.session = built.context, built.session
        faces, experts, size = self.context.faces, self.context.experts, self.context.config.resolution
        self.coeff, self.size = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS]), tf.placeholder(tf.int32, [])
        self.fakes, self.images = [tf.placeholder(tf.float32, [None, 3, size, size]) for _ in range(2)]
        self.mask = tf.placeholder(tf.float32, [None, 1, size, size])
        self.render = faces.render(self.coeff, self.size)
        estimate = experts.reconstruct(self.fakes)
        self.answers = (estimate, faces.landmarks_224(estimate), experts.identity(self.fakes, self.mask),
                        experts.identity(self.images))
        flow = faces.flow(self.coeff[0:1], self.coeff[1:2], self.size)[0]
        masks = tf.transpose(self.render.mask, [0, 3, 1, 2])
        fakes = [self.fakes[i:i + 1] for i in range(4)]
        self.contrastive = (
            loss_contrastive.expression_terms(fakes[0], fakes[1], flow, masks[0:1], masks[1:2]),
            loss_contrastive.lighting_terms(fakes[2], fakes[3], experts, faces.landmarks_224))

    def imitative_terms(self, batch, lod):
        """The imitative terms by NumPy, from renders and the experts' answers."""
        feed = {self.coeff: batch.coeff, self.size: self.context.config.resolution // 2 ** int(lod)}
        render = self.session.run(self.render, feed)
        image, mask = [_shown(x.transpose(0, 3, 1, 2), lod) for x in (render.image / 127.5 - 1, render.mask)]
        feed = {self.fakes: batch.fakes, self.images: image, self.mask: mask}
        estimate, found, emb_fake, emb_render = self.session.run(self.answers, feed)
        distance = np.sqrt(((image - batch.fakes) ** 2).sum(axis=1, keepdims=True) + 1e-8)
        colours = [(x * mask).sum(axis=(2, 3)) / mask.sum(axis=(2, 3)) for x in (image, batch.fakes)]
        return {'Loss/l1_loss': (distance * mask).sum() / mask.sum(),
                'Loss/skin_loss': np.sqrt(((colours[0] - colours[1]) ** 2).sum(axis=1) + 1e-8).mean(),
                'Loss/lm_loss': (((found - render.landmarks * 224 / 256) / 224) ** 2).mean(),
                'Loss/gamma_loss': np.abs(estimate[:, 227:254] - batch.coeff[:, 227:254]).mean(),
                'Loss/id_loss': np.maximum(1 - _cosine(emb_fake, emb_render), 0.3).mean()}

    def contrastive_terms(self, pairs):
        """The contrastive terms, by functions that are tested on recorded numbers."""
        feed = {self.coeff: pairs.coeff, self.fakes: pairs.fakes, self.size: self.context.config.resolution}
        expression, lighting = self.session.run(self.contrastive, feed)
        return dict(zip(CONTRASTIVE, (expression['exp_warp'], lighting['hair'], lighting['id'], lighting['lm'])))


@pytest.mark.parametrize('lod', [0.0, 0.5, 1.0])
def test_generator_step(stage2, lod):
    fetch = [stage2.G_loss, dict(stage2.G_terms), stage2.G_parts, stage2.G_scores]
    value, terms, (batch, pairs), scores = stage2.run(fetch, lod=lod)
    expected = stage2.reference.imitative_terms(batch, lod)
    expected.update(stage2.reference.contrastive_terms(pairs))
    assert list(terms) == ['Loss/l1_loss'] + IMITATIVE + CONTRASTIVE
    for name in terms:
        assert_close(terms[name], np.float32(expected[name]), rtol=2e-4, atol=1e-6)
        assert terms[name] > 1e-4
    adversarial = sum(_softplus(-x).mean() for x in scores)
    weights = [20, 20, 500, 10, 3, 10, 10 * 1, 10 * 2, 10 * 1000]
    assert_close(value, np.float32(adversarial + np.dot(weights, [expected[name] for name in terms])), rtol=2e-4)


def test_pairs_differ_in_one_factor(stage2):
    latents, noise = stage2.run(objectives.draw(stage2.context, stage2.inputs, 'G'), minibatch=2)
    assert latents.shape == (6, 179) and noise.shape == (6, NOISE_DIM)
    for (first, second), name in (((2, 3), 'exp'), ((4, 5), 'gamma')):
        part = factors.BY_NAME[name].latents
        inside = np.zeros(179, bool)
        inside[part] = True
        np.testing.assert_array_equal(latents[first] != latents[second], inside)
        np.testing.assert_array_equal(noise[first], noise[second])
    assert len(np.unique(latents[[0, 1, 2, 4], 0])) == len(np.unique(noise[[0, 1, 2, 4], 0])) == 4
    fakes = stage2.run(stage2.G_parts[1].fakes)
    assert fakes.shape == (4, 3, 32, 32) and np.abs(np.diff(fakes, axis=0)).max(axis=(1, 2, 3)).min() > 1e-4


def test_generator_step_with_all_terms_of_ours(world):
    """Two more pairs; the terms of ours are there with their weights, and a step can be made with them."""
    built = Built(world, 32, stage=2, full=True, config='demo64', weights=dict(WEIGHTS, **OURS, **SURFACE))
    with built.graph.as_default(), built.session.as_default():
        names, context, pictures = list(loss_contrastive.CONSTANCY), built.context, built.G_parts[1].fakes
        expected = loss_contrastive.constancy_terms(
            names, {factor: (pictures[i:i + 1], pictures[i + 1:i + 2]) for i, factor in
                    ((2, 'gamma'), (4, 'rot'), (6, 'id'))}, context.experts, context.faces.landmarks_224,
            surface.quantity(context.faces.model, 'expression'),
            objectives._lamp(context, built.G_parts[1].coeff[2:4]))
        fetch = [built.G_loss, dict(built.G_terms), dict(expected), built.G_scores]
        latents = objectives.draw(context, built.inputs, 'G')
        optimizer = Optimizer('TrainG', 1e-3)
        optimizer.register(built.G_loss, built.G.trainables)
        op = optimizer.apply()
        gradients = {name: tf.gradients(term, pictures)[0] for name, term in built.G_terms.items()
                     if name.lower()[5:-5] in names}
        built.session.run(optimizer.reset_state())
        tfutil.init_uninitialized_vars()
        value, terms, expected, scores = built.run(fetch)
        latents, noise = built.run(latents, minibatch=2)
        gradients = built.run(gradients)
        surface_gradients = built.run([tf.gradients(built.G_terms[name], built.G_parts[0].fakes)[0]
                                       for name in SURFACE_TERMS])
        built.run(op)
        assert built.session.run(optimizer.overflow_count) == 0
    shown = [f'Loss/{name.capitalize()}_loss' for name in names]
    assert list(built.G_terms) == ['Loss/l1_loss'] + IMITATIVE + SURFACE_TERMS + CONTRASTIVE + shown
    for name, gradient in zip(SURFACE_TERMS, surface_gradients):
        assert terms[name] > 1e-4 and (np.abs(gradient).max(axis=(1, 2, 3)) > 0).all()
    for name, key in zip(names, shown):
        assert_close(terms[key], expected[name], rtol=1e-4, atol=1e-6)
        assert terms[key] > 1e-4
    weights = [20, 20, 500, 10, 3, 0.5, 0.1, 2, 10, 10 * 1, 10 * 2, 10 * 1000] + [OURS['w_' + name] for name in names]
    adversarial = sum(_softplus(-x).mean() for x in scores)
    assert_close(value, np.float32(adversarial + np.dot(weights, [terms[name] for name in built.G_terms])), rtol=2e-4)
    assert latents.shape == (10, 179) and [len(x) for x in scores] == [3, 8]
    for (first, second), name in (((2, 3), 'exp'), ((4, 5), 'gamma'), ((6, 7), 'rot'), ((8, 9), 'id')):
        inside = np.zeros(179, bool)
        inside[factors.BY_NAME[name].latents] = True
        np.testing.assert_array_equal(latents[first] != latents[second], inside)
        np.testing.assert_array_equal(noise[first], noise[second])
    for name, row in zip(shown, (2, 2, 4, 4, 4, 6)):        # each term moves its own pair only
        moved = np.abs(gradients[name]).max(axis=(1, 2, 3)) > 0
        assert np.isfinite(gradients[name]).all() and list(np.flatnonzero(moved)) == [row, row + 1], name


def test_terms_of_weight_0_are_not_built(stage2):
    assert objectives.constancy_names(dict(WEIGHTS, **dict.fromkeys(OURS, 0.0))) == []
    assert objectives.paired_factors(WEIGHTS) == ('exp', 'gamma')
    assert objectives.paired_factors({'w_light_hair': 1.0}) == ('exp', 'gamma')
    assert objectives.paired_factors({'w_id_exp': 1.0, 'w_pose_hair': 2.0}) == ('exp', 'gamma', 'rot', 'id')
    assert objectives.paired_factors({'w_id_exp': 1.0}) == ('exp', 'gamma', 'id')
    with stage2.graph.as_default():
        before = len(stage2.graph.get_operations())
        assert not objectives._constancy(stage2.context, *stage2.G_parts[1])
        assert len(stage2.graph.get_operations()) == before
        zeros = stage2.context._replace(weights=dict(WEIGHTS, **dict.fromkeys(SURFACE, 0.0)))
        assert list(objectives.imitative_weights(zeros, stage2.inputs, True))[1:] == ['skin', 'lm', 'gamma', 'id']


def test_discriminator_step(stage2):
    reals, lod = _reals(3, 16), 1.4
    fetch = [stage2.D_loss, dict(stage2.D_terms), stage2.shown_reals, stage2.D_parts, stage2.D_scores, stage2.penalty]
    value, terms, shown, parts, (real_scores, *fake_scores), penalty = stage2.run(fetch, lod=lod, reals=reals)
    plain = _shown(reals / 127.5 - 1, lod)
    for one, picture in zip(shown, plain):
        assert min(np.abs(one - picture).max(), np.abs(one - picture[:, :, ::-1]).max()) < 1e-5
    assert [len(part.fakes) for part in parts] == [len(x) for x in fake_scores] == [3, 4]
    assert len(real_scores) == 3 and (penalty > 0).all() and penalty.shape == (3,)
    assert list(terms) == ['Loss/scores/real', 'Loss/scores/fake', 'Loss/r1_penalty']
    assert_close(terms['Loss/scores/real'], real_scores.mean(), atol=1e-5)
    assert_close(terms['Loss/scores/fake'], np.concatenate(fake_scores).mean(), atol=1e-5)
    assert_close(terms['Loss/r1_penalty'], penalty.mean(), rtol=1e-5)
    about_reals = _softplus(-real_scores).mean() + 0.5 * penalty.mean()         # gamma is 1 here
    expected = sum(_softplus(x).mean() for x in fake_scores) + 2 * about_reals
    assert_close(value, np.float32(expected), rtol=1e-5)


def test_lazy_r1_is_an_unbiased_stand_in(tf_session):
    """Steps without the penalty compute nothing of it; its weight in the others makes up for them."""
    D = Network('D', 'D_basic', fmap_base=64, fmap_max=8, resolution=8, structure='fixed')
    reals, fakes = [tf.constant(np.float32(_reals(n, 8))) for n in (3, 4)]
    inputs, weights = objectives.Inputs(0.0, 3, 100, 1000), list(D.trainables.values())

    def step(interval, r1):
        config = EasyDict(CONFIGS['demo64'], resolution=8, r1_interval=interval)
        context = objectives.Context(1, config, NOISE_DIM, WEIGHTS, None, None, None)
        with mock.patch.object(objectives, 'generate', lambda *_: ([None], [fakes / 100])):
            value, terms = objectives.discriminator_step(context, None, D, inputs, reals, r1=r1)
        assert ('Loss/r1_penalty' in terms) == r1
        return [value] + [g for g in tf.gradients(value, weights) if g is not None]
    always, fourth = step(1, True), step(4, True)
    with mock.patch.object(loss, 'r1_penalty', side_effect=AssertionError):
        other = step(4, False)
    for a, b, c in zip(*tf_session.run([always, fourth, other])):       # one step in four with R1, three without
        assert_close((b + 3 * c) / 4, a, atol=1e-5 + 1e-4 * np.abs(a).max())
    a, b, c = tf_session.run([always[0], fourth[0], other[0]])
    assert a - c > 1e-3 and b - c == pytest.approx(4 * (a - c), rel=1e-3)


@pytest.mark.parametrize('interval', [1, 3, 8])
def test_which_steps_have_r1_follows_from_the_images_shown(interval):
    """Also where a run goes on, and where the minibatch changes on the way."""
    config = EasyDict(r1_interval=interval)
    steps = [objectives.has_r1(config, 1003 + 16 * step, 16) for step in range(60)]
    assert [i for i in range(59) if steps[i]] == list(range(steps.index(True), 59, interval))
    assert steps[20:] == [objectives.has_r1(config, 1003 + 16 * 20 + 16 * step, 16) for step in range(40)]


def test_the_average_of_w_moves_as_in_two_evaluations(stage2):
    """The released system evaluates G on the minibatch and then on the pairs, and each evaluation moves it."""
    G, beta = stage2.G, 0.995
    with stage2.graph.as_default():
        w = [G.components.mapping.get_output_for(tf.concat(x, axis=1), None)[:, 0] for x in
             [[stage2.context.decoders.lambda_from_latents(latents), noise] for latents, noise in
              [objectives.draw(stage2.context, stage2.inputs, 'G')]]][0]
    average = np.random.RandomState(0).randn(16).astype(np.float32)
    tfutil.set_vars({G.find_var('dlatent_avg'): average})
    w = stage2.run(w, minibatch=3)
    assert w.shape == (7, 16)
    stage2.run(stage2.G_parts[0].fakes, minibatch=3)
    for part in (w[:3], w[3:]):
        average = part.mean(axis=0) + (average - part.mean(axis=0)) * beta
    assert_close(G.get_var('dlatent_avg'), np.float32(average), rtol=1e-5, atol=1e-6)


def test_average_of_w_moves_as_far_when_runs_share_a_minibatch(stage2, monkeypatch):
    """Four runs with the fourth root of beta for one: a quarter of the way each, nearly."""
    average, moved = stage2.G.find_var('dlatent_avg'), []
    for runs in (1, 4):
        monkeypatch.setitem(stage2.context.config, 'accumulate', runs)
        with stage2.graph.as_default():
            fakes = objectives.generate(stage2.context, stage2.G, stage2.inputs, 'D', 0)[1]
        tfutil.set_vars({average: np.zeros(16, np.float32)})
        stage2.run(fakes, minibatch=3)
        moved.append(tfutil.run(average))
    assert_close(moved[1] * 4, moved[0], rtol=0.01, atol=1e-6)


# ---- sizes

@pytest.mark.parametrize('minibatch', [1, 3, 4, 8])
def test_any_minibatch(stage2, minibatch):
    values = stage2.run([stage2.G_loss, stage2.D_loss, dict(stage2.G_terms), dict(stage2.D_terms)],
                        minibatch=minibatch, reals=_reals(minibatch, 32))
    assert np.isfinite(values[:2]).all() and np.isfinite(list(values[2].values()) + list(values[3].values())).all()


def _check_sizes(built, full):
    """Finite and of the right names, with and without a fade."""
    resolution, stage = built.context.config.resolution, built.context.stage
    for lod in (0.0, max(np.log2(resolution) - 3.5, 0.5)):
        reals = _reals(3, resolution >> int(lod))
        values = built.run([built.G_loss, built.D_loss, dict(built.G_terms)], lod=lod, reals=reals)
        assert np.isfinite(values[:2]).all() and np.isfinite(list(values[2].values())).all()
    assert list(built.G_terms) == (IMITATIVE if full else ['Loss/l1_loss']) + (CONTRASTIVE if stage == 2 else [])


def test_sixty_four_pixels(world):
    _check_sizes(Built(world, 64, stage=1, full=True), full=True)


def test_weight_of_l1_follows_the_active_resolution(tf_session):
    lod = tf.placeholder(tf.float32, [])
    inputs = objectives.Inputs(lod, None, None, None)

    def weights(config, full):
        context = objectives.Context(1, EasyDict(CONFIGS[config], resolution=256), 32, WEIGHTS, None, None, None)
        return objectives.imitative_weights(context, inputs, full)
    full = {'skin': 20, 'lm': 500, 'gamma': 10, 'id': 3}
    assert weights('ffhq256', True) == full
    l1 = weights('ffhq256', False)
    assert list(l1) == ['l1']
    assert [tf_session.run(l1['l1'], {lod: x}) for x in (5, 3.5, 3, 2.99, 0)] == [20, 20, 20, 0, 0]
    demo = weights('demo64', True)
    assert dict(demo, l1=0) == dict(full, l1=0)
    assert [tf_session.run(demo['l1'], {lod: x}) for x in (5, 3, 2.5, 0)] == [20, 20, 5, 5]


def test_which_form_a_resolution_takes():
    assert [objectives.is_full(CONFIGS['ffhq256'], x) for x in (8, 16, 32, 64, 256)] == [False] * 3 + [True] * 2
    assert [objectives.is_full(CONFIGS['demo64'], x) for x in (8, 16, 32, 64)] == [False] * 2 + [True] * 2


# ---- reals

@pytest.mark.parametrize('lod', [0.0, 0.5, 1.0, 1.7, 2.3])
def test_recorded_reals(tf_session, lod):
    recorded = np.load(recording('face', 'losses_io.npz'))
    level, reals = tf.placeholder(tf.float32, []), tf.placeholder(tf.uint8, [None, 3, None, None])
    shown = objectives.process_reals(reals, level, 16 * 2 ** int(lod))
    assert shown.shape.as_list() == [None, 3, 16 * 2 ** int(lod), 16 * 2 ** int(lod)]
    assert_close(tf_session.run(shown, {level: lod, reals: recorded['pr_in']}),
                 recorded['pr_out_lod' + str(lod).replace('.', 'p')], atol=1e-6)


def test_half_of_the_reals_are_mirrored(tf_session):
    reals, seed = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2).repeat(1000, axis=0), tf.placeholder(tf.int64, [2])
    shown = objectives.process_reals(tf.constant(reals), 0.0, 2, seed)
    first, again, other = [tf_session.run(shown, {seed: x}) for x in ((1, 2), (1, 2), (1, 3))]
    plain = reals / np.float32(127.5) - 1
    mirrored = (first == plain[..., ::-1]).all(axis=(1, 2, 3))
    assert_close(first[~mirrored], plain[~mirrored], atol=1e-6)
    assert 400 < mirrored.sum() < 600
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- randomness

def test_steps_depend_on_seed_counter_step_and_device_only(stage2):
    def seed(**feed):
        return tuple(stage2.run(stage2.seeds['G', 0], **feed))
    assert seed() == seed(lod=1.0, minibatch=5)
    seeds = [tuple(stage2.run(x)) for x in stage2.seeds.values()] + [seed(nimg=101), seed(seed=7), seed(nimg=25000000)]
    assert len(set(seeds)) == len(seeds)
    fetch, feed = [stage2.G_loss, stage2.D_loss], dict(reals=_reals(3, 32))
    first, again, later = [stage2.run(fetch, nimg=x, **feed) for x in (100, 100, 103)]
    assert_close(first, again, rtol=1e-6)       # threads may add in another order
    assert np.abs(np.subtract(first, later)).min() > 1e-3
    with pytest.raises(ValueError, match='4096'):
        objectives.seed_of(stage2.inputs, 'G', 4096, 0)


def test_steps_draw_their_own(stage2):
    fetch = [stage2.G_parts[0].coeff, stage2.D_parts[0].coeff]
    assert np.abs(np.subtract(*stage2.run(fetch))).max() > 0.1


def test_noise_maps_by_seed(tf_session):
    G = Network('G', 'G_style', latent_size=6, dlatent_size=7, mapping_fmaps=9, mapping_layers=2, resolution=16,
                fmap_base=64, fmap_max=8)
    tfutil.set_vars({variable: np.ones(variable.shape.as_list()) for name, variable in G.trainables.items()
                     if name.endswith('Noise/weight')})
    options = dict(is_validation=True, structure='fixed')
    one, two, three = [G.run(np.ones([2, 6]), None, noise_seed=seed, **options) for seed in ([3, 4], [3, 4], [3, 5])]
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 0.1 and np.abs(one[0] - one[1]).max() > 0.1
    fresh = [G.run(np.ones([2, 6]), None, **options) for _ in range(2)]
    assert np.abs(fresh[0] - fresh[1]).max() > 0.1
    stored = [G.run(np.ones([2, 6]), None, randomize_noise=False, noise_seed=seed, **options)
              for seed in (None, [3, 4])]
    np.testing.assert_array_equal(*stored)


# ---- training

def test_a_step_changes_only_its_own_network(world):
    built = Built(world, 8, stage=2, full=False)
    _check_sizes(built, full=False)
    with built.graph.as_default(), built.session.as_default():
        ops, optimizers = {}, []
        for net, value in ((built.G, built.G_loss), (built.D, built.D_loss)):
            optimizer = Optimizer('Train' + net.name, 1e-3)
            optimizer.register(value, net.trainables)
            ops[net.name] = optimizer.apply()
            optimizers.append(optimizer)
        built.session.run([optimizer.reset_state() for optimizer in optimizers])
        tfutil.init_uninitialized_vars()
        frozen = [v for v in tf.global_variables() if v.op.name.startswith('small_')]
        frozen += list(built.context.decoders.variables.values())
        trainable = {id(v) for net in (built.G, built.D) for v in net.trainables.values()}
        assert {id(v) for v in tf.trainable_variables()} == trainable
        groups = {'G': list(built.G.trainables.values()), 'D': list(built.D.trainables.values()), 'frozen': frozen}
    for name in ('G', 'D'):
        before = built.session.run(groups)
        built.run(ops[name], reals=_reals(3, 8))
        after = built.session.run(groups)
        for group in groups:
            changed = [not np.array_equal(a, b) for a, b in zip(before[group], after[group])]
            assert np.mean(changed) > 0.7 if group == name else not any(changed)
    assert built.session.run(optimizers[0].overflow_count) == 0


def test_training_brings_fakes_nearer_to_renders(world):
    built = Built(world, 16, stage=1, full=False)
    _check_sizes(built, full=False)
    with built.graph.as_default():
        optimizer = Optimizer('TrainG', 2e-2)
        optimizer.register(built.G_loss, built.G.trainables)
        op = optimizer.apply()
        decoders = list(built.context.decoders.variables.values())
        assert tf.gradients(built.G_loss, decoders) == [None] * len(decoders)       # none through the rasteriser
        with built.session.as_default():
            built.session.run(optimizer.reset_state())
            tfutil.init_uninitialized_vars()
    term = built.G_terms['Loss/l1_loss']
    before = built.run(term, minibatch=16)
    for step in range(30):
        built.run(op, lod=1.0 if step < 15 else 0.0, minibatch=8, nimg=1000 + 8 * step)
    assert built.run(term, minibatch=16) < 0.7 * before
    assert built.session.run(optimizer.overflow_count) == 0


def test_lod_is_that_of_the_same_step(stage2):
    """The fed lod counts at once, whatever the networks held before."""
    for lod in (1.0, 0.0, 2.0):
        fakes = stage2.run(stage2.G_parts[0].fakes, lod=lod)
        factor = 2 ** int(lod)
        np.testing.assert_array_equal(fakes, fakes[:, :, ::factor, ::factor].repeat(factor, 2).repeat(factor, 3))
        if factor < 4:
            assert np.abs(fakes[:, :, factor::2 * factor] - fakes[:, :, ::2 * factor]).max() > 1e-3
        with stage2.session.as_default():
            assert stage2.G.get_var('lod') == lod
