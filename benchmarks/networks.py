"""Speed of generator and discriminator: images a second when sampling and training, where the time goes, our ops."""

import argparse
import collections
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import common  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402

PARTS = ('sampling', 'profile', 'training', 'layers')
DEMO_OPTIONS = dict(num_channels=3, fmap_base=1024, fmap_max=64)        # the small configuration


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--part', choices=PARTS, action='append', help='what to measure; repeatable (default: all)')
    parser.add_argument('--repeats', type=whole(1), default=5, help='timed runs of each (default: %(default)s)')
    parser.add_argument('--resolution', type=whole(1), default=256, help='of sampling and profile '
                        '(default: %(default)s)')
    parser.add_argument('--threads', type=whole(1), default=None, help='of TensorFlow (default: one per core)')
    return parser.parse_args()


def main():
    """Measure what the options name."""
    args = parse_args()
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import VERSION, gpu_names, tf
    print(f'{common.machine_line()}, TensorFlow {".".join(map(str, VERSION))}, '
          f'{"GPU" if gpu_names() else "CPU"}, load {os.getloadavg()[0]:.1f}')
    for part in args.part or PARTS:
        with tf.Graph().as_default() as graph, tfutil.create_session(args.threads, graph) as session:
            globals()[part](args, session)


def sampling(args, session):
    """G with default sizes, random weights, stored noise: images a second for several minibatches."""
    G = _generator(args)
    rows = [['batch', 'seconds a batch', 'images/s (median)', 'images/s (best)', 'CPU ms an image']]
    for batch in (1, 4, 8):
        run = _sampler(G, session, batch)
        (median, least, most), cpu = _measure_with_cpu(run, args.repeats)
        common.record(f'G, {args.resolution}x{args.resolution}, batch {batch}', batch / median, 'images/s')
        rows.append([batch, f'{median:.3f} ({least:.3f}-{most:.3f})', f'{batch / median:.2f}', f'{batch / least:.2f}',
                     f'{cpu / batch * 1e3:.0f}'])
    print(f'\nSampling, {args.resolution}x{args.resolution}, default sizes\n{common.table(rows)}')


def profile(args, session):
    """The same by type of operation: share of the time that its kernels run, at batch 4."""
    run = _sampler(_generator(args), session, 4)
    run()
    times = _kernel_milliseconds(run)
    total = sum(times.values())
    rows = [['operation', 'ms an image', 'share']]
    rows += [[op, f'{t / 4:.1f}', f'{t / total:.1%}'] for op, t in times.most_common(14)]
    print(f'\nWhere sampling spends its time (kernel times, two may run at once)\n{common.table(rows)}')


def training(args, session):
    """Losses and gradients of D with R1, and of G, batch 16, small networks, with the layers that training uses."""
    from dnnlib.tflib import layers as image_layers
    from dnnlib.tflib.compat import gpu_names
    rows = [['resolution', 'step', 'seconds a batch', 'images/s (median)', 'images/s (best)']]
    for resolution in (64, 128):
        with image_layers.for_devices(gpu_names()[:1] or ['/device:CPU:0']):
            steps = _training_steps(session, resolution, 16)
        for name, run in steps.items():
            median, least, most = common.measure(run, args.repeats)
            common.record(f'gradients of small {name}, {resolution}x{resolution}', 16 / median, 'images/s')
            rows.append([resolution, name, f'{median:.3f} ({least:.3f}-{most:.3f})', f'{16 / median:.1f}',
                         f'{16 / least:.1f}'])
    print(f'\nTraining, fmap_base 1024, fmap_max 64, batch 16\n{common.table(rows)}')


