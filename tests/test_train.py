"""train.py: both stages on small worlds; a run that dies again and again equals one that does not."""

import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import time
import types

import numpy as np
import pytest

import config as paths
import train
from dnnlib.util import EasyDict, UserError
from tests.test_distributed import free_ports
from tests.training_lives import FLAT, MINIBATCH, PER_LOOK, Lives, Place, read_stats, train_here
from training import configs, snapshots
from training.checkpoints import FOLDER as CHECKPOINTS
from training.checkpoints import Checkpoints, existing, newest_facts
from vae.model import Decoders
from worlds import label

WAIT = 400      # seconds for a life to get anywhere, on a machine that does much else


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('training'))


@pytest.fixture(scope='module')
def lives():
    return Lives()


@pytest.fixture(scope='module')
def whole(place, lives):
    """Directory of a run that was never interrupted, and what it printed."""
    printed = _one_life(place, lives, place.options())
    return place.run_dir(0), printed


def _one_life(place, lives, options):
    """train.py in a process of its own, to the end -> what it printed.

    Runs are compared number by number, which the threads of TensorFlow decide; in this process another test did.
    """
    output = os.path.join(place.folder, 'whole.txt')
    process = lives.start(options, output)
    process.join()
    with open(output) as file:
        printed = file.read()
    assert process.exitcode == 0, printed
    return printed


# ---- one whole life

def test_what_a_run_leaves(whole, place):
    run_dir, printed = whole
    assert os.path.basename(run_dir) == '00000-sgan-tiny-cpu'
    names = set(os.listdir(run_dir))
    assert {'log.txt', 'config.txt', 'submit_config.json', 'submit_config.txt', 'run.txt', 'reals.png', 'stats.jsonl',
            'fakes000000.png', 'network-snapshot-000000.pkl', 'network-final.pkl', 'network-final-world.json',
            '_finished.txt', 'checkpoints', 'vae'} <= names
    assert not [name for name in names if name.startswith('.')]
    with open(os.path.join(run_dir, 'submit_config.json')) as file:
        assert json.load(file)['data_dir'] == place.dataset
    with open(os.path.join(run_dir, 'log.txt')) as file:
        log = file.read()
    lines, seen = [[line for line in text.splitlines() if line.startswith('tick ')] for text in (log, printed)]
    assert [line.split()[1] for line in lines] == [str(i + 1) for i in range(25)] and lines == seen
    assert len(existing(run_dir)) == 3
    networks = newest_facts(run_dir)['networks']
    assert [entry['name'] for entry in networks] == ['G', 'D', 'Gs'] and networks[0]['static_kwargs']['coeff_scale']
    facts = label.read_model(os.path.join(run_dir, 'network-final.pkl'))
    assert (facts['world'], facts['vae_weights']) == ('human', 'vae') and os.path.isdir(facts['face_model'])
    assert {os.path.basename(path) for path, _, _ in os.walk(os.path.join(run_dir, 'vae'))} == {
        'vae', 'id', 'exp', 'gamma', 'rot'}
    assert label.read(os.path.join(run_dir, 'vae')) == 'human'


def test_growing_and_numbers_of_a_run(whole):
    stats = read_stats(whole[0])
    assert [entry['nimg'] for entry in stats] == list(range(PER_LOOK, 400 + 1, PER_LOOK))
    assert [entry['tick'] for entry in stats] == list(range(1, 26))
    lods = [entry['lod'] for entry in stats]
    assert lods[:6] == [1] * 6 and lods[6] == pytest.approx(0.9) and lods[-1] == 0 and lods == sorted(lods)[::-1]
    assert {entry['minibatch'] for entry in stats} == {MINIBATCH}
    for name in ('Loss/G', 'Loss/D', 'Loss/l1_loss', 'Loss/scores/real', 'Loss/scores/fake', 'Loss/r1_penalty'):
        assert all(np.isfinite(entry[name]) for entry in stats), name
    assert {entry['TrainG/overflow_frequency'] + entry['TrainD/overflow_frequency'] for entry in stats} == {0.0}


