"""Trains the generator and its discriminator: stage 1 imitates renders, stage 2 adds contrast (paper section 3)."""

import argparse
import contextlib
import fcntl
import json
import math
import os
import shutil
from typing import Any, NamedTuple, Optional, Sequence

import config as paths
from dnnlib import tfrecords
from dnnlib.json_files import read_json
from dnnlib.options import SEED, Parser, real, whole
from dnnlib.submission.run_dir import RunContext, create_run_dir, leading_number
from dnnlib.util import PRECISION_HELP, PRECISIONS, EasyDict, UserError, limit_arenas, run_main
from metrics import metric_base
from training import checkpoints, configs, schedule, snapshots
from worlds import label, parts
from worlds.agree import one_world

EXAMPLES = """examples:
  python train.py                                                       stage 1 on datasets/ffhq_align, all GPUs
  python train.py --stage 2 --run_id 0 --snapshot 15000                 stage 2 from run 0's snapshot of 15000 kimg
  python train.py --config demo128 --precision bfloat16                 the human world, on a CPU in some twelve hours
  python train.py --resume latest                                       go on where the newest run stopped

Ctrl-C, SIGTERM, or a file abort.txt in the run's directory: the step is finished, everything saved.
Several hosts: start the same command on each, with TF_CONFIG set; --resume then needs one shared --result_dir.
"""

OPTIONS_FILE = 'submit_config.json'


# ---- options

class Option(NamedTuple):
    """All that is known of an option."""

    help: str
    default: Any = None             # of a new run; None also where it depends on others
    metavar: Optional[str] = None
    type: Any = None
    shown: Optional[str] = None     # what --help says in place of the default
    change: bool = True             # --resume may change it
    choices: Optional[Sequence[Any]] = None


