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
    """A snapshot of random networks that belongs to the synthetic world, with the VAEs of that world beside it."""
    folder = str(tmp_path_factory.mktemp('model'))
    path = os.path.join(folder, 'network-final.pkl')
    shutil.copy(data('generator', 'networks.pkl'), path)
    shutil.copytree(os.path.join(config.DEMO_DIR, 'vae'), os.path.join(folder, 'own'))
    label.write_model(path, 'synthetic', vae_weights='own')
    return path


def test_packed_model_draws_the_same(model, tmp_path, capsys, monkeypatch):
    from sampling.generator import FaceGenerator
    monkeypatch.setattr(sys, 'argv', ['embed.py', '--model', model, '--output', str(tmp_path), '--name', 'small.pkl'])
    pack.main()
    assert sorted(os.listdir(str(tmp_path))) == ['small-average_w_id.txt', 'small-world.json', 'small.pkl', 'vae']
    packed = os.path.join(str(tmp_path), 'small.pkl')
    assert os.path.getsize(packed) < os.path.getsize(model) / 4 and packed in capsys.readouterr().out
    assert label.read_model(packed) == {'world': 'synthetic', 'vae_weights': 'vae'}
    pictures = []
    for path in (model, packed):
        with FaceGenerator(path) as faces:
            pictures.append(faces.images_float(faces.random_faces(4, seed=5)))
    assert pictures[0].std() > 20
    difference = np.abs(pictures[1] - pictures[0])          # of 255
    assert difference.mean() < 0.2 and difference.max() < 3


def test_a_model_is_not_packed_into_itself(tmp_path):
    path = str(tmp_path / 'demo64.pkl')
    shutil.copy(data('generator', 'networks.pkl'), path)
    label.write_model(path, 'synthetic')
    with pytest.raises(UserError, match='choose another folder'):
        pack.embed(path, str(tmp_path))


def test_vaes_that_another_model_uses_are_kept(model, tmp_path):
    (tmp_path / 'other.pkl').write_bytes(b'not of this project, and no VAEs beside it')
    pack.embed(model, str(tmp_path), 'first.pkl')
    pack.embed(model, str(tmp_path), 'second.pkl')         # the same VAEs
    changed = shutil.copytree(os.path.dirname(model), str(tmp_path / 'changed'))
    shutil.rmtree(os.path.join(changed, 'own'))
    write_random_vaes(os.path.join(changed, 'own'))
    before = pack._contents(str(tmp_path / 'vae'))
    with pytest.raises(UserError, match='.pkl uses the VAEs there'):
        pack.embed(os.path.join(changed, os.path.basename(model)), str(tmp_path), 'third.pkl')
    assert pack._contents(str(tmp_path / 'vae')) == before and not os.path.exists(str(tmp_path / 'third.pkl'))


@pytest.mark.parametrize('name', ['small', 'sub/small.pkl'])
def test_wrong_names(model, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['embed.py', '--model', model, '--name', name])
    with pytest.raises(SystemExit):
        pack.main()
    assert 'expected a file name that ends in .pkl' in capsys.readouterr().err


def test_missing_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['embed.py', '--model', str(tmp_path / 'no.pkl')])
    with pytest.raises(UserError, match='no.pkl: no such file'):
        pack.main()
