"""Make a trained model small enough to pass on: its moving-average generator alone, decoders, and average of w.

    python -m sampling.pack --model results/00001-sgan-demo128-cpu-stage2/network-final.pkl

Weights are kept in half precision, which moves pictures by less than a level of grey on average; any program that
reads snapshots reads them.
"""

import argparse
import filecmp
import os
import shutil
import tempfile
from typing import List

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

import config
from dnnlib.util import UserError, atomic_path, run_main
from sampling import options

EXAMPLE = '''The folder is what generate_images.py falls back on without the released model (default: the project's own
folder demo). A model of another world can be packed too; give it a folder of its own.'''


def pack_model(model: str, folder: str, name: str = config.DEMO_NAME) -> List[str]:
    """Write <folder>/<name> with its -world.json, -average_w_id.txt, and <folder>/vae; returns the paths.

    model: a snapshot with its world file beside it. Decoders that are the world's own are not copied. Nothing that is
    there is replaced; a vae/ that holds the same is shared. UserError when a file is in the way, or when the model or
    its decoders are missing or damaged.
    """
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.compat import tf
    from sampling import generator, pretrained
    from training import snapshots
    from vae.model import RELEASED, Decoders, export_decoder
    from worlds import label, parts
    target, world = os.path.join(folder, name), parts.of_model(model)
    vae = os.path.join(folder, snapshots.VAE_FOLDER)
    facts, average = label.path_of_model(target), pretrained.average_w_path(target)
    _check_free([target, facts, average])
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph):
        paths = Decoders(world.vae_weights).paths       # nothing is written when they are not there
        network = _halved(snapshots.load_generator(model).state())
    with tempfile.TemporaryDirectory() as temporary:
        for factor, path in paths.items():
            export_decoder(path, os.path.join(temporary, factor, RELEASED), factor)
        own = _holds(parts.World(world.name).vae_weights, temporary)
        if not own:
            _place_vaes(temporary, vae)
    pickles.save_states([network], target)
    label.write_model(target, world.name, **({} if own else {'vae_weights': snapshots.VAE_FOLDER}))
    with generator.FaceGenerator(target) as faces:
        faces.load_all()
    return [target, facts, average] + ([] if own else [vae])


def _check_free(paths):
    """UserError when one of the files is there."""
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise UserError(f'{there[0]}: there already, and not replaced; choose another --output or --name, or remove it '
                        'first')


def _place_vaes(source, vae):
    """Copy the decoders to the folder `vae`, unless the same are there; UserError when other files are."""
    if not os.path.lexists(vae):
        with atomic_path(vae, directory=True) as temporary:
            os.rmdir(temporary)
            shutil.copytree(source, temporary)
    elif _contents(vae) != _contents(source):
        raise UserError(f'{vae}: there already, and holds something else than the VAEs of this model; choose another '
                        '--output')


def _holds(folder, source):
    """Whether `folder` has all files below `source`, byte for byte."""
    return all(os.path.isfile(os.path.join(folder, name)) and filecmp.cmp(
        os.path.join(folder, name), os.path.join(source, name), shallow=False) for name in _names(source))


def _halved(state):
    """A NetworkState with its arrays in half precision, and those of its components."""
    state.variables = [(name, np.asarray(value, np.float16) if np.ndim(value) else value)
                       for name, value in state.variables]
    for component in state.components.values():
        _halved(component)
    return state


def _contents(folder):
    """{path from there: bytes} of the files below a folder."""
    found = {}
    for path in _files(folder):
        with open(path, 'rb') as file:
            found[os.path.relpath(path, folder)] = file.read()
    return found


def _files(path):
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def _names(path):
    return [os.path.relpath(file, path) for file in _files(path)]


def _size(path):
    return sum(os.path.getsize(file) for file in _files(path) or [path]) / 2 ** 20


def _name(text):
    if not text.endswith('.pkl') or os.path.basename(text) != text:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a file name that ends in .pkl, without a folder')
    return text


def main():
    """Options -> `pack_model`; prints what was written and how large it is."""
    parser = options.Parser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True, metavar='FILE', help='network-snapshot-*.pkl or network-final.pkl')
    parser.add_argument('--output', default=config.DEMO_DIR, metavar='DIR', help='folder (default: %(default)s)')
    parser.add_argument('--name', type=_name, default=config.DEMO_NAME, metavar='NAME.pkl',
                        help='of the packed model (default: %(default)s, which generate_images.py looks for)')
    args = parser.parse_args()
    if not os.path.isfile(args.model):
        raise UserError(f'--model {args.model}: no such file')
    for path in pack_model(args.model, args.output, args.name):
        print(f'{_size(path):7.2f} MB  {path}')


if __name__ == '__main__':
    run_main(main)
