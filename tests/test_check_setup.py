"""check_setup.py: what is there, what is missing and where it comes from; exit codes."""

import os
import shutil

import check_setup
import config


def _main(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['check_setup.py'] + list(arguments))
    return check_setup.main()


def test_the_human_world_can_do_everything(monkeypatch, capsys):
    assert _main(monkeypatch, '--world', 'human') == 0
    out = capsys.readouterr().out
    assert 'lacks' not in out and 'missing' not in out and 'demo128.pkl' in out and 'computed from human/' in out
    for task in check_setup.TASKS:
        assert f'\n{task}' in out


def test_a_model_of_another_world_is_named(monkeypatch, capsys):
    model = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    assert _main(monkeypatch, '--world', 'real', '--task', 'draw', '--model', model) == 1
    assert f'{model} is of the human world, not of the real one' in capsys.readouterr().out


def test_what_is_missing_says_where_it_comes_from(monkeypatch, capsys, tmp_path):
    for name in ('CACHE_DIR', 'CACHE1_DIR', 'VAE_WEIGHTS_DIR', 'FACE_MODEL_DIR', 'PRETRAINED_DIR'):
        monkeypatch.setattr(config, name, str(tmp_path / name))
    assert _main(monkeypatch, '--task', 'stage2') == 1
    out = capsys.readouterr().out
    assert 'lacks face model, vaes, recon, id, parser' in out and '01_MorphableModel.mat' in out
    assert 'https://faces.dmi.unibas.ch/bfm/' in out and 'davidsandberg/facenet' in out


def test_a_damaged_model_is_no_model(monkeypatch, capsys, tmp_path):
    path = str(tmp_path / 'a.pkl')
    shutil.copy(os.path.join(config.DEMO_DIR, config.DEMO_NAME), path)
    with open(path, 'r+b') as file:
        file.truncate(5000)
    assert _main(monkeypatch, '--world', 'human', '--task', 'draw', '--model', path) == 1
    out = capsys.readouterr().out
    assert 'damaged' in out and 'lacks model' in out
