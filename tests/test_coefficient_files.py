"""Coefficient files: every shape they come in, the parser against scipy's, damaged files."""

import os
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnnlib.util import UserError
from renderer import coefficient_files, factors
from renderer.coefficient_files import read_reconstruction
from sampling.faces import Face
from vae import data

COEFF = np.random.RandomState(0).standard_normal(factors.NUM_RECON).astype(np.float32)


def _write(folder, name='a.mat', compressed=False, **content):
    path = os.path.join(str(folder), name)
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('shape', [[257], [1, 257], [257, 1]])
def test_shapes_and_types(tmp_path, shape, dtype, compressed):
    content = dict(other=np.arange(5), text='words', cell=np.array([1, 'a'], object), record={'coeff': 1},
                   coeff=COEFF.astype(dtype).reshape(shape))
    np.testing.assert_array_equal(read_reconstruction(_write(tmp_path, compressed=compressed, **content)), COEFF)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(hnp.arrays(st.sampled_from(['f4', 'f8', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8']),
                  hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)),
       st.text('abcdefgh_', min_size=1, max_size=20).filter(lambda name: name[0] != '_'), st.booleans())
def test_parser_reads_arrays_as_scipy_does(tmp_path, array, name, compressed):
    path = _write(tmp_path, compressed=compressed, **{name: array})
    with open(path, 'rb') as file:
        found = coefficient_files._arrays(file.read())
    np.testing.assert_array_equal(found[name], scipy.io.loadmat(path)[name])


_SAVE_AS_V7 = 'saved as MATLAB -v7.3; save it with -v7'


def _mat5(kind, body):
    return b'MATLAB 5.0'.ljust(124) + b'\0\1IM' + struct.pack('<II', kind, len(body)) + body


@pytest.mark.parametrize('make, reason', [
    (lambda: b'', 'empty'), (lambda: b'version https://git-lfs', 'not a MATLAB file'),
    (lambda: b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM'.ljust(388, b'\0') + b'\x89HDF', _SAVE_AS_V7),
    (lambda: b'\x89HDF\r\n', _SAVE_AS_V7),
    (lambda: _mat5(77, b'12345678'), 'element of type 77'),
    (lambda: _mat5(coefficient_files.COMPRESSED, zlib.compress(bytes(1 << 26))), 'absurdly large')],
    ids=['empty', 'text', 'v7.3', 'hdf5', 'unknown', 'bomb'])
def test_other_formats_are_named(tmp_path, make, reason):
    path = str(tmp_path / 'a.mat')
    with open(path, 'wb') as file:
        file.write(make())
    with pytest.raises(UserError, match=reason):
        read_reconstruction(path)


def test_arrays_together_may_not_be_absurdly_large(tmp_path):
    large = {f'x{i}': np.zeros(1 << 20) for i in range(5)}          # 8 MiB each, a few kB in the file
    with pytest.raises(UserError, match='absurdly large'):
        read_reconstruction(_write(tmp_path, compressed=True, coeff=COEFF, **large))


def test_an_npz_unpacks_what_is_asked_for(tmp_path, monkeypatch):
    path = str(tmp_path / 'a.npz')
    monkeypatch.setattr(coefficient_files, 'LARGEST', 1 << 14)
    np.savez_compressed(path, coeff=COEFF, other=np.zeros(1 << 20))
    np.testing.assert_array_equal(read_reconstruction(path), COEFF)
    np.savez_compressed(path, coeff=np.zeros(1 << 20))
    with pytest.raises(UserError, match='absurdly large'):
        read_reconstruction(path)


@pytest.mark.parametrize('dtype', ['f8', 'f4', 'i2'])
def test_matlab_v4(tmp_path, dtype):
    path, coeff = str(tmp_path / 'a.mat'), (COEFF * 9).astype(dtype)
    scipy.io.savemat(path, dict(text='words', coeff=coeff, z=coeff * 1j, after=np.ones([2, 3])), format='4')
    np.testing.assert_array_equal(read_reconstruction(path), coeff.astype(np.float32))
    with open(path, 'rb') as file:
        content = file.read()
    for cut in range(0, len(content), 37):
        with open(path, 'wb') as file:
            file.write(content[:cut])
        try:
            np.testing.assert_array_equal(read_reconstruction(path), coeff.astype(np.float32))
        except UserError as error:
            assert path in str(error) and '\n' not in str(error)


def test_a_face_of_another_noise_vector_is_named(tmp_path):
    path = str(tmp_path / 'a.npz')
    Face(np.zeros(254 + 8)).save(path)
    assert Face.load(path).noise.size == Face.load(path, 8).noise.size == 8
    with pytest.raises(UserError, match='a.npz: `noise` has shape .8.; expected 32 numbers'):
        Face.load(path, 32)


def test_a_name_that_only_begins_like_coeff(tmp_path):
    path = _write(tmp_path, coeffs=np.zeros([1, 257]), coefficients=np.zeros([1, 257]), coeff=COEFF)
    np.testing.assert_array_equal(read_reconstruction(path), COEFF)


def test_arrays_of_the_pytorch_reconstruction(tmp_path):
    parts = {name: COEFF[where][None] for name, where in coefficient_files.PYTORCH_ARRAYS}
    np.testing.assert_array_equal(read_reconstruction(_write(tmp_path, lm68=np.zeros([1, 68, 2]), **parts)), COEFF)
    parts['exp'] = parts['exp'][:, :60]
    with pytest.raises(UserError, match='`exp` has shape .1, 60.; expected 64 numbers'):
        read_reconstruction(_write(tmp_path, **parts))


@pytest.mark.parametrize('content, reason', [
    (dict(coeff=np.zeros([1, 256])), 'has shape'), (dict(coeff=np.zeros([257, 2])), 'has shape'),
    (dict(x=np.zeros(257)), 'neither `coeff` nor `id`'), (dict(coeff='text'), '`coeff` holds no real numbers'),
    (dict(coeff=COEFF * 1j), '`coeff` holds no real numbers'),
    (dict(coeff=np.where(COEFF > 2, np.nan, COEFF)), 'NaN or infinite'),
    (dict(coeff=np.full(257, 1e300)), '257 numbers of `coeff` are NaN or infinite')])
def test_unfit_files_say_why(tmp_path, content, reason):
    path = _write(tmp_path, **content)
    with pytest.raises(UserError, match=reason) as caught:
        read_reconstruction(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_reconstruction(str(tmp_path / 'none.mat'))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data(), st.booleans(), st.booleans())
def test_damage_gives_numbers_or_one_error(tmp_path, draw, compressed, cut):
    path = _write(tmp_path, compressed=compressed, coeff=COEFF)
    with open(path, 'rb') as file:
        good = file.read()
    place = draw.draw(st.integers(0, 250) | st.integers(0, len(good) - 1))
    value = bytes([good[place] ^ draw.draw(st.integers(1, 255))])
    with open(path, 'wb') as file:
        file.write(good[:place] if cut else good[:place] + value + good[place + 1:])
    try:
        coeff = read_reconstruction(path)
        assert coeff.shape == (257,) and coeff.dtype == np.float32 and np.isfinite(coeff).all()
    except UserError as error:
        assert path in str(error) and '\n' not in str(error)


def test_arrays_that_are_no_numbers_do_not_hide_coeff(tmp_path):
    path = _write(tmp_path, coeff=COEFF)
    with open(path, 'rb') as file:
        content = file.read()
    tag = lambda kind, data: struct.pack('<II', kind, len(data)) + data
    words = tag(6, struct.pack('<II', 17, 0)) + tag(1, b'word\0\0\0\0') + tag(1, b'MCOS\0\0\0\0')   # MATLAB's "word"
    with open(path, 'wb') as file:
        file.write(content[:128] + tag(14, words) + content[128:])
    np.testing.assert_array_equal(read_reconstruction(path), COEFF)


def test_sampling_and_training_take_the_same_files(tmp_path):
    parts = {name: COEFF[where][None] for name, where in coefficient_files.PYTORCH_ARRAYS if name != 'trans'}
    path = _write(tmp_path, **parts)
    np.testing.assert_array_equal(data.load_coeffs(str(tmp_path), progress=False)[0][0], COEFF[:254])
    np.testing.assert_array_equal(Face.load(path).coeffs[:254], COEFF[:254])
