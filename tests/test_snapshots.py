"""Snapshots become networks that compute what they computed when written; runs, released files and worlds are found."""

import hashlib
import os
import struct

import numpy as np
import pytest

import config
from dnnlib import hashes
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from sampling import pretrained
from tests import golden_snapshots, hostile_pickles
from tests.common import assert_close, data
from training import snapshots
from worlds import label

#----------------------------------------------------------------------------
# Networks.


@pytest.mark.parametrize('name', ['tf1', 'tf2'])
def test_golden_snapshots_compute_the_same_for_ever(tf_session, tmp_path, name):
    """Written by either TensorFlow line; saved again, they hold the same (their variants: test_pickles)."""
    recorded = np.load(data('golden', name + '.npz'))
    networks = snapshots.load_networks(data('golden', name + '.pkl'))
    assert [network.name for network in networks] == ['G', 'D', 'Gs']
    found = golden_snapshots.outputs(*networks, recorded['coeffs'], recorded['images'])
    for key, value in found.items():
        assert_close(value, recorded[key], atol=1e-4 if key == 'D_scores' else 2e-4)

    again = tmp_path / 'network-snapshot-000001.pkl'
    (tmp_path / 'network-snapshot-000001.pkl.sha256').write_text('of an older file')
    snapshots.save_networks(networks, str(again))
    assert os.listdir(tmp_path) == [again.name]
    before, after = pickles.load_states(data('golden', name + '.pkl')), pickles.load_states(str(again))
    assert [_digest(state) for state in before] == [_digest(state) for state in after]


def test_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    """A power failure must not leave a snapshot of zeros under its name."""
    synced = []
    monkeypatch.setattr(os, 'fsync', lambda number: synced.append((os.fstat(number).st_ino, os.fstat(number).st_size)))
    path = str(tmp_path / 'a.pkl')
    pickles.save_states(pickles.load_states(data('golden', 'tf2.pkl')), path)
    assert synced == [(os.stat(path).st_ino, os.stat(path).st_size)]


def _digest(state):
    digest = hashlib.sha256(repr((state.name, dict(state.static_kwargs), state.build_func_name)).encode())
    for name, value in state.variables:
        digest.update(name.encode() + np.asarray(value).tobytes())
    return digest.hexdigest(), {key: _digest(component) for key, component in sorted(state.components.items())}


def test_generator_alone(tf_session, tmp_path):
    recorded = np.load(data('golden', 'tf2.npz'))
    Gs = snapshots.load_generator(data('golden', 'tf2.pkl'))
    assert Gs.name == 'Gs'
    images = Gs.run(recorded['coeffs'], None, is_validation=True, randomize_noise=False)
    assert_close(images, recorded['Gs_images'], atol=2e-4)
    states = pickles.load_states(data('golden', 'tf2.pkl'))
    pickles.save_states(states[2:], str(tmp_path / 'one.pkl'))
    assert snapshots.load_generator(str(tmp_path / 'one.pkl')).name == 'Gs'
    with pytest.raises(UserError, match='holds 1 networks'):
        snapshots.load_networks(str(tmp_path / 'one.pkl'))
    pickles.save_states(states[1:], str(tmp_path / 'two.pkl'))
    with pytest.raises(UserError, match='holds 2 networks'):
        snapshots.load_generator(str(tmp_path / 'two.pkl'))


@pytest.mark.filterwarnings('ignore:divide by zero')
@pytest.mark.parametrize('entries', [{'build_func_name': hostile_pickles.text('os.system')},
                                     {'build_func_name': hostile_pickles.text('eval')},
                                     {'static_kwargs': hostile_pickles.mapping({'unheard_of': b'N'})}] + [
    {'static_kwargs': hostile_pickles.mapping({key: value})} for key, value in (
        ('resolution', hostile_pickles.number(1 << 40)), ('latent_size', hostile_pickles.number(1 << 31)),
        ('mapping_layers', hostile_pickles.number(1 << 20)), ('resolution', hostile_pickles.number(0)),
        ('dlatent_size', hostile_pickles.number(-1)), ('resolution', hostile_pickles.text('64')),
        ('fmap_decay', b'G' + struct.pack('>d', float('nan'))))])
