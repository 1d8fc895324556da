"""Generator and discriminator against numbers recorded from the released system (README.md of tests/data/generator)."""

import types

import numpy as np
import pytest

from dnnlib.tflib import layers, pickles, tfutil
from dnnlib.tflib.compat import IS_TF1, gpu_names, tf
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from tests import recorded_networks
from tests.common import assert_close, data, kept, recording, relative_l2
from training import loss, networks_stylegan  # noqa: F401       registers G_style, D_basic

STORED_NOISE = dict(is_validation=True, randomize_noise=False)
SMALL = dict(fmap_base=64, fmap_max=8, resolution=8)
SMALL_G = dict(SMALL, latent_size=6, dlatent_size=7, mapping_fmaps=9, mapping_layers=2)


@pytest.fixture(scope='module', params=['', 'extra_r128'], ids=['r64', 'r128'])
def oracle(request):
    """One graph with G, D, Gs of a recorded snapshot, its recorded arrays `io` and gradients `grads`."""
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        path = data('generator', request.param, 'networks.pkl')
        G, D, Gs = [Network.from_state(state) for state in pickles.load_states(path)]
        io, grads = [dict(np.load(recording('generator', request.param, name))) for name in ('io.npz', 'grads_io.npz')]
        io.setdefault('images', recorded_networks.pictures(G.static_kwargs['resolution']))
        yield types.SimpleNamespace(G=G, D=D, Gs=Gs, io=io, grads=grads, session=session, path=path)


# ---- every recorded output of the forward pass

def _with_lods(net, evaluate, lods):
    outputs = []
    for lod in lods:
        net.set_var('lod', lod)
        outputs.append(evaluate())
    net.set_var('lod', 0)
    return np.stack(outputs)


def _average_after(net, o, times):
    """dlatent_avg after `times` evaluations, put back afterwards."""
    before = net.get_var('dlatent_avg')
    dlatents = net.get_output_for(tf.constant(o.io['coeffs']), tf.constant(o.io['labels']), structure='fixed',
                                  return_dlatents=True)[1]
    for _ in range(times):
        o.session.run(dlatents)
    after = net.get_var('dlatent_avg')
    net.set_var('dlatent_avg', before)
    return after


def _full(net, o, **kwargs):
    return net.run(o.io['coeffs'], o.io['labels'], **dict(STORED_NOISE, **kwargs))


def _synthesis(o, dlatents):
    return o.Gs.components.synthesis.run(o.io[dlatents], randomize_noise=False)


def _scores(o, count=None, **kwargs):
    return o.D.run(o.io['images'][:count], o.io['labels'][:count], **kwargs)


# Arguments of the recorded system that change no image.
NO_EFFECT = dict(truncation_psi=0.1, truncation_psi_val=0.3, truncation_cutoff_val=4, truncation_cutoff=2,
                 style_mixing_prob=1, is_training=True, normalize_latents=True)
W, IMAGE, SCORE = dict(atol=2e-5), dict(atol=2e-4), dict(rtol=1e-5, atol=5e-5)

