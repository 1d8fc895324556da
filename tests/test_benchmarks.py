"""The table of all benchmarks: records are kept and compared, what fell is marked."""

import json
import os
import re

import numpy as np
import pytest

from benchmarks import all as all_benchmarks
from benchmarks import budget, common
from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.util import UserError


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


def test_every_benchmark_is_found_and_records():
    assert {'face', 'networks', 'train', 'vae'} <= set(all_benchmarks.names())
    assert not {'all', 'budget', 'common'} & set(all_benchmarks.names())
    assert sorted(all_benchmarks.QUICK) == all_benchmarks.names()
    for name in all_benchmarks.names():
        with open(os.path.join(all_benchmarks.FOLDER, name + '.py'), encoding='utf-8') as file:
            assert re.search(r'\brecord(_timings)?\(', file.read()), name


def test_a_quick_run_gives_rows_and_names_what_failed(monkeypatch, capfd):
    monkeypatch.setitem(all_benchmarks.QUICK, 'rasterize', ['--no-such-option'])
    monkeypatch.setattr('sys.argv', ['all.py', '--quick', '--only', 'rasterize', 'dataset_tool'])
    with pytest.raises(UserError, match=r'benchmarks/rasterize.py \(exit code 2\) failed'):
        all_benchmarks.main()
    rows = [line.split('|')[1:3] for line in capfd.readouterr().out.splitlines() if line.startswith('| ')]
    numbers = dict([cell.strip() for cell in row] for row in rows)
    assert re.match(r'[0-9.]+(e\+[0-9]+)? images/s$', numbers['dataset, read'])
    monkeypatch.setattr('sys.argv', ['all.py', '--quick', '--save'])
    with pytest.raises(UserError, match='--quick and --save'):
        all_benchmarks.main()


def test_shares_of_the_machine():
    rows = budget.shares({'D step': 2e9}, 1e11, {'D step': 80.0})
    assert rows == {'D step, GFLOP by hand': 2.0, "D step, ms at the machine's rate": 20.0,
                    'D step, share of the rate': 0.25}


def test_the_rate_of_the_machine_is_that_of_work_done(tf_session):
    assert all(1e8 < rate < 1e14 for rate in budget.machine_rate(repeats=1))


@pytest.mark.parametrize('active', [32, 64])
def test_operations_by_hand_are_those_of_the_graph(active):
    options = dict(fmap_base=512, fmap_max=48)
    more = dict(options, dlatent_size=64, mapping_fmaps=64, mapping_layers=4)
    with tf.Graph().as_default(), tf.Session(), layers.use_data_format('NHWC'):
        G = Network('G', 'training.networks_stylegan.G_style', latent_size=286, resolution=active, **more)
        G.get_output_for(tf.zeros([1, 286]), None, structure='fixed')
        by_graph = _operations()
        D = Network('D', 'training.networks_stylegan.D_basic', resolution=active, num_channels=3, **options)
        D.get_output_for(tf.zeros([1, 3, active, active]), None, structure='fixed')
        by_graph_of_D = _operations() - by_graph
    assert budget.generator_operations(more, active) == pytest.approx(by_graph, rel=0.03)
    assert budget.discriminator_operations(options, active) == pytest.approx(by_graph_of_D, rel=0.03)


def _operations():
    """Multiplications and additions of convolutions and products in the graph, for one picture."""
    total = 0.0
    for op in tf.get_default_graph().get_operations():
        if op.outputs and op.outputs[0].shape.ndims and op.outputs[0].shape.as_list()[0] is None:
            continue                                # of the networks' templates
        if op.type == 'Conv2D':
            kernel, out = op.inputs[1].shape.as_list(), op.outputs[0].shape.as_list()
            total += 2.0 * np.prod(kernel) * np.prod(out[1:3])
        elif op.type == 'Conv2DBackpropInput':      # a transposed convolution
            total += 2.0 * np.prod(op.inputs[1].shape.as_list()) * np.prod(op.inputs[2].shape.as_list()[1:3])
        elif op.type == 'MatMul' and op.outputs[0].shape.as_list()[0] == 1:
            total += 2.0 * op.inputs[0].shape.as_list()[1] * op.outputs[0].shape.as_list()[1]
    return total
