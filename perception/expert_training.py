"""Training of a world's small experts: options, steps that can be interrupted and gone on with, the table of results.

A world has a `School` and a module that hands it to `main`.
"""

import argparse
import os
import time
from typing import Any, Callable, NamedTuple

import config
from dnnlib.json_files import read_json, write_json
from dnnlib.submission.stop import StopSignals
from dnnlib.util import PRECISION_HELP, PRECISIONS, UserError
from perception import SMALL_SIZES
from worlds import label

TABLE = 'experts.json'
NETWORKS = ('recon', 'id', 'parser')
KIMG = {'recon': 1500, 'id': 1000, 'parser': 200}       # thousands of pictures: recommended lengths
HELD_OUT_SEED = 2 ** 32 - 1                             # of the photos that all networks are measured on
REPORT_STEPS = 100


class School(NamedTuple):
    """Where and how a world's experts are trained.

    name: the world's. about: for --help. size: default of --size.
    world: () -> perception.expert_lessons.World; called once options are right, for it loads TensorFlow.
    """

    name: str
    about: str
    size: int
    world: Callable[[], Any]


def parse_options(school, arguments=None):
    """The command line -> options."""
    parser = argparse.ArgumentParser(description=school.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--network', choices=NETWORKS + ('all',), default='all', help='what to train (default: %(default)s)')
    # Not the committed networks' folder: whatever was made with them would no longer fit.
    add('--output', metavar='DIR', default=os.path.join(config.DATASET_DIR, 'experts'), help='where the weights '
        f'and {TABLE} go; other networks of a table that is there are kept (default: %(default)s)')
    add('--work', metavar='DIR', default=os.path.join(config.CACHE_DIR, school.name + '-experts'),
        help='where photos and half-trained networks are kept, 0.5 to 1.3 GB (default: %(default)s)')
    add('--seed', metavar='N', type=int, default=0, help='other photos, other networks (default: %(default)s)')
    add('--photos', metavar='N', type=int, default=20000, help='photos to learn from (default: %(default)s)')
    add('--held_out', metavar='N', type=int, default=2048,
        help='other photos, to measure with (default: %(default)s)')
    add('--kimg', metavar='N', type=float, help='thousands of pictures to show each network (default: '
        + ', '.join(f'{KIMG[name]} {name}' for name in NETWORKS) + ')')
    add('--minutes', metavar='T', type=float, help='be done after so many minutes of training per network, however few '
        'pictures that is (default: no such limit)')
    add('--size', type=int, choices=SMALL_SIZES, default=school.size, help='width and height of what the networks see '
        '(default: %(default)s)')
    add('--width', metavar='N', type=int, default=24, help='channels of the first layer (default: %(default)s)')
    add('--batch', metavar='N', type=int, default=32, help='pictures in a step (default: %(default)s)')
    add('--rate', metavar='R', type=float, default=2e-3, help='learning rate at the start; it falls to 0 as a cosine '
        '(default: %(default)s)')
    add('--threads', metavar='N', type=int, help="of TensorFlow's pools (default: one per core)")
    add('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP)
    add('--save_minutes', metavar='T', type=float, default=3.0, help='minutes between two saved states '
        '(default: %(default)s)')
    options = parser.parse_args(arguments)
    _check_options(parser, options)
    return options


def _check_options(parser, options):
    wanted = ((options.photos >= 256 and options.held_out >= 64, '--photos, --held_out: at least 256 and 64'),
              (0 <= options.seed < HELD_OUT_SEED, f'--seed {options.seed}: 0 to {HELD_OUT_SEED - 1}'),
              (options.width >= 4 and options.width % 2 == 0, f'--width {options.width}: an even number from 4 on'),
              (options.batch >= 4 and options.batch % 2 == 0, f'--batch {options.batch}: an even number from 4 on'),
              (options.batch <= options.photos // 4 * 2, f'--batch {options.batch}: at most half of --photos'),
              (options.kimg is None or 0 < options.kimg < float('inf'), f'--kimg {options.kimg}: more than 0'),
              (options.minutes is None or options.minutes > 0, f'--minutes {options.minutes}: more than 0'),
              (options.rate > 0, f'--rate {options.rate}: more than 0'),
              (options.threads is None or options.threads > 0, f'--threads {options.threads}: at least 1'),
              (options.save_minutes > 0, f'--save_minutes {options.save_minutes}: more than 0'))
    for right, message in wanted:
        if not right:
            parser.error(message)


# ------------------------------------------------------------------------------------------------ training

def train(lesson, album, options, state):
    """Train a network until it has seen `kimg` thousand pictures or its minutes are over.

    Returns ({name: trained array}, thousands of pictures seen).

    lesson: one of perception.expert_lessons. state: checkpoint to save to and to go on from. KeyboardInterrupt comes
    after saving; UserError when the state belongs to another network.
    """
    from dnnlib.tflib import checkpoints, tfutil
    from dnnlib.tflib.compat import tf
    steps = max(int(options.kimg * 1000 / options.batch), 1)
    with tf.Graph().as_default() as graph, tfutil.create_session(
            options.threads, graph, precision=options.precision):
        tf.set_random_seed(options.seed)
        lesson.build(options)
        step = tf.get_variable('step', [], tf.int64, initializer=tf.zeros_initializer(), trainable=False)
        rate = tf.placeholder(tf.float32, [])
        update = tf.train.AdamOptimizer(rate, 0.9, 0.99).minimize(lesson.loss, global_step=step)
        tfutil.init_uninitialized_vars()
        tfutil.set_vars(lesson.statistics(album))
        if checkpoints.exists(state):
            checkpoints.restore(state, tf.global_variables())
        save = lambda: checkpoints.save(state, {v.op.name: v for v in tf.global_variables()})
        _loop(lesson, album, options, steps, int(tfutil.run(step)), save, (update, rate))
        save()
        arrays = {v.op.name: tfutil.run(v) for v in lesson.network_variables()}
        return arrays, int(tfutil.run(step)) * options.batch / 1000


def progress(step, first, steps, minutes=None, passed=0.0):
    """How much of the training is done, 0..1: by steps, or by `passed` of `minutes` since step `first` if that is more.
    """
    by_steps = step / steps
    by_time = first / steps + (1 - first / steps) * passed / minutes if minutes else 0.0
    return min(max(by_steps, by_time), 1.0)


def _loop(lesson, album, options, steps, first, save, training):
    import concurrent.futures

    import numpy as np
    from tqdm import tqdm

    from dnnlib.tflib import tfutil
    update, rate = training
    batch = lambda step: lesson.batch(album, np.random.RandomState([options.seed, step]), options)
    begun = saved = time.time()
    shown = []
    bar = tqdm(total=steps * options.batch, initial=min(first, steps) * options.batch, unit='img', unit_scale=True,
               mininterval=1, desc=lesson.name)
    with StopSignals() as interrupt, concurrent.futures.ThreadPoolExecutor(2) as pool, bar:
        ahead = [pool.submit(batch, step) for step in range(first, min(first + 4, steps))]
        for step in range(first, steps):
            done = progress(step, first, steps, options.minutes, (time.time() - begun) / 60)
            if done == 1:
                break
            feed = lesson.feed(ahead.pop(0).result())
            if step + 4 < steps:
                ahead.append(pool.submit(batch, step + 4))
            feed[rate] = options.rate * min(1, (step + 1) / 200) * 0.5 * (1 + np.cos(np.pi * done))
            shown.append(tfutil.run([update] + lesson.shown, feed)[1:])
            bar.update(options.batch)
            if len(shown) == REPORT_STEPS:
                bar.set_postfix_str(lesson.describe(np.mean(shown, axis=0)), refresh=False)
                shown = []
            if time.time() - saved > options.save_minutes * 60 or interrupt.asked:
                save()
                saved = time.time()
            if interrupt.asked:
                raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------ results

def compact(arrays):
    """Arrays as they are stored: kernels and biases in half precision (half the size, same accuracy), statistics not.

    {name: float32 array} -> {name: float16 or float32 array}.
    """
    import numpy as np
    return {name: array if '/output/' in name else array.astype(np.float16) for name, array in arrays.items()}


def write_table(folder, name, entry, accuracy, made):
    """Enter one network into the table in `folder`, beside the others that are there. Raises UserError."""
    path = os.path.join(folder, TABLE)
    expected = 'a table of networks; delete it or choose another --output'
    content = read_json(path, expected) if os.path.exists(path) else {}
    content[name] = entry
    for key, value in (('accuracy', accuracy), ('made', made)):
        if not isinstance(content.setdefault(key, {}), dict):
            raise UserError(f'{path}: its {key} is no table; delete it or choose another --output')
        content[key][name] = value
    write_json(path, content)


def run(school, options, name):
    """Train network `name`, write it, measure what was written -> {what: number}."""
    from dnnlib.tflib import checkpoints
    from perception import expert_lessons, experts
    world = school.world()
    draw = lambda folder, count, seed: world.photos.make_album(os.path.join(options.work, folder), count, seed)
    album = draw(f'photos-{options.seed}', options.photos, options.seed)
    held_out = draw('photos-held-out', options.held_out, HELD_OUT_SEED)
    lesson = expert_lessons.LESSONS[name](world)
    state = os.path.join(options.work, f'{name}-{options.size}-{options.width}-{options.batch}-{options.seed}', 'state')
    arrays, kimg = train(lesson, album, options, state)
    checkpoints.save(os.path.join(options.output, lesson.network), compact(arrays))
    entry = dict(network=lesson.network, weights=lesson.network, size=options.size, width=options.width,
                 source=f'python -m {school.name}.experts makes it')
    made = dict(seed=options.seed, photos=len(album.photos), kimg=kimg, batch=options.batch, rate=options.rate,
                precision=options.precision)
    write_table(options.output, name, entry, None, made)
    accuracy = lesson.measure(experts.load_specs(os.path.join(options.output, TABLE)), held_out)
    write_table(options.output, name, entry, accuracy, made)
    return accuracy


def print_table(name, accuracy):
    """One line per number."""
    for what, value in accuracy.items():
        print(f'{name:7} {what:48} {value:8.3f}', flush=True)


def main(school):
    """Train what is asked for and print the accuracies."""
    options = parse_options(school)
    for folder in (options.output, options.work):
        if os.path.isfile(folder):
            raise UserError(f'{folder}: a file; a folder was expected')
    label.write(options.output, school.name)
    for name in NETWORKS if options.network == 'all' else (options.network,):
        chosen = argparse.Namespace(**dict(vars(options), kimg=options.kimg or KIMG[name]))
        print_table(name, run(school, chosen, name))
