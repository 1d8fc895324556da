"""generate_images_mine.py end to end: both layouts of files, what is taken from them, seeds, bad files."""

import os
import shutil

import numpy as np
import pytest
import scipy.io

import config
from tests.common import assert_close
from tests.test_api import separate_arrays
from tests.test_generate_images import _tree, here, pictures, run_script, stored_numbers, write_small_world  # noqa: F401  here: a fixture

SCRIPT = os.path.join(config.ROOT, 'generate_images_mine.py')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name a small model."""
    return write_small_world(str(tmp_path_factory.mktemp('world')))


@pytest.fixture
def recon(here):  # noqa: F811
    """epoch_20_000000 with one reconstruction in three layouts; returns the 257 numbers."""
    recon = np.random.RandomState(3).standard_normal(257).astype(np.float32)
    os.makedirs('epoch_20_000000')
    scipy.io.savemat('epoch_20_000000/flat.mat', {'coeff': recon})
    scipy.io.savemat('epoch_20_000000/row.mat', {'coeff': recon[np.newaxis]})
    scipy.io.savemat('epoch_20_000000/split.mat', separate_arrays(recon))
    return recon


def _zero_face(world):
    from vae.model import decode_latents
    return decode_latents(np.zeros((1, 179)), world[3])[0]


def test_expression_and_pose_from_the_files_the_rest_from_zero_latents(world, recon, capsys):
    code, out, err = run_script(SCRIPT, world + ['--save_coeffs', 'mat', '--grid'], capsys)
    assert code == 0 and '3 pictures made' in out, err
    made = pictures('generate_images_mine')
    assert sorted(made) == ['flat.png', 'row.png', 'split.png']
    assert_close(made['flat.png'], made['row.png'])
    assert_close(made['flat.png'], made['split.png'])
    stored = stored_numbers('generate_images_mine/split.mat')
    expected = _zero_face(world)
    expected[160:227] = recon[160:227]      # 64 of expression, 3 angles
    assert_close(stored['coeff'][0, :254], expected, atol=1e-5)
    assert not stored['noise'].any() and 'z' not in stored
    assert os.path.exists('generate_images_mine/grid.png')


def test_other_parts_and_seeds(world, recon, capsys):
    code, out, err = run_script(SCRIPT, world + ['--take', 'gamma,identity', '--seed', 5, 6, '--save_coeffs', 'npz',
                                                 '--outdir', 'o'], capsys)
    assert code == 0 and '6 pictures made' in out, err
    stored = [stored_numbers(f'o/row_seed{seed}.npz') for seed in (5, 6)]
    for arrays in stored:
        assert_close(arrays['coeff'][:160], recon[:160])
        assert_close(arrays['coeff'][227:254], recon[227:254])
        assert arrays['noise'].all()
    assert np.abs(stored[0]['coeff'][160:227] - stored[1]['coeff'][160:227]).min() > 0


def test_bad_files_are_skipped_and_named(world, recon, capsys):
    with open('epoch_20_000000/broken.mat', 'w') as file:
        file.write('nothing')
    scipy.io.savemat('epoch_20_000000/short.MAT', {'coeff': recon[:250]})
    code, out, err = run_script(SCRIPT, world, capsys)
    assert code == 0 and '3 pictures made' in out
    assert 'skipped epoch_20_000000/broken.mat' in err and '2 of 5 files were skipped' in err
    assert 'short.MAT: `coeff` has shape [1, 250]; expected 257' in err
    for name in ('flat', 'row', 'split'):
        os.remove(f'epoch_20_000000/{name}.mat')
    code, out, err = run_script(SCRIPT, world + ['--outdir', 'o'], capsys)
    assert code == 1 and 'none of 2 files could be used' in err


def test_finished_pictures_stay_unless_their_file_changed(world, recon, capsys):
    assert run_script(SCRIPT, world, capsys)[0] == 0
    before = pictures('generate_images_mine')
    scipy.io.savemat('epoch_20_000000/row.mat', {'coeff': -recon})
    os.utime('epoch_20_000000/row.mat', (1, 1))         # an older file
    os.utime('epoch_20_000000/flat.mat')                # the same under another time
    code, out, err = run_script(SCRIPT, world, capsys)
    assert '1 pictures made, 2 were there already' in out
    assert "1 pictures are made again (file changed): 'row'" in err
    assert np.abs(pictures('generate_images_mine')['row.png'].astype(int) - before['row.png']).max() > 0
    code, _, err = run_script(SCRIPT, world + ['--take', 'pose'], capsys)
    assert code == 1 and 'take' in err and '--overwrite' in err


@pytest.mark.parametrize('options', [[], ['--overwrite'], ['--save_coeffs', 'mat', '--overwrite']])
def test_the_users_files_stay_as_they_are(world, recon, capsys, options):
    os.symlink('epoch_20_000000', 'link')
    before = _tree('.')
    for outdir in ('epoch_20_000000', './link/', 'epoch_20_000000/../link'):
        code, _, err = run_script(SCRIPT, world + ['--outdir', outdir] + options, capsys)
        assert code == 1 and 'is the same place as --input' in err and err.count('\n') == 1
        assert _tree('.') == before
    os.mkdir('out')
    shutil.copy('epoch_20_000000/row.mat', 'out/row.mat')
    code, _, err = run_script(SCRIPT, world + ['--outdir', 'out', '--save_coeffs', 'mat'] + options, capsys)
    assert code == 1 and "'row.mat' there would be written over" in err
    assert sorted(os.listdir('out')) == ['row.mat']


def test_long_names_strange_names_and_two_of_one_name(world, recon, capsys):
    names = ['n' * 251, os.fsdecode(b'caf\xe9'), 'two\nlines\x1b[31m']
    for name in names:
        shutil.copy('epoch_20_000000/row.mat', f'epoch_20_000000/{name}.mat')
    code, out, err = run_script(SCRIPT, world + ['--seed', 3, 4, '--grid', '--save_coeffs', 'mat'], capsys)
    assert code == 0 and '12 pictures made' in out, err
    made = [name for name in os.listdir('generate_images_mine') if name.endswith('.png') and name != 'grid.png']
    assert len(made) == 12 and f'{names[1]}_seed3.png' in made
    assert all(len(os.fsencode(name)) <= 255 for name in made)
    code, out, err = run_script(SCRIPT, world + ['--outdir', 'one'], capsys)
    assert code == 0 and f'{"n" * 251}.png' in os.listdir('one'), err
    shutil.copy('epoch_20_000000/row.mat', 'epoch_20_000000/row.MAT')
    code, _, err = run_script(SCRIPT, world + ['--outdir', 'o'], capsys)
    assert code == 1 and 'would have one name' in err


@pytest.mark.parametrize('bad,message', [
    (['--input', 'none'], '--input none: no such folder'),
    (['--input', '.'], 'no .mat file'),
    (['--take', 'hair'], "'hair': expected names"),
    (['--take', 'noise'], 'of identity, expression, lighting, pose'),
    (['--seed', 'x'], "'x' is not a whole number"),
    ([], 'epoch_20_000000: no such folder'),
])
def test_bad_options_are_one_line(bad, message, here, capsys):  # noqa: F811
    code, _, err = run_script(SCRIPT, bad, capsys)
    assert code == 1 and message in err and err.count('\n') == 1, err