FORWARD = {     # recorded name: (tolerance, function of the oracle)
    'G_dlatents': (W, lambda o: o.G.components.mapping.run(o.io['coeffs'], o.io['labels'])),
    'Gs_dlatents': (W, lambda o: o.Gs.components.mapping.run(o.io['coeffs'], o.io['labels'])),
    'Gs_synthesis': (IMAGE, lambda o: _synthesis(o, 'Gs_dlatents')),
    'Gs_synthesis_rand': (IMAGE, lambda o: _synthesis(o, 'dlatents_rand')),
    'G_full': (IMAGE, lambda o: _full(o.G, o)),
    'Gs_full': (IMAGE, lambda o: _full(o.Gs, o, **NO_EFFECT)),
    'G_full_fused': (IMAGE, lambda o: _full(o.G, o, fused_scale=True)),
    'G_lods': (IMAGE, lambda o: _with_lods(o.G, lambda: _full(o.G, o), o.io['lods'])),
    'D_lods': (SCORE, lambda o: _with_lods(o.D, lambda: _scores(o), o.io['lods'])),
    'D_scores': (SCORE, lambda o: _scores(o)),
    'D_scores_fused': (SCORE, lambda o: _scores(o, fused_scale=True)),
    'D_scores_first3': (SCORE, lambda o: _scores(o, 3)),
    'D_scores_first1': (SCORE, lambda o: _scores(o, 1)),
    'D_scores_fake': (SCORE, lambda o: o.D.run(_full(o.G, o), o.io['labels'])),
    'G_dlatent_avg_before': (W, lambda o: o.G.get_var('dlatent_avg')),
    'Gs_dlatent_avg_before': (W, lambda o: o.Gs.get_var('dlatent_avg')),
    'G_dlatent_avg_after': (W, lambda o: _average_after(o.G, o, 1)),
    'G_dlatent_avg_after2': (W, lambda o: _average_after(o.G, o, 2)),
    'Gs_dlatent_avg_after': (W, lambda o: _average_after(o.Gs, o, 1)),
}
INPUTS = {'coeffs', 'labels', 'images', 'dlatents_rand', 'lods'}
LOSSES = {'r1_grad', 'r1_penalty', 'G_loss', 'D_loss_raw', 'D_loss_nogp', 'D_loss_per_sample', 'G_loss_mean',
          'D_loss_mean'}


@pytest.mark.parametrize('name', list(FORWARD))
def test_forward(oracle, name):
    if name not in oracle.io:
        pytest.skip('not recorded at this resolution')
    tolerance, evaluate = FORWARD[name]
    assert_close(*kept(evaluate(oracle), oracle.io[name]), **tolerance)


def test_every_recorded_array_is_compared(oracle):
    assert set(oracle.io) <= set(FORWARD) | LOSSES | INPUTS


def test_linear_structure(oracle):
    io = oracle.io
    if io['images'].shape[2] == 128:
        pytest.skip('the smaller network tells it')
    images = _with_lods(oracle.G, lambda: _full(oracle.G, oracle, structure='linear'), io['lods'])
    assert_close(*kept(images, io['G_lods']), **IMAGE)
    assert_close(_with_lods(oracle.D, lambda: _scores(oracle, structure='linear'), io['lods']), io['D_lods'], **SCORE)


# ---- losses and gradients

@pytest.fixture(scope='module')
def losses(oracle):
    """Recorded names -> tensors, and the gradients by network."""
    structure = dict(structure='fixed')     # the other structures have these gradients too: see further down
    images = tf.constant(oracle.io['images'])
    fakes = oracle.G.get_output_for(tf.constant(oracle.io['coeffs']), None, is_training=True, **structure,
                                    **STORED_NOISE)
    real_scores = oracle.D.get_output_for(images, None, is_training=True, **structure)
    fake_scores = oracle.D.get_output_for(fakes, None, is_training=True, **structure)
    penalty = loss.r1_penalty(real_scores, images)
    G_loss, D_loss = loss.generator_loss(fake_scores), loss.discriminator_loss(real_scores, fake_scores)
    D_full = D_loss + 5 * penalty
    terms = {'r1_grad': tf.gradients(tf.reduce_sum(real_scores), images)[0], 'r1_penalty': penalty,
             'G_loss': G_loss[:, np.newaxis], 'D_loss_nogp': D_loss[:, np.newaxis], 'D_loss_per_sample': D_full,
             'D_loss_raw': D_loss[:, np.newaxis] + 5 * penalty,
             'G_loss_mean': tf.reduce_mean(G_loss), 'D_loss_mean': tf.reduce_mean(D_full)}
    gradients = {'G': _gradients(terms['G_loss_mean'], oracle.G), 'D': _gradients(terms['D_loss_mean'], oracle.D)}
    return oracle.session.run([terms, gradients])


