"""Worlds are not mixed: what each part says of itself, and who asks."""

import os
import shutil
import sys

import numpy as np
import pytest
import scipy.io

import config
from dnnlib.tflib import checkpoints
from dnnlib.util import UserError
from metrics import inputs, metric_base
from renderer import factors
from vae import demo, model
from worlds import label
from worlds.parts import World


def write_vae(weights, name, world=None, folder='', file=model.RELEASED):
    """A decoder without meaning below the folder `weights`."""
    place = os.path.join(weights, name, folder)
    checkpoints.save(os.path.join(place, file), {n: np.zeros(s, np.float32)
                                                 for n, s in model.decoder_shapes(name, 4).items()})
    if world:
        label.write(place, world)


def test_data_know_their_world_by_their_folder_or_the_one_above(tmp_path):
    (tmp_path / 'coeff').mkdir()
    assert label.of_data(str(tmp_path / 'coeff')) is None
    label.write(str(tmp_path), 'human')
    assert label.of_data(str(tmp_path / 'coeff')) == label.of_data(str(tmp_path)) == 'human'
    label.write(str(tmp_path / 'coeff'), 'real')
    assert label.of_data(str(tmp_path / 'coeff')) == 'real'


def test_vaes_say_their_world_beside_the_weights(tmp_path):
    weights = str(tmp_path)
    assert model.world_of(weights) is None
    write_vae(weights, 'id')                                                    # released: says nothing
    write_vae(weights, 'exp', 'human', model.TRAINED, model.CHECKPOINT.format(5))
    assert model.world_of(weights) == 'human'
    write_vae(weights, 'exp')                                                   # is used now, and says nothing
    assert model.world_of(weights) is None
    write_vae(weights, 'rot', 'real')
    assert model.world_of(weights) == 'real'
    label.write(weights, 'human')
    with pytest.raises(UserError, match='worlds cannot be mixed: VAEs in '):
        model.world_of(weights)


def _train_vae(monkeypatch, *options):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--gpu', '-1', '--epochs', '1', '--width', '4', '--factor', 'rot']
                        + list(options))
    return demo.main()


def test_trained_vaes_pass_the_world_of_their_data_on(tmp_path, monkeypatch, tf_session):
    data, weights = str(tmp_path / 'data' / 'coeff'), str(tmp_path / 'weights')
    os.makedirs(data)
    for i in range(3):
        scipy.io.savemat(os.path.join(data, f'{i}.mat'), {'coeff': np.random.RandomState(i).randn(factors.NUM_RECON)})
    label.write(os.path.dirname(data), 'human')
    write_vae(weights, 'id')
    assert _train_vae(monkeypatch, '--datapath', data, '--output-path', weights) == 0
    assert label.read(os.path.join(weights, 'rot')) == model.world_of(weights) == 'human'
    assert label.read(weights) is None and label.read(os.path.join(weights, 'id')) is None
    shutil.rmtree(os.path.join(weights, 'rot', model.TRAINED))
    os.remove(os.path.join(os.path.dirname(data), label.FILE))
    label.write(data, 'real')
    with pytest.raises(UserError, match='is of the real world, --output-path .* is of the human world'):
        _train_vae(monkeypatch, '--datapath', data, '--output-path', weights)


def test_weights_of_an_unknown_world_lose_the_label_of_older_ones(tmp_path):
    folders = demo.EasyDict(weights=str(tmp_path), factor=str(tmp_path / 'rot'),
                            epochs=str(tmp_path / 'rot' / model.TRAINED))
    write_vae(str(tmp_path), 'rot', None, model.TRAINED, model.CHECKPOINT.format(0))
    label.write(folders.factor, 'human')
    demo._publish(folders, 0, {})
    assert model.world_of(str(tmp_path)) is None


@pytest.mark.parametrize('part', ['vae_weights', 'face_model', 'experts', 'recon'])
def test_parts_of_another_world_are_refused(tmp_path, part):
    """Whether a part is named by its folder or by a file in it."""
    foreign, table = str(tmp_path), os.path.join(config.ROOT, 'human', 'weights')
    for name in os.listdir(table):
        if name.startswith(('small_', 'experts.json')):
            shutil.copy(os.path.join(table, name), foreign)
    named = [foreign] + {'experts': [os.path.join(foreign, 'experts.json')],
                         'recon': [os.path.join(foreign, 'experts.json')]}.get(part, [])
    for path in named:
        options = metric_base.Options(source='renders', world='human', **{part: path})
        inputs.Inputs(options)                        # it says nothing
        label.write(foreign, 'human')
        inputs.Inputs(options)
        os.remove(os.path.join(foreign, label.FILE))
        label.write(foreign, 'real')
        with pytest.raises(UserError, match=f'--{part} .* is of the real world, all else is of the human'):
            inputs.Inputs(options)
        os.remove(os.path.join(foreign, label.FILE))
    assert World('human').name == 'human'


def test_a_head_of_another_world_in_the_place_of_the_real_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'FACE_MODEL_DIR', str(tmp_path))
    label.write(str(tmp_path), 'human')
    for part in (World('real').face_model, World('real').template):
        with pytest.raises(UserError, match='--face_model .* is of the human world, all else is of the real'):
            part()


def test_a_label_of_a_world_that_is_gone_names_its_file_and_what_there_is(tmp_path):
    for file, read in (('world.json', lambda: label.of_data(str(tmp_path / 'coeff'))),
                       ('model-world.json', lambda: label.read_model(str(tmp_path / 'model.pkl')))):
        (tmp_path / file).write_text('{"world": "synthetic"}')
        with pytest.raises(UserError, match=f"{file}: names the world 'synthetic', .*one of real, human; mend or"):
            read()
        (tmp_path / file).write_text('{"world": ["human"]}')
        with pytest.raises(UserError, match=f'{file}: names the world list, which is unknown'):
            read()
    with pytest.raises(UserError, match="world 'synthetic' is unknown; expected one of real, human"):
        World('synthetic')