OPTIONS = {     # group of --help: {flag: Option}
    'training': dict(
        config=Option(f'{", ".join(configs.CONFIGS)}, or a .json file of your own that says what differs; demo128 has '
                      'other weights of losses than the defaults below; with --resume, what learning rates, schedule '
                      'and losses are from there on', 'ffhq256', 'NAME'),
        stage=Option('1: fakes imitate their renders; 2: pairs of fakes are compared, too', 1, None, int, change=False,
                     choices=(1, 2)),
        data_dir=Option('TFRecords made by dataset_tool.py', None, 'DIR',
                        shown='that of --config, below datasets/; ffhq_align for ffhq256'),
        result_dir=Option('runs get numbered directories there', paths.RESULT_DIR, 'DIR', shown='results/'),
        total_kimg=Option('thousands of images shown when training ends', None, 'N', real(0, 10 ** 6),
                          'that of --config; 15000 for ffhq256, 20000 in stage 2'),
        seed=Option('of first weights and everything drawn', 1000, 'N', SEED, change=False),
        noise_dim=Option('length of the noise vector', 32, 'N', whole(0), change=False)),
    'weights of the losses': dict(
        w_id=Option('identity', 3.0, 'X', real(0)),
        w_lm=Option('landmarks', 500.0, 'X', real(0), '500 in stage 1, 100 in stage 2'),
        w_gamma=Option('lighting', 10.0, 'X', real(0)),
        w_skin=Option('skin colour', 20.0, 'X', real(0)),
        w_exp_warp=Option('warping between expressions, stage 2', 10.0, 'X', real(0)),
        w_gamma_change=Option('what must not change with the lighting, stage 2', 10.0, 'X', real(0))),
    "weights of losses that are ours, not the paper's; at 0 they are not built": dict(
        w_shape=Option('shape of the head as the reconstruction network sees it, in mm of the mesh', 0.0, 'X', real(0)),
        w_albedo=Option('colour of the skin without light as it sees it, in levels of 255', 0.0, 'X', real(0)),
        w_exp=Option('expression as it sees it, in mm of the mesh', 0.0, 'X', real(0))),
    "weights of losses that are ours, not the paper's, stage 2; at 0 they are not built": dict(
        w_light_hair=Option('colour of the hair, when the light moves: hue, and less so brightness, once the light on '
                            'the face is divided out', 0.0, 'X', real(0)),
        w_light_background=Option('background, when the light moves; needs a parser with a class for it', 0.0, 'X',
                                  real(0)),
        w_pose_hair=Option('colour of the hair, when the pose moves', 0.0, 'X', real(0)),
        w_pose_background=Option('background outside both heads, when the pose moves; needs a parser with a class for '
                                 'it', 0.0, 'X', real(0)),
        w_pose_exp=Option('expression as the reconstruction network sees it, in mm of the mesh, when the pose moves',
                          0.0, 'X', real(0)),
        w_id_exp=Option('the same, when the identity moves', 0.0, 'X', real(0))),
    'where to start': dict(
        resume=Option("go on with a run in its directory: that directory, its number, or 'latest', the newest one with "
                      'a checkpoint; its options are kept, others given here win', None, 'RUN', shown='a new run'),
        run_id=Option('stage 2: the run whose snapshot to start from, by directory or number, or the path of a .pkl',
                      None, 'RUN', shown='none', change=False),
        snapshot=Option("stage 2: which of its snapshots, by number or 'final'", None, 'N',
                        shown='the final, or else the newest', change=False),
        kimg=Option('stage 2: thousands of images shown before', None, 'N', real(0), "the number in the snapshot's "
                    'name; for network-final.pkl that of the newest one beside it', change=False)),
    'machine': dict(
        num_gpus=Option('GPUs of this host, 0: the CPU', None, 'N', whole(0), 'all visible'),
        cpu_devices=Option('cut the CPU into so many devices, to try several out; not together with GPUs', None, 'N',
                           whole(1), 'GPUs'),
        precision=Option(PRECISION_HELP.partition(' (default')[0], 'float32', choices=PRECISIONS),
        checkpoint_minutes=Option('between two checkpoints', 10.0, 'N', real(0))),
    'measuring': dict(
        metrics=Option('measure each network snapshot: names separated by commas, as run_metrics.py --metrics takes '
                       'them, e.g. fid,slope; none: no longer', None, 'NAMES',
                       lambda text: None if text == 'none' else text, 'none'),
        metrics_num=Option('pictures that each metric may take', None, 'N', whole(2), '50000'),
        inception=Option('the public frozen graph classify_image_graph_def.pb, for fid, kid, ppl', None, 'FILE',
                         shown='the identity expert, whose values compare with no published ones')),
    'world': dict(
        world=Option('whose face model, VAEs and experts', shown="the dataset's, which its world.json names; real "
                     'without one', change=False, choices=label.NAMES),
        face_model=Option("face model in place of the world's", None, 'DIR', shown="the world's"),
        vae_weights=Option("the four VAEs in place of the world's", None, 'DIR', shown="the world's"),
        experts=Option("table of perception networks in place of the world's", None, 'FILE', shown="the world's")),
}
ALL = {flag: option for options in OPTIONS.values() for flag, option in options.items()}
DEFAULTS = EasyDict((flag, option.default) for flag, option in ALL.items())
WEIGHTS = tuple(flag for flag in ALL if flag.startswith('w_'))
STORED = tuple(flag for group in ('training', 'machine', 'measuring') for flag in OPTIONS[group] if flag != 'config')
NOT_LOOP = ('result_dir', 'num_gpus', 'cpu_devices', 'precision') + tuple(OPTIONS['measuring'])     # training_loop's


