"""What several test files share: where recorded numbers lie, and how they are compared."""

import atexit
import functools
import lzma
import os
import shutil
import tarfile
import tempfile

import numpy as np
import pytest

import config
from tests import recorded_networks

SHARED = os.environ.get('DISCO_SHARED_DIR') or os.path.join(os.path.dirname(config.ROOT), 'shared')
DATA = os.path.join(config.ROOT, 'tests', 'data')       # recorded numbers that are small and free: always there


def shared(*parts):
    """Path below the folder of recorded numbers that cannot be committed; skips the test where it is absent."""
    path = os.path.join(SHARED, *parts)
    if not os.path.exists(path):
        pytest.skip(f'{path} is absent: it may not be committed (set DISCO_SHARED_DIR to where it lies)')
    return path


def data(*parts):
    """Path below tests/data; what lies there packed is unpacked to another folder first, once for this process."""
    path = os.path.join(DATA, *parts)
    if parts[0] == 'golden' and path.endswith('.pkl'):
        return os.path.join(_golden(), parts[1])
    return _unpacked(parts) if os.path.exists(path + '.xz') else path


@functools.lru_cache(maxsize=None)
def _unpacked(parts):
    path = os.path.join(_scratch(), *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with lzma.open(os.path.join(DATA, *parts) + '.xz') as packed, open(path, 'wb') as file:
        shutil.copyfileobj(packed, file)
    if parts[-1] == recorded_networks.NAME:
        recorded_networks.draw_weights(path)
    return path


@functools.lru_cache(maxsize=None)
def _golden():
    with tarfile.open(os.path.join(DATA, 'golden', 'snapshots.tar.xz')) as packed:
        packed.extractall(os.path.join(_scratch(), 'golden'))
    return os.path.join(_scratch(), 'golden')


@functools.lru_cache(maxsize=None)
def _scratch():
    folder = tempfile.mkdtemp(prefix='tests-data-')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def recording(*parts):
    """Path of a recorded .npz: the whole one where it lies beside the checkout, else the slim one of tests/data.

    A slim one holds NaN for what was left out of an output: compare by `kept`.
    """
    whole = os.path.join(SHARED, 'oracle', *parts)
    return whole if os.path.exists(whole) else data(*parts)


def kept(actual, recorded):
    """Both as vectors of the numbers that the recording holds; the actual ones are finite everywhere."""
    actual = np.asarray(actual)
    assert actual.shape == recorded.shape, f'shape {actual.shape}, expected {recorded.shape}'
    where = ~np.isnan(recorded)
    assert np.isfinite(actual).all() and where.any()
    return actual[where], recorded[where]


def assert_close(actual, expected, atol=0.0, rtol=0.0):
    """Same shape, both finite, |actual - expected| <= atol + rtol * |expected| everywhere."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f'shape {actual.shape}, expected {expected.shape}'
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def relative_l2(actual, expected):
    """|actual - expected| / |expected| in the Euclidean norm, as float64."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f'shape {actual.shape}, expected {expected.shape}'
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30)