def layers(args, session):
    """What follows a convolution of the demo's generator and discriminator, from our own ops and from TensorFlow's."""
    from dnnlib.tflib import layers as image_layers
    from dnnlib.tflib.compat import tf
    shape, numbers = [16, 64, 64, 32], np.random.RandomState(0)
    x, noise, weight, scale = [tf.Variable(numbers.standard_normal(size).astype(np.float32), trainable=False)
                               for size in (shape, [16, 1, 64, 64], [32], [16, 32])]
    session.run(tf.global_variables_initializer())

    def style(y):
        if image_layers.has_ops():
            return image_layers.noise_style(y, noise, weight, weight, scale, scale)
        return image_layers.instance_norm(image_layers.leaky_relu(
            image_layers.add_noise_and_bias(y, noise, weight, weight)), scale, scale)
    calls = {}
    for name, layer in (('noise, leaky ReLU, norm, style', style), ('blur', image_layers.blur2d),
                        ('leaky ReLU', image_layers.leaky_relu)):
        for kind in ('plain', 'our ops'):
            with image_layers.use_data_format('NHWC'), image_layers.use_ops(kind == 'our ops'):
                y = layer(x.value())
                op = tf.reduce_max(y) + tf.reduce_max(tf.gradients(y, x, x.value())[0])
            calls[name, kind] = lambda op=op: session.run(op)
    times = common.measure_interleaved(calls, args.repeats)
    rows = [['forward and backward', 'plain', 'our ops', 'ratio']]
    for name in sorted({name for name, _ in calls}):
        plain, ours = [times[name, kind][0] for kind in ('plain', 'our ops')]
        common.record(f'our ops, {name}', 1e3 * ours, 'ms')
        rows.append([name, *[common.milliseconds(times[name, kind]) for kind in ('plain', 'our ops')],
                     f'{plain / ours:.1f}'])
    print(f'\nLayers of {shape}, float32\n{common.table(rows)}')


def _generator(args):
    from dnnlib.tflib.network import Network
    return Network('G', 'training.networks_stylegan.G_style', latent_size=286, resolution=args.resolution)


def _sampler(G, session, batch):
    from dnnlib.tflib.compat import tf
    inputs = tf.placeholder(tf.float32, [None, 286])
    images = G.get_output_for(inputs, None, is_validation=True, randomize_noise=False)
    feed = {inputs: np.random.RandomState(1).randn(batch, 286)}
    return lambda **options: session.run(images, feed, **options)


def _training_steps(session, resolution, batch):
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.network import Network
    from training import loss
    G = Network('G', 'training.networks_stylegan.G_style', latent_size=286, resolution=resolution, mapping_layers=4,
                mapping_fmaps=256, dlatent_size=256, **DEMO_OPTIONS)
    D = Network('D', 'training.networks_stylegan.D_basic', resolution=resolution, **DEMO_OPTIONS)
    reals = tf.random_uniform([batch, 3, resolution, resolution], -1, 1)
    fake_scores = D.get_output_for(G.get_output_for(tf.random_normal([batch, 286]), None, is_training=True), None)
    real_scores = D.get_output_for(reals, None, is_training=True)
    D_loss = tf.reduce_mean(loss.discriminator_loss(real_scores, fake_scores)) \
        + 5 * tf.reduce_mean(loss.r1_penalty(real_scores, reals))
    G_loss = tf.reduce_mean(loss.generator_loss(fake_scores))
    steps = {'D with R1': tf.group(*tf.gradients(D_loss, list(D.trainables.values()))),
             'G': tf.group(*tf.gradients(G_loss, list(G.trainables.values())))}
    return {name: (lambda op=op: session.run(op)) for name, op in steps.items()}


def _measure_with_cpu(run, repeats):
    """Timing, and the least CPU time of one run in seconds: tells more than the clock on a busy machine."""
    used = []

    def timed():
        start = time.process_time()
        run()
        used.append(time.process_time() - start)
    return common.measure(timed, repeats), min(used)


def _kernel_milliseconds(run):
    """Sum of kernel times by type of operation, from TensorFlow's own trace."""
    from dnnlib.tflib.compat import tf
    trace = tf.RunMetadata()
    run(options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=trace)
    times = collections.Counter()
    for device in trace.step_stats.dev_stats:
        for node in device.node_stats:
            label = node.timeline_label.partition(' = ')[2].partition('(')[0]
            times[label or node.node_name] += node.op_end_rel_micros / 1e3
    return times


if __name__ == '__main__':
    run_main(main)