def _gradients(target, net):
    variables = list(net.trainables.values())
    gradients = [tf.zeros_like(v) if g is None else g for g, v in zip(tf.gradients(target, variables), variables)]
    return dict(zip(net.trainables, gradients))


def test_losses(oracle, losses):
    terms, io = losses[0], oracle.io
    assert set(terms) == LOSSES
    for name in ('G_loss', 'D_loss_raw', 'D_loss_nogp', 'D_loss_per_sample'):
        assert_close(terms[name], io[name], **SCORE)
    for name in ('G_loss_mean', 'D_loss_mean'):
        assert_close(terms[name], io[name], atol=2e-5)
    assert_close(terms['r1_penalty'], io['r1_penalty'], rtol=1e-3)
    actual, expected = kept(terms['r1_grad'], io['r1_grad'])
    assert_close(actual, expected, atol=1e-5)
    assert relative_l2(actual, expected) < 1e-3


def test_gradients_of_every_variable(oracle, losses):
    recorded = {name.replace('G_synthesis/', 'synthesis/').replace('G_mapping/', 'mapping/'): value
                for name, value in oracle.grads.items()}
    actual = {f'{net}:{name}': value for net, values in losses[1].items() for name, value in values.items()}
    assert set(actual) == set(recorded)
    errors = {name: relative_l2(*kept(actual[name], value)) for name, value in recorded.items()}
    assert max(errors.values()) <= 1e-2, errors


# ---- recorded behaviour

def test_stored_order(oracle):
    """The stored order is that of the file, component by component."""
    for stored, net in zip(pickles.load_states(oracle.path), (oracle.G, oracle.D, oracle.Gs)):
        state = net.state()
        assert list(state.components) == list(stored.components)
        for one, other in [(state, stored)] + [(state.components[k], stored.components[k]) for k in state.components]:
            assert [(n, np.shape(v)) for n, v in one.variables] == [(n, np.shape(v)) for n, v in other.variables]
            assert (one.static_kwargs, one.name, one.build_func_name) == \
                (other.static_kwargs, other.name, other.build_func_name)
        fixed = [name for name in net.vars if name not in net.trainables]
        assert fixed == [n for n in net.vars if n.rpartition('/')[2] in ('lod', 'dlatent_avg') or '/noise' in n]


# ---- beyond the recorded numbers

def test_average_moves_once_per_minibatch(tf_session):
    G = Network('G', 'G_style', **SMALL_G)
    coeffs = np.random.RandomState(0).randn(5, 6).astype(np.float32)
    w = G.components.mapping.run(coeffs, None)[:, 0]
    G.run(coeffs, None, minibatch_size=2)
    expected = np.zeros(7)
    for part in (w[:2], w[2:4], w[4:]):
        expected = part.mean(0) + (expected - part.mean(0)) * 0.995
    assert_close(G.get_var('dlatent_avg'), expected.astype(np.float32), atol=1e-6)
    G.run(coeffs, None, is_validation=True)
    assert_close(G.get_var('dlatent_avg'), expected.astype(np.float32), atol=1e-6)


def test_one_evaluation_of_two_batches_has_the_gradients_of_two(tf_session):
    """Stage 2 makes the minibatch and the pairs in one go; here without noise, which would be other noise."""
    G = Network('G', 'G_style', latent_size=5, dlatent_size=16, mapping_fmaps=16, mapping_layers=2, fmap_base=64,
                fmap_max=8, resolution=8, use_noise=False, structure='fixed')
    random = np.random.RandomState(0)
    tfutil.set_vars({x: random.standard_normal(x.shape.as_list()) for x in G.trainables.values()})
    latents = [random.standard_normal([rows, 5]).astype(np.float32) for rows in (3, 4)]
    weights = [random.standard_normal([rows, 3, 8, 8]).astype(np.float32) for rows in (3, 4)]
    together = tf.split(G.get_output_for(np.concatenate(latents), None, dlatent_avg_rows=3), [3, 4])
    apart = [G.get_output_for(x, None) for x in latents]
    found = [tf.gradients(tf.add_n([tf.reduce_sum(tf.tanh(y) * w) for y, w in zip(pictures, weights)]),
                          list(G.trainables.values())) for pictures in (together, apart)]
    used = [[g for g in gradients if g is not None] for gradients in found]     # not the coarser pictures' layers
    one, other = [np.concatenate([np.ravel(x) for x in gradients]) for gradients in tf_session.run(used)]
    assert relative_l2(one, other) < 1e-5


