"""Trains the generator and its discriminator: stage 1 imitates renders, stage 2 adds contrast (paper section 3)."""

import argparse
import contextlib
import fcntl
import json
import math
import os
import re
import shutil

import config as paths
from dnnlib import tfrecords
from dnnlib.options import SEED, real, whole
from dnnlib.submission.run_dir import RunContext, create_run_dir, leading_number
from dnnlib.util import PRECISION_HELP, PRECISIONS, EasyDict, UserError, run_main
from metrics import metric_base
from training import checkpoints, configs, schedule, snapshots
from worlds import label, parts
from worlds.agree import one_world

EXAMPLES = """examples:
  python train.py                                                       stage 1 on datasets/ffhq_align, all GPUs
  python train.py --stage 2 --run_id 0 --snapshot 15000                 stage 2 from run 0's snapshot of 15000 kimg
  python train.py --config demo64 --data_dir datasets/demo64            the small synthetic world, on a CPU in hours
  python train.py --resume latest                                       go on where the newest run stopped

Ctrl-C, SIGTERM, or a file abort.txt in the run's directory: the step is finished, everything saved.
Several hosts: start the same command on each, with TF_CONFIG set; --resume then needs one shared --result_dir.
"""

STAGE2_W_LM = 100.0
WEIGHTS = {     # flag: (default, of which term)
    'w_id': (3.0, 'identity'), 'w_lm': (500.0, 'landmarks'), 'w_gamma': (10.0, 'lighting'),
    'w_skin': (20.0, 'skin colour'), 'w_exp_warp': (10.0, 'warping between expressions, stage 2'),
    'w_gamma_change': (10.0, 'what must not change with the lighting, stage 2'),
}
OPTIONS_FILE = 'submit_config.json'
MEASURING = ('metrics', 'metrics_num', 'inception')
MACHINE = ('num_gpus', 'cpu_devices', 'precision', 'result_dir') + MEASURING      # not training_loop's
CHANGEABLE = ('num_gpus', 'cpu_devices', 'precision', 'data_dir', 'result_dir', 'total_kimg', 'checkpoint_minutes'
              ) + MEASURING         # by --resume, and so are WEIGHTS and parts.PARTS


# Options


