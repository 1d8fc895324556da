"""Checkpoints of a training: whole or not there, rotated, damage told, killed writers."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import config
from dnnlib.util import UserError
from training.checkpoints import Checkpoints, existing, load, newest_facts

ARRAYS = {'G/a/weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'count': np.int64(2 ** 40),
          'D/empty': np.zeros([0, 4], np.float32), 'half': np.full([300], 1.5, np.float16)}


def test_what_is_saved_comes_back(tmp_path):
    folder = Checkpoints(str(tmp_path))
    assert folder.load_newest() is None and existing(str(tmp_path)) == []
    facts = {'nimg': 16, 'means': {'Loss/G': [1.5, 3]}, 'shuffle_bytes': None}
    path = folder.save(16, ARRAYS, facts)
    assert path == str(tmp_path / 'checkpoints' / 'checkpoint-000000016.npz')
    found = folder.load_newest()
    assert (found.path, found.facts, list(found.arrays)) == (path, facts, list(ARRAYS))
    for name, value in ARRAYS.items():
        assert found.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(found.arrays[name], value)


def test_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, 'fsync', lambda number: synced.append((os.fstat(number).st_ino, os.fstat(number).st_size)))
    path = Checkpoints(str(tmp_path)).save(1, ARRAYS, {})
    assert synced == [(os.stat(path).st_ino, os.stat(path).st_size)]


def test_only_the_newest_are_kept(tmp_path):
    folder = Checkpoints(str(tmp_path), keep=2)
    for nimg in (5, 999999999, 1000000000, 30):
        folder.save(nimg, ARRAYS, {'nimg': nimg})
    assert [nimg for nimg, _ in existing(str(tmp_path))] == [999999999, 1000000000]
    assert folder.load_newest().facts == {'nimg': 1000000000}


@pytest.mark.parametrize('damage', ['cut', 'empty', 'byte', 'foreign', 'facts'])
def test_a_damaged_one_is_named_and_passed_over(tmp_path, capsys, damage):
    folder = Checkpoints(str(tmp_path))
    folder.save(1, ARRAYS, {'nimg': 1})
    path = folder.save(2, ARRAYS, {'nimg': 2})
    with open(path, 'rb') as file:
        content = bytearray(file.read())
    if damage == 'byte':
        content[content.index(np.full(300, 1.5, np.float16).tobytes()) + 100] ^= 1
    if damage == 'facts':
        content = content.replace(b'{"nimg": 2}', b'{"nimg": 2 ')
    content = {'cut': content[:-50], 'empty': b'', 'foreign': b'no archive' * 99}.get(damage, content)
    with open(path, 'wb') as file:
        file.write(content)
    assert folder.load_newest().facts == {'nimg': 1}
    assert f'{path}: not a whole checkpoint' in capsys.readouterr().err
    with pytest.raises(UserError, match='not a whole checkpoint'):
        load(path)


def test_facts_are_read_without_touching_anything(tmp_path):
    assert newest_facts(str(tmp_path)) is None and os.listdir(str(tmp_path)) == []
    folder = Checkpoints(str(tmp_path))
    folder.save(1, ARRAYS, {'nimg': 1})
    with open(folder.save(2, ARRAYS, {'nimg': 2}), 'wb') as file:
        file.write(b'half')
    (tmp_path / 'checkpoints' / '.tmp-of-another').mkdir()
    assert newest_facts(str(tmp_path)) == {'nimg': 1}
    assert (tmp_path / 'checkpoints' / '.tmp-of-another').is_dir()


def test_nothing_whole_is_an_error(tmp_path):
    folder = Checkpoints(str(tmp_path))
    with open(folder.save(1, ARRAYS, {}), 'wb'):
        pass
    with pytest.raises(UserError, match='all 1 checkpoints are damaged'):
        folder.load_newest()


def test_no_room_leaves_the_older_ones_and_nothing_else(tmp_path):
    folder = Checkpoints(str(tmp_path), keep=1)
    folder.save(1, ARRAYS, {})
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))       # the kernel refuses what is larger
        with pytest.raises(UserError, match='could not be written.*nothing was left behind'):
            folder.save(2, {'large': np.zeros(100000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(folder.folder) == ['checkpoint-000000001.npz']
    assert folder.load_newest() is not None


WRITER = '''
import sys
import numpy as np
from training.checkpoints import Checkpoints
folder = Checkpoints(sys.argv[1])
found = folder.load_newest()
nimg = found.facts['nimg'] if found else 0
print('ready', flush=True)
while True:
    nimg += 1
    folder.save(nimg, {'a': np.full([50000], nimg), 'b': np.full([3], nimg)}, {'nimg': nimg})
    print(nimg, flush=True)
'''


def _kill_writers(folder, times):
    """Start a writer, kill it at a random moment, look; again and again."""
    chance, newest = random.Random(1), 0
    for _ in range(times):
        writer = subprocess.Popen([sys.executable, '-c', WRITER, folder], cwd=config.ROOT, stdout=subprocess.PIPE,
                                  universal_newlines=True)
        assert writer.stdout.readline() == 'ready\n'
        writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        writer.kill()
        told = [int(line) for line in writer.communicate()[0].splitlines(keepends=True) if line.endswith('\n')]
        found = Checkpoints(folder).load_newest()
        assert found.facts['nimg'] > newest and found.facts['nimg'] >= max(told, default=0)
        newest = found.facts['nimg']
        assert (found.arrays['a'] == newest).all() and (found.arrays['b'] == newest).all()
        assert all(name.endswith('.npz') for name in os.listdir(os.path.join(folder, 'checkpoints')))
        assert len(os.listdir(os.path.join(folder, 'checkpoints'))) <= 4    # killed before the oldest was dropped


def test_killed_writers_lose_nothing(tmp_path):
    _kill_writers(str(tmp_path), 5)


@pytest.mark.slow
def test_many_killed_writers_lose_nothing(tmp_path):
    _kill_writers(str(tmp_path), 200)
