"""The table of all benchmarks: records are kept and compared, what fell is marked."""

import json

from benchmarks import all as all_benchmarks
from benchmarks import common


def test_numbers_are_recorded_where_asked(tmp_path, monkeypatch):
    monkeypatch.delenv(common.RECORDING, raising=False)
    common.record('a', 1, 'ms')                 # nobody asked
    monkeypatch.setenv(common.RECORDING, str(tmp_path / 'record'))
    common.record('a', 1, 'ms')
    common.record('b', 2.5, 'images/s')
    lines = (tmp_path / 'record').read_text().splitlines()
    assert [json.loads(line) for line in lines] == [['a', 1.0, 'ms'], ['b', 2.5, 'images/s']]


def test_slower_numbers_are_marked():
    found = {'t': [12.0, 'ms'], 'r': [80.0, 'images/s'], 'same': [1.0, 's'], 'new': [3.0, 'ms'], 'unit': [1.0, 'ms']}
    recorded = {'t': [10.0, 'ms'], 'r': [100.0, 'images/s'], 'same': [1.1, 's'], 'unit': [1.0, 's']}
    rows = {row[0]: row[1:] for row in all_benchmarks.comparison(found, recorded)[1:]}
    assert rows['t'] == ['12 ms', '10 ms', '0.83', 'SLOWER']
    assert rows['r'] == ['80 images/s', '100 images/s', '0.80', 'SLOWER']
    assert rows['same'][2:] == ['1.10', '']
    assert rows['new'] == ['3 ms', '', '', ''] and rows['unit'][1:] == ['', '', '']


def test_kind_of_machine_names_what_speeds_depend_on():
    assert 'cores' in common.machine_kind('2.21') and common.machine_kind('2.21').endswith('TensorFlow 2.21')


def test_every_benchmark_is_found():
    assert {'face', 'networks', 'train', 'vae'} <= set(all_benchmarks.names())
    assert not {'all', 'common'} & set(all_benchmarks.names())