def parse_options(arguments=None):
    """Command line -> EasyDict of what was given; what was not is absent."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, argument_default=argparse.SUPPRESS,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_argument_group('training')
    add = group.add_argument
    add('--config', metavar='NAME', help=f'{", ".join(configs.CONFIGS)}, or a .json file of your own that says what '
        'differs; with --resume, what learning rates, schedule and losses are from there on (default: ffhq256)')
    add('--stage', type=int, choices=(1, 2), help='1: fakes imitate their renders; 2: pairs of fakes are compared, too '
        '(default: 1)')
    add('--data_dir', metavar='DIR', help='TFRecords made by dataset_tool.py (default: that of --config, below '
        'datasets/; ffhq_align for ffhq256)')
    add('--result_dir', metavar='DIR', help='runs get numbered directories there (default: results/)')
    add('--total_kimg', metavar='N', type=real(0, 10 ** 6), help='thousands of images shown when training ends '
        '(default: that of --config; 15000 for ffhq256, 20000 in stage 2)')
    add('--seed', metavar='N', type=SEED, help='of first weights and everything drawn '
        '(default: 1000)')
    add('--noise_dim', metavar='N', type=whole(0), help='length of the noise vector (default: 32)')
    group = parser.add_argument_group('weights of the losses')
    for flag, (default, what) in WEIGHTS.items():
        text = f'{default:g} in stage 1, {STAGE2_W_LM:g} in stage 2' if flag == 'w_lm' else f'{default:g}'
        group.add_argument('--' + flag, metavar='X', type=real(0), help=f'{what} (default: {text})')
    group = parser.add_argument_group('where to start')
    add = group.add_argument
    add('--resume', metavar='RUN', help="go on with a run in its directory: that directory, its number, or 'latest', "
        'the newest one with a checkpoint; its options are kept, others given here win (default: a new run)')
    add('--run_id', metavar='RUN', help='stage 2: the run whose snapshot to start from, by directory or number, or the '
        'path of a .pkl (no default)')
    add('--snapshot', metavar='N', help="stage 2: which of its snapshots, by number or 'final' (default: the final, or "
        'else the newest)')
    add('--kimg', metavar='N', type=real(0), help="stage 2: thousands of images shown before (default: the number in "
        "the snapshot's name; for network-final.pkl that of the newest one beside it)")
    group = parser.add_argument_group('machine')
    add = group.add_argument
    add('--num_gpus', metavar='N', type=whole(0), help='GPUs of this host, 0: the CPU (default: all visible)')
    add('--cpu_devices', metavar='N', type=whole(1), help='cut the CPU into so many devices, to try several out; '
        'not together with GPUs (default: GPUs)')
    add('--precision', choices=PRECISIONS, help=PRECISION_HELP)
    add('--checkpoint_minutes', metavar='N', type=real(0), help='between two checkpoints (default: 10)')
    add('-n', '--dry-run', action='store_true', help='check options and files, print what would be done (default: off)')
    group = parser.add_argument_group('measuring')
    add = group.add_argument
    add('--metrics', metavar='NAMES', type=lambda text: None if text == 'none' else text, help='measure each network '
        'snapshot: names separated by commas, as run_metrics.py --metrics takes them, e.g. fid,slope; none: no longer '
        '(default: none)')
    add('--metrics_num', metavar='N', type=whole(2), help='pictures that each metric may take (default: 50000)')
    add('--inception', metavar='FILE', help='the public frozen graph classify_image_graph_def.pb, for fid, kid, ppl '
        '(default: the identity expert, whose values compare with no published ones)')
    group = parser.add_argument_group('world')
    add = group.add_argument
    add('--world', choices=label.NAMES, help="whose face model, VAEs and experts (default: the dataset's, which "
        'its world.json names; real without one)')
    add('--face_model', metavar='DIR', help="face model in place of the world's (default: the world's)")
    add('--vae_weights', metavar='DIR', help="the four VAEs in place of the world's (default: the world's)")
    add('--experts', metavar='FILE', help="table of perception networks in place of the world's (default: the world's)")
    return EasyDict(vars(parser.parse_args(arguments)))


def resolve(given):
    """Given options -> every option of the run, JSON-ready. UserError for what does not fit together."""
    _check_devices(given)
    config = configs.load(given.get('config', 'ffhq256'))
    stage = given.get('stage', 1)
    weights = {flag: given.get(flag, STAGE2_W_LM if flag == 'w_lm' and stage == 2 else default)
               for flag, (default, _) in WEIGHTS.items()}
    options = EasyDict(
        config=config, stage=stage, weights=weights, noise_dim=given.get('noise_dim', 32),
        seed=given.get('seed', 1000), snapshot=None, start_kimg=0.0,
        total_kimg=given.get('total_kimg', configs.final_kimg(config, stage)),
        checkpoint_minutes=given.get('checkpoint_minutes', 10.0),
        num_gpus=given.get('num_gpus'), cpu_devices=given.get('cpu_devices'),
        precision=given.get('precision', 'float32'), metrics=given.get('metrics'),
        metrics_num=given.get('metrics_num'), inception=given.get('inception'),
        data_dir=given.get('data_dir', os.path.join(paths.DATASET_DIR, config.data_dir)),
        result_dir=given.get('result_dir', paths.RESULT_DIR))
    _make_absolute(options)
    if stage == 2:
        options.update(_start_of_stage2(given, options.result_dir))
    elif {'run_id', 'snapshot', 'kimg'} & set(given):
        raise UserError('--run_id, --snapshot and --kimg belong to --stage 2; to go on with a run use --resume')
    if options.start_kimg >= options.total_kimg:
        raise UserError(f'--total_kimg {options.total_kimg:g}: {options.start_kimg:g} kimg were shown already; give '
                        'more')
    options.update(_world(given, options.data_dir, options.snapshot))
    _check_measuring(given, options)
    return options


def _check_devices(given):
    """UserError for GPUs and CPU devices at once."""
    if given.get('num_gpus') and 'cpu_devices' in given:
        raise UserError(f'--num_gpus {given.num_gpus} and --cpu_devices {given.cpu_devices}: a run computes on GPUs or '
                        'on CPUs; leave one of them out')


def _make_absolute(options):
    """Paths that hold wherever --resume is called from. UserError when there is no such dataset."""
    options.data_dir = tfrecords.dataset_folder(options.data_dir)
    options.result_dir = os.path.abspath(options.result_dir)
    if options.get('inception'):
        options.inception = os.path.abspath(options.inception)


def _check_measuring(given, options):
    """UserError for metrics that are unknown, and for options of metrics without any."""
    if options.get('metrics') is not None:          # a run of an earlier version has no such option
        metric_base.choose(options.metrics)
        if options.inception and not os.path.isfile(options.inception):
            raise UserError(f'--inception {options.inception}: not there')
    elif {'metrics_num', 'inception'} & set(given):
        raise UserError('--metrics_num and --inception say how to measure: give --metrics, too')


def _start_of_stage2(given, result_dir):
    """The networks that stage 2 trains further."""
    if 'run_id' not in given:
        raise UserError('--stage 2 trains networks of stage 1 further: give --run_id, and --snapshot for another than '
                        'the newest')
    path = snapshots.find_snapshot(given.run_id, given.get('snapshot'), result_dir)
    return dict(snapshot=os.path.abspath(path), start_kimg=given['kimg'] if 'kimg' in given else _kimg_of(path))


def _kimg_of(path):
    """Thousands of images shown to a snapshot's networks, by the numbers in the file names. UserError: unknown."""
    folder, name = os.path.split(os.path.abspath(path))
    names = os.listdir(folder) if name == 'network-final.pkl' else [name]
    found = [re.match(r'network-snapshot-(\d+)\.pkl$', other) for other in names]
    if not any(found):
        raise UserError(f'{path}: how many images its networks were shown is unknown; give --kimg')
    return float(max(int(match.group(1)) for match in found if match))