def test_generator_follows_its_renders(whole):
    """L1 to the render is what 100 steps can learn."""
    losses = [entry['Loss/l1_loss'] for entry in read_stats(whole[0])]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_snapshots_are_measured(place):
    """Two snapshots: what is told of them, and where."""
    from dnnlib.tflib.compat import tf
    options = place.options('measured', total_kimg=2 * PER_LOOK / 1000, **FLAT)
    results = os.path.join(place.folder, 'measured')
    code, printed = train_here(options + ['--result_dir', results, '--metrics', 'slope,fid', '--metrics_num', '8'])
    run_dir = os.path.join(results, '00000-sgan-measured-cpu')
    assert code == 0
    with open(os.path.join(run_dir, 'metrics.jsonl')) as file:
        found = [json.loads(line) for line in file]
    assert sorted({(entry['nimg'], entry['metric']) for entry in found}) == [
        (PER_LOOK, 'fid'), (PER_LOOK, 'slope'), (2 * PER_LOOK, 'fid'), (2 * PER_LOOK, 'slope')]
    assert all(np.isfinite(entry['value']) for entry in found)
    for name, words in (('metric-fid8.txt', ['fid8']), ('metric-slope.txt', ['identity', 'expression', 'pose'])):
        with open(os.path.join(run_dir, name)) as file:
            lines = file.read().splitlines()
        assert len(lines) == 2 and all(line in printed for line in lines)
        assert all(word in line for word in words for line in lines)
    tags = {value.tag for name in os.listdir(run_dir) if name.startswith('events')
            for event in tf.train.summary_iterator(os.path.join(run_dir, name)) for value in event.summary.value}
    assert {'Metrics/fid8', 'Metrics/slope/lighting'} <= tags


# ---- many lives

def _wait(process, output, until):
    """Until something is true; an error when the process ends before. False when it ended in peace."""
    end = time.monotonic() + WAIT
    while not until():
        process.join(0.02)
        if process.exitcode is not None:
            with open(output) as file:
                assert process.exitcode == 0, file.read()
            return False
        assert time.monotonic() < end, f'nothing happened for {WAIT} s; see {output}'
    return True


def _newest(run_dir):
    """Images of the newest checkpoint's name; without the tidying that a Checkpoints does when it is made."""
    folder = os.path.join(run_dir, CHECKPOINTS)
    names = [name for name in os.listdir(folder) if name.endswith('.npz')] if os.path.isdir(folder) else []
    return max([int(name[len('checkpoint-'):-len('.npz')]) for name in names] or [0])


class Chain:
    """A run that lives many times, in a results folder of its own."""

    def __init__(self, place, lives, name, options):
        self.lives, self.results = lives, os.path.join(place.folder, name)
        self.output = os.path.join(place.folder, name + '.txt')
        self.options = options + ['--result_dir', self.results]
        self.process = None

    @property
    def run_dir(self):
        names = os.listdir(self.results) if os.path.isdir(self.results) else []
        return os.path.join(self.results, names[0]) if names else self.results

    def start(self):
        """The first life, or one more; False when it ended before it wrote a new checkpoint."""
        there = _newest(self.run_dir)
        again = ['--resume', 'latest', '--result_dir', self.results]
        self.process = self.lives.start(again if there else self.options, self.output)
        return _wait(self.process, self.output, lambda: _newest(self.run_dir) > there)

    def end(self, number, after=0.0):
        """Send a signal after a while -> exit code."""
        time.sleep(after)
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)
        self.process.join()
        return self.process.exitcode

    def check(self, before):
        """After a death: the newest checkpoint loads, at most one interval is lost. Returns its images."""
        shown = [entry['nimg'] for entry in read_stats(self.run_dir)]
        nimg = Checkpoints(self.run_dir).load_newest().facts['nimg']
        assert nimg > before and nimg >= shown[-1] - PER_LOOK
        return nimg

    def kill(self, times, seed):
        """So many lives, each killed at a random moment after its first checkpoint."""
        chance, nimg = random.Random(seed), 0
        for _ in range(times):
            assert self.start(), 'the run ended too soon to be killed'
            assert self.end(signal.SIGKILL, chance.uniform(0, 0.4)) == -signal.SIGKILL
            nimg = self.check(nimg)


