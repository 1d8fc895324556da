"""`make soak`: 2,000 mutated inputs for each reader of coefficients, snapshots, averages, JSON files and checkpoints.

In a process of its own with limited memory: no crash, no hang, no error but ours, no damaged checkpoint taken.
"""

import os
import shutil
import sys

import numpy as np
import pytest

import config
from tests.common import data
from tests.test_soak_inputs import run_apart, soak

MEMORY = 16 << 30           # of addresses: TensorFlow takes many
GOLDEN = data('golden', 'tf2.pkl')


def _bytes(path):
    with open(path, 'rb') as file:
        return file.read()


def _faces(folder):
    """Contents of a .mat and of an .npz as Face.save writes them."""
    from sampling.faces import Face
    face = Face(np.random.RandomState(0).standard_normal(286), np.zeros(179, np.float32))
    paths = [os.path.join(folder, 'face.' + kind) for kind in ('mat', 'npz')]
    for path in paths:
        face.save(path)
    return [_bytes(path) for path in paths]


def _checkpoint(folder):
    """Prefix of a small checkpoint and its right values."""
    from dnnlib.tflib import checkpoints
    prefix = os.path.join(folder, 'right.ckpt')
    values = {'a/kernel': np.arange(12, dtype=np.float32).reshape(3, 4), 'a/bias': np.zeros(4, np.float32)}
    checkpoints.save(prefix, values)
    return prefix, values


def _readers(folder):
    """{name: (seed, function of a path)}: the path holds the mutated seed."""
    from dnnlib.json_files import read_json
    from dnnlib.tflib import checkpoints, pickles
    from perception import experts
    from sampling import pretrained
    from sampling.faces import Face
    from training import configs
    from worlds import label
    mat, npz = _faces(folder)
    prefix, values = _checkpoint(folder)

    def read_checkpoint(path, part):
        for other in ('.index', '.data-00000-of-00001'):
            shutil.copy(prefix + other, os.path.join(folder, 'x.ckpt') + other)
        shutil.copy(path, os.path.join(folder, 'x.ckpt') + part)
        found = checkpoints.read(os.path.join(folder, 'x.ckpt'), list(values))
        assert all(np.array_equal(found[name], values[name]) for name in values), 'a damaged checkpoint was taken'

    def read_world(path):
        shutil.copy(path, os.path.join(folder, label.FILE))
        label.read(folder)

    table = b'{"recon": {"network": "small_recon", "weights": "small_recon", "size": 64, "width": 24}}'
    own = b'{"base": "demo64", "resolution": 32, "training_kimg": {"8": 1, "16": 2}, "transition_kimg": 3}'
    return {
        'x.mat': (mat, Face.load), 'x.npz': (npz, Face.load), 'snapshot.pkl': (_bytes(GOLDEN), pickles.load_states),
        'average.txt': (_bytes(os.path.join(config.DEMO_DIR, 'demo128-average_w_id.txt'))[:4000],
                        pretrained.load_average_w),
        'config.json': (own, configs.load), 'experts.json': (table, experts.load_specs),
        'settings.json': (b'{"factor": "pose", "seed": 1, "rate": 0.7}', read_json),
        'world.json': (b'{"world": "human"}', read_world),
        'index': (_bytes(prefix + '.index'), lambda path: read_checkpoint(path, '.index')),
        'data': (_bytes(prefix + '.data-00000-of-00001'), lambda path: read_checkpoint(path, '.data-00000-of-00001'))}


def _through_files(readers, folder):
    """The same for `soak`, whose functions take bytes."""
    def through(path, read):
        def take(content, _):
            with open(path, 'wb') as file:
                file.write(content)
            read(path)
        return take
    return {name: (seed, through(os.path.join(folder, 'mutated-' + name), read))
            for name, (seed, read) in readers.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='limits of memory are of other systems')
def test_readers_of_mutated_files(tmp_path):
    run_apart('tests.test_soak_models', tmp_path)


if __name__ == '__main__':
    soak(_through_files(_readers(sys.argv[1]), sys.argv[1]), MEMORY)
