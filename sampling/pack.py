"""Make a trained model small enough to pass on: its moving-average generator alone, decoders, and average of w.

    python -m sampling.pack --model results/00001-sgan-demo64-cpu-stage2/network-final.pkl

Weights are kept in half precision, which moves pictures by less than a level of grey on average; any program that
reads snapshots reads them.
"""

import argparse
import glob
import os

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

import config
from dnnlib.util import UserError, atomic_path, run_main

EXAMPLE = '''The folder is what generate_images.py falls back on without the released model (default: the project's own
folder demo). A model of another world can be packed too; give it a folder of its own.'''


def embed(model, folder, name=config.DEMO_NAME):
    """Write <folder>/<name> with its -world.json, -average_w_id.txt, and <folder>/vae; returns the paths.

    model: a snapshot with its world file beside it. UserError when it or its decoders are missing or damaged, and when
    other models in the folder have other decoders there.
    """
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.compat import tf
    from sampling import generator, pretrained
    from training import snapshots
    from vae.model import RELEASED, Decoders, export_decoder
    from worlds import label, parts
    target, world = os.path.join(folder, name), parts.of_model(model)
    if os.path.realpath(target) == os.path.realpath(model):
        raise UserError(f'--output {folder}: that is where the model lies; choose another folder')
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph):
        paths = Decoders(world.vae_weights).paths       # nothing is written when they are not there
        network = _halved(snapshots.load_generator(model).state())
    vae = os.path.join(folder, snapshots.VAE_FOLDER)
    others = [other for other in glob.glob(os.path.join(glob.escape(folder), '*.pkl')) if other != target]
    with atomic_path(vae, directory=True) as temporary:
        for factor, path in paths.items():
            export_decoder(path, os.path.join(temporary, factor, RELEASED), factor)
        if others and os.path.isdir(vae) and _contents(temporary) != _contents(vae):
            raise UserError(f'--output {folder}: {others[0]} uses the VAEs there, which are others than those of '
                            f'{model}; choose another folder')
    pickles.save_states([network], target)
    facts = label.write_model(target, world.name, vae_weights=snapshots.VAE_FOLDER)
    average = pretrained.average_w_path(target)
    if os.path.exists(average):
        os.remove(average)              # of the model that was here before
    with generator.FaceGenerator(target) as faces:
        faces.prepare()
    return [target, facts, average, vae]


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


def _size(path):
    return sum(os.path.getsize(file) for file in _files(path) or [path]) / 2 ** 20


def _name(text):
    if not text.endswith('.pkl') or os.path.basename(text) != text:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a file name that ends in .pkl, without a folder')
    return text


def main():
    """Options -> `embed`; prints what was written and how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True, metavar='FILE', help='network-snapshot-*.pkl or network-final.pkl')
    parser.add_argument('--output', default=config.DEMO_DIR, metavar='DIR', help='folder (default: %(default)s)')
    parser.add_argument('--name', type=_name, default=config.DEMO_NAME, metavar='NAME.pkl',
                        help='of the packed model (default: %(default)s, which generate_images.py looks for)')
    args = parser.parse_args()
    if not os.path.isfile(args.model):
        raise UserError(f'--model {args.model}: no such file')
    for path in embed(args.model, args.output, args.name):
        print(f'{_size(path):7.2f} MB  {path}')


if __name__ == '__main__':
    run_main(main)
