"""What a person sees: means, the line of a tick, stats.jsonl over several lives, TensorBoard's files."""

import contextlib
import glob
import json
import math
import os
import resource
import signal
import sys

import numpy as np
import pytest

from dnnlib import pictures
from dnnlib.tflib.autosummary import Means
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from training import telemetry
from training.schedule import State
from training.telemetry import Telemetry, duration, tick_line

PROGRESS = dict(tick=3, nimg=4200, tick_start_nimg=2800, seconds=3723.0, tick_seconds=70.0, maintenance_seconds=1.25)
LINE = dict(PROGRESS, kimg=4.2, tick_kimg=1.4, lod=2.25, minibatch=16, resolution=16)
NOW = State(kimg=4.2, lod=2.25, resolution=16, minibatch=16, learning_rate=0.5, tick_kimg=1.4)


def test_means_return_what_they_are_told():
    means = Means()
    assert [means.report('a', x) for x in (1.0, 2.0, 6.0)] == [1.0, 2.0, 6.0]
    assert means.report_all({'b': np.float32(4), 'c': math.nan})['b'] == 4
    means.report('a', math.inf)
    half = Means()
    half.restore(json.loads(json.dumps(means.state())))
    half.report('a', 7.0)
    assert half.collect()['a'] == 4.0 and half.collect() == {}
    found = means.collect()
    assert list(found) == ['a', 'b', 'c'] and (found['a'], found['b']) == (3.0, 4.0) and math.isnan(found['c'])


@pytest.mark.parametrize('seconds,text', [(0.4, '0s'), (59.6, '1m 00s'), (3599, '59m 59s'), (3600, '1h 00m 00s'),
                                          (86399.7, '1d 00h 00m'), (26 * 86400 + 3 * 3600, '26d 03h 00m')])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_a_tick():
    line = tick_line(dict(LINE, gpumem=1.5))
    assert line.split() == ('tick 3 kimg 4.2 lod 2.25 minibatch 16 time 1h 02m 03s sec/tick 70.0 sec/kimg 50.00 '
                            'maintenance 1.2 gpumem 1.5').split()
    longer = tick_line(dict(LINE, tick=12, kimg=12345.6, minibatch=128, gpumem=12.5))
    assert [line.index(word) for word in ('lod', 'sec/tick', 'gpumem')] == [
        longer.index(word) for word in ('lod', 'sec/tick', 'gpumem')]


def _events(folder):
    """(step, tag, scalar or None) of all event files, in order; ('start', step) for a new life."""
    found = []
    for path in sorted(glob.glob(str(folder / 'events*'))):
        for event in tf.train.summary_iterator(path):
            found += [('start', event.step)] if event.session_log.status == tf.SessionLog.START else []
            found += [(event.step, value.tag, value.simple_value if value.WhichOneof('value') == 'simple_value' else
                       value.image.width) for value in event.summary.value]
    return found


def _entries(folder):
    with open(str(folder / telemetry.STATS)) as file:
        return [json.loads(line) for line in file]


def test_a_life_after_another(tmp_path, capsys):
    first = Telemetry(str(tmp_path), 0, 10000)
    for tick in (1, 2, 3):
        first.step(1400 * tick, {'Loss/D': tick, 'Loss/scores/real': math.nan, 'Loss/G': 2.0 * tick})
        first.tick(dict(PROGRESS, tick=tick, nimg=1400 * tick, tick_start_nimg=1400 * (tick - 1)), NOW)
    pictures.save_image(np.zeros([4, 6, 3], np.uint8), str(tmp_path / 'a.png'))
    first.picture('fakes', str(tmp_path / 'a.png'), 4200)
    first.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith('tick')] == ['1', '2', '3']
    entries = _entries(tmp_path)
    assert [(e['nimg'], e['Loss/D'], e['Loss/G'], e['Loss/scores/real']) for e in entries] == [
        (1400, 1, 2, None), (2800, 2, 4, None), (4200, 3, 6, None)]
    assert entries[0]['TrainG/learning_rate'] == 0.5 and entries[0]['Resources/peak_memory_gb'] > 0
    found = _events(tmp_path)
    assert (2800, 'Loss/G', 4.0) in found and (4200, 'fakes', 6) in found and ('start', 0) not in found

    with open(str(tmp_path / telemetry.STATS), 'a') as file:
        file.write('{"nimg": 28')                               # the power failed here
    second = Telemetry(str(tmp_path), 2800, 10000)              # goes on from a checkpoint before the last tick
    assert _entries(tmp_path) == entries[:2]
    second.step(4200, {'Loss/G': 7.0})
    second.tick(PROGRESS, NOW)
    second.close()
    assert [e['Loss/G'] for e in _entries(tmp_path)] == [2, 4, 7]
    assert ('start', 2800) in _events(tmp_path)