def _world(given, data_dir, snapshot):
    """{world, world_parts}; UserError when data, snapshot and options are of different worlds."""
    own = _parts(given)
    name = _one_world({'--data_dir': label.read(data_dir), '--world': given.get('world'),
                       '--run_id': label.read_model(snapshot)['world'] if snapshot else None}, own) or label.REAL
    if name not in label.NAMES:
        raise UserError(f'{data_dir}: of the world {name!r}; expected one of {", ".join(label.NAMES)}')
    return dict(world=name, world_parts=own)


def _parts(given):
    return {key: os.path.abspath(given[key]) for key in parts.PARTS if key in given}


def _one_world(claims, given):
    """The world on which {what: world or None} and the parts given agree, None where all say nothing. UserError."""
    return one_world(dict(claims, **{f'--{part}': parts.of_part(part, path) for part, path in given.items()}))


# Going on with a run


def resume(given):
    """(options, directory) of the run that --resume names; what may change and is given wins."""
    run_dir = _find_run(given.resume, given.get('result_dir', paths.RESULT_DIR))
    path = os.path.join(run_dir, OPTIONS_FILE)
    try:
        with open(path, encoding='utf-8') as file:
            options = EasyDict(json.load(file))
        options.config = configs.from_options(options.config)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f'--resume {given.resume}: {path} cannot be read ({error}); it is written when a run begins')
    if os.path.exists(os.path.join(run_dir, 'abort.txt')):
        raise UserError(f'--resume {given.resume}: remove {os.path.join(run_dir, "abort.txt")} first, it stops the run')
    fixed = sorted(set(given) - set(CHANGEABLE) - set(WEIGHTS) - set(parts.PARTS) - {'config', 'resume', 'dry_run'})
    if fixed:
        raise UserError(f'--resume keeps the options the run was started with: leave out --{", --".join(fixed)}')
    if 'config' in given:
        options.config, changes = configs.replacement(given.config, options.config)
        print(f'--config {given.config}: ' + (', '.join(changes) or 'nothing differs'))
    _check_devices(given)
    if given.get('num_gpus'):
        options.cpu_devices = None
    elif 'cpu_devices' in given:
        options.num_gpus = None
    options.update((key, given[key]) for key in CHANGEABLE if key in given)
    options.weights.update((flag, given[flag]) for flag in WEIGHTS if flag in given)
    _make_absolute(options)
    _resume_world(given, options, run_dir)
    _check_measuring(given, options)
    return options, run_dir


def _resume_world(given, options, run_dir):
    """The parts of the run's world, given ones first. UserError when data or parts are of another world."""
    own_vae = os.path.join(run_dir, snapshots.VAE_FOLDER)
    if os.path.isdir(own_vae):
        if 'vae_weights' in given:
            raise UserError(f'--vae_weights: the run has its own copy of the VAEs, {own_vae}, which its networks were '
                            'trained with; leave the option out')
        options.world_parts['vae_weights'] = own_vae        # whatever became of the world's
    options.world_parts.update(_parts(given))
    _one_world({'the run': options.world, '--data_dir': label.read(options.data_dir)}, options.world_parts)


def _find_run(run, result_dir):
    if run != 'latest':
        return os.path.abspath(snapshots.find_run(run, result_dir))
    names = os.listdir(result_dir) if os.path.isdir(result_dir) else []
    numbered = sorted((leading_number(name), name) for name in names if leading_number(name) is not None)
    runs = [os.path.abspath(os.path.join(result_dir, name)) for _, name in numbered
            if os.path.exists(os.path.join(result_dir, name, OPTIONS_FILE))]
    if not runs:
        raise UserError(f'--resume latest: no run in {result_dir}; give the run, or another --result_dir')
    begun = [run_dir for run_dir in runs if checkpoints.newest_facts(run_dir) is not None]
    if begun and begun[-1] != runs[-1]:
        print(f'--resume latest: {runs[-1]} has no checkpoint, so the run before it that has one is taken')
    return (begun or runs)[-1]


