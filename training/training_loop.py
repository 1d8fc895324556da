"""The training loop of both stages (paper section 3): build everything, take up a run, then only feed and run.

No mathematics here: what is trained for stands in objectives.py, what changes with time in schedule.py.
"""

import contextlib
import json
import os
import signal
import sys
import time

import numpy as np

from dnnlib.submission.stop import StopSignals
from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf
from dnnlib.util import EasyDict, UserError
from training import checkpoints, configs, objectives, schedule, snapshots
from training.dataset import TFRecordDataset
from training.graph import TrainingGraph, check_precision, load_context, new_networks, unit_scale
from training.run_writer import RunWriter
from training.telemetry import Telemetry
from worlds.parts import World

STEP_PAIRS = 4              # steps of D and of G between two looks at schedule, signals and clock

# What a checkpoint keeps beside the variables. Everything random follows from the seed and `nimg`.
START = dict(
    nimg=0,                     # images shown
    active=[-1, -1],            # levels of detail that are trained; another pair resets the optimizers
    tick=0,                     # ticks that are over
    tick_start_nimg=0,          # images shown when this one began
    tick_seconds=0.0,           # spent on its steps
    maintenance_seconds=0.0,    # spent on writing since it began
    seconds=0.0,                # spent on all ticks that are over
    means={},                   # terms reported in this one
    shuffle_bytes=None,         # window of the dataset, which its order depends on; None: what the memory allows
    coeff_scale=None,           # of new networks' input, where the configuration scales it
    networks=None,              # what they are built from, whatever became of the stage-1 snapshot
)
COMMON = ('nimg', 'active', 'shuffle_bytes', 'coeff_scale', 'networks')     # of these: what all hosts must agree on


