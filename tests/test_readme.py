"""The README keeps its word: its flags exist, and its whole chain of commands runs, in small."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import config

CHAIN = '## The whole chain without any licence'
TABLE = '## Commands and flags'
FOLDERS = ('demo', 'dnnlib', 'human', 'metrics', 'perception', 'preprocess', 'renderer', 'sampling', 'synthetic',
           'training', 'vae', 'worlds')

# A few steps at 16 x 16 in place of hours.
TINY = dict(
    base='demo64', data_dir='tiny', resolution=16, training_kimg=0.032, transition_kimg=0.032, minibatch=8, tick_kimg=1,
    total_kimg=0.128, stage2_kimg=0.064, full_resolution=16, grid=[3, 2], discriminator=dict(fmap_base=64, fmap_max=8),
    generator=dict(fmap_base=64, fmap_max=8, dlatent_size=16, mapping_fmaps=16, mapping_layers=2, mapping_lrmul=1.0))
SMALLER = [('--count 20000', '--count 24 --size 128'), ('--epochs 80', '--epochs 2'), ('demo64', 'tiny'),
           ('--config tiny', '--config tiny.json'), ('--config demo/slower.json', '--config slower.json'),
           ('--snapshot 700 --kimg 700', '--snapshot 0 --kimg 0.128'),
           ('kimg 755', 'kimg 0.16'), ('kimg 820', 'kimg 0.192'),
           ('--factor pose --grid', '--factor pose --grid --subject 2 --variation 2'),
           (r'(run_metrics.py.*)', r'\1 --subjects 2 --variations 3')]


def _section(title):
    with open(os.path.join(config.ROOT, 'README.md'), encoding='utf-8') as file:
        text = file.read()
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
    commands = re.findall(r'^python .*', _section(CHAIN), re.MULTILINE)
    assert len(commands) == 12
    _project_copy(str(tmp_path))
    for name, changes in (('tiny.json', {}), ('slower.json', {'learning_rate': 0.0005})):
        (tmp_path / name).write_text(json.dumps(dict(TINY, **changes)))
    for command in commands:
        for usual, small in SMALLER:
            command = re.sub(usual, small, command)
        _run(command, str(tmp_path))
    stage2 = tmp_path / 'results' / '00001-sgan-tiny-cpu-stage2'
    entries = [json.loads(line) for line in (stage2 / 'stats.jsonl').read_text().splitlines()]
    assert {'Loss/lm_loss', 'Loss/Exp_warp_loss', 'Loss/r1_penalty'} <= set(entries[-1])
    assert [entry['TrainG/learning_rate'] for entry in entries] == [0.002, 0.0005]
    assert Image.open(str(tmp_path / 'generate_images' / 'pose' / '001_01.png')).size == (16, 16)
    results = [json.loads(line) for line in (stage2 / 'network-final-metrics.jsonl').read_text().splitlines()]
    assert {'control', 'leakage', 'identity', 'hair'} <= {result['metric'] for result in results}


def _rows():
    found = re.findall(r'^\| `([\w/]+\.py)` \| (.*) \|$', _section(TABLE), re.MULTILINE)
    assert len(found) >= 7
    return found


@pytest.mark.parametrize('script, entries', _rows())
def test_the_flags_of_the_table_exist(script, entries):
    names = set(re.findall(r'`([-\w]+)`', entries))
    assert names
    told = _run(f'python {script} --help', config.ROOT)
    assert not {name for name in names if not re.search(rf'(?<![-\w]){re.escape(name)}\b', told)}
