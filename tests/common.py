"""What several test files share: where recorded numbers lie, and how they are compared."""

import os

import numpy as np
import pytest

import config

SHARED = os.environ.get('DISCO_SHARED_DIR') or os.path.join(os.path.dirname(config.ROOT), 'shared')
DATA = os.path.join(config.ROOT, 'tests', 'data')       # recorded numbers that are small and free: always there


def shared(*parts):
    """Path below the folder of recorded numbers that cannot be committed; skips the test where it is absent."""
    path = os.path.join(SHARED, *parts)
    if not os.path.exists(path):
        pytest.skip(f'{path} is absent: it may not be committed (set DISCO_SHARED_DIR to where it lies)')
    return path


def data(*parts):
    """Path below tests/data."""
    return os.path.join(DATA, *parts)


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
