"""The training loop of both stages (paper section 3): build everything, take up a run, then only feed and run.

No mathematics here: what is trained for stands in objectives.py, what changes with time in schedule.py.
"""

import contextlib
import json
import signal
import sys
import time
from collections import namedtuple

import numpy as np

from dnnlib.submission.stop import StopSignals
from dnnlib.tflib import layers, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.util import EasyDict, UserError
from training import configs, objectives, schedule, towers
from training.archive import Archive
from training.checkpoints import Checkpoints
from training.dataset import TFRecordDataset
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
    networks=None,              # towers.describe: what they are built from, whatever became of the stage-1 snapshot
)
COMMON = ('nimg', 'active', 'shuffle_bytes', 'coeff_scale', 'networks')     # of these: what all hosts must agree on

# What runs on the devices.
Machinery = namedtuple('Machinery', (
    'nets',                     # towers.Nets
    'optimizers',               # {'G', 'D': Optimizer}
    'new_optimizers',           # op: they forget what they have learned
    'inputs',                   # objectives.Inputs, fed at every step
    'learning_rate',            # fed, too
    'D_step',                   # towers.Step
    'G_steps',                  # {form, see objectives.is_full: towers.Step}
))


def training_loop(
        run,                        # RunContext of the run's directory; None on a host that is not the chief
        cluster,                    # distributed.Cluster: devices and hosts
        config,                     # configs.load: networks, schedule, settings of the losses
        data_dir,                   # folder of TFRecords
        weights,                    # {w_id, w_lm, w_gamma, w_skin, w_exp_warp, w_gamma_change: number}
        total_kimg,                 # thousands of images shown when training ends
        world='real',               # name of the world the data belong to
        world_parts=None,           # {vae_weights, face_model, experts: path} in place of the world's own
        stage=1,                    # 2: with the contrastive terms
        snapshot=None,              # .pkl whose networks are trained further; None: new ones
        start_kimg=0,               # thousands of images that these were shown before
        noise_dim=32,               # length of the noise vector
        seed=1000,                  # of first weights and of everything that is drawn
        checkpoint_minutes=10,      # between two checkpoints
        keep_checkpoints=3,         # how many of them stay
        evaluation=None):           # (run_dir, Telemetry) -> metrics.evaluation.Evaluation of each network snapshot
    """Train; where the run's directory holds a checkpoint, go on from there.

    Returns None at the end (total_kimg, or the user's abort.txt), else the number of the signal that ended it; a
    checkpoint is written in both cases. UserError for what the user can mend.
    """
    say = print if cluster.is_chief else lambda *_: None
    with tf.Graph().as_default() as graph, cluster.session(), layers.for_devices(cluster.devices), \
            StopSignals() as signals:
        tf.set_random_seed(np.random.RandomState(seed).randint(1 << 31))

        # Where to start.
        checkpoints = Checkpoints(run.run_dir, keep_checkpoints) if run else None
        saved = checkpoints.load_newest() if run else None
        progress = EasyDict(START, nimg=int(start_kimg * 1000), tick_start_nimg=int(start_kimg * 1000))
        progress.update(saved.facts if saved else {})
        progress.update(_from_chief(cluster, {name: progress[name] for name in COMMON}))
        total_nimg, plan = int(total_kimg * 1000), configs.schedule_of(config, cluster.num_replicas)
        forms = _forms(config, plan, progress.nimg, total_nimg)

        # Data, and what does not learn.
        say(f'loading {data_dir} and the {world} world')
        dataset = TFRecordDataset(data_dir, config.resolution, seed=seed, num_shards=cluster.shard[1],
                                  shard_index=cluster.shard[0], shuffle_bytes=progress.shuffle_bytes)
        progress.shuffle_bytes = dataset.shuffle_bytes
        context = towers.load_context(World(world, **world_parts or {}), config, stage, weights, noise_dim, forms)

        # What learns.
        say(f'building networks on {len(cluster.devices)} device(s)')
        machinery = _build(cluster, config, context, dataset, forms, snapshot, progress)
        nets, optimizers = machinery.nets, machinery.optimizers

        # Values: new ones or the checkpoint's, the chief's for all.
        towers.initialize(nets)
        towers.restore_frozen(context)
        state = towers.state_variables(nets, optimizers)
        if saved:
            towers.restore_state(state, saved)
            say(f'going on from {saved.path}')
        tfutil.run(cluster.broadcast(towers.copied_variables(nets, optimizers)))

        # What is shown and written.
        telemetry = Telemetry(run.run_dir if run else None, progress.nimg, total_nimg, 'GPU' in cluster.devices[0])
        telemetry.means.restore(progress.means)
        measured = evaluation(run.run_dir, telemetry) if run and evaluation else None
        archive = Archive(run, cluster, telemetry, checkpoints, nets, state, world, world_parts, config.snapshot_ticks,
                          checkpoint_minutes, measured)
        archive.begin(context, dataset, config.grid, seed, progress.nimg, schedule.state_at(plan, progress.nimg).lod)
        vote = cluster.vote(2, 'Stop')
        graph.finalize()

        # Train.
        say('training')
        done, ended_by = progress.nimg >= total_nimg, None
        while not done and not ended_by:
            began = time.monotonic()
            now = schedule.state_at(plan, progress.nimg)
            each = now.minibatch // cluster.num_replicas
            active = [int(np.floor(now.lod)), int(np.ceil(now.lod))]
            if active != progress.active:
                tfutil.run(machinery.new_optimizers)
                progress.active = active
            anew = dataset.configure(each * len(cluster.devices), now.lod,
                                     position=progress.nimg // cluster.num_replicas * len(cluster.devices))
            G_step = machinery.G_steps[objectives.is_full(context.settings, now.resolution)]
            with _explained_by(dataset), _patience(cluster, anew):
                for _ in range(STEP_PAIRS):
                    feed = dict(zip(machinery.inputs, (now.lod, each, progress.nimg, seed)))
                    feed[machinery.learning_rate] = now.learning_rate
                    telemetry.step(progress.nimg, towers.run_step(machinery.D_step, feed))
                    progress.nimg += now.minibatch
                    telemetry.step(progress.nimg, towers.run_step(G_step, feed))
            telemetry.show(progress.nimg)
            progress.tick_seconds += time.monotonic() - began

            # Hosts stop together, whichever of them was asked.
            asked, aborted = vote.run([bool(signals.asked), bool(run and run.should_stop())])
            done = progress.nimg >= total_nimg or aborted > 0
            ended_by = (signals.asked or signal.SIGTERM) if asked > 0 and not done else None

            # Once per tick, and every few minutes.
            if done or progress.nimg >= progress.tick_start_nimg + now.tick_kimg * 1000:
                archive.tick(progress, now, last=done)
            archive.checkpoint_if_due(progress, must=done or ended_by)

        if done:
            archive.finish()
        telemetry.close()
    return ended_by


def _build(cluster, config, context, dataset, forms, snapshot, progress):
    """The Machinery: those networks that `progress` describes, else the snapshot's, else new ones; with start values.

    `progress` describes them from then on.
    """
    # Networks: a copy of G and D on each device; Gs, the moving average of G, on the first.
    if config.unit_coefficients and not snapshot and not progress.networks:
        scale = progress.coeff_scale or towers.unit_scale(context.decoders, context.noise_dim)
        progress.coeff_scale = _from_chief(cluster, [float(f'{x:.4g}') for x in scale])
    nets = towers.build_networks(cluster.devices, config, dataset.shape[0], context, snapshot, progress.coeff_scale,
                                 progress.networks)
    progress.networks = towers.describe(nets)

    # Steps: all devices compute gradients, then all make the same step with their mean.
    inputs, learning_rate = objectives.placeholders(), tf.placeholder(tf.float32, [], 'learning_rate')
    optimizers = EasyDict(G=Optimizer('TrainG', learning_rate), D=Optimizer('TrainD', learning_rate))
    reals, _ = dataset.get_minibatch_tf()
    D_step = towers.build_D_step(cluster, optimizers.D, context, nets, inputs, reals, config.average_kimg)
    G_steps = {full: towers.build_G_step(cluster, optimizers.G, context, nets, inputs, full) for full in forms}
    new_optimizers = tf.group(optimizers.G.reset_state(), optimizers.D.reset_state())
    return Machinery(nets, optimizers, new_optimizers, inputs, learning_rate, D_step, G_steps)


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
    settings = configs.settings_of(config)
    return sorted({objectives.is_full(settings, schedule.state_at(plan, n).resolution) for n in (nimg, total_nimg)})


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