# Running


def check_files(options, run_dir=None):
    """Everything the run reads is there and fits; else a UserError, before anything is written.

    run_dir: of a run that is taken up; None: a new one.
    """
    levels = tfrecords.read_levels(options.data_dir, options.config.resolution)
    from dnnlib.tflib.compat import tf
    from perception import experts
    from training import towers
    from vae.model import Decoders
    saved = checkpoints.newest_facts(run_dir) if run_dir else None
    if options.snapshot and not (saved and saved.get('networks')):
        towers.check_snapshot(options.snapshot, options.config.resolution, levels[0].shape[0], options.noise_dim)
    there = parts.World(options.world, **options.world_parts)
    there.face_model()
    with tf.Graph().as_default():
        Decoders(there.vae_weights)
    if options.stage == 2 or options.config.full_resolution <= options.config.resolution:
        experts.check_weights(there.expert_specs(), experts.STAGE_EXPERTS[options.stage])


def _describe(options, num_devices):
    """The run in a few aligned lines."""
    plan = configs.schedule_of(options.config, num_devices)
    rows = [('data', f'{options.data_dir} ({options.world} world)'), ('devices here', num_devices),
            ('images shown', f'{options.start_kimg:g} to {options.total_kimg:g} kimg')]
    before = None
    for kimg in range(int(options.start_kimg), math.ceil(options.total_kimg)):
        now = schedule.state_at(plan, kimg * 1000)
        if now.resolution != before:
            rows.append((f'from {kimg} kimg', f'resolution {now.resolution}, minibatch {now.minibatch}, learning rate '
                                              f'{now.learning_rate:g}'))
        before = now.resolution
    return '\n'.join(f'{name:<16}{value}' for name, value in rows)


@contextlib.contextmanager
def open_run(options, run_dir, cluster):
    """RunContext of a new run, or of the one in `run_dir`; None on a host that is not the chief."""
    if not cluster.is_chief:
        yield None
        return
    if run_dir is None:
        machine = f'{cluster.num_replicas}gpu' if 'GPU' in cluster.devices[0] else 'cpu'
        name = f'sgan-{options.config.name}-{machine}' + ('-stage2' if options.stage == 2 else '')
        run_dir = create_run_dir(options.result_dir, name)
    with _alone(run_dir):
        _tidy(run_dir)
        with RunContext(run_dir, options) as run:
            print(f'run directory: {run_dir}')
            yield run


@contextlib.contextmanager
def _alone(run_dir):
    """Two trainings in one directory would write over each other; the lock goes when the process does."""
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'{run_dir}: another process is training there; end it first')
        except OSError:
            pass                    # a file system without locks
        yield
    finally:
        os.close(folder)


def _tidy(run_dir):
    """Remove what an earlier life left that is not true any more."""
    for name in os.listdir(run_dir):
        if name.startswith('.tmp-'):            # half a file of a life that was killed
            shutil.rmtree(os.path.join(run_dir, name), ignore_errors=True)
        elif name == '_finished.txt':
            os.remove(os.path.join(run_dir, name))


def _evaluation(options):
    """What measures each network snapshot, None without --metrics: (run_dir, Telemetry) -> Evaluation."""
    if not options.get('metrics'):
        return None
    from metrics.evaluation import Evaluation
    return lambda run_dir, telemetry: Evaluation(run_dir, telemetry, options.metrics, options.metrics_num,
                                                 options.data_dir, options.inception, options.world_parts)


def main():
    """Options -> training.training_loop; exit code 128 + n when signal n ended it."""
    given = parse_options()
    options, run_dir = resume(given) if 'resume' in given else (resolve(given), None)
    print(json.dumps(options, indent=2, sort_keys=True))
    check_files(options, run_dir)
    from training.distributed import Cluster
    machine = options.num_gpus, options.cpu_devices
    precision = options.get('precision', 'float32')         # a run of an earlier version has no such option
    if 'dry_run' in given:
        devices = Cluster(None, *machine, precision=precision).num_replicas
        print(_describe(options, devices) + '\ndry run: nothing was written')
        return 0
    from training.training_loop import training_loop
    arguments = {key: value for key, value in options.items() if key not in MACHINE}
    with Cluster.from_environment(*machine, precision=precision) as cluster:
        with open_run(options, run_dir, cluster) as run:
            ended_by = training_loop(run, cluster, evaluation=_evaluation(options), **arguments)
            if run and ended_by:
                run.finished = False
                print(f'stopped; go on with: python train.py --resume {run.run_dir}')
    return 128 + ended_by if ended_by else 0


if __name__ == '__main__':
    run_main(main)
