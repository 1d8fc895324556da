"""The READMEs keep their word: commands run, in small; flags, files and headings that they name exist."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import config
from dnnlib.tflib.compat import IS_TF1

CHAIN = '## The whole chain without any licence'
TABLE = '## Commands and flags'
NEEDS_RELEASED_FILES = '## Your photos to training data', '## Train'
LONGEST = 250
FOLDERS = ('demo', 'dnnlib', 'human', 'metrics', 'perception', 'preprocess', 'renderer', 'sampling', 'training', 'vae',
           'worlds')
READMES = ['README.md', 'ARCHITECTURE.md'] + [f'{name}/README.md' for name in FOLDERS + ('benchmarks', 'demo/space')
                                              if os.path.exists(os.path.join(config.ROOT, name, 'README.md'))]

# A few steps at 16 x 16 in place of hours.
TINY = dict(
    base='demo128', data_dir='tiny', resolution=16, training_kimg=0.032, transition_kimg=0.032, minibatch=8,
    tick_kimg=1, total_kimg=0.128, r1_interval=1, stage2_kimg=0.064, full_resolution=16, grid=[3, 2],
    discriminator=dict(fmap_base=64, fmap_max=8),
    generator=dict(fmap_base=64, fmap_max=8, dlatent_size=16, mapping_fmaps=16, mapping_layers=2, mapping_lrmul=1.0))
SMALLER = [('--count 30000 --size 128', '--count 24 --size 32'), ('--epochs [0-9]+', '--epochs 2'), ('demo128', 'tiny'),
           ('--config tiny', '--config tiny.json'), ('--snapshot 700', '--snapshot 0 --kimg 0.128'),
           ('--factor pose --grid', '--factor pose --grid --subject 2 --variation 2'),
           (r'(run_metrics.py.*)', r'\1 --subjects 2 --variations 3')]


# The README's own commands: (what is written, what is run).
SMALL = [('--count 200', '--count 24 --size 128'), ('--epochs 80', '--epochs 2'),
         ('--total_kimg 2', '--total_kimg 0.064'),
         ('--config demo128', '--config tiny.json'), ('sgan-demo128', 'sgan-tiny'),
         ('(generate_images.py (?!--seeds|--subject).*)', r'\1 --subject 2 --variation 2'),
         ('--subject 50 ', '--subject 4 '), ('--fps 15', '--fps 1'),
         ('(generate_video.py(?!.*--fps).*)', r'\1 --fps 1'),
         ('(edit_images.py.*)', r'\1 --steps 20'), ('(run_metrics.py.*)', r'\1 --subjects 2 --variations 3')]
MADE = ('people.webp', 'tour/faces/img/000000.png', 'tour/records/records-r08.tfrecords',
        'tour/vae/rot/stage1_epoch_395.ckpt.index', 'tour/drawn/grid.png', 'generate_images/000_00.png',
        'generate_images/pose/grid.png', 'generate_images/seeds-sweep-yaw/grid.png', 'faces/made.jsonl',
        'generate_images_mine/000000.png', 'generate_video/tour.mp4', 'turn.webp', 'generate_video/walk.mp4',
        'edit_images/grid.png', 'smiling/grid.png', 'face.png')
HAS_ONNX = not IS_TF1 and all(importlib.util.find_spec(name) for name in ('tf2onnx', 'onnx', 'onnxruntime'))


def _read(name):
    with open(os.path.join(config.ROOT, name), encoding='utf-8') as file:
        return file.read()


def _section(name, title):
    text = _read(name)
    assert title in text
    return text.split(title)[1].split('\n## ')[0]


def _project_copy(folder):
    """The project's code in an own folder, so that data and runs of the one being tested are left alone."""
    for name in FOLDERS:
        shutil.copytree(os.path.join(config.ROOT, name), os.path.join(folder, name),
                        ignore=shutil.ignore_patterns('__pycache__', 'weights.*', 'BFM face model', 'from_scratch'))
    for name in os.listdir(config.ROOT):
        if name.endswith('.py'):
            shutil.copy(os.path.join(config.ROOT, name), folder)


def _run(command, folder):
    environment = {key: value for key, value in os.environ.items() if not key.startswith('DISCO_') or 'OP_CACHE' in key}
    done = subprocess.run([sys.executable] + command.split()[1:], cwd=folder, env=environment, timeout=600,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}'
    return done.stdout