def test_losses_and_speed_from_the_first_step_on(tmp_path, capsys, monkeypatch):
    """Lines for whoever has no terminal: at once, after 5 s, then ever more seldom."""
    clock = [100.0]
    monkeypatch.setattr(telemetry.time, 'monotonic', lambda: clock[0])
    told = Telemetry(str(tmp_path), 1000, 100000)
    seconds = [0, 2, 5, 8, 15, 20, 35, 36] + list(range(40, 3000, 10))
    for second in seconds:
        clock[0] = 100.0 + second
        told.step(1000 + 16 * second, {'Loss/D': 2.0, 'Loss/G': 1.0})
    told.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ['kimg 1.0 of 100: G 1.000, D 2.000',
                         'kimg 1.1 of 100: G 1.000, D 2.000; 16.0 images/s, 1h 43m 02s left',
                         'kimg 1.2 of 100: G 1.000, D 2.000; 16.0 images/s, 1h 42m 52s left']
    shown = [float(line.split()[1]) for line in lines]
    assert len(lines) == 15 and shown[-1] - shown[-2] == pytest.approx(16 * 0.3, abs=0.11)


NVIDIA_SMI = """#!{python}
import sys
if '--query-compute-apps=pid,used_memory' in sys.argv:
    print('{apps}'.replace(';', chr(10)))
elif '--query-gpu=index,uuid,memory.used' in sys.argv:
    print('0, GPU-aa, 1024\\n1, GPU-bb, 2048\\n2, GPU-cc, 4096')
elif '--query-gpu=memory.used' in sys.argv:
    print('1024\\n2048\\n4096')
"""


@pytest.mark.parametrize('apps,visible,num_gpus,expected', [
    ('1, 9216;PID, 512;PID, 768', None, 2, 0.75),                       # another's process has more
    ('1, 9216', None, 2, 2.0), ('', '0', 1, 1.0), ('', 'GPU-b,0', 1, 2.0), ('', '2,1', 2, 4.0), ('', '', 1, 1.0),
    ('PID, [N/A]', None, 1, 0.0)])
def test_memory_of_this_process_alone(tmp_path, monkeypatch, apps, visible, num_gpus, expected):
    program = tmp_path / 'nvidia-smi'
    program.write_text(NVIDIA_SMI.format(python=sys.executable, apps=apps.replace('PID', str(os.getpid()))))
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert telemetry.gpu_memory_gb(num_gpus) == expected


def test_no_driver_no_memory(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert telemetry.gpu_memory_gb(1) == 0


def test_other_hosts_show_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = Telemetry(None, 0, 100)
    silent.step(50, {'Loss/G': 1.0})
    silent.say('nothing')
    silent.close()
    assert capsys.readouterr() == ('', '') and glob.glob(str(tmp_path / '*')) == []


def test_a_full_disk_is_told(tmp_path, capsys):
    told = Telemetry(str(tmp_path), 0, 100)
    (tmp_path / telemetry.STATS).mkdir()                        # a folder in the way, for want of a full disk
    told.tick(PROGRESS, NOW)
    told.close()
    assert 'warning: stats.jsonl could not be written' in capsys.readouterr().out


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_events_on_a_full_disk_are_one_line(tmp_path, capsys):
    """TensorFlow says it in its own ways, which must not end a training of days."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    told = Telemetry(str(tmp_path), 0, 100)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))        # the kernel refuses what is larger
        for tick in range(3000):
            told.scalars({f'Metrics/{tick}': 1.0}, tick)
        with contextlib.suppress(UserError):        # TensorFlow 1.15 does not notice
            told.tick(PROGRESS, NOW)
        told.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert 'tick 3' in capsys.readouterr().out
