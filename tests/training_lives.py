"""Small trainings for tests: a dataset, a configuration, and lives of train.py in processes that can be killed."""

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys

import numpy as np

from dnnlib import tfrecords
from tests.common import data

IMAGES = 24
STEP_PAIRS, MINIBATCH = 4, 4
PER_LOOK = STEP_PAIRS * MINIBATCH       # images between two looks at the schedule

CONFIG = dict(
    base='demo64', resolution=16, minibatch=MINIBATCH, r1_interval=3, training_kimg=0.08,
    transition_kimg=0.16, total_kimg=0.4, stage2_kimg=0.048, tick_kimg=PER_LOOK / 1000, snapshot_ticks=100, grid=[2, 1],
    full_resolution=64, stage1_weights={}, stage2_weights={'w_lm': 100.0},
    generator=dict(fmap_base=64, fmap_max=8, dlatent_size=8, mapping_fmaps=8, mapping_layers=1, mapping_lrmul=1.0,
                   structure='linear'),             # graphs without branches are built in half the time
    discriminator=dict(fmap_base=64, fmap_max=8, structure='linear'))
FLAT = dict(initial_resolution=16, accumulate=2, generator=dict(CONFIG['generator'], structure='fixed'),
            discriminator=dict(CONFIG['discriminator'], structure='fixed'))


def write_dataset(folder, count=IMAGES, seed=0):
    """Random pictures of 16 x 16, of the human world."""
    os.makedirs(folder)
    pictures = np.random.RandomState(seed).randint(0, 256, [count, 3, 16, 16])
    for log2 in (2, 3, 4):
        size = 1 << log2
        with open(tfrecords.level_path(folder, log2), 'wb') as file:
            for picture in pictures:
                level = picture.reshape(3, size, 16 // size, size, 16 // size).mean(axis=(2, 4)).astype(np.uint8)
                file.write(tfrecords.frame(tfrecords.encode_image(level)))
    with open(os.path.join(folder, 'world.json'), 'w', encoding='utf-8') as file:
        json.dump({'world': 'human'}, file)
    return folder


def write_config(path, **changes):
    """A configuration for networks as small as can be."""
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(dict(CONFIG, **changes), file)
    return path


class Place:
    """A folder with dataset, small face model and configuration; `options` of train.py for them."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.dataset = write_dataset(os.path.join(self.folder, 'data16'))
        self.results = os.path.join(self.folder, 'results')
        self.face_model = os.path.join(self.folder, 'face')
        os.makedirs(self.face_model)
        shutil.copy(data('face', 'face_model.mat'), os.path.join(self.face_model, 'BFM_model_front_gan.mat'))

    def options(self, name='tiny', **changes):
        """The options of a new run of the configuration `name`, which differs from CONFIG by `changes`."""
        config = write_config(os.path.join(self.folder, name + '.json'), **changes)
        return ['--config', config, '--data_dir', self.dataset, '--result_dir', self.results, '--face_model',
                self.face_model, '--num_gpus', '0', '--checkpoint_minutes', '0']

    def run_dir(self, number):
        """Directory of run `number`."""
        return os.path.join(self.results, next(name for name in sorted(os.listdir(self.results))
                                               if name.startswith(f'{number:05d}-')))


def read_stats(run_dir):
    """Entries of stats.jsonl, [] where there is none yet; a line that is just being written is left out."""
    path = os.path.join(run_dir, 'stats.jsonl')
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file if line.endswith('\n')]


def train_here(options):
    """train.py in this process -> (exit code, what it printed)."""
    import train
    printed, before = io.StringIO(), sys.argv
    sys.argv = ['train.py'] + options
    try:
        with contextlib.redirect_stdout(printed):
            return train.main(), printed.getvalue()
    finally:
        sys.argv = before


def _live(options, output, environment):
    """In the process of a life: train.py with its output in a file."""
    import train
    os.environ.update(environment)
    from dnnlib.util import run_main
    sys.stdout = sys.stderr = open(output, 'w', encoding='utf-8', buffering=1)
    sys.argv = ['train.py'] + options
    run_main(train.main)


class Lives:
    """Starts lives of train.py; all are forked from one process that has TensorFlow loaded but never used."""

    def __init__(self):
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(['train', 'training.training_loop', 'tests.training_lives'])

    def start(self, options, output, **environment):
        """A process; its output goes to the file `output`."""
        process = self._context.Process(target=_live, args=(options, output, environment))
        process.start()
        return process