def parse_options(arguments=None):
    """Command line -> EasyDict of what was given; what was not is absent."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, argument_default=argparse.SUPPRESS,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for flag, option in options.items():
            shown = option.shown or (f'{option.default:g}' if isinstance(option.default, float) else option.default)
            group.add_argument('--' + flag, help=f'{option.help} (default: {shown})', metavar=option.metavar,
                               type=option.type or str, choices=option.choices)
        if title == 'machine':
            group.add_argument('-n', '--dry-run', action='store_true',
                               help='check options and files, print what would be done (default: off)')
    return EasyDict(vars(parser.parse_args(arguments)))


def resolve(given):
    """Given options -> every option of the run, JSON-ready. UserError for what does not fit together."""
    _check_devices(given)
    config = configs.load(given.get('config', DEFAULTS.config))
    chosen = EasyDict(DEFAULTS, data_dir=os.path.join(paths.DATASET_DIR, config.data_dir))
    chosen.update(configs.weights_of(config, given.get('stage', 1)))
    chosen.update(given)
    options = EasyDict({flag: chosen[flag] for flag in STORED}, config=config, snapshot=None, start_kimg=0.0,
                       weights={flag: chosen[flag] for flag in WEIGHTS})
    if options.total_kimg is None:
        options.total_kimg = configs.final_kimg(config, options.stage)
    _make_absolute(options)
    if options.stage == 2:
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
    if options.inception:
        options.inception = os.path.abspath(options.inception)


def _check_measuring(given, options):
    """UserError for metrics that are unknown, and for options of metrics without any."""
    if options.metrics is not None:
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
    kimg = given['kimg'] if 'kimg' in given else snapshots.kimg_of(path)
    return dict(snapshot=os.path.abspath(path), start_kimg=kimg)


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


# ---- going on with a run

def resume(given):
    """(options, directory) of the run that --resume names; what may change and is given wins."""
    run_dir = _find_run(given.resume, given.get('result_dir', DEFAULTS.result_dir))
    options = _options_of(run_dir)
    if os.path.exists(os.path.join(run_dir, 'abort.txt')):
        raise UserError(f'--resume {given.resume}: remove {os.path.join(run_dir, "abort.txt")} first, it stops the run')
    fixed = sorted(flag for flag in given if flag in ALL and not ALL[flag].change)
    if fixed:
        raise UserError(f'--resume keeps the options the run was started with: leave out --{", --".join(fixed)}')
    if 'config' in given:
        before = configs.weights_of(options.config, options.stage)
        options.config, changes = configs.replacement(given.config, options.config)
        options.weights.update((flag, weight) for flag, weight in
                               configs.weights_of(options.config, options.stage).items() if weight != before.get(flag))
        print(f'--config {given.config}: ' + (', '.join(changes) or 'nothing differs'))
    _change(options, given)
    _make_absolute(options)
    _resume_world(given, options, run_dir)
    _check_measuring(given, options)
    if not checkpoints.existing(run_dir):
        print(f'--resume {given.resume}: no checkpoint was written in {run_dir}, so there is nothing to go on from: '
              f'training begins anew at {options.start_kimg:g} kimg, in that directory')
    return options, run_dir


def _options_of(run_dir):
    """The options that a run was started with, as `resolve` gives them. UserError: it has none."""
    path = os.path.join(run_dir, OPTIONS_FILE)
    stored = read_json(path, 'the options of a run, which are written when it begins')
    try:
        options = EasyDict({flag: DEFAULTS[flag] for flag in STORED}, **stored)     # it may be of an earlier version
        return EasyDict(options, config=configs.from_options(options.config),
                        weights={flag: dict(options.weights).get(flag, DEFAULTS[flag]) for flag in WEIGHTS},
                        world_parts=dict(options.world_parts), start_kimg=float(options.start_kimg))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f'{path}: not the options of a run ({error!r}); they are written when it begins')


def _change(options, given):
    """Let options given with --resume win over those of the run."""
    _check_devices(given)
    if given.get('num_gpus'):
        options.cpu_devices = None
    elif 'cpu_devices' in given:
        options.num_gpus = None
    options.update((flag, given[flag]) for flag in STORED if flag in given)
    options.weights.update((flag, given[flag]) for flag in WEIGHTS if flag in given)


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


# ---- running

def check_files(options, run_dir=None):
    """Everything the run reads is there and fits; else a UserError, before anything is written.

    run_dir: of a run that is taken up; None: a new one.
    """
    levels = tfrecords.read_levels(options.data_dir, options.config.resolution)
    from dnnlib.tflib import custom_ops
    from dnnlib.tflib.compat import gpu_names, tf
    from perception import experts
    from vae.model import Decoders
    saved = checkpoints.newest_facts(run_dir) if run_dir else None
    if options.snapshot and not (saved and saved.get('networks')):
        snapshots.check_fits(options.snapshot, options.config.resolution, levels[0].shape[0], options.noise_dim)
    there = parts.World(options.world, **options.world_parts)
    there.face_model()
    with tf.Graph().as_default():
        Decoders(there.vae_weights)
    if options.stage == 2 or options.config.full_resolution <= options.config.resolution:
        experts.check_weights(there.expert_specs(), experts.STAGE_EXPERTS[options.stage])
    if options.stage == 2:
        check_background(options.weights, there.expert_specs())
    if options.num_gpus == 0 or options.cpu_devices or not gpu_names():
        custom_ops.find_compiler()      # on CPUs the renderer's ops are compiled


def check_background(weights, specs):
    """UserError when a loss needs the background and the parser of `specs` has no class for it."""
    from perception import experts
    flags = [flag for flag in ('w_light_background', 'w_pose_background') if weights[flag]]
    if flags and not experts.tells_background(specs):
        raise UserError(f'--{" and --".join(flags)}: the parser {specs["parser"].weights} has no class of its own for '
                        'the background; give another with --experts, or the weight 0')


def _dry_run(options, run_dir):
    """Print the run in a few aligned lines. run_dir: of a run that goes on; None: a new one."""
    from training.distributed import Cluster
    devices = Cluster(None, options.num_gpus, options.cpu_devices, precision=options.precision).num_replicas
    facts = checkpoints.newest_facts(run_dir) if run_dir else None
    start = facts['nimg'] / 1000 if facts else options.start_kimg
    rows = [('data', f'{options.data_dir} ({options.world} world)'), ('devices here', devices),
            ('images shown', f'{start:g} to {options.total_kimg:g} kimg'
             + ('' if start < options.total_kimg else ': nothing is left to do'))]
    plan, before = configs.schedule_of(options.config, devices), None
    for kimg in range(int(start), math.ceil(options.total_kimg)):
        now = schedule.state_at(plan, kimg * 1000)
        if now.resolution != before:
            rows.append((f'from {kimg} kimg', f'resolution {now.resolution}, minibatch {now.minibatch}, learning rate '
                                              f'{now.learning_rate:g}'))
        before = now.resolution
    print('\n'.join(f'{name:<16}{value}' for name, value in rows) + '\ndry run: nothing was written')


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
        path = os.path.join(run_dir, name)
        if name.startswith('.tmp-') and os.path.isdir(path):        # half a file of a life that was killed
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith('.tmp-') or name == '_finished.txt':
            os.remove(path)


def _evaluation(options):
    """What measures each network snapshot, None without --metrics: (run_dir, Telemetry) -> Evaluation."""
    if not options.metrics:
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
    limit_arenas()      # a twelfth less memory at 64 pixels of ffhq256, as fast
    if 'dry_run' in given:
        _dry_run(options, run_dir)
        return 0
    from training.distributed import Cluster
    from training.training_loop import training_loop
    arguments = {key: value for key, value in options.items() if key not in NOT_LOOP}
    with Cluster.from_environment(options.num_gpus, options.cpu_devices, precision=options.precision,
                                  core_share=options.config.core_share) as cluster:
        with open_run(options, run_dir, cluster) as run:
            ended_by = training_loop(run, cluster, evaluation=_evaluation(options), **arguments)
            if run and ended_by:
                run.finished = False
                print(f'stopped; go on with: python train.py --resume {run.run_dir}')
    return 128 + ended_by if ended_by else 0


if __name__ == '__main__':
    run_main(main)
