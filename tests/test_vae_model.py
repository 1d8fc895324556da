"""VAEs against the recorded numbers of the released system: decoders, order of z and lambda, names, losses."""

import json
import os
import shutil

import numpy as np
import pytest

from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from renderer import factors
from tests.common import assert_close, shared
from vae import model
from vae.trainer import Trainer

NAMES = [factor.name for factor in factors.FACTORS]


@pytest.fixture(scope='module')
def recorded():
    return np.load(shared('oracle', 'generator', 'vae_io.npz'))


@pytest.fixture(scope='module')
def released():
    """A weights folder with a made-up identity and the released three others."""
    return shared('oracle', 'generator', 'vae_weights')


def test_decoders_reproduce_recorded_coefficients(tf_session, recorded, released):
    decoders = model.Decoders(released)
    decoders.restore()
    assert_close(decoders.run(recorded['latents']), recorded['lambda'], atol=3e-6)
    for name in NAMES:
        coeffs = decoders.coefficients(name, tf.constant(recorded['z_' + name]))
        assert_close(tf_session.run(coeffs), recorded['coeff_' + name], atol=3e-6)


def test_decode_latents_needs_no_session(recorded, released):
    assert_close(model.decode_latents(recorded['latents'], released), recorded['lambda'], atol=3e-6)


def test_variables_are_those_of_the_released_checkpoints(tf_session, tmp_path):
    with open(shared('oracle', 'perception', 'vae', 'vae_checkpoints.json')) as file:
        expected = json.load(file)
    for name in NAMES:
        path = str(tmp_path / f'{name}.ckpt')
        samples = np.zeros([4, factors.num_coeffs(name)], np.float32)
        with tf.Graph().as_default() as graph, tfutil.create_session(2, graph):
            Trainer(name, samples).save(path)
        reader = tf.train.NewCheckpointReader(path)
        types = reader.get_variable_to_dtype_map()
        found = [[n, shape, types[n].name] for n, shape in reader.get_variable_to_shape_map().items()]
        assert sorted(found) == sorted(expected[name]['variables'])
        assert len(found) == 60


def test_released_training_state_goes_on(tf_session, released):
    trainer = Trainer('rot', np.zeros([8, 3], np.float32))
    trainer.restore(os.path.join(released, 'rot', model.RELEASED))
    assert trainer.global_step == 433224
    assert np.isfinite(np.concatenate(list(trainer.train_epoch(396, 1e-4)))).all()
    assert trainer.global_step == 433225


def test_losses_against_numpy(tf_session):
    rng = np.random.RandomState(1)
    x, x_hat, mean, log_sigma = rng.uniform(0.05, 0.95, [4, 6, 5])
    sd, gamma = np.exp(log_sigma), 1.7
    kl = (mean ** 2 + sd ** 2 - 2 * log_sigma - 1).sum() / 2 / 6
    gaussian = ((x - x_hat) ** 2 / (2 * gamma ** 2) + np.log(gamma) + 0.91893).sum() / 6
    entropy = -(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)).sum() / 6
    found = tf_session.run([model.kl_loss(mean, log_sigma), model.gaussian_loss(x, x_hat, np.log(gamma)),
                            model.cross_entropy_loss(x, x_hat), model.cross_entropy_loss(x, x_hat * 0)])
    assert_close(found[:3], [kl, gaussian, entropy], rtol=1e-6)
    assert np.isfinite(found[3])


def test_encoder_against_numpy(tf_session, released):
    path = os.path.join(released, 'exp', model.RELEASED)
    stored = checkpoints.read(path)
    weights = model.create_variables(model.encoder_shapes('exp'))
    checkpoints.restore(path, weights, scopes=['exp/stage1/encoder'])
    x = np.random.RandomState(2).standard_normal([3, 64])
    hidden = x
    for layer in ('fc0', 'fc1', 'fc2'):
        hidden = np.maximum(hidden @ stored[f'exp/stage1/encoder/{layer}/kernel']
                            + stored[f'exp/stage1/encoder/{layer}/bias'], 0)
    found = tf_session.run(model.encoder(tf.constant(x, tf.float32), 'exp', weights))
    for value, head in zip(found, ('dense', 'dense_1')):
        expected = hidden @ stored[f'exp/stage1/encoder/{head}/kernel'] + stored[f'exp/stage1/encoder/{head}/bias']
        assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_gradient_stops_at_the_coefficients(tf_session, released):
    decoders = model.Decoders(released)
    z = tf.zeros([1, factors.NUM_LATENTS])
    assert tf.gradients(decoders.lambda_from_latents(z), z) == [None]
    assert not tf.trainable_variables()


