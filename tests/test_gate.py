"""A training packed to be passed on, and unpacked to go on."""

import os
import shutil

import numpy as np
import pytest

from demo import gate
from dnnlib.json_files import read_json, write_json
from dnnlib.tflib import checkpoints as weights
from dnnlib.util import UserError
from training import checkpoints
from vae import model
from worlds import parts

ARRAYS = {'G/w': np.zeros([3, 4]), 'G/w/m': np.ones([3, 4]), 'G/lod': np.array(1.5), 'G/beta2_power': np.array(0.1),
          'Gs/w': np.arange(12).reshape(3, 4) / 7, 'Gs/lod': np.array(1.5), 'D/w': np.full([5], 1 / 3),
          'D/w/v': np.ones([5])}


@pytest.fixture
def run_dir(tmp_path):
    folder = str(tmp_path / 'run')
    write_json(os.path.join(folder, gate.OPTIONS), dict(
        world_parts=dict(experts='/elsewhere'), data_dir='/there', config=dict(data_dir='demo128'), seed=3,
        snapshot='/there/network-snapshot-000003.pkl'))
    arrays = {name: value.astype(np.float32) for name, value in ARRAYS.items()}
    arrays['G/overflow_count'] = np.array(2)
    checkpoints.Checkpoints(folder).save(4000, arrays, dict(nimg=4000, tick=2))
    return folder


def test_a_packed_training_goes_on(run_dir, tmp_path):
    file, again = str(tmp_path / 'gate.npz'), str(tmp_path / 'again')
    gate.pack(run_dir, file)
    gate.unpack(file, again)
    before, after = (checkpoints.Checkpoints(folder).load_newest() for folder in (run_dir, again))
    assert after.facts == before.facts and list(after.arrays) == list(before.arrays)
    for name, array in before.arrays.items():
        assert after.arrays[name].shape == array.shape and after.arrays[name].dtype == array.dtype
    np.testing.assert_allclose(after.arrays['G/w'], ARRAYS['Gs/w'], rtol=1e-3)
    np.testing.assert_allclose(after.arrays['D/w'], ARRAYS['D/w'], rtol=1e-3)
    assert not after.arrays['G/w/m'].any() and after.arrays['G/beta2_power'] == np.float32(gate.BETA2)
    assert after.arrays['G/lod'] == 1.5
    options = read_json(os.path.join(again, gate.OPTIONS))
    assert (options['world_parts'], options['data_dir'], options['seed']) == ({}, 'demo128', 3)
    assert options['snapshot'] == 'network-snapshot-000003.pkl'         # no place on another's machine


def test_other_decoders_than_the_worlds_own_are_not_lost(run_dir, tmp_path):
    options = read_json(os.path.join(run_dir, gate.OPTIONS))
    write_json(os.path.join(run_dir, gate.OPTIONS), dict(options, world='human'))
    shutil.copytree(parts.World('human').vae_weights, os.path.join(run_dir, 'vae'))
    gate.pack(run_dir, str(tmp_path / 'own.npz'))
    prefix = model.find_checkpoint('rot', os.path.join(run_dir, 'vae'))
    weights.save(prefix, {name: array + 1 for name, array in weights.read(prefix).items()})
    with pytest.raises(UserError, match='not the VAEs of the world'):
        gate.pack(run_dir, str(tmp_path / 'other.npz'))
    assert not (tmp_path / 'other.npz').exists()


def test_nothing_is_written_over_and_other_files_are_named(run_dir, tmp_path):
    file = tmp_path / 'gate.npz'
    file.write_bytes(b'mine')
    with pytest.raises(UserError, match='there already'):
        gate.pack(run_dir, str(file))
    with pytest.raises(UserError, match='not what'):
        gate.unpack(str(file), str(tmp_path / 'new'))
    with pytest.raises(UserError, match='there already'):
        gate.unpack(str(file), run_dir)
    with pytest.raises(UserError, match='no checkpoint'):
        gate.pack(str(tmp_path), str(tmp_path / 'other.npz'))
    assert file.read_bytes() == b'mine' and not (tmp_path / 'new').exists()


@pytest.mark.parametrize('facts', [None, '{}', '[]', '{"arrays": [["D/w", [2], "float32"]]}',
                                   '{"arrays": [], "options": {}, "facts": {}}', '{"arrays": [], "options": 3}'])
def test_files_that_are_not_ours_are_one_line(facts, tmp_path):
    arrays = {'D/w': np.ones([5], np.float16)}
    if facts is not None:
        arrays[gate.FACTS] = np.frombuffer(facts.encode(), np.uint8)
    np.savez(str(tmp_path / 'other.npz'), **arrays)
    with pytest.raises(UserError, match='not what'):
        gate.unpack(str(tmp_path / 'other.npz'), str(tmp_path / 'new'))
    assert os.listdir(str(tmp_path)) == ['other.npz']


def test_a_damaged_file_is_one_line(run_dir, tmp_path):
    file = tmp_path / 'gate.npz'
    gate.pack(run_dir, str(file))
    for content in (file.read_bytes()[:-30], file.read_bytes()[:200] + b'x' * 40 + file.read_bytes()[240:]):
        file.write_bytes(content)
        with pytest.raises(UserError, match='not what'):
            gate.unpack(str(file), str(tmp_path / 'new'))


def test_packing_leaves_a_training_alone(run_dir, tmp_path):
    """What a running training is just writing must stay."""
    half = os.path.join(run_dir, checkpoints.FOLDER, '.tmp-1')
    os.mkdir(half)
    gate.pack(run_dir, str(tmp_path / 'gate.npz'))
    assert os.path.isdir(half)
    write_json(os.path.join(run_dir, gate.OPTIONS), dict(seed=3))
    with pytest.raises(UserError, match='no "config"'):
        gate.pack(run_dir, str(tmp_path / 'other.npz'))