def _same_losses(one, other):
    """Entries of stats.jsonl of the same images have the same losses; `other` may end earlier."""
    assert [entry['nimg'] for entry in one[:len(other)]] == [entry['nimg'] for entry in other]
    for a, b in zip(one, other):
        names = [name for name in a if name.startswith('Loss/')]
        assert len(names) >= 6
        np.testing.assert_allclose([a[name] for name in names], [b[name] for name in names], rtol=1e-4, atol=1e-4)


def test_killed_lives_equal_one(place, lives, whole):
    chain = Chain(place, lives, 'chain', place.options())
    chain.kill(5, seed=2)
    assert chain.start(), 'the run ended too soon to be aborted'
    with open(os.path.join(chain.run_dir, 'abort.txt'), 'w'):
        pass
    chain.process.join()
    assert chain.process.exitcode == 0
    assert {'_finished.txt', 'network-final.pkl'} <= set(os.listdir(chain.run_dir))
    assert not [name for name in os.listdir(chain.run_dir) if name.startswith('.')]
    _same_losses(read_stats(whole[0]), read_stats(chain.run_dir))
    with pytest.raises(UserError, match='abort.txt first'):
        train.resume(train.parse_options(['--resume', chain.run_dir]))


# ---- stage 2, several devices, SIGTERM