def test_evaluation_copies_lod_into_synthesis(tf_session):
    G = Network('G', 'G_style', **SMALL_G)
    G.set_var('lod', 1.25)
    images = G.run(np.ones([1, 6]), None, **STORED_NOISE)
    assert G.components.synthesis.get_var('lod') == np.float32(1.25)
    assert_close(images[:, :, ::2, ::2], images[:, :, 1::2, 1::2])      # nearest-neighbour upscaled


def _randomise(net):
    """Other start values than zeros and ones, at which images are flat and gradients ill-conditioned."""
    random = np.random.RandomState(1)
    tfutil.set_vars({v: random.randn(*v.shape.as_list()) for v in net.trainables.values()})


def test_gradients_through_growing(tf_session):
    """Losses with R1 have the same gradients whether blocks are left out or all are mixed."""
    G, D = Network('G', 'G_style', **SMALL_G), Network('D', 'D_basic', **SMALL)
    coeffs = tf.constant(np.random.RandomState(0).randn(2, 6), tf.float32)
    gradients = {}
    for structure in ('recursive', 'linear'):
        images = G.get_output_for(coeffs, None, structure=structure, **STORED_NOISE)
        scores = D.get_output_for(images, None, structure=structure)
        total = tf.reduce_sum(loss.discriminator_loss(-scores, scores) + loss.r1_penalty(scores, images))
        gradients[structure] = {**_gradients(total, G), **_gradients(total, D)}
    _randomise(G)
    _randomise(D)
    for lod in (0, 0.25, 1):
        G.set_var('lod', lod)
        D.set_var('lod', lod)
        values = tf_session.run(gradients)
        for name, expected in values['linear'].items():
            assert relative_l2(values['recursive'][name] + 1e-6, expected + 1e-6) < 1e-3, (lod, name)


def test_inactive_blocks_are_not_evaluated(tf_session):
    """With NaN in the finer blocks, coarse images stay finite only if those blocks stay out of it."""
    G, D = Network('G', 'G_style', **SMALL_G), Network('D', 'D_basic', **SMALL)
    for net, lod in ((G, 1), (D, 1)):
        net.set_var('lod', lod)
        for name, variable in net.trainables.items():
            if '8x8' in name or '_lod0' in name:
                net.set_var(name, np.full(variable.shape.as_list(), np.nan))
    images = G.run(np.ones([2, 6]), None, **STORED_NOISE)
    assert np.isfinite(images).all() and np.isfinite(D.run(images, None)).all()
    D.set_var('lod', 0.9)
    assert np.isnan(D.run(images, None)).all()


@pytest.mark.parametrize('kwargs', [dict(use_styles=False), dict(use_noise=False), dict(use_instance_norm=False),
                                    dict(use_pixel_norm=True), dict(nonlinearity='relu', mapping_nonlinearity='relu'),
                                    dict(use_wscale=False), dict(blur_filter=None), dict(num_channels=1),
                                    dict(fmap_decay=0.5), dict(dlatent_avg_beta=None), dict(mapping_layers=1)],
                         ids=lambda kwargs: ','.join(kwargs))
def test_options_build_and_run(tf_session, kwargs):
    G = Network('G', 'G_style', **dict(SMALL_G, **kwargs))
    images = G.run(np.random.RandomState(0).randn(2, 6), None, structure='fixed')
    assert images.shape == (2, kwargs.get('num_channels', 3), 8, 8) and np.isfinite(images).all()
    assert images.std() > 0 or not kwargs.get('use_styles', True)


