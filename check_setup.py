"""What can be done here: for each task the files it needs, whether they are there and sound, where others come from.

Also Python, TensorFlow, devices, compiler and the renderer's op. What a task works on, such as
your photos, is not looked at. Exit code 0 when the task can be done.
"""

import os
import platform
import shutil
import sys
from collections import OrderedDict, namedtuple

import config
from dnnlib.options import Parser
from dnnlib.util import UserError, run_main
from worlds import label

# state: OK or what is wrong; detail: one line; source: where it comes from and under what licence.
Row = namedtuple('Row', 'state detail source')
OK = 'ok'

_RELEASE = 'README of https://github.com/microsoft/DiscoFaceGAN, under the terms stated there'
_OURS = 'comes along, MIT'
TASKS = OrderedDict([       # task: (what it is, its parts)
    ('draw', ('generate_images.py, generate_video.py', ('model', 'vaes'))),
    ('own', ('generate_images_mine.py, on your coefficient files', ('model', 'vaes'))),
    ('preprocess', ('preprocess_data.py, on your photos', ('face model', 'recon'))),
    ('vaes', ('vae/demo.py, on coefficients of preprocess_data.py', ())),
    ('stage1', ('train.py, on a dataset', ('face model', 'vaes', 'recon', 'id', 'op'))),
    ('stage2', ('train.py --stage 2, from a run of stage 1', ('face model', 'vaes', 'recon', 'id', 'parser', 'op'))),
    ('edit', ('edit_images.py, on what preprocess_data.py made', ('model', 'vaes', 'id'))),
    ('measure', ('run_metrics.py', ('model', 'vaes', 'face model', 'recon', 'id', 'parser', 'op'))),
])


def parse_options(arguments=None):
    """The command line."""
    parser = Parser(description=__doc__)
    about = '; '.join(f'{name}: {what}' for name, (what, _) in TASKS.items())
    parser.add_argument('--task', choices=list(TASKS), help=f'{about} (default: all)')
    parser.add_argument('--world', choices=label.NAMES, default=label.REAL, help='whose files: real, '
                        'the released ones; the others come along (default: %(default)s)')
    parser.add_argument('--model', metavar='FILE',
                        help='a snapshot to look at (default: the released or the small one)')
    return parser.parse_args(arguments)


# ---- the machine

def check_machine():
    """{part: Row} of Python, TensorFlow, devices and compiler."""
    rows = OrderedDict(Python=_python(), TensorFlow=_tensorflow())
    if rows['TensorFlow'].state == OK:
        from dnnlib.tflib.compat import gpu_names
        gpus = gpu_names()
        rows['devices'] = Row(OK, f'{len(gpus)} GPU(s), {os.cpu_count()} cores' if gpus else
                              f'CPU with {os.cpu_count()} cores, no GPU', '')
    compiler = shutil.which('g++')
    rows['compiler'] = Row(OK, compiler, '') if compiler else Row('missing', 'no g++', 'Debian: apt install g++')
    return rows


def _python():
    version = platform.python_version()
    fits = sys.version_info[:2] == (3, 7) or sys.version_info[:2] >= (3, 10)
    return Row(OK if fits else 'wrong', version, '' if fits else '3.7 (TensorFlow 1.15), or 3.10 and newer')


def _tensorflow():
    try:
        from dnnlib.tflib.compat import tf
    except ImportError as error:
        return Row('missing', str(error), 'pip install -r requirements.txt')
    return Row(OK, tf.__version__, '')


def check_op():
    """Row of the renderer's compiled op: compiled now where it was not."""
    from dnnlib.tflib import custom_ops
    from renderer import rasterize_triangles
    try:
        custom_ops.get_library('rasterize_triangles', rasterize_triangles.SOURCES)
    except UserError as error:
        return Row('missing', _first_line(error), 'Debian: apt install g++')
    return Row(OK, f'compiled, in {config.OP_CACHE_DIR}', '')


# ---- files

def check_model(options):
    """Row of the generator's snapshot."""
    from dnnlib.tflib import pickles
    from sampling import pretrained
    path = options.model or (pretrained.find_default_model() if options.world == label.REAL else
                             pretrained.small_model())
    if not path or not os.path.isfile(path):
        place = path or os.path.join(config.CACHE_DIR, pretrained.MODEL_NAME)
        return Row('missing', place, _RELEASE)
    try:
        pickles.load_states(path)
        world = label.read_model(path)['world']
    except UserError as error:
        return Row('damaged', _first_line(error), _RELEASE)
    if world != options.world:
        return Row('missing', f'{path} is of the {world} world, not of the {options.world} one',
                   'train.py makes one, as training/README.md shows')
    average = pretrained.find_average_w(path)
    source = _OURS if path.startswith(config.DEMO_DIR) else _RELEASE
    return Row(OK, f'{path}, {os.path.getsize(path) / 2 ** 20:.1f} MB; its average of w is '
               + ('there' if average else 'computed at first use'), source)