@pytest.fixture(scope='module')
def flat_snapshot(place):
    """A snapshot of untrained networks that do not grow."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from training import graph
    config = configs.load(place.options('flat', **FLAT)[1])
    path = os.path.join(place.folder, 'network-snapshot-000000.pkl')
    with tf.Graph().as_default(), tfutil.create_session(threads=2):
        snapshots.save_networks(graph.new_networks(config, 3, 32), path)
    label.write_model(path, 'human')
    return path


def _stage_2(place, snapshot, devices):
    return place.options('flat2', full_resolution=16, stage2_kimg=50, **FLAT) + [
        '--stage', '2', '--run_id', snapshot, '--cpu_devices', str(devices)]


def test_stage_2_on_two_devices_until_sigterm(place, lives, flat_snapshot):
    chain = Chain(place, lives, 'stage2', _stage_2(place, flat_snapshot, 2))
    assert chain.start(), 'it ended by itself'
    assert chain.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert os.path.basename(chain.run_dir) == '00000-sgan-flat2-cpu-stage2'
    assert 'network-final.pkl' not in os.listdir(chain.run_dir) and '_finished.txt' not in os.listdir(chain.run_dir)
    entries = read_stats(chain.run_dir)
    assert chain.check(0) == entries[-1]['nimg']                        # nothing is lost
    with open(os.path.join(chain.run_dir, 'log.txt')) as file:
        assert f'stopped; go on with: python train.py --resume {chain.run_dir}' in file.read()
    names = {'Loss/' + name for name in (
        'G', 'D', 'scores/real', 'scores/fake', 'r1_penalty', 'l1_loss', 'skin_loss', 'lm_loss', 'gamma_loss',
        'id_loss', 'Exp_warp_loss', 'Hair_region_loss', 'ID_consistent_loss', 'Lm_consistent_loss')}
    assert {name for name in entries[0] if name.startswith('Loss/')} == names
    assert all(np.isfinite(entries[0][name]) for name in names)
    assert (entries[0]['nimg'], entries[0]['lod']) == (PER_LOOK, 0)


@pytest.mark.slow
def test_stage_2_goes_on_without_its_snapshot(place, lives, flat_snapshot):
    snapshot = os.path.join(place.folder, 'network-snapshot-000001.pkl')
    shutil.copy(flat_snapshot, snapshot)
    label.write_model(snapshot, 'human')
    chain = Chain(place, lives, 'alone', _stage_2(place, snapshot, 1))
    nimg = 0
    for _ in range(2):
        assert chain.start(), 'it ended by itself'
        assert chain.end(signal.SIGTERM) == 128 + signal.SIGTERM
        nimg = chain.check(nimg)
        if os.path.exists(snapshot):
            os.remove(snapshot)
    assert [entry['nimg'] for entry in read_stats(chain.run_dir)] == list(range(1000 + PER_LOOK, nimg + 1, PER_LOOK))


@pytest.mark.parametrize('options,changes,message', [
    (['--noise_dim', '5'], {}, 'its noise vector has 32 numbers, not 5; give --noise_dim 32'),
    ([], dict(resolution=8, initial_resolution=8), '16 pixels and 3 channels, but 8 and 3 are wanted'),
    (['--run_id', 'BROKEN'], {}, 'broken.pkl: '),
])
def test_a_snapshot_that_does_not_fit_is_refused_before_anything_is_written(
        place, tmp_path, flat_snapshot, options, changes, message):
    broken, results = str(tmp_path / 'broken.pkl'), str(tmp_path / 'results')
    with open(flat_snapshot, 'rb') as file, open(broken, 'wb') as other:
        other.write(file.read()[:5000])
    label.write_model(broken, 'human')
    options = [broken if x == 'BROKEN' else x for x in options]
    for last in ([], ['--dry-run']):
        with pytest.raises(UserError, match=message):
            train_here(place.options('misfit', **dict(FLAT, **changes)) + [
                '--stage', '2', '--run_id', flat_snapshot, '--kimg', '0', '--result_dir', results] + options + last)
    assert not os.path.exists(results)


def test_networks_are_described_to_be_built_again(tf_session, flat_snapshot):
    nets = [snapshots.load_networks(flat_snapshot)]
    described = json.loads(json.dumps(snapshots.describe_networks(nets[0])))
    nets.append(snapshots.build_networks(described, 'here'))
    for one, other in zip(*nets):
        assert [(name, v.shape) for name, v in one.vars.items()] == [(name, v.shape) for name, v in other.vars.items()]
        assert (one.static_kwargs, one.build_func_name) == (other.static_kwargs, other.build_func_name)
    assert 'coeff_scale' not in described[0]['components']['synthesis']['static_kwargs']
    del described[1]['static_kwargs']
    with pytest.raises(UserError, match='here: its description of the networks is damaged'):
        snapshots.build_networks(described, 'here')
    with pytest.raises(UserError, match='16 pixels and 3 channels, but 16 and 1 are wanted'):
        snapshots.check_fits(flat_snapshot, 16, 1, 32)


def test_a_run_of_stage_2_that_holds_its_networks_needs_no_snapshot(place, tmp_path, tf_session, flat_snapshot):
    from training import training_loop
    options = train.resolve(train.parse_options(_stage_2(place, flat_snapshot, 1)))
    options.snapshot = str(tmp_path / 'gone.pkl')
    described = snapshots.describe_networks(snapshots.load_networks(flat_snapshot))
    for nimg, facts in enumerate((None, {}, {'networks': None})):       # a run of an earlier version
        if facts is not None:
            Checkpoints(str(tmp_path)).save(nimg, {}, facts)
        with pytest.raises(UserError, match='gone.pkl: no such file'):
            train.check_files(options, str(tmp_path))
    Checkpoints(str(tmp_path)).save(9, {}, {'networks': described})
    train.check_files(options, str(tmp_path))
    context = types.SimpleNamespace(noise_dim=32, config=options.config)
    nets = training_loop._networks(None, context, 3, options.snapshot, EasyDict(networks=described))
    assert snapshots.describe_networks(nets) == described


# ---- several hosts

def _pair(place, lives, options):
    """Two processes on this machine that train together, to their end -> what the worker printed."""
    ports = free_ports(3)
    cluster = {'chief': [f'127.0.0.1:{ports[0]}'], 'worker': [f'127.0.0.1:{ports[1]}']}
    outputs = [os.path.join(place.folder, f'{job}-{ports[0]}.txt') for job in cluster]
    processes = [lives.start(options, output, DISCO_HEARTBEAT_PORT=str(ports[2]), TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': job, 'index': 0}})) for job, output in zip(cluster, outputs)]
    texts = []
    for process, output in zip(processes, outputs):
        process.join()
        with open(output) as file:
            texts.append(file.read())
    assert [process.exitcode for process in processes] == [0, 0], texts
    return texts[1]


def test_two_processes_train_together(place, lives):
    results = os.path.join(place.folder, 'pair')
    options = place.options('pair', total_kimg=2 * PER_LOOK / 1000, **FLAT) + ['--result_dir', results]
    worker = _pair(place, lives, options)
    assert re.search(r'2 hosts joined: chief 0 \(127.0.0.1:\d+\): 1 x CPU, worker 0 \(127.0.0.1:\d+\): 1 x CPU', worker)
    assert 'tick 1 ' not in worker and 'run directory' not in worker
    assert os.listdir(results) == ['00000-sgan-pair-cpu']               # only the chief writes
    entries = read_stats(os.path.join(results, '00000-sgan-pair-cpu'))
    assert [entry['nimg'] for entry in entries] == [PER_LOOK, 2 * PER_LOOK]


@pytest.mark.slow
def test_two_processes_resume(place, lives):
    """Three looks at once, and two plus one after a new start of both processes: the same losses."""
    found = []
    for name, lengths in (('together', (3,)), ('apart', (2, 3))):
        results = os.path.join(place.folder, name)
        for i, length in enumerate(lengths):
            end = ['--total_kimg', str(length * PER_LOOK / 1000), '--result_dir', results]
            _pair(place, lives, (['--resume', 'latest'] if i else place.options('pair', **FLAT)) + end)
        found.append(read_stats(os.path.join(results, '00000-sgan-pair-cpu')))
    assert len(found[0]) == 3
    _same_losses(*found)


# ---- soak

@pytest.mark.slow
def test_fifty_kills(place, lives):
    """As in the short test, but 50 times, and to the end."""
    options = place.options('long', total_kimg=50 * 8 * PER_LOOK / 1000)
    _one_life(place, lives, options)
    chain = Chain(place, lives, 'fifty', options)
    chain.kill(50, seed=3)
    chain.start()
    chain.process.join()
    assert chain.process.exitcode == 0
    whole = next(name for name in os.listdir(place.results) if '-long-' in name)
    _same_losses(read_stats(os.path.join(place.results, whole)), read_stats(chain.run_dir))


@pytest.mark.slow
def test_memory_stays(place, monkeypatch):
    """Resident memory at step 2500 within 1% of step 500."""
    from training import telemetry
    sizes = {}

    def remember(self, nimg, terms):
        step = nimg // MINIBATCH
        if step in (500, 2500):
            gc.collect()
            with open('/proc/self/statm') as file:
                sizes[step] = int(file.read().split()[1]) * resource.getpagesize()
        return original(self, nimg, terms)
    original = telemetry.Telemetry.step
    monkeypatch.setattr(telemetry.Telemetry, 'step', remember)
    options = place.options('memory', total_kimg=2510 * MINIBATCH / 1000, tick_kimg=1, **FLAT)
    assert train_here(options + ['--checkpoint_minutes', '0.1'])[0] == 0
    print(f'resident memory: {sizes}')
    assert abs(sizes[2500] / sizes[500] - 1) < 0.01


# ---- what goes wrong on the way

def test_gradients_that_are_never_finite_end_the_run(tf_session):
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.optimizer import Optimizer
    from training import graph
    weight, slope = tf.Variable([1.0, 2.0]), tf.placeholder(tf.float32, [])
    optimizer = Optimizer('TrainG', 0.1)
    optimizer.register(tf.reduce_sum(weight * slope), {'weight': weight})
    op = optimizer.apply()
    with tf.control_dependencies([op]):
        step = dict(op=op, values={'Loss/G': tf.reduce_sum(weight)}, left_out=optimizer.overflow_streak.read_value())
    tf_session.run(tf.global_variables_initializer())
    for x in [np.inf, np.nan] * 30 + [1.0] + [np.nan] * (graph.MOST_LEFT_OUT - 1):
        values = graph.run_step('TrainG', step, {slope: x})
        assert values['TrainG/overflow_frequency'] == float(not np.isfinite(x))
    with pytest.raises(UserError, match='last 100 gradients of TrainG were not finite'):
        graph.run_step('TrainG', step, {slope: np.nan})


def test_who_loses_another_hears_how_to_go_on(tmp_path, capsys):
    from training import training_loop
    said = []
    cluster = types.SimpleNamespace(on_lost=said.append)
    elsewhere = str(tmp_path / 'on another host')
    for run_dir in (str(tmp_path), elsewhere):
        training_loop._advise_when_lost(cluster, run_dir)
    said[0]()
    assert 'nothing to resume: start all processes as before' in capsys.readouterr().err
    Checkpoints(str(tmp_path)).save(1, {}, {})
    for advise, run_dir in zip(said, (str(tmp_path), elsewhere)):
        advise()
        assert capsys.readouterr().err == f'go on with, on all hosts: python train.py --resume {run_dir}\n'


def test_errors_of_tensorflow_are_explained():
    from dnnlib.tflib.compat import tf
    from training import training_loop
    dataset = types.SimpleNamespace(explain=lambda error: UserError('d-r04.tfrecords: record 2 has a wrong checksum'))
    with pytest.raises(UserError, match='record 2'), training_loop._explained_by(dataset):
        raise tf.errors.DataLossError(None, None, 'corrupted record at 2000')
    with pytest.raises(UserError, match='out of memory'), training_loop._explained_by(dataset):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')


@pytest.mark.parametrize('error,reason', [
    (ValueError('a\nb'), 'ValueError: a'), (np.linalg.LinAlgError('did not converge'), 'LinAlgError: did not converge'),
    (MemoryError(), 'MemoryError: no further words'), (UserError('a.pkl: damaged'), 'a.pkl: damaged')])
def test_a_failed_measurement_does_not_end_the_training(tmp_path, monkeypatch, error, reason):
    from metrics import evaluation
    from training.run_writer import RunWriter
    said = []

    def fail(*_):
        raise error
    monkeypatch.setattr(evaluation.metric_base, 'measure', fail)
    measure = evaluation.Evaluation(str(tmp_path), None, 'fid', 8, None, None, {}).measure
    writer = types.SimpleNamespace(_telemetry=types.SimpleNamespace(say=said.append))
    assert RunWriter._try(writer, measure, 'a.pkl', 16, must=False) is False
    assert len(said) == 1 and reason in said[0] and 'training goes on' in said[0] and '\n' not in said[0]


def test_what_cannot_be_written_ends_the_run_only_at_the_end():
    from training.run_writer import RunWriter
    said = []
    writer = types.SimpleNamespace(_telemetry=types.SimpleNamespace(say=said.append))

    def full(path):
        raise UserError(f'{path}: could not be written (No space left on device)')
    assert RunWriter._try(writer, full, 'a.pkl', must=False) is False
    assert said == ['warning: a.pkl: could not be written (No space left on device); training goes on']
    with pytest.raises(UserError, match='No space'):
        RunWriter._try(writer, full, 'a.pkl', must=True)
    assert RunWriter._try(writer, said.append, 'b', must=True) is True


def test_unit_scale_leaves_residue_small():
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from training import graph
    with tf.Graph().as_default(), tfutil.create_session(threads=2):
        decoders = Decoders(os.path.join(paths.ROOT, 'human', 'weights', 'vae'))
        scale = np.array(graph.unit_scale(decoders, 5))
        spread = decoders.run(np.random.RandomState(3).standard_normal([2000, 179])).std(axis=0)
    assert scale.shape == (259,) and (scale[254:] == 1).all()
    scaled = spread * scale[:254]
    assert (scaled < 1.1).all() and scaled[[225, 227]].min() > 0.8          # yaw, brightness
    unused = spread[160:224] < 0.05                 # 12 of 64 expression columns are empty, as many hardly move
    assert 20 <= unused.sum() <= 40 and scaled[160:224][unused].max() < 0.1
