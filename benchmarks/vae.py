"""Speed of the VAEs: seconds per 1000 samples of training for each factor, files read per second, latents decoded."""

import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
import scipy.io

from benchmarks.common import machine_line, measure, milliseconds, record, table
from dnnlib.options import whole
from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import VERSION, tf
from dnnlib.util import PRECISION_HELP, PRECISIONS, run_main
from renderer import factors
from vae import data, model
from vae.trainer import BLOCK, Trainer

RELEASED = dict(id=0.240, exp=0.122, gamma=0.084, rot=0.077)   # seconds per 1000 samples, released script, 2 cores


def step_by_step(name, samples, repeats, precision):
    """Timing of the usual way, one session run with a fed batch per step, which is how the released script works."""
    with tf.Graph().as_default() as graph, tfutil.create_session(
            graph=graph, threads_per_op=1, precision=precision) as session:
        x = tf.placeholder(tf.float32, [64, factors.num_coeffs(name)])
        noise = tf.random_normal([64, factors.num_latents(name)])
        loss = tf.add_n(model.losses(x, noise, name, model.create_variables(model.model_shapes(name))))
        train = tf.train.AdamOptimizer(1e-4).minimize(loss)
        session.run(tf.global_variables_initializer())
        batches = np.split(samples, len(samples) // 64)
        return measure(lambda: [session.run([train, loss], {x: batch}) for batch in batches], repeats)


def training_row(name, precision='float32', repeats=7):
    """One block of steps at batch 64, in a graph of its own -> table row."""
    samples = np.random.RandomState(0).standard_normal([BLOCK * 64, factors.num_coeffs(name)]).astype(np.float32)
    usual, _, _ = step_by_step(name, samples, repeats, precision)
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph, threads_per_op=1, precision=precision):
        trainer = Trainer(name, samples)
        timing = measure(lambda: list(trainer.train_epoch(0, 1e-4)), repeats, warmup=2)
    per_1000 = [value / len(samples) * 1000 for value in timing]
    record(f'VAE of {name}, 1000 samples, {precision}', 1e3 * per_1000[0], 'ms')
    return [f'train {name}, 1000 samples', milliseconds(per_1000),
            f'{RELEASED[name] / per_1000[0]:.1f}x the release (its machine), {usual / timing[0]:.1f}x step by step']


def reading_row(count=5000):
    """Coefficient files in the page cache -> table row."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            scipy.io.savemat(os.path.join(folder, f'{i}.mat'), {'coeff': np.ones(257, np.float32)})
        timing = measure(lambda: data.load_coeffs(folder, progress=False))
    record('VAE, coefficient files read', count / timing[0], 'files/s')
    return [f'read {count} files', milliseconds(timing), f'{count / timing[0]:.0f} files/s']


def decoding_row(count=1000):
    """Latents -> lambda with weights of the released sizes -> table row."""
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph, \
            tfutil.create_session(graph=graph):
        for factor in factors.FACTORS:
            shapes = model.decoder_shapes(factor.name)
            checkpoints.save(os.path.join(folder, factor.name, model.RELEASED),
                             {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        decoders = model.Decoders(folder)
        decoders.restore()
        z = np.random.RandomState(0).standard_normal([count, factors.NUM_LATENTS])
        timing = measure(lambda: decoders.run(z))
    record('VAE, latents decoded', count / timing[0], 'latents/s')
    return [f'decode {count} latents', milliseconds(timing), f'{count / timing[0]:.0f} per second']


def main():
    """Print the machine and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP)
    parser.add_argument('--repeats', type=whole(1), default=7, help='timed blocks of 128 steps (default: %(default)s)')
    args = parser.parse_args()
    print(machine_line())
    print(f'TensorFlow {VERSION[0]}.{VERSION[1]}')
    rows = [training_row(factor.name, args.precision, args.repeats) for factor in factors.FACTORS]
    rows += [reading_row(), decoding_row()]
    print(table([['what', 'median (min-max)', '']] + rows))


if __name__ == '__main__':
    run_main(main)
