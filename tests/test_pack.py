"""sampling.pack: what is packed draws what the model draws, with files a third or less of the size."""

import os
import shutil
import sys

import numpy as np
import pytest

import config
from benchmarks.sampling import write_random_vaes
from dnnlib.util import UserError
from sampling import pack
from tests.common import data
from worlds import label


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A snapshot of random networks that belongs to the human world, with VAEs of its own beside it."""
    folder = str(tmp_path_factory.mktemp('model'))
    path = os.path.join(folder, 'network-final.pkl')
    shutil.copy(data('generator', 'networks.pkl'), path)
    write_random_vaes(os.path.join(folder, 'own'))
    label.write_model(path, 'human', vae_weights='own')
    return path


def test_packed_model_draws_the_same(model, tmp_path, capsys, monkeypatch):
    from sampling.generator import FaceGenerator
    monkeypatch.setattr(sys, 'argv', ['pack.py', '--model', model, '--output', str(tmp_path), '--name', 'small.pkl'])
    pack.main()
    assert sorted(os.listdir(str(tmp_path))) == ['small-average_w_id.txt', 'small-world.json', 'small.pkl', 'vae']
    packed = os.path.join(str(tmp_path), 'small.pkl')
    assert os.path.getsize(packed) < os.path.getsize(model) / 4 and packed in capsys.readouterr().out
    assert label.read_model(packed) == {'world': 'human', 'vae_weights': 'vae'}
    pictures = []
    for path in (model, packed):
        with FaceGenerator(path) as faces:
            pictures.append(faces.images_float(faces.random_faces(4, seed=5)))
    assert pictures[0].std() > 20
    difference = np.abs(pictures[1] - pictures[0])          # of 255
    assert difference.mean() < 0.2 and difference.max() < 3


def test_decoders_of_the_world_are_not_copied(model, tmp_path):
    snapshot = shutil.copy(model, str(tmp_path / 'snapshot.pkl'))
    shutil.copytree(os.path.join(config.ROOT, 'human', 'weights', 'vae'), str(tmp_path / 'as-used'))
    label.write_model(snapshot, 'human', vae_weights='as-used')
    packed = os.path.join(str(tmp_path / 'out'), 'small.pkl')
    paths = pack.pack_model(snapshot, os.path.dirname(packed), 'small.pkl')
    assert sorted(paths) == sorted(pack._files(os.path.dirname(packed))) and len(paths) == 3
    assert label.read_model(packed) == {'world': 'human'}


@pytest.mark.parametrize('there', ['small.pkl', 'small-world.json', 'small-average_w_id.txt', 'vae/model.py'])
def test_nothing_that_is_there_is_replaced(model, tmp_path, there):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'of somebody else')
    with pytest.raises(UserError, match='there already'):
        pack.pack_model(model, str(tmp_path), 'small.pkl')
    files = [os.path.join(where, name) for where, _, names in os.walk(str(tmp_path)) for name in names]
    assert files == [str(path)] and path.read_bytes() == b'of somebody else'


def test_a_model_is_not_packed_into_itself(model):
    with pytest.raises(UserError, match='there already'):
        pack.pack_model(model, os.path.dirname(model), os.path.basename(model))


def test_models_with_the_same_vaes_share_them(model, tmp_path):
    pack.pack_model(model, str(tmp_path), 'first.pkl')
    pack.pack_model(model, str(tmp_path), 'second.pkl')
    changed = shutil.copytree(os.path.dirname(model), str(tmp_path / 'changed'))
    shutil.rmtree(os.path.join(changed, 'own'))
    write_random_vaes(os.path.join(changed, 'own'), seed=1)
    before = pack._contents(str(tmp_path / 'vae'))
    with pytest.raises(UserError, match='holds something else than the VAEs of this model'):
        pack.pack_model(os.path.join(changed, os.path.basename(model)), str(tmp_path), 'third.pkl')
    assert pack._contents(str(tmp_path / 'vae')) == before and not os.path.exists(str(tmp_path / 'third.pkl'))


@pytest.mark.parametrize('name', ['small', 'sub/small.pkl'])
def test_wrong_names(model, name, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['pack.py', '--model', model, '--name', name])
    with pytest.raises(UserError, match='expected a file name that ends in .pkl'):
        pack.main()


def test_missing_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['pack.py', '--model', str(tmp_path / 'no.pkl')])
    with pytest.raises(UserError, match='no.pkl: no such file'):
        pack.main()
