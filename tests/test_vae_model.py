"""VAEs against the recorded numbers of the released system: decoders, order of z and lambda, names, losses."""

import os

import numpy as np
import pytest

from dnnlib.tflib.compat import tf
from renderer import factors
from tests.common import assert_close, data, shared
from vae import model

NAMES = [factor.name for factor in factors.FACTORS]


@pytest.fixture(scope='module')
def recorded():
    return np.load(data('generator', 'vae_io.npz'))


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A weights folder with the committed identity and the released three others."""
    folder = tmp_path_factory.mktemp('weights')
    os.symlink(data('generator', 'vae_weights', 'id'), str(folder / 'id'))
    for name in ('exp', 'gamma', 'rot'):
        os.symlink(shared('oracle', 'generator', 'vae_weights', name), str(folder / name))
    return str(folder)


def test_decoders_reproduce_recorded_coefficients(tf_session, recorded, released):
    decoders = model.Decoders(released)
    decoders.restore()
    assert_close(decoders.run(recorded['latents']), recorded['lambda'], atol=3e-6)
    for name in NAMES:
        coeffs = decoders.coefficients(name, tf.constant(recorded['z_' + name]))
        assert_close(tf_session.run(coeffs), recorded['coeff_' + name], atol=3e-6)


def test_decode_latents_needs_no_session(recorded, released):
    assert_close(model.decode_latents(recorded['latents'], released), recorded['lambda'], atol=3e-6)
