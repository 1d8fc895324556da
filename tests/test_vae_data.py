"""A folder of coefficient files: order, what is skipped and how that is reported."""

import os

import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from renderer import factors
from vae import data

COEFF = np.random.RandomState(0).standard_normal(factors.NUM_RECON).astype(np.float32)


def _write(folder, name, **content):
    scipy.io.savemat(os.path.join(str(folder), name), content)


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
    data.report_skipped([('\udcc8\n.mat', 'why')], path)          # a name that is not UTF-8, or has two lines
    with open(path) as file:
        assert file.read() == '\\udcc8\\n.mat\twhy\n'
    assert capsys.readouterr().err.count('\n') == 1
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
