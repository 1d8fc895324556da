"""The slim recordings are what the script makes of the whole ones, and hold what can be compared."""

import os
import zlib

import numpy as np
import pytest
import scipy.io

from tests import recorded_networks, slim_recordings
from tests.common import DATA, assert_close, data, kept, shared


@pytest.mark.parametrize('name', sorted(slim_recordings.THIN))
def test_slim_recordings_are_parts_of_the_whole(name):
    with np.load(shared('oracle', name)) as file:
        expected = slim_recordings.slim(name, dict(file))
    with np.load(os.path.join(DATA, name)) as actual:
        assert set(actual.files) == set(expected)
        for key, value in expected.items():
            assert actual[key].dtype == value.dtype
            np.testing.assert_array_equal(actual[key], value, err_msg=key)


@pytest.mark.parametrize('name', slim_recordings.PACKED)
def test_packed_files_hold_what_was_recorded(name):
    if name.endswith('.mat'):
        whole, packed = scipy.io.loadmat(shared('oracle', name)), scipy.io.loadmat(data(*name.split('/')))
        assert set(whole) == set(packed)
        for key in whole:
            np.testing.assert_array_equal(packed[key], whole[key])
            assert key[0] == '_' or packed[key].dtype == whole[key].dtype
        return
    with open(shared('oracle', name), 'rb') as whole, open(data(*name.split('/')), 'rb') as packed:
        assert packed.read() == whole.read()


@pytest.mark.parametrize('folder, checksum', [('', 192828855), ('extra_r128', 3319867144)])
def test_snapshots_have_the_recorded_bytes(folder, checksum):
    with open(data('generator', folder, recorded_networks.NAME), 'rb') as file:
        assert zlib.crc32(file.read()) == checksum


@pytest.mark.parametrize('resolution, folder', [(64, ''), (128, 'extra_r128')])
def test_pictures_are_the_recorded_ones(resolution, folder):
    with np.load(shared('oracle', 'generator', folder, 'io.npz')) as file:
        assert_close(recorded_networks.pictures(resolution), file['images'], atol=1e-7)


def test_only_what_is_kept_is_compared():
    recorded = np.array([[1, np.nan], [np.nan, 4]])
    assert_close(*kept([[1, 2], [3, 4]], recorded))
    for wrong in ([[1, 2], [3, 5]], [[1, np.nan], [3, 4]], [1, 2, 3, 4]):
        with pytest.raises(AssertionError):
            assert_close(*kept(wrong, recorded))
    with pytest.raises(AssertionError):
        kept([[1, 2]], np.full([1, 2], np.nan))


def test_a_thinned_array_meets_every_channel_row_and_column():
    x = np.arange(2 * 3 * 64 * 64, dtype=np.float32).reshape(2, 3, 64, 64)
    there = np.isfinite(slim_recordings.thin(x, 4000))
    assert 3500 < there.sum() <= 4001 and there[1, 2, 63, 63]
    for axis in range(4):
        assert there.any(axis=tuple(set(range(4)) - {axis})).all()
