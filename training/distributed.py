"""Several devices and hosts: TF_CONFIG, TensorFlow's collective all-reduce in graph mode, and a watch over the others.

A run's processes work in lock-step; each builds the same graph on its own devices.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import traceback
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

import config
from dnnlib.heartbeat import Heartbeat, Limits
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import all_reduce, gpu_names, tf
from dnnlib.util import UserError

BUCKET_BYTES = 32 << 20     # gradients travel in flat tensors of at most this size
PORT_DISTANCE = 10000       # heartbeat port = the chief's port + 10000, or - 10000 where that is no port
EXIT_LOST = 75              # exit code of a process that ended because another was lost; start all again to resume
CALLBACK_SECONDS = 5        # what callbacks may take before a process that lost another ends


class Place(NamedTuple):
    """One process among those of a run, as TF_CONFIG says; process 0 is the chief."""

    jobs: Tuple[Tuple[str, int], ...]   # (job, index) of each process
    addresses: Tuple[str, ...]          # 'host:port' of each
    rank: int                           # which of them this is

    @property
    def names(self) -> List[str]:
        """The processes as messages show them: 'worker 0 (host:port)'."""
        return [f'{job} {index} ({address})' for (job, index), address in zip(self.jobs, self.addresses)]


def read_tf_config(text: str) -> Optional[Place]:
    """The place of this process by the text of TF_CONFIG; None when the run has one process only.

    {"cluster": {"chief": ["host:port"], "worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}
    Without a chief worker 0 is the chief. Raises UserError on anything else.
    """
    try:
        tree = json.loads(text or '{}')
    except ValueError as error:
        raise _bad_tf_config(f'is no JSON ({error})') from error
    cluster = tree.get('cluster') if isinstance(tree, dict) else None
    if tree == {} or cluster == {}:
        return None
    jobs, addresses = _processes(cluster)
    rank = _rank(tree.get('task'), jobs)
    return Place(tuple(jobs), tuple(addresses), rank) if len(jobs) > 1 else None


def _processes(cluster: Any) -> Tuple[List[Tuple[str, int]], List[str]]:
    if not isinstance(cluster, dict) or not set(cluster) <= {'chief', 'worker'}:
        raise _bad_tf_config('"cluster" must list addresses of "chief" and "worker" and of nothing else')
    jobs: List[Tuple[str, int]] = []
    addresses: List[str] = []
    for job in sorted(cluster):
        if not isinstance(cluster[job], list):
            raise _bad_tf_config(f'"{job}" must be a list of "host:port"')
        jobs += [(job, i) for i in range(len(cluster[job]))]
        addresses += cluster[job]
    if jobs.count(('chief', 1)):
        raise _bad_tf_config('only one chief is possible')
    for address in addresses:
        _split(address)
        if addresses.count(address) > 1:
            raise _bad_tf_config(f'two processes have the address {address}')
    return jobs, addresses


def _rank(task: Any, jobs: List[Tuple[str, int]]) -> int:
    try:
        return jobs.index((task['type'], int(task['index'])))
    except (KeyError, TypeError, ValueError):
        listed = ', '.join(f'{job} {index}' for job, index in jobs)
        raise _bad_tf_config(f'"task" is {json.dumps(task)}; "type" and "index" of one of these expected: {listed}')


def _split(address: Any) -> Tuple[str, int]:
    host, _, port = address.rpartition(':') if isinstance(address, str) else ('', '', '')
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise _bad_tf_config(f'{json.dumps(address)} is no address: "host:port" expected')
    return host, int(port)


def _bad_tf_config(what: str) -> UserError:
    return UserError(f'environment variable TF_CONFIG: {what}; example: {{"cluster": {{"chief": ["10.0.0.1:2222"], '
                     '"worker": ["10.0.0.2:2222"]}, "task": {"type": "chief", "index": 0}}')


def heartbeat_address(place: Place) -> Tuple[str, int]:
    """(host, port) where the chief listens for the others: its TF_CONFIG port + 10000 (- 10000 where that is no port).

    DISCO_HEARTBEAT_PORT, the same for all processes, sets another port. Raises UserError when that is no port.
    """
    host, port = _split(place.addresses[0])
    if not config.HEARTBEAT_PORT:
        return host, port + (PORT_DISTANCE if port + PORT_DISTANCE < 65536 else -PORT_DISTANCE)
    if not config.HEARTBEAT_PORT.isdigit() or not 0 < int(config.HEARTBEAT_PORT) < 65536:
        raise UserError(f'environment variable DISCO_HEARTBEAT_PORT: {config.HEARTBEAT_PORT!r} is no port; '
                        '1 to 65535 expected')
    return host, int(config.HEARTBEAT_PORT)


def local_devices(num_gpus: Optional[int]) -> List[str]:
    """Devices of this machine to train on, by --num_gpus: None: all visible GPUs, the CPU where there are none.

    0 is the CPU. Raises UserError when fewer than num_gpus GPUs are visible.
    """
    gpus = gpu_names()
    if num_gpus is None:
        return gpus or ['/device:CPU:0']
    if num_gpus < 0 or num_gpus > len(gpus):
        raise UserError(f'--num_gpus {num_gpus}: {len(gpus)} GPUs are visible here; give at most {len(gpus)} (0: the '
                        'CPU), or see that the driver and CUDA_VISIBLE_DEVICES show more')
    return gpus[:num_gpus] or ['/device:CPU:0']


class Cluster:
    """All devices of all processes of a run; a process finds the others by TF_CONFIG, else it is alone.

    Use it as a context manager: leaving it in peace tells the others that this process has finished, leaving it by an
    exception ends them with a message. A lost process (died, stopped, or its steps stand still) ends all others
    within 30 s (one that stands still: after five steps' time, if that is more): each prints one line that names it
    and leaves with exit code EXIT_LOST.

    is_chief: whether this process writes files.       shard: (index, count) of this process, for its input.
    devices: names of this process's devices.          num_replicas: devices of all processes together.
    first_replica: number of this process's first device among all of them, for seeds.
    """

    def __init__(self, place: Optional[Place] = None, num_gpus: Optional[int] = None,
                 logical_cpus: Optional[int] = None, limits: Optional[Limits] = None,
                 precision: str = 'float32', core_share: float = 1.0) -> None:
        """Meet the other processes. logical_cpus: cut the CPU into that many devices, instead of GPUs.

        precision: of sessions; see tfutil.session_config. core_share: of a CPU's cores, what one operation may take.
        """
        self.place, self.precision = place, precision
        devices = local_devices(num_gpus) if not logical_cpus else [f'/device:CPU:{i}' for i in range(logical_cpus)]
        self._config = self._session_config(devices, precision, core_share)
        self._target = ''
        self._callbacks: List[Callable[[], Any]] = []
        self._instances = 0
        self._heartbeat: Optional[Heartbeat] = None
        self.shard = (place.rank, len(place.names)) if place else (0, 1)
        self.is_chief = self.shard[0] == 0
        self.devices = devices if place is None else [_job_device(place, place.rank) + name for name in devices]
        self.first_replica, self.num_replicas = 0, len(devices)
        if place is not None:
            self._meet(place, limits)

    @classmethod
    def from_environment(cls, num_gpus: Optional[int] = None, logical_cpus: Optional[int] = None,
                         limits: Optional[Limits] = None, precision: str = 'float32',
                         core_share: float = 1.0) -> 'Cluster':
        """The cluster that TF_CONFIG describes, with this machine's devices by --num_gpus (None: all visible).

        Waits up to five minutes for the other processes. Raises UserError when TF_CONFIG is malformed, a port is
        taken, somebody does not show up, or there are fewer GPUs than asked for.
        """
        place = read_tf_config(os.environ.get('TF_CONFIG', ''))
        return cls(place, num_gpus, logical_cpus, limits, precision, core_share)

    def session(self, graph: Any = None, threads: Optional[int] = None) -> Any:
        """A tf.Session on this process's devices that can take part in all-reduces.

        graph: default: the default graph. threads: as for tfutil.session_config; for a process alone.
        """
        proto = tf.ConfigProto.FromString(self._config.SerializeToString())
        if threads is not None:
            proto.intra_op_parallelism_threads = proto.inter_op_parallelism_threads = threads
        return tf.Session(self._target, graph=graph, config=proto)

    # In the graph.

    def all_reduce(self, towers: Sequence[Any], name: str = 'AllReduce') -> List[Any]:
        """Means over all replicas.

        towers: for each of `devices` a float tensor or a list (or dict, tuple) of them, of known shapes, the same
        everywhere. Returns the same structures, each on its device; every device gets the same bits. All towers'
        results of one call must be computed in one session run, and all processes must run the same all-reduces.
        """
        if self.num_replicas == 1:
            return list(towers)
        flat = [[tf.convert_to_tensor(x) for x in tf.nest.flatten(tower)] for tower in towers]
        means = self._reduce(flat, 'Div', name)
        return [tf.nest.pack_sequence_as(tower, values) for tower, values in zip(towers, means)]

    def broadcast(self, copies: Sequence[Sequence[Any]], name: str = 'Broadcast') -> Any:
        """An op that gives each device's variables the values of the chief's first device.

        copies: for each of `devices` its variables, in the same order: float, integer or bool. All processes run it.
        """
        if self.num_replicas == 1:
            return tf.no_op(name)
        towers = []
        for i, (device, variables) in enumerate(zip(self.devices, copies)):
            with tf.device(device), tf.name_scope(name):
                values = [_as_float(v.value() if hasattr(v, 'value') else v) for v in variables]
                towers.append(values if self.is_chief and i == 0 else [tf.zeros_like(v) for v in values])
        sums = self._reduce(towers, 'Id', name)
        return tf.group(*[variable.assign(tf.cast(value, variable.dtype.base_dtype))
                          for variables, values in zip(copies, sums) for variable, value in zip(variables, values)])

    def vote(self, count: int = 1, name: str = 'Vote') -> 'Vote':
        """Means of `count` numbers over all processes, e.g. whether somebody wants to stop; build before the loop."""
        return Vote(self, count, name)

    def _reduce(self, towers: List[List[Any]], final_op: str, name: str) -> List[List[Any]]:
        """Sums ('Id') or means ('Div') over all replicas, bucket after bucket so that all keep the same order."""
        if len(towers) != len(self.devices):
            raise ValueError(f'{name}: {len(towers)} towers given, one for each of {self.devices} expected')
        totals: List[List[Any]] = [[] for _ in towers]
        buckets = _buckets(towers[0], BUCKET_BYTES)
        with tf.name_scope(name):
            for bucket in buckets:
                # All but the last travel while gradients of the others are still computed.
                arrived = self._arrival(towers) if bucket is buckets[-1] else []
                self._instances += 1
                for tower, device, total in zip(towers, self.devices, totals):
                    with tf.device(device), tf.control_dependencies(total[-1:] + arrived):
                        flat = tf.concat([tf.reshape(tower[i], [-1]) for i in bucket], axis=0)
                        total.append(all_reduce(flat, self.num_replicas, self._instances, final_op))
            return [_unpack(total, tower, buckets, device)
                    for total, tower, device in zip(totals, towers, self.devices)]

    def _arrival(self, towers: List[List[Any]]) -> List[Any]:
        """An op that tells the heartbeat, once all towers have computed their part, that the others must come too."""
        heartbeat = self._heartbeat
        if heartbeat is None:
            return []

        def arrive(*_: Any) -> Any:
            heartbeat.step()
            return np.int32(0)

        ends = []
        for device, tower in zip(self.devices, towers):
            with tf.device(device), tf.control_dependencies(tower):
                ends.append(tf.reshape(tower[-1], [-1])[:1])        # a value: waits for the GPU, too
        with tf.device(_job_device(self.place, self.place.rank) + '/device:CPU:0'):
            return [tf.py_func(arrive, ends, tf.int32, stateful=True)]

    # Living together.

    @contextlib.contextmanager
    def maintenance(self, doing: str, seconds: float = 900) -> Iterator[None]:
        """Around work between two steps that may take longer than 15 s, on one process or all: the others wait.

        doing: what a message shall say when `seconds` were not enough, e.g. 'writing a snapshot'.
        """
        if self._heartbeat is None:
            yield
        else:
            with self._heartbeat.allow(doing, seconds):
                yield

    def on_lost(self, callback: Callable[[], Any]) -> None:
        """Call this before the process ends because another was lost; 5 s for all callbacks together.

        It runs in a thread of its own while the training loop hangs in a session run: flush files, no TensorFlow.
        """
        self._callbacks.append(callback)

    def close(self) -> None:
        """Leave because the run has finished; waits up to 10 s for the others. Called when `with` ends."""
        if self._heartbeat is not None:
            self._heartbeat.close()

    def __enter__(self) -> 'Cluster':
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._heartbeat is None:
            return
        if error is None or isinstance(error, SystemExit) and not error.code:
            self.close()
            return
        reason = _one_line(error)
        if isinstance(error, tf.errors.OpError):    # perhaps because another process died: the watch will say so
            print(f'TensorFlow stopped ({reason})', file=sys.stderr, flush=True)
            self._heartbeat.wait(CALLBACK_SECONDS)
        self._heartbeat.fail(reason)

    def _session_config(self, devices: List[str], precision: str, core_share: float) -> Any:
        on_gpu = 'GPU' in devices[0]
        cores = max(1, int(core_share * (os.cpu_count() or 1)))
        proto = tfutil.session_config(threads_per_op=None if on_gpu or core_share == 1 else cores,
                                      precision=precision, on_gpu=on_gpu)
        if on_gpu:
            proto.experimental.collective_nccl = True
            if len(devices) < len(gpu_names()):
                proto.gpu_options.visible_device_list = ','.join(str(i) for i in range(len(devices)))
        else:
            proto.device_count['CPU'] = len(devices)
            proto.device_count['GPU'] = 0
        if self.place is not None:
            proto.device_filters.append(_job_device(self.place, self.place.rank, replica=False))
            proto.experimental.collective_group_leader = _job_device(self.place, 0)
        return proto

    def _meet(self, place: Place, limits: Optional[Limits]) -> None:
        """Start this process's TensorFlow server and wait until all others have started theirs."""
        address = heartbeat_address(place)
        _check_port(place)
        jobs = {job: [a for a, (other, _) in zip(place.addresses, place.jobs) if other == job] for job, _ in place.jobs}
        job, index = place.jobs[place.rank]
        self._server = tf.train.Server(tf.train.ClusterSpec(jobs), job_name=job, task_index=index, config=self._config)
        self._target = self._server.target
        self._heartbeat = Heartbeat(place.names, place.rank, address, self._end, limits)
        kind = 'GPU' if 'GPU' in self.devices[0] else 'CPU'
        everyone = self._heartbeat.connect({'kind': kind, 'devices': len(self.devices)})
        for name, facts in zip(place.names, everyone):
            if facts['kind'] != everyone[0]['kind']:
                self._heartbeat.close()
                raise UserError(f'{name} trains on the {facts["kind"]} while {place.names[0]} trains on the '
                                f'{everyone[0]["kind"]}: give all hosts GPUs, or --num_gpus 0 to all')
        self.first_replica = sum(facts['devices'] for facts in everyone[:place.rank])
        self.num_replicas = sum(facts['devices'] for facts in everyone)
        joined = ', '.join(f'{name}: {facts["devices"]} x {kind}' for name, facts in zip(place.names, everyone))
        print(f'{len(everyone)} hosts joined: {joined}', flush=True)

    def _end(self, verdict: str) -> None:
        """End this process, whose main thread may hang in a collective for ever."""
        def last_words() -> None:
            print(f'error: {verdict}; {self.place.names[self.place.rank]} ends too', file=sys.stderr, flush=True)
            for callback in self._callbacks:
                try:
                    callback()
                except Exception:   # the others shall still be called
                    traceback.print_exc()
            sys.stdout.flush()
        thread = threading.Thread(target=last_words, daemon=True)
        thread.start()
        thread.join(CALLBACK_SECONDS)
        os._exit(EXIT_LOST)


class Vote:
    """Means of a few numbers over all processes of a cluster; see `Cluster.vote`."""

    def __init__(self, cluster: Cluster, count: int, name: str) -> None:
        self._several = cluster.shard[1] > 1
        if self._several:
            self._numbers = tf.placeholder(tf.float64, [count], name=name + 'Numbers')
            towers = [self._numbers for _ in cluster.devices]
            self._weight = len(cluster.devices) * cluster.shard[1] / cluster.num_replicas
            self._means = cluster.all_reduce(towers, name)

    def run(self, values: Sequence[float]) -> np.ndarray:
        """Means of the processes' `values` (float64); every process must call it, all get the same. Waits for all."""
        values = np.asarray(values, np.float64)
        if not self._several:
            return values
        # Hosts with more devices count no more than others: means over devices, undone by the weight given here.
        return tfutil.run(self._means, {self._numbers: values / self._weight})[0]


def _one_line(error: BaseException) -> str:
    """Kind and first words of an exception."""
    return ': '.join(filter(None, (type(error).__name__, tfutil.first_words(error))))


def _job_device(place: Place, rank: int, replica: bool = True) -> str:
    job, index = place.jobs[rank]
    return f'/job:{job}/replica:0/task:{index}' if replica else f'/job:{job}/task:{index}'


def _check_port(place: Place) -> None:
    """Raise UserError when another program listens on this process's port: TensorFlow would share it or crash."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', _split(place.addresses[place.rank])[1]))
        except OSError as error:
            raise UserError(f'environment variable TF_CONFIG: {place.names[place.rank]} cannot have its port '
                            f'({error.strerror}); end what uses it or choose another port') from error


def _as_float(value: Any) -> Any:
    return value if value.dtype.base_dtype.is_floating else tf.cast(value, tf.float64)     # exact up to 2**53


def _buckets(tensors: Sequence[Any], limit: int) -> List[List[int]]:
    """Numbers of tensors that travel together: one dtype, together at most `limit` bytes unless one alone has more."""
    buckets: List[List[int]] = []
    open_buckets: Any = {}          # dtype -> [bucket, bytes]
    for i, tensor in enumerate(tensors):
        if not tensor.dtype.is_floating or not tensor.shape.is_fully_defined():
            raise ValueError(f'{tensor.name}: {tensor.dtype} {tensor.shape}; floats of a known shape expected')
        size = int(np.prod(tensor.shape.as_list(), dtype=np.int64)) * tensor.dtype.size
        entry = open_buckets.get(tensor.dtype)
        if entry is None or entry[1] + size > limit:
            entry = open_buckets[tensor.dtype] = [[], 0]
            buckets.append(entry[0])
        entry[0].append(i)
        entry[1] += size
    return buckets


def _unpack(totals: List[Any], tensors: List[Any], buckets: List[List[int]], device: str) -> List[Any]:
    """The parts of packed tensors in the shapes of `tensors`, all only when the last has come.

    Otherwise an optimiser could change weights that the gradients of others still need.
    """
    results: List[Any] = [None] * len(tensors)
    with tf.device(device), tf.control_dependencies(totals[-1:]):
        for total, bucket in zip(totals, buckets):
            shapes = [tensors[i].shape.as_list() for i in bucket]
            parts = tf.split(total, [int(np.prod(shape, dtype=np.int64)) for shape in shapes])
            for i, part, shape in zip(bucket, parts, shapes):
                results[i] = tf.reshape(part, shape)
    return results