def training_loop(
        run,                        # RunContext of the run's directory; None on a host that is not the chief
        cluster,                    # distributed.Cluster: devices and hosts
        config,                     # configs.load: networks, schedule, settings of the losses
        data_dir,                   # folder of TFRecords
        weights,                    # {flag of train.py: number}, see objectives.Context
        total_kimg,                 # thousands of images shown when training ends
        world='real',               # name of the world the data belong to
        world_parts=None,           # {vae_weights, face_model, experts: path} in place of the world's own
        stage=1,                    # 2: with the contrastive terms
        snapshot=None,              # .pkl whose networks are trained further; None: new ones
        start_kimg=0,               # thousands of images that these were shown before
        noise_dim=32,               # length of the noise vector
        seed=1000,                  # of first weights and of everything that is drawn
        checkpoint_minutes=10,      # between two checkpoints
        evaluation=None):           # (run_dir, Telemetry) -> metrics.evaluation.Evaluation of each network snapshot
    """Train; where the run's directory holds a checkpoint, go on from there.

    Returns None at the end (total_kimg, or the user's abort.txt), else the number of the signal that ended it; a
    checkpoint is written in both cases. UserError for what the user can mend.
    """
    say = print if cluster.is_chief else lambda *_: None
    with tf.Graph().as_default() as tf_graph, cluster.session(), layers.for_devices(cluster.devices), \
            StopSignals() as signals:
        tf.set_random_seed(np.random.RandomState(seed).randint(1 << 31))

        # Where to start.
        saved = checkpoints.Checkpoints(run.run_dir).load_newest() if run else None
        progress = EasyDict(START, nimg=int(start_kimg * 1000), tick_start_nimg=int(start_kimg * 1000))
        progress.update(saved.facts if saved else {})
        progress.update(_from_chief(cluster, {name: progress[name] for name in COMMON}))
        _advise_when_lost(cluster, _from_chief(cluster, run.run_dir if run else None))
        say(f'going on from {saved.path}' if saved else f'beginning at {progress.nimg / 1000:g} kimg')
        total_nimg, plan = int(total_kimg * 1000), configs.schedule_of(config, cluster.num_replicas)

        # Data, and what does not learn.
        say(f'loading {data_dir} and the {world} world')
        dataset = TFRecordDataset(data_dir, config.resolution, seed=seed, num_shards=cluster.shard[1],
                                  shard_index=cluster.shard[0], shuffle_bytes=progress.shuffle_bytes)
        progress.shuffle_bytes = dataset.shuffle_bytes
        forms = _forms(config, plan, progress.nimg, total_nimg)
        context = load_context(World(world, **world_parts or {}), config, stage, weights, noise_dim, forms)

        # What learns.
        say(f'building networks on {cluster.num_replicas} device(s) of {cluster.shard[1]} host(s)')
        with tf.device(cluster.devices[0]):
            networks = _networks(cluster, context, dataset.shape[0], snapshot, progress)
        graph = TrainingGraph(cluster, context, networks, dataset.get_minibatch_tf()[0], forms)
        graph.initialize(saved)
        progress.networks = graph.describe()

        # What is shown and written.
        telemetry = Telemetry(run.run_dir if run else None, progress.nimg, total_nimg,
                              num_gpus=len(cluster.devices) if 'GPU' in cluster.devices[0] else 0)
        telemetry.means.restore(progress.means)
        if run:
            writer = RunWriter(run, cluster, graph, telemetry, dict(world_parts or {}, name=world),
                               config.snapshot_ticks, checkpoint_minutes,
                               evaluation(run.run_dir, telemetry) if evaluation else None)
            writer.begin(dataset, config.grid, seed, progress.nimg, schedule.state_at(plan, progress.nimg).lod)
        compare = _comparison(cluster, graph, say)
        vote = cluster.vote(2, 'Stop')
        tf_graph.finalize()

        # Train.
        say('training')
        done, ended_by = progress.nimg >= total_nimg, None
        while not done and not ended_by:
            began = time.monotonic()
            now = schedule.state_at(plan, progress.nimg)
            feed = _feed(cluster, config, now, progress.nimg, seed)
            active = [int(np.floor(now.lod)), int(np.ceil(now.lod))]
            if active != progress.active:
                graph.reset_optimizers()
                progress.active = active
            compare(feed)
            anew = dataset.configure(feed['minibatch'] * len(cluster.devices), now.lod,
                                     position=progress.nimg // cluster.num_replicas * len(cluster.devices))
            with _explained_by(dataset), _patience(cluster, anew):
                for _ in range(STEP_PAIRS):
                    terms = dict(graph.step_D(feed), **graph.step_G(feed))
                    feed['nimg'] = progress.nimg = progress.nimg + now.minibatch
                    telemetry.step(progress.nimg, terms)
            progress.tick_seconds += time.monotonic() - began

            # Hosts stop together, whichever of them was asked.
            asked, aborted = vote.run([bool(signals.asked), bool(run and run.should_stop())])
            done = progress.nimg >= total_nimg or aborted > 0
            ended_by = (signals.asked or signal.SIGTERM) if asked > 0 and not done else None

            # Once per tick, and every few minutes.
            if run and (done or progress.nimg >= progress.tick_start_nimg + now.tick_kimg * 1000):
                writer.tick(progress, now, last=done)
            if run:
                writer.checkpoint_if_due(progress, must=done or ended_by)

        if run and done:
            writer.finish()
        telemetry.close()
    return ended_by


def _feed(cluster, config, now, nimg, seed):
    """What TrainingGraph's steps are fed. now: schedule.State."""
    each = now.minibatch // (cluster.num_replicas * config.accumulate)
    return dict(lod=now.lod, minibatch=each, nimg=nimg, seed=seed, learning_rate=now.learning_rate)


def _networks(cluster, context, num_channels, snapshot, progress):
    """(G, D, Gs): those that `progress` describes, else the file `snapshot`'s, else new ones."""
    config = context.config
    if progress.networks:
        return snapshots.build_networks(progress.networks, 'the newest checkpoint')
    if snapshot:
        snapshots.check_fits(snapshot, config.resolution, num_channels, context.noise_dim)
        return snapshots.load_networks(snapshot)
    if config.unit_coefficients:
        scale = progress.coeff_scale or unit_scale(context.decoders, context.noise_dim)
        progress.coeff_scale = _from_chief(cluster, scale)
    return new_networks(config, num_channels, context.noise_dim, progress.coeff_scale)


def _comparison(cluster, graph, say):
    """compare(feed): say once for each form of the generator's step how far one is off float32.

    Each when its turn comes: what untrained networks draw at a resolution to come tells nothing. Too far off: the first
    is a UserError, at a later one training goes on, for what it has reached is the user's.
    """
    compared = []

    def compare(feed):
        form = graph.is_full(feed['lod'])
        if cluster.precision == 'float32' or form in compared:
            return
        compared.append(form)
        try:
            say(_checked_precision(cluster, graph, feed))
        except UserError as error:
            if len(compared) == 1:
                raise
            say(f'warning: {error}, as --resume with --precision float32 does')
    return compare


def _checked_precision(cluster, graph, feed):
    """A line that says how far a step is off float32, or that several hosts cannot look. UserError: too far off."""
    if cluster.shard[1] > 1:        # the comparison's own session would not reach the devices of a cluster
        return (f'{cluster.precision}: not compared with float32, for several hosts train; to see how far a step is '
                'off, start the same training on one of them alone')
    return check_precision(graph, feed, cluster.precision)


def _from_chief(cluster, value):
    """The chief's JSON value, on every host; the others' are not looked at."""
    if cluster.shard[1] == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode() if cluster.is_chief else b'', np.uint8)
    size = int(_add_up(cluster, [len(text)])[0])
    text = _add_up(cluster, text if cluster.is_chief else np.zeros(size))
    return json.loads(bytes(text.astype(np.uint8)).decode())


def _add_up(cluster, numbers):
    """Sums of whole numbers over all hosts."""
    numbers = np.asarray(numbers, np.float64)
    return np.rint(cluster.vote(len(numbers), 'AddUp').run(numbers) * cluster.shard[1])


def _forms(config, plan, nimg, total_nimg):
    """Which forms of the generator's step (see objectives.is_full) this training needs, a list of booleans."""
    return sorted({objectives.is_full(config, schedule.state_at(plan, n).resolution) for n in (nimg, total_nimg)})


def _advise_when_lost(cluster, run_dir):
    """Should this process end because another was lost: how the run goes on."""
    def advise():
        nothing = os.path.isdir(run_dir) and not checkpoints.existing(run_dir)      # hosts may not share the folder
        print('no checkpoint was written yet, so there is nothing to resume: start all processes as before' if nothing
              else f'go on with, on all hosts: python train.py --resume {run_dir}', file=sys.stderr, flush=True)
    cluster.on_lost(advise)


def _patience(cluster, anew):
    """Hosts wait longer for each other where data are read anew: up to one pass is skipped first."""
    return cluster.maintenance('reading the data of another resolution') if anew else contextlib.nullcontext()


@contextlib.contextmanager
def _explained_by(dataset):
    """Tell the user which file TensorFlow stumbled over, or that the memory was not enough."""
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        print('a step failed: looking through the data, which may take minutes', file=sys.stderr, flush=True)
        raise dataset.explain(error) from error
    except tf.errors.ResourceExhaustedError as error:
        raise UserError('out of memory on a device; give more devices, or a --config with a smaller "minibatch" or '
                        'smaller networks') from error
