"""Coefficient files: every shape they come in, the parser against scipy's, damaged files, reports."""

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
from renderer import factors
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
    np.testing.assert_array_equal(data.read_coeff(_write(tmp_path, compressed=compressed, **content)), COEFF)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(hnp.arrays(st.sampled_from(['f4', 'f8', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8']),
                  hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)),
       st.text('abcdefgh_', min_size=1, max_size=20).filter(lambda name: name[0] != '_'), st.booleans())
def test_parser_reads_arrays_as_scipy_does(tmp_path, array, name, compressed):
    path = _write(tmp_path, compressed=compressed, **{name: array})
    with open(path, 'rb') as file:
        found = data._arrays(file.read())
    np.testing.assert_array_equal(found[name], scipy.io.loadmat(path)[name])


def _mat5(kind, body):
    return b'MATLAB 5.0'.ljust(124) + b'\0\1IM' + struct.pack('<II', kind, len(body)) + body


@pytest.mark.parametrize('make, reason', [
    (lambda: b'', 'empty'), (lambda: b'version https://git-lfs', 'not a MATLAB v5 file'),
    (lambda: b'MATLAB 7.3 MAT-file'.ljust(512), '-v7.3'), (lambda: _mat5(77, b'12345678'), 'element of type 77'),
    (lambda: _mat5(data.COMPRESSED, zlib.compress(bytes(1 << 26))), 'absurdly large')],
    ids=['empty', 'text', 'v7.3', 'unknown', 'bomb'])
def test_other_formats_are_named(tmp_path, make, reason):
    path = str(tmp_path / 'a.mat')
    with open(path, 'wb') as file:
        file.write(make())
    with pytest.raises(UserError, match=reason):
        data.read_coeff(path)


def test_a_name_that_only_begins_like_coeff(tmp_path):
    path = _write(tmp_path, coeffs=np.zeros([1, 257]), coefficients=np.zeros([1, 257]), coeff=COEFF)
    np.testing.assert_array_equal(data.read_coeff(path), COEFF)


def test_arrays_of_the_pytorch_reconstruction(tmp_path):
    parts = {name: COEFF[where][None] for name, where in data.PYTORCH_NAMES}
    np.testing.assert_array_equal(data.read_coeff(_write(tmp_path, lm68=np.zeros([1, 68, 2]), **parts)), COEFF)
    parts['exp'] = parts['exp'][:, :60]
    with pytest.raises(UserError, match='`exp` has shape .1, 60., 64 numbers expected'):
        data.read_coeff(_write(tmp_path, **parts))


@pytest.mark.parametrize('content, reason', [
    (dict(coeff=np.zeros([1, 256])), 'has shape'), (dict(coeff=np.zeros([257, 2])), 'has shape'),
    (dict(x=np.zeros(257)), 'has no real `coeff`'), (dict(coeff='text'), 'has no real `coeff`'),
    (dict(coeff=COEFF * 1j), 'has no real `coeff`'),
    (dict(coeff=np.where(COEFF > 2, np.nan, COEFF)), 'NaN or infinite'),
    (dict(coeff=np.full(257, 1e300)), '257 of its numbers are NaN or infinite')])
def test_unfit_files_say_why(tmp_path, content, reason):
    path = _write(tmp_path, **content)
    with pytest.raises(UserError, match=reason) as caught:
        data.read_coeff(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        data.read_coeff(str(tmp_path / 'none.mat'))


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
        coeff = data.read_coeff(path)
        assert coeff.shape == (257,) and coeff.dtype == np.float32 and np.isfinite(coeff).all()
    except UserError as error:
        assert path in str(error) and '\n' not in str(error)


@pytest.fixture
def folder(tmp_path):
    """Seven good files in an order that is not theirs, three bad ones, and things that are none."""
    for i in (3, 1, 5, 2, 6, 4):
        _write(tmp_path, f'{i}.mat', coeff=COEFF + i)
    _write(tmp_path, '7.MAT', coeff=COEFF + 7)
    _write(tmp_path, '2b.mat', coeff=np.zeros(3))
    (tmp_path / '0.mat').write_bytes(b'')
    (tmp_path / '9.mat').mkdir()
    (tmp_path / '.hidden.mat').write_bytes(b'')
    (tmp_path / 'note.txt').write_text('x')
    return tmp_path


@pytest.mark.parametrize('threads', [1, 4])
def test_folder_is_read_in_order_and_reports_what_it_skips(folder, threads):
    exp = factors.BY_NAME['exp'].coeffs
    coeffs, names, skipped = data.load_coeffs(str(folder), exp, threads)
    assert names == ['1.mat', '2.mat', '3.mat', '4.mat', '5.mat', '6.mat', '7.MAT']
    np.testing.assert_array_equal(coeffs, np.stack([(COEFF + i)[exp] for i in range(1, 8)]))
    assert coeffs.dtype == np.float32
    assert [name for name, _ in skipped] == ['0.mat', '2b.mat', '9.mat']
    assert all(reason and '\n' not in reason for _, reason in skipped)


def test_list_of_the_skipped(folder, tmp_path, capsys):
    path = str(tmp_path / 'out' / 'skipped.txt')
    data.report_skipped([(f'{i}.mat', 'why') for i in range(5)], path)
    with open(path) as file:
        assert file.read().splitlines() == [f'{i}.mat\twhy' for i in range(5)]
    message = capsys.readouterr().err
    assert message.count('\n') == 1 and 'skipped 5 files (0.mat: why; 1.mat: why; 2.mat: why; ...)' in message
    data.report_skipped([], path)
    assert not os.path.exists(path) and capsys.readouterr().err == ''


def test_folders_without_use(tmp_path):
    with pytest.raises(UserError, match='no such folder.*--datapath'):
        data.load_coeffs(str(tmp_path / 'none'))
    with pytest.raises(UserError, match='no .mat file.*--datapath'):
        data.load_coeffs(str(tmp_path))
    (tmp_path / 'a.mat').write_bytes(b'nonsense')
    with pytest.raises(UserError, match='none of its 1 .mat files can be used; the first, a.mat: '):
        data.load_coeffs(str(tmp_path))