def check_vaes(world):
    """Row of the four VAEs."""
    from dnnlib.tflib import checkpoints
    from renderer.factors import FACTORS
    from vae import model
    source = _OURS if world.name != label.REAL else 'folder vae/weights of the released repository, under its terms'
    try:
        for factor in FACTORS:
            checkpoints.read_names(model.find_checkpoint(factor.name, world.vae_weights))
    except UserError as error:
        return Row('missing', _first_line(error), source)
    return Row(OK, world.vae_weights, source)


def check_face_model(world):
    """Row of the face model with the alignment's template."""
    if world.name != label.REAL:
        world.face_model()
        return Row(OK, f'computed from {world.name}/', _OURS)
    from renderer import face_model
    from worlds import real
    source = 'see https://faces.dmi.unibas.ch/bfm/ (Basel licence, not to be passed on)'
    missing = [name for name in list(face_model.SOURCES) + [real.TEMPLATE_FILE]
               if not os.path.exists(os.path.join(config.FACE_MODEL_DIR, name))]
    if os.path.exists(os.path.join(config.FACE_MODEL_DIR, face_model.MODEL_FILE)):
        missing = [name for name in missing if name == real.TEMPLATE_FILE]
    if missing:
        return Row('missing', f'{config.FACE_MODEL_DIR}: {", ".join(missing)}', source)
    try:
        world.face_model()
        world.template()
    except UserError as error:
        return Row('damaged', _first_line(error), source)
    return Row(OK, config.FACE_MODEL_DIR, source)


def check_network(world, name):
    """Row of a perception network: 'recon', 'id' or 'parser'."""
    from dnnlib.tflib import checkpoints
    spec = world.expert_specs()[name]
    source = _OURS if world.name != label.REAL else f'{spec.source}; under the terms stated there'
    if not checkpoints.exists(spec.weights):
        return Row('missing', spec.weights + '.index, .data-00000-of-00001', source)
    try:
        checkpoints.read_names(spec.weights)
    except UserError as error:
        return Row('damaged', _first_line(error), source)
    return Row(OK, spec.weights, source)


def _first_line(error):
    return str(error).splitlines()[0]


def check_parts(options, names):
    """{part: Row} of the parts called `names`."""
    from worlds.parts import World
    world = World(options.world)
    checks = {'model': lambda: check_model(options), 'vaes': lambda: check_vaes(world),
              'face model': lambda: check_face_model(world), 'op': check_op}
    checks.update((name, lambda name=name: check_network(world, name)) for name in ('recon', 'id', 'parser'))
    return OrderedDict((name, checks[name]()) for name in checks if name in names)


# ---- what is said

def table(rows):
    """{part: Row} as aligned lines; what is not there says where it comes from."""
    wide = max(len(name) for name in rows)
    lines = []
    for name, row in rows.items():
        lines.append(f'{name:<{wide}}  {row.state:<8}  {row.detail}')
        if row.source:
            lines.append(f'{"":<{wide}}  {"":<8}  {"from: " if row.state != OK else ""}{row.source}')
    return '\n'.join(lines)


def main():
    """Print the tables; exit code 1 when the task, or one of all, lacks something."""
    options = parse_options()
    machine = check_machine()
    print(table(machine))
    if machine['TensorFlow'].state != OK:
        return 1
    tasks = [options.task] if options.task else list(TASKS)
    parts = check_parts(options, {part for task in tasks for part in TASKS[task][1]})
    if parts:
        print(f'\nfiles of the {options.world} world\n{table(parts)}')
    print('\ntasks')
    able = True
    for task in tasks:
        what, needs = TASKS[task]
        lacking = [part for part in needs if parts[part].state != OK]
        able = able and not lacking
        print(f'{task:<10}  {"lacks " + ", ".join(lacking) if lacking else "can be done":<28}  {what}')
    if not able and options.world == label.REAL:
        print('\nwithout those files the human world can be tried: python check_setup.py --world human')
    return 0 if able else 1


if __name__ == '__main__':
    run_main(main)