def test_first_images_have_unit_scale_weights(tf_session):
    """Equalised learning rate: stored weights have standard deviation 1 / lrmul, whatever use_wscale's gain is."""
    tf.set_random_seed(1)
    G = Network('G', 'G_style', latent_size=64, dlatent_size=64, mapping_fmaps=64, fmap_base=64, resolution=8)
    assert abs(G.get_var('mapping/Dense0/weight').std() / 100 - 1) < 0.1
    assert abs(G.get_var('synthesis/8x8/Conv1/weight').std() - 1) < 0.1
    w = G.components.mapping.run(np.random.RandomState(0).randn(64, 64), None)
    assert 0.3 < w.std() < 1.5


def test_labels(tf_session):
    G = Network('G', 'G_style', label_size=3, **SMALL_G)
    D = Network('D', 'D_basic', label_size=3, **SMALL)
    assert list(G.components.mapping.own_vars)[0] == 'LabelConcat/weight'
    assert G.components.mapping.own_vars['LabelConcat/weight'].shape.as_list() == [3, 6]
    coeffs, labels = np.ones([4, 6]), np.eye(4, 3)
    images = G.run(coeffs, labels, **STORED_NOISE)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    scores = np.stack([D.run(images, np.tile(row, [4, 1])) for row in np.eye(3)], axis=2)[:, 0]
    assert_close(D.run(images, labels)[:, 0], (scores * labels).sum(1), atol=1e-6)
    assert_close(D.run(images, None), np.zeros([4, 1]))


def test_coefficient_scale(tf_session):
    scale = [0.5, 2, 1, 3, 1, 4]
    plain = Network('G', 'G_style', **SMALL_G)
    scaled = plain.clone('scaled', coeff_scale=scale)
    coeffs = np.random.RandomState(0).randn(3, 6)
    assert_close(scaled.run(coeffs, None, **STORED_NOISE), plain.run(coeffs * scale, None, **STORED_NOISE), atol=1e-4,
                 rtol=1e-5)
    with pytest.raises(UserError, match='6 numbers expected'):
        Network('G', 'G_style', **dict(SMALL_G, coeff_scale=[1, 2]))


@pytest.mark.parametrize('func, kwargs, message', [
    ('G_style', dict(mapping_fmap=3), "unknown option 'mapping_fmap'"),
    ('D_basic', dict(latent_size=3), "unknown option 'latent_size'"),
    ('G_style', dict(resolution=48), 'resolution 48: expected a power of two'),
    ('G_style', dict(structure='circular'), 'structure'),
    ('G_style', dict(nonlinearity='tanh'), 'nonlinearity'),
    ('G_style', dict(blur_filter=[1, 3, 3, 1]), 'blur_filter'),
    ('D_basic', dict(dtype='float16'), 'dtype')])
def test_bad_options(tf_session, func, kwargs, message):
    with pytest.raises(UserError, match=message):
        Network('net', func, **dict(SMALL, **kwargs))


@pytest.mark.skipif(IS_TF1 and not gpu_names(), reason='TensorFlow 1.15 has no NCHW convolution on CPUs')
def test_both_data_formats_agree(tf_session):
    options = dict(resolution=16, fused_scale=True)
    G, D = Network('G', 'G_style', **dict(SMALL_G, **options)), Network('D', 'D_basic', **dict(SMALL, **options))
    coeffs = tf.constant(np.random.RandomState(0).randn(3, 6), tf.float32)
    results = []
    for name in ('NHWC', 'NCHW'):
        with layers.use_data_format(name):
            images = G.get_output_for(coeffs, None, structure='fixed', **STORED_NOISE)
            scores = D.get_output_for(images, None, structure='fixed')
            penalty = loss.r1_penalty(scores, images)
            gradient = tf.gradients(tf.reduce_sum(penalty), D.find_var('16x16/Conv1_down/weight'))[0]
        results.append(tf_session.run([images, scores, penalty, gradient]))
    for one, other in zip(*results):
        assert relative_l2(one, other) < 1e-3
