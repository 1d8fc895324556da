"""Several devices and processes: equal gradients and parameters, lost processes, TF_CONFIG; all on loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import config
from dnnlib.heartbeat import Heartbeat, Limits
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import IS_TF1, tf
from dnnlib.util import UserError
from tests import distributed_worker
from tests.common import relative_l2
from training import distributed
from training.distributed import Cluster, read_tf_config

STEPS = 5
LONG = 120                  # seconds until a process is given up: on a busy machine 30 are not enough
ENDLESS = ['1000000', '--rest', '0.05']
QUICK = Limits(beat=0.2, silence=3, patience=1, start=1, wait=30, leave=5)


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind(('127.0.0.1', 0))
        return [probe.getsockname()[1] for probe in probes]


class Pair:
    """A chief and a worker, child processes on loopback, with their output."""

    def __init__(self, folder, arguments, *worker_only):
        folder.mkdir()
        self.folder = folder
        self.ports = free_ports(3)
        self.names = [f'{job} 0 (127.0.0.1:{port})' for job, port in zip(('chief', 'worker'), self.ports)]
        self.processes = [self._start('chief', arguments), self._start('worker', arguments + list(worker_only))]

    def _start(self, job, arguments):
        tf_config = {'cluster': {'chief': [f'127.0.0.1:{self.ports[0]}'], 'worker': [f'127.0.0.1:{self.ports[1]}']},
                     'task': {'type': job, 'index': 0}}
        environment = dict(os.environ, TF_CONFIG=json.dumps(tf_config), DISCO_HEARTBEAT_PORT=str(self.ports[2]))
        command = [sys.executable, '-m', 'tests.distributed_worker', str(self.folder / f'{job}.npz')] + arguments
        with open(self.path(job, 'out'), 'wb') as out, open(self.path(job, 'err'), 'wb') as err:
            return subprocess.Popen(command, cwd=config.ROOT, env=environment, stdout=out, stderr=err)

    def path(self, job, kind):
        return str(self.folder / f'{job}.{kind}')

    def text(self, job, kind):
        with open(self.path(job, kind), encoding='utf-8') as file:
            return file.read()

    def wait_for(self, text):
        """Until both have printed `text`."""
        for process, job in zip(self.processes, ('chief', 'worker')):
            end = time.monotonic() + 200
            while text not in self.text(job, 'out'):
                assert process.poll() is None and time.monotonic() < end, self.text(job, 'err')
                time.sleep(0.1)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture(scope='module', autouse=True)
def pairs(tmp_path_factory):
    """All runs with two processes, started at once: they come up and wait while other tests run."""
    folder = tmp_path_factory.mktemp('pairs')
    found = {}
    found['equal'] = Pair(folder / 'equal', [str(STEPS)])
    found['hung'] = Pair(folder / 'hung', ENDLESS, '--hang-at', '20')
    found['killed'] = Pair(folder / 'killed', ENDLESS)
    found['stopped'] = Pair(folder / 'stopped', ENDLESS)
    yield found
    for pair in found.values():
        pair.end()


# Equal numbers on one device and on several.


@pytest.fixture(scope='module')
def reference():
    """Gradient and parameters after 5 steps of SGD, with one device that computes the towers in turn."""
    with tf.Graph().as_default():
        towers = [distributed_worker.build(tf, '/device:CPU:0', replica) for replica in range(2)]
        (first, one), (second, two) = [(tf.gradients(loss, variables), variables) for loss, variables in towers]
        with tf.control_dependencies(first + second):       # no weight changes while a gradient still needs it
            means = [(a + b) / 2 for a, b in zip(first, second)]
        train = tf.group(*[v.assign_sub(0.05 * g) for variables in (one, two) for v, g in zip(variables, means)])
        with Cluster(num_gpus=0).session(threads=1) as session:
            session.run(tf.global_variables_initializer())
            gradient = distributed_worker.flat(session, means)
            for _ in range(STEPS):
                session.run(train)
            return gradient, distributed_worker.flat(session, one)


def test_two_devices_equal_one(reference):
    cluster = Cluster(logical_cpus=2)
    assert cluster.num_replicas == 2 and cluster.shard == (0, 1) and cluster.is_chief
    with tf.Graph().as_default():
        train, means, variables = distributed_worker.training(tf, cluster)
        with cluster.session(threads=2) as session:
            session.run(tf.global_variables_initializer())
            gradients = session.run(means)
            for mean in gradients:
                assert relative_l2(np.concatenate([g.ravel() for g in mean]), reference[0]) < 1e-5
            for _ in range(STEPS):
                session.run(train)
            copies = [distributed_worker.flat(session, v) for v in variables]
    np.testing.assert_array_equal(copies[0], copies[1])
    assert relative_l2(copies[0], reference[1]) < 1e-5


def test_all_reduce_keeps_structures_and_splits_into_buckets(monkeypatch):
    monkeypatch.setattr(distributed, 'BUCKET_BYTES', 40)
    cluster = Cluster(logical_cpus=3)
    with tf.Graph().as_default():
        towers = [{'a': tf.fill([3, 2], float(i)), 'b': [tf.fill([8], 10. * i), tf.constant(2 * i, tf.float64)],
                   'c': tf.zeros([0])} for i in range(3)]
        means = cluster.all_reduce(towers)
        sums = [op for op in tf.get_default_graph().get_operations() if op.type == 'CollectiveReduce']
        assert len(sums) == 3 * 3       # 24 bytes, 32 bytes (with the empty one), and one of float64
        with cluster.session(threads=2) as session:
            for mean in session.run(means):
                np.testing.assert_allclose(mean['a'], np.full([3, 2], 1.))
                np.testing.assert_allclose(mean['b'][0], np.full([8], 10.))
                assert mean['b'][1] == 2 and mean['c'].shape == (0,)


def test_broadcast_copies_every_type_from_the_first_device():
    cluster = Cluster(logical_cpus=2)
    values = [(np.float32(1.5), np.int64(12345678901), True), (np.float32(7), np.int64(3), False)]
    with tf.Graph().as_default():
        copies = [[tf.Variable(value) for value in row] for row in values]
        same = cluster.broadcast(copies)
        with cluster.session(threads=2) as session:
            session.run(tf.global_variables_initializer())
            session.run(same)
            assert session.run(copies) == [list(values[0])] * 2


def test_one_device_reduces_nothing():
    cluster = Cluster(num_gpus=0)
    with tf.Graph().as_default(), cluster.session():
        tower = [tf.constant([1., 2.])]
        assert cluster.all_reduce([tower]) == [tower]
        np.testing.assert_array_equal(cluster.vote(2).run([3, 4]), [3, 4])
        with cluster.maintenance('a pause'):
            pass


def test_bfloat16_where_tensorflow_has_it():
    if IS_TF1 or not tfutil.cpu_has_bfloat16():
        with pytest.raises(UserError, match='cannot do that' if IS_TF1 else 'this CPU has neither'):
            Cluster(num_gpus=0, precision='bfloat16')
        return
    values = np.random.RandomState(0).standard_normal([2, 256, 256]).astype(np.float32)
    with tf.Graph().as_default():
        product = tf.nn.relu(tf.matmul(*[tf.Variable(value) for value in values]))
        for precision in ('float32', 'bfloat16'):
            with Cluster(num_gpus=0, precision=precision).session() as session:
                session.run(tf.global_variables_initializer())
                found = session.run(product)
            expected = np.maximum(values[0] @ values[1], 0)
            assert found.dtype == np.float32
            assert relative_l2(found, expected) < (1e-6 if precision == 'float32' else 1e-2)


def test_bfloat16_is_refused_on_gpus():
    with pytest.raises(UserError, match='for CPUs only'):
        tfutil.session_config(precision='bfloat16', on_gpu=True)


@pytest.mark.skipif(IS_TF1, reason='TensorFlow 1.15 is refused before')
def test_bfloat16_is_refused_on_cpus_that_emulate_it(monkeypatch):
    monkeypatch.setattr(tfutil, 'cpu_has_bfloat16', lambda: False)
    with pytest.raises(UserError, match='this CPU has neither'):
        tfutil.session_config(precision='bfloat16', on_gpu=False)


def test_wrong_towers_are_refused():
    cluster = Cluster(logical_cpus=2)
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match='1 towers given'):
            cluster.all_reduce([tf.zeros([2])])
        with pytest.raises(ValueError, match='floats of a known shape'):
            cluster.all_reduce([tf.placeholder(tf.float32, [None])] * 2)


# The heartbeat alone, several in one process, with short limits.


class Beats:
    """`count` heartbeats on loopback, connected; what each of them lost is in `lost`."""

    def __init__(self, count, limits=QUICK):
        self.lost = [[] for _ in range(count)]
        self.names = [f'process {i}' for i in range(count)]
        address = '127.0.0.1', free_ports(1)[0]
        self.all = [Heartbeat(self.names, i, address, self.lost[i].append, limits) for i in range(count)]
        self.facts = in_threads([lambda b=b: b.connect([b.index, 'same']) for b in self.all])

    def step(self, *who):
        for i in who:
            self.all[i].step()

    def verdicts(self):
        """Wait until everybody has lost somebody."""
        end = time.monotonic() + 30
        while not all(self.lost) and time.monotonic() < end:
            time.sleep(0.05)
        return [' '.join(lost) for lost in self.lost]


def in_threads(calls):
    """Results (or UserErrors) of calls made at the same time."""
    results = [None] * len(calls)

    def work(i):
        try:
            results[i] = calls[i]()
        except UserError as error:
            results[i] = error
    threads = [threading.Thread(target=work, args=[i], daemon=True) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_everybody_learns_the_facts_and_leaves_in_peace():
    beats = Beats(3)
    assert beats.facts == [[[0, 'same'], [1, 'same'], [2, 'same']]] * 3
    beats.step(0, 1, 2)
    in_threads([beats.all[2].close, beats.all[0].close, lambda: time.sleep(0.5) or beats.all[1].close()])
    assert beats.lost == [[], [], []]


def test_maintenance_is_waited_for_and_standing_still_is_not():
    beats = Beats(3)
    for _ in range(20):
        beats.step(0, 1, 2)
    with beats.all[0].allow('writing a snapshot', 60):
        beats.step(1, 2)
        time.sleep(2 * QUICK.patience)
        assert beats.lost == [[], [], []]
    beats.step(0)
    with beats.all[1].allow('reading the file x', 2):
        beats.step(0, 2)
        for verdict in beats.verdicts():
            assert verdict.startswith('process 1 hangs: it is alive, reading the file x, but stays at step 21')


def test_the_hub_is_named_when_it_stands_still():
    beats = Beats(3)
    beats.step(1, 2)
    assert all(verdict.startswith('process 0 hangs: it is alive') for verdict in beats.verdicts())


def test_an_error_of_one_reaches_all():
    beats = Beats(3)
    beats.all[2].fail('ValueError: made up')
    beats.lost[2] = ['itself']
    assert beats.verdicts()[:2] == ['process 2 stopped with an error: ValueError: made up'] * 2


@pytest.mark.parametrize('message', [
    {'beat': 5}, {'beat': {'steps': 'x'}}, {'beat': {'patience': float('nan')}}, {'beat': {'unknown': 1}}])
@pytest.mark.parametrize('sender', [0, 1])
def test_a_malformed_heartbeat_never_ends_the_watch_silently(message, sender):
    beats = Beats(3)
    peers = beats.all[sender]._peers
    peers[2 if sender == 0 else 0].send(**message)
    assert all(verdict.startswith(f'process {sender}: what it sends is no heartbeat') for verdict in beats.verdicts())


def test_an_error_of_the_watch_itself_is_told():
    beats = Beats(2)
    beats.all[1]._judge = None
    assert 'the watch over the other processes failed (TypeError' in beats.verdicts()[1]


@pytest.mark.parametrize('early', [0, 1])
def test_who_leaves_early_is_named(early):
    beats = Beats(2, QUICK._replace(leave=0.3))
    beats.all[early].close()
    beats.step(1 - early)
    beats.lost[early] = ['itself']
    assert beats.verdicts()[1 - early].startswith(f'process {early} has left the run after step 0')


def test_two_of_one_name_another_list_and_nobody():
    address = '127.0.0.1', free_ports(1)[0]
    names, limits = ['a', 'b', 'c'], QUICK._replace(wait=1)
    beats = [Heartbeat(n, i, address, print, limits) for n, i in [(names, 0), (names, 1), (names, 1), (names[:2], 1)]]
    messages = sorted(str(error) for error in in_threads([lambda b=b: b.connect(None) for b in beats]))
    assert messages[0].startswith('a was started with another list of processes')
    assert messages[1].startswith('another process already runs as b')
    assert all(m.startswith('waited 1 s in vain for c (meeting point') for m in messages[2:]) and len(messages) == 4


def test_a_worker_alone_and_a_port_in_use():
    address = '127.0.0.1', free_ports(1)[0]
    with pytest.raises(UserError, match='waited 1 s in vain for a '):
        Heartbeat(['a', 'b'], 1, address, print, QUICK._replace(wait=1)).connect(None)
    with contextlib.closing(socket.socket()) as other:
        other.bind(address)
        other.listen(1)
        with pytest.raises(UserError, match='cannot listen there'):
            Heartbeat(['a', 'b'], 0, address, print, QUICK).connect(None)
        thread = threading.Thread(target=lambda: other.accept()[0].sendall(b'SSH-2.0-something\r\n'), daemon=True)
        thread.start()
        with pytest.raises(UserError, match='no heartbeat of a'):
            Heartbeat(['a', 'b'], 1, address, print, QUICK).connect(None)
        thread.join(10)


def test_errors_in_one_line(tf_session):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf_session.run(tf.check_numerics(tf.constant(np.nan), 'made up'))
    assert distributed._one_line(caught.value) == 'InvalidArgumentError: made up : Tensor had NaN values'
    assert distributed._one_line(ValueError('a\nb')) == 'ValueError: a'
    assert distributed._one_line(KeyboardInterrupt()) == 'KeyboardInterrupt'


# Options and environment.


def tf_config(task, **cluster):
    return json.dumps({'cluster': cluster, 'task': task})


def test_tf_config_chief_first():
    place = read_tf_config(tf_config({'type': 'worker', 'index': '1'}, worker=['b:1', 'c:2'], chief=['a:3']))
    assert place.names == ['chief 0 (a:3)', 'worker 0 (b:1)', 'worker 1 (c:2)'] and place.rank == 2
    assert read_tf_config(tf_config({'type': 'worker', 'index': 0}, worker=['b:1', 'c:2'])).rank == 0
    for alone in ('', '{}', '{"cluster": {}}', tf_config({'type': 'chief', 'index': 0}, chief=['a:1'])):
        assert read_tf_config(alone) is None


@pytest.mark.parametrize('text, message', [
    ('{', 'is no JSON'),
    ('[1]', '"cluster" must list'),
    ('{"task": {"type": "chief", "index": 0}}', '"cluster" must list'),
    (tf_config({'type': 'ps', 'index': 0}, ps=['a:1'], worker=['b:1']), '"cluster" must list'),
    (tf_config({'type': 'worker', 'index': 0}, worker='b:1'), '"worker" must be a list'),
    (tf_config({'type': 'worker', 'index': 2}, worker=['b:1', 'c:1']), 'worker 0, worker 1'),
    (tf_config(None, worker=['b:1', 'c:1']), '"task" is null'),
    (tf_config({'type': 'worker', 'index': []}, worker=['b:1', 'c:1']), '"task" is'),
    (tf_config({'type': 'chief', 'index': 0}, chief=['b:1', 'c:1']), 'only one chief'),
    (tf_config({'type': 'worker', 'index': 0}, worker=['b:1', 'b:1']), 'two processes have the address b:1'),
    (tf_config({'type': 'worker', 'index': 0}, worker=['b:1', 'c']), '"c" is no address'),
    (tf_config({'type': 'worker', 'index': 0}, worker=['b:1', 'c:99999']), '"c:99999" is no address'),
    (tf_config({'type': 'worker', 'index': 0}, worker=['b:1', 7]), '7 is no address'),
])
def test_malformed_tf_config(text, message):
    with pytest.raises(UserError) as caught:
        read_tf_config(text)
    assert str(caught.value).startswith('environment variable TF_CONFIG: ') and message in str(caught.value)


def test_heartbeat_port(monkeypatch):
    def port(first):
        return distributed.heartbeat_address(
            read_tf_config(tf_config({'type': 'worker', 'index': 0}, worker=[first, 'c:2'])))
    monkeypatch.setattr(config, 'HEARTBEAT_PORT', '')
    assert port('b:2222') == ('b', 12222) and port('b:60000') == ('b', 50000)
    monkeypatch.setattr(config, 'HEARTBEAT_PORT', '7000')
    assert port('b:2222') == ('b', 7000)
    monkeypatch.setattr(config, 'HEARTBEAT_PORT', '70000')
    with pytest.raises(UserError, match='DISCO_HEARTBEAT_PORT'):
        port('b:2222')


def test_devices_by_num_gpus(monkeypatch):
    monkeypatch.setattr(distributed, 'gpu_names', lambda: ['/device:GPU:0', '/device:GPU:1'])
    assert distributed.local_devices(None) == ['/device:GPU:0', '/device:GPU:1']
    assert distributed.local_devices(1) == ['/device:GPU:0']
    assert distributed.local_devices(0) == ['/device:CPU:0']
    for wrong in (3, -1):
        with pytest.raises(UserError, match=f'--num_gpus {wrong}: 2 GPUs are visible'):
            distributed.local_devices(wrong)
    monkeypatch.setattr(distributed, 'gpu_names', lambda: [])
    assert distributed.local_devices(None) == ['/device:CPU:0']


def test_a_port_in_use_is_named(monkeypatch):
    with contextlib.closing(socket.socket()) as other:
        other.bind(('127.0.0.1', 0))
        other.listen(1)
        mine = f'127.0.0.1:{other.getsockname()[1]}'
        monkeypatch.setenv('TF_CONFIG', tf_config({'type': 'worker', 'index': 0}, worker=[mine, '127.0.0.1:1']))
        with pytest.raises(UserError, match=f'worker 0 .{mine}. cannot have its port'):
            Cluster.from_environment(num_gpus=0)


# Pairs of processes; lost ones end the others within 30 s. Last, because they need time to come up.


def test_two_processes_equal_one(pairs, reference):
    pair = pairs['equal']
    for process, job in zip(pair.processes, ('chief', 'worker')):
        assert process.wait(200) == 0, pair.text(job, 'err')
        assert pair.text(job, 'err') == ''
        with np.load(str(pair.folder / f'{job}.npz')) as arrays:
            assert relative_l2(arrays['gradient'], reference[0]) < 1e-5
            assert relative_l2(arrays['variable'], reference[1]) < 1e-5
            np.testing.assert_array_equal(arrays['sent'], arrays['variable'])
            np.testing.assert_array_equal(arrays['vote'], [0.5, 5])


def test_a_killed_worker_ends_the_chief(pairs):
    pair = pairs['killed']
    pair.wait_for('step 20')
    pair.processes[1].send_signal(signal.SIGKILL)
    assert pair.processes[0].wait(LONG) == distributed.EXIT_LOST
    assert f'error: {pair.names[1]} died' in pair.text('chief', 'err')
    assert pair.text('chief', 'out').endswith('last words\n')


def test_a_hung_loop_ends_both(pairs):
    pair = pairs['hung']
    pair.wait_for('step 20')
    for process, job in zip(pair.processes, ('chief', 'worker')):
        assert process.wait(LONG) == distributed.EXIT_LOST
        assert f'error: {pair.names[1]} hangs: it is alive' in pair.text(job, 'err')


def test_a_stopped_chief_ends_the_worker(pairs):
    pair = pairs['stopped']
    pair.wait_for('step 20')
    pair.processes[0].send_signal(signal.SIGSTOP)
    assert pair.processes[1].wait(LONG) == distributed.EXIT_LOST
    assert f'error: {pair.names[0]} hangs: no sign of life' in pair.text('worker', 'err')
    pair.processes[0].send_signal(signal.SIGCONT)
    assert pair.processes[0].wait(LONG) == distributed.EXIT_LOST
