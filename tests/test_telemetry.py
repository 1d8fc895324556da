"""What a person sees: means, the line of a tick, stats.jsonl over several lives, TensorBoard's files."""

import glob
import json
import math

import numpy as np
import pytest

from dnnlib import pictures
from dnnlib.tflib.autosummary import Means
from dnnlib.tflib.compat import tf
from training import telemetry
from training.telemetry import Telemetry, duration, tick_line

PROGRESS = dict(tick=3, nimg=4200, kimg=4.2, tick_kimg=1.4, lod=2.25, minibatch=16, resolution=16, seconds=3723.0,
                tick_seconds=70.0, maintenance_seconds=1.25)


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
    line = tick_line(dict(PROGRESS, gpumem=1.5))
    assert line.split() == ('tick 3 kimg 4.2 lod 2.25 minibatch 16 time 1h 02m 03s sec/tick 70.0 sec/kimg 50.00 '
                            'maintenance 1.2 gpumem 1.5').split()
    longer = tick_line(dict(PROGRESS, tick=12, kimg=12345.6, minibatch=128, gpumem=12.5))
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
        first.step(1400 * tick, {'Loss/D': tick, 'Loss/scores/real': math.nan})
        first.step(1400 * tick, {'Loss/G': 2.0 * tick})
        first.show(1400 * tick)
        first.tick(dict(PROGRESS, tick=tick, nimg=1400 * tick), {'TrainG/learning_rate': 0.5})
    pictures.save_image(np.zeros([4, 6, 3], np.uint8), str(tmp_path / 'a.png'))
    first.picture('fakes', str(tmp_path / 'a.png'), 4200)
    first.close()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ['1', '2', '3']
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
    second.tick(dict(PROGRESS), {})
    second.close()
    assert [e['Loss/G'] for e in _entries(tmp_path)] == [2, 4, 7]
    assert ('start', 2800) in _events(tmp_path)


def test_other_hosts_show_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = Telemetry(None, 0, 100)
    silent.step(50, {'Loss/G': 1.0})
    silent.show(50)
    silent.tick(PROGRESS, {})
    silent.say('nothing')
    silent.close()
    assert capsys.readouterr() == ('', '') and glob.glob(str(tmp_path / '*')) == []


def test_a_full_disk_is_told(tmp_path, capsys):
    told = Telemetry(str(tmp_path), 0, 100)
    (tmp_path / telemetry.STATS).mkdir()                        # a folder in the way, for want of a full disk
    told.tick(PROGRESS, {})
    told.close()
    assert 'warning: stats.jsonl could not be written' in capsys.readouterr().out