def test_files_that_ask_for_other_networks(tf_session, tmp_path, entries):
    path = tmp_path / 'odd.pkl'
    path.write_bytes(hostile_pickles.whole(hostile_pickles.network(**entries)))
    with pytest.raises(UserError) as caught:
        snapshots.load_generator(str(path))
    assert str(caught.value).startswith(str(path)) and '\n' not in str(caught.value)


def test_changed_file_is_noticed(tmp_path):
    path = tmp_path / 'model.pkl'
    path.write_bytes(b'one')
    hashes.write_checksum(str(path))
    path.write_bytes(b'two')
    with pytest.raises(UserError, match='SHA-256'):
        snapshots.load_generator(str(path))


#----------------------------------------------------------------------------
# Runs.

@pytest.fixture
def results(tmp_path):
    """Three runs: 3 with a final snapshot, 12 still growing, 7 without snapshots; and 20 twice."""
    for name in ('00003-sgan/network-snapshot-000040.pkl', '00003-sgan/network-snapshot-020126.pkl',
                 '00003-sgan/network-final.pkl', '00003-sgan/fakes000040.png', '00012-sgan/network-snapshot-000099.pkl',
                 '00012-sgan/network-snapshot-000101.pkl', '00007-empty/log.txt', '00020-a/network-final.pkl',
                 '0020-b/network-final.pkl'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'')
    return str(tmp_path)


@pytest.mark.parametrize('run, snapshot, expected', [
    ('3', None, '00003-sgan/network-final.pkl'), (3, None, '00003-sgan/network-final.pkl'),
    ('00003', 20126, '00003-sgan/network-snapshot-020126.pkl'),
    ('003', '020126', '00003-sgan/network-snapshot-020126.pkl'),
    ('00003-sgan', '40', '00003-sgan/network-snapshot-000040.pkl'), (3, 'final', '00003-sgan/network-final.pkl'),
    ('12', None, '00012-sgan/network-snapshot-000101.pkl'), ('00020-a', None, '00020-a/network-final.pkl'),
])
def test_find_snapshot(results, run, snapshot, expected):
    assert snapshots.find_snapshot(run, snapshot, results) == os.path.join(results, expected)


def test_find_snapshot_by_path(results):
    path = os.path.join(results, '00003-sgan', 'network-snapshot-000040.pkl')
    assert snapshots.find_snapshot(path, result_dir='/nowhere') == path
    assert snapshots.find_snapshot('7', path, results) == path
    assert snapshots.find_snapshot(os.path.dirname(path), 40, '/nowhere') == path


@pytest.mark.parametrize('run, snapshot, words', [
    ('2', None, ['run 2', '00003-sgan']), ('20', None, ['2 runs match', '00020-a', '0020-b']),
    ('7', None, ['no snapshot']), ('3', 41, ['no snapshot 41', '40, 20126']), ('1', None, ['00012-sgan']),
    ('other.pkl', None, ['other.pkl', 'no such snapshot']), ('', None, ['run number']), ('.*', None, ['run .*']),
])
def test_find_snapshot_says_what_there_is(results, run, snapshot, words):
    with pytest.raises(UserError) as caught:
        snapshots.find_snapshot(run, snapshot, results)
    assert all(word in str(caught.value) for word in words) and '\n' not in str(caught.value)


def test_find_snapshot_without_results(tmp_path):
    with pytest.raises(UserError, match='the runs there: none'):
        snapshots.find_snapshot(3, result_dir=str(tmp_path / 'results'))


#----------------------------------------------------------------------------
# The released model.

@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(config, 'CACHE1_DIR', str(tmp_path / 'cache1'))
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache1').mkdir()
    return tmp_path


@pytest.mark.parametrize('model', ['network-snapshot-020126.pkl',
                                   'e42c6d2dcb3ea6479d593c576c99ecc1_network-snapshot-020126.pkl'])
@pytest.mark.parametrize('average', ['cache/network-snapshot-020126-average_w_id.txt',
                                     'cache1/network-snapshot-020126-average_w_id.txt',
                                     'cache1/fd19667fb7f2984f21b20696f84410e4_network-snapshot-020126-average_w_id.txt',
                                     'cache/fd19667fb7f2984f21b20696f84410e4_network-snapshot-020126-average_w_id.txt'])