def _small(folder, width=8, seed=0):
    """A weights folder of narrow decoders without encoder or Adam, as trained in the shared place and exported."""
    rng = np.random.RandomState(seed)
    for name in NAMES:
        values = {n: rng.standard_normal(shape).astype(np.float32)
                  for n, shape in model.decoder_shapes(name, width).items()}
        checkpoints.save(os.path.join(str(folder), name, model.RELEASED), values)
    return str(folder)


def test_narrow_decoders_without_encoder_load(tmp_path):
    coeffs = model.decode_latents(np.ones([2, factors.NUM_LATENTS]), _small(tmp_path))
    assert coeffs.shape == (2, factors.NUM_COEFFS) and np.isfinite(coeffs).all()


def test_each_latent_moves_only_its_own_coefficients(tf_session, tmp_path):
    decoders = model.Decoders(_small(tmp_path))
    decoders.restore()
    for factor in factors.FACTORS:
        z = np.zeros([2, factors.NUM_LATENTS])
        z[1, factor.latents] = 1
        moved = np.flatnonzero(np.abs(np.diff(decoders.run(z), axis=0))[0] > 1e-6)
        assert len(moved) and moved.min() >= factor.coeffs.start and moved.max() < factor.coeffs.stop


def test_exported_decoder_decodes_alike(released, recorded, tmp_path):
    for name in NAMES:
        model.export_decoder(os.path.join(released, name, model.RELEASED), str(tmp_path / name / model.RELEASED), name)
    found = model.decode_latents(recorded['latents'], str(tmp_path))
    assert_close(found, recorded['lambda'], atol=3e-6)


def test_which_checkpoint_is_used(tmp_path):
    folder = str(tmp_path)
    for epoch in (5, 100, 20):
        checkpoints.save(os.path.join(folder, 'rot', model.TRAINED, model.CHECKPOINT.format(epoch)), {'x': 1.0})
    os.remove(os.path.join(folder, 'rot', model.TRAINED, model.CHECKPOINT.format(100) + '.index'))   # half a checkpoint
    assert model.find_checkpoint('rot', folder).endswith('stage1_epoch_20.ckpt')
    checkpoints.save(os.path.join(folder, 'rot', model.RELEASED), {'x': 1.0})
    assert model.find_checkpoint('rot', folder) == os.path.join(folder, 'rot', model.RELEASED)


def test_missing_weights_are_one_error(tf_session, tmp_path):
    with pytest.raises(UserError, match='no weights of the lighting VAE.*vae/demo.py --factor gamma'):
        model.find_checkpoint('gamma', str(tmp_path))
    folder = _small(tmp_path)
    shutil.rmtree(os.path.join(folder, 'exp'))
    shutil.rmtree(os.path.join(folder, 'rot'))
    with pytest.raises(UserError, match='2 factors .exp, rot. are missing') as caught:
        model.Decoders(folder)
    assert '\n' not in str(caught.value)


def test_weights_of_another_factor_are_refused(tf_session, tmp_path):
    folder = _small(tmp_path)
    shutil.rmtree(os.path.join(folder, 'exp'))
    shutil.copytree(os.path.join(folder, 'rot'), os.path.join(folder, 'exp'))
    with pytest.raises(UserError, match="missing: 'exp/stage1/decoder"):
        model.Decoders(folder).restore()


def test_latents_of_another_length(tmp_path):
    with pytest.raises(ValueError, match='179'):
        model.decode_latents(np.zeros([1, 254]), str(tmp_path))