def test_the_whole_chain_runs(tmp_path):
    commands = re.findall(r'^python .*', _section('training/README.md', CHAIN), re.MULTILINE)
    assert len(commands) == 10
    _project_copy(str(tmp_path))
    (tmp_path / 'tiny.json').write_text(json.dumps(TINY))
    for command in commands:
        for usual, small in SMALLER:
            command = re.sub(usual, small, command)
        _run(command, str(tmp_path))
    stage2 = tmp_path / 'results' / '00001-sgan-tiny-cpu-stage2'
    entries = [json.loads(line) for line in (stage2 / 'stats.jsonl').read_text().splitlines()]
    assert {'Loss/lm_loss', 'Loss/Exp_warp_loss', 'Loss/r1_penalty'} <= set(entries[-1])
    assert [entry['TrainG/learning_rate'] for entry in entries] == [0.002]
    assert Image.open(str(tmp_path / 'generate_images' / 'pose' / '001_01.png')).size == (16, 16)
    results = [json.loads(line) for line in (stage2 / 'network-final-metrics.jsonl').read_text().splitlines()]
    assert {'control', 'leakage', 'identity', 'hair'} <= {result['metric'] for result in results}


def _commands(text):
    """[words after `python `] of the commands in a text, without comments."""
    return [line.split('  #')[0].strip() for line in re.findall(r'^(?:    )?(python .*)', text, re.MULTILINE)]


def test_the_commands_of_the_readme_run(tmp_path):
    text = _read('README.md')
    for title in NEEDS_RELEASED_FILES:
        text = text.replace(_section('README.md', title + '\n'), '')
    left_out = '-m pip' if HAS_ONNX else '-m pip|onnx'
    commands = [command for command in _commands(text) if not re.search(left_out, command)]
    assert len(commands) >= 20
    _project_copy(str(tmp_path))
    (tmp_path / 'tiny.json').write_text(json.dumps(TINY))
    for command in commands:
        for usual, small in SMALL:
            command = re.sub(usual, small, command)
        _run(command, str(tmp_path))
    snippet, = re.findall('```python\n(.*?)```', text, re.DOTALL)
    (tmp_path / 'snippet.py').write_text(snippet)
    _run('python snippet.py', str(tmp_path))
    missing = [name for name in MADE + (('turning.png',) if HAS_ONNX else ()) if not (tmp_path / name).exists()]
    assert not missing
    assert Image.open(str(tmp_path / 'face.png')).size == (128, 128)


def test_flags_of_commands_that_need_released_files_exist():
    for title in NEEDS_RELEASED_FILES:
        commands = _commands(_section('README.md', title + '\n'))
        assert len(commands) >= 3
        for command in commands:
            words = command.split()
            script = words[:2] + [word for word in words[2:3] if word == 'create_from_images']
            told = _run(' '.join(script + ['--help']), config.ROOT)
            assert not [word for word in words[2:] if word.startswith('--') and word not in told], command


def test_the_readme_is_short():
    assert len(_read('README.md').splitlines()) <= LONGEST


def _anchors(text):
    """Names that GitHub gives the headings of a text."""
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall('^#+ (.*)', text, re.MULTILINE)}


@pytest.mark.parametrize('name', READMES)
def test_links_lead_somewhere(name):
    text, folder = _read(name), os.path.dirname(name)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if not re.match('https?:', target):
            path, _, anchor = target.partition('#')
            path = os.path.normpath(os.path.join(folder, path)) if path else name
            assert os.path.exists(os.path.join(config.ROOT, path)), f'{name}: {target}'
            assert not anchor or anchor in _anchors(_read(path)), f'{name}: {target}'


def _rows():
    found = re.findall(r'^\| `([\w/]+\.py)` \| (.*) \|$', _section('ARCHITECTURE.md', TABLE), re.MULTILINE)
    assert len(found) >= 11
    return found


@pytest.mark.parametrize('script, entries', _rows())
def test_the_flags_of_the_table_exist(script, entries):
    names = set(re.findall(r'`([-\w]+)`', entries))
    assert names
    told = _run(f'python {script} --help', config.ROOT)
    assert not {name for name in names if not re.search(rf'(?<![-\w]){re.escape(name)}\b', told)}
