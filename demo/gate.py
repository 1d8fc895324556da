"""Packs a training into a file small enough to pass on, and unpacks it to go on with `train.py --resume`.

    python demo/gate.py pack results/00000-sgan-demo128-cpu gate.npz
    python demo/gate.py unpack gate.npz results/00000-sgan-demo128-cpu

Kept are the discriminator and the moving average of the generator, in half precision; the generator goes on from its
average, and Adam begins anew. A few hundred steps later nothing of that is seen.
"""

import argparse
import json
import os
import sys
import zipfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

from dnnlib.json_files import read_json, write_json
from dnnlib.tflib import checkpoints as weights
from dnnlib.util import UserError, atomic_path, run_main
from renderer import factors
from training import checkpoints, snapshots
from vae import model
from worlds import label, parts

OPTIONS = 'submit_config.json'
FACTS = 'facts'
BETA2 = 0.99                    # of the optimizer, see dnnlib.tflib.optimizer.Optimizer


def pack(run_dir, path):
    """The newest checkpoint of a run -> one file. Raises UserError when there is none, or the file is there.

    Nothing is changed in the run's directory: somebody may be training there.
    """
    if os.path.lexists(path):
        raise UserError(f'{path}: there already, and not replaced; choose another name or remove it first')
    there = checkpoints.existing(run_dir)
    if not there:
        raise UserError(f'{run_dir}: no checkpoint there; expected the directory of a training run')
    saved = checkpoints.load(there[-1][1])
    options = read_json(os.path.join(run_dir, OPTIONS), 'the options of a training run')
    if not isinstance(options.get('config'), dict):
        raise UserError(f'{os.path.join(run_dir, OPTIONS)}: no "config" in it; expected the options of a training run')
    _check_decoders(run_dir, options)
    # Without the places on this machine.
    snapshot = options.get('snapshot')
    options.update(data_dir=options['config'].get('data_dir'), world_parts={}, result_dir=None,
                   snapshot=snapshot and os.path.basename(snapshot))
    kept = {name: _smaller(array) for name, array in saved.arrays.items() if _is_kept(name)}
    arrays = [(name, list(array.shape), str(array.dtype)) for name, array in saved.arrays.items()]
    facts = json.dumps(dict(options=options, facts=saved.facts, arrays=arrays))
    kept[FACTS] = np.frombuffer(facts.encode('utf-8'), np.uint8)
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez_compressed(file, **kept)
    return path


def _check_decoders(run_dir, options):
    """UserError when the run's VAEs are not its world's own, for they are not packed."""
    folders = os.path.join(run_dir, snapshots.VAE_FOLDER), parts.World(options.get('world') or label.REAL).vae_weights
    for factor in factors.FACTORS if os.path.isdir(folders[0]) else ():
        copied, own = (weights.read(model.find_checkpoint(factor.name, folder)) for folder in folders)
        if not all(np.array_equal(array, own.get(name)) for name, array in copied.items()):
            raise UserError(f'{folders[0]}: not the VAEs of the world, in {folders[1]}, and they would not be packed; '
                            'pass the run on as it is')


def _is_kept(name):
    return name.startswith(('Gs/', 'D/')) and not name.endswith(('/m', '/v'))


def _smaller(array):
    return array.astype(np.float16) if array.ndim and array.dtype == np.float32 else array


def unpack(path, run_dir):
    """What `pack` wrote -> a run directory with one checkpoint. Raises UserError when something is there already."""
    if os.path.lexists(run_dir):
        raise UserError(f'{run_dir}: there already; choose another name')
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = dict(file)
        packed = json.loads(kept.pop(FACTS).tobytes().decode('utf-8'))
        arrays = {name: _larger(kept, name, shape, dtype) for name, shape, dtype in packed['arrays']}
        options, facts, nimg = dict(packed['options']), dict(packed['facts']), int(packed['facts']['nimg'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'{path}: not what `pack` wrote ({error})')
    options['result_dir'] = os.path.dirname(os.path.abspath(run_dir))
    with atomic_path(run_dir, directory=True) as temporary:
        write_json(os.path.join(temporary, OPTIONS), options)
        checkpoints.Checkpoints(temporary).save(nimg, arrays, facts)
    return run_dir


def _larger(kept, name, shape, dtype):
    """One array of the checkpoint: as it was kept, G's from Gs, of Adam what it begins with."""
    source = 'Gs/' + name[2:] if name.startswith('G/') else name
    if source in kept:
        return kept[source].astype(dtype).reshape(shape)
    return np.full(shape, BETA2 if name.endswith('/beta2_power') else 0, dtype)


def main():
    """Command line -> a file, or a run directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('action', choices=('pack', 'unpack'), help='what to do')
    parser.add_argument('source', metavar='FROM', help='run directory to pack; file to unpack')
    parser.add_argument('target', metavar='TO', help='file to write; run directory to make')
    args = parser.parse_args()
    done = (pack if args.action == 'pack' else unpack)(args.source, args.target)
    print(done)


if __name__ == '__main__':
    run_main(main)