def test_released_files_under_every_name(caches, model, average):
    assert pretrained.find_default_model() is None
    path = str(caches / 'cache' / model)
    open(path, 'w').close()
    assert pretrained.find_default_model() == path and pretrained.find_average_w(path) is None
    (caches / average).write_text('1 2\n3 4\n')
    assert pretrained.find_average_w(path) == str(caches / average)
    assert pretrained.fetch_default_model() == path          # nothing to fetch
    elsewhere = caches / 'network-snapshot-020126.pkl'      # a user's own run may reach this very number
    elsewhere.write_bytes(b'')
    assert pretrained.find_average_w(str(elsewhere)) is None


def test_average_beside_the_model_wins(caches):
    model = str(caches / 'cache' / 'network-snapshot-020126.pkl')
    (caches / 'cache1' / 'network-snapshot-020126-average_w_id.txt').write_text('1 2\n')
    (caches / 'cache' / 'network-snapshot-020126-average_w_id.txt').write_text('1 2\n3 4\n')
    assert pretrained.find_average_w(model) == pretrained.average_w_path(model)
    assert_close(pretrained.load_average_w(pretrained.average_w_path(model)), np.float32([[1, 2], [3, 4]]))


@pytest.mark.parametrize('text', ['', '<html>', '1 2\n3\n', '1 nan\n'])
@pytest.mark.filterwarnings('ignore:loadtxt')
def test_bad_average(tmp_path, text):
    (tmp_path / 'a.txt').write_text(text)
    with pytest.raises(UserError, match='a.txt'):
        pretrained.load_average_w(str(tmp_path / 'a.txt'))


def _serve(monkeypatch, files):
    """Drive as a dict from id to bytes; what is not in it cannot be had."""
    def fake(source, path, timeout_s):
        assert timeout_s > 0
        if source not in files:
            raise UserError(f'{source}: download failed: offline')
        with open(path, 'wb') as file:
            file.write(files[source])
        return path
    monkeypatch.setattr(pretrained.download, 'download', fake)


def test_fetch_and_remember_the_checksum(caches, monkeypatch):
    with open(data('golden', 'tf1.pkl'), 'rb') as file:
        model = file.read()
    _serve(monkeypatch, {pretrained.MODEL_DRIVE_ID: model, pretrained.AVERAGE_DRIVE_ID: b'1 2\n'})
    path = pretrained.fetch_default_model(5.0)
    assert path == str(caches / 'cache' / 'network-snapshot-020126.pkl') == pretrained.find_default_model()
    assert pretrained.find_average_w(path) == str(caches / 'cache1' / 'network-snapshot-020126-average_w_id.txt')
    hashes.verify_checksum(path)
    with open(path, 'r+b') as file:
        file.seek(100000)
        file.write(b'????')
    with pytest.raises(UserError, match='SHA-256'):
        snapshots.load_generator(path)


def test_fetch_without_the_average(caches, monkeypatch):
    with open(data('golden', 'tf1.pkl'), 'rb') as file:
        _serve(monkeypatch, {pretrained.MODEL_DRIVE_ID: file.read(), pretrained.AVERAGE_DRIVE_ID: b'<html>'})
    path = pretrained.fetch_default_model(5.0)
    assert pretrained.find_average_w(path) is None and os.listdir(caches / 'cache1') == []


@pytest.mark.parametrize('files, word', [({}, 'offline'), ({pretrained.MODEL_DRIVE_ID: b'junk'}, 'no pickle')])
def test_fetch_fails_in_one_line(caches, monkeypatch, files, word):
    _serve(monkeypatch, files)
    with pytest.raises(UserError, match=word) as caught:
        pretrained.fetch_default_model(5.0)
    assert '\n' not in str(caught.value) and os.listdir(caches / 'cache') == []


#----------------------------------------------------------------------------
# Worlds.

def test_world(tmp_path):
    model = str(tmp_path / 'network-final.pkl')
    assert label.read_model(model) == {'world': 'real'}
    assert label.write_model(model, 'human', vae_weights='vae') == str(tmp_path / 'network-final-world.json')
    assert label.read_model(model) == {'world': 'human', 'vae_weights': 'vae'}
    with pytest.raises(UserError, match='unknown'):
        label.write_model(model, 'flat')
    for text in ('{', '[]', '{"world": "flat"}', '{}'):
        (tmp_path / 'network-final-world.json').write_text(text)
        with pytest.raises(UserError, match='network-final-world.json'):
            label.read_model(model)
