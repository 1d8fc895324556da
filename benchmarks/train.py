"""Speed of training by resolution, and where the time goes: `python benchmarks/train.py` (demo64), `--full` (ffhq256).

Times are milliseconds for each image of the minibatch, the least of several turns; parts overlap with the steps.
"""

import argparse
import os
import sys
import types

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402

from benchmarks import budget  # noqa: E402
from benchmarks.common import machine_line, measure_interleaved, record, table  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import PRECISION_HELP, PRECISIONS, run_main  # noqa: E402

WEIGHTS = dict(w_id=3.0, w_lm=500.0, w_gamma=10.0, w_skin=20.0, w_exp_warp=10.0, w_gamma_change=10.0)
NOISE_DIM = 32


def _demo_context(config, stage):
    """The human world's own files."""
    from training.graph import load_context
    from worlds.parts import World
    return load_context(World('human'), config, stage, WEIGHTS, NOISE_DIM, forms=[True])


def _full_context(config, stage):
    """Sizes of the real world, whose files may not be there: speed does not depend on the values."""
    from benchmarks.face import full_size_model
    from perception import experts
    from renderer.face_renderer import FaceRenderer
    from training import objectives

    class Untrained(experts.Experts):
        def __init__(self, names):
            self.specs = experts.released_specs()
            self.kinds = {name: experts.KINDS[self.specs[name].network] for name in names}

        def restore(self):
            pass

    def coefficients(z):        # moderate faces; the decoders' own time is nothing
        moderate = np.full(254, 0.3, np.float32)
        moderate[227:] = 0.09
        return _padded(z, 254) * moderate

    decoders = types.SimpleNamespace(lambda_from_latents=coefficients, restore=lambda: None)
    return objectives.Context(
        stage=stage, config=config, noise_dim=NOISE_DIM, weights=WEIGHTS, decoders=decoders,
        faces=FaceRenderer(full_size_model()), experts=Untrained(experts.STAGE_EXPERTS[stage]))


def _padded(z, columns):
    from dnnlib.tflib.compat import tf
    return tf.concat([z, z], axis=1)[:, :columns]


def _parts(graph, reals):
    """What steps are made of, for one minibatch of the first device -> {name: tensor}, {name: operations by hand}.

    Operations are those of one picture in the frozen networks: forward, and the gradient of the picture.
    """
    from dnnlib.tflib.compat import tf
    from training import loss, objectives
    context, inputs, G, D = graph.context, graph.inputs, graph.G, graph.D
    (coeff,), (fakes,) = objectives.generate(context._replace(stage=1), G, inputs, 'G', 0)
    shown = objectives.process_reals(reals, inputs.lod, context.config.resolution)
    scores = objectives.scores(D, inputs, shown)
    real_loss = tf.reduce_mean(loss.real_loss(scores))

    def gradient(y, x):     # a value: what only a tf.group waits for, TensorFlow may leave out
        return tf.add_n([tf.reduce_sum(g) for g in tf.gradients(y, x) if g is not None])
    weights = list(D.trainables.values())
    parts = {
        'G forward': tf.reduce_sum(fakes),
        'G forward, backward': gradient(tf.reduce_sum(fakes), list(G.trainables.values())),
        'D forward, backward': gradient(real_loss, weights),
        'the same with R1': gradient(real_loss + tf.reduce_mean(loss.r1_penalty(scores, shown)), weights),
        'render': context.faces.render(coeff, objectives.active_resolution(context, inputs.lod)).image}
    pictures = tf.stop_gradient(shown)
    experts, names = context.experts, context.experts.kinds
    answers = {'recon': lambda: experts.reconstruct(pictures), 'id': lambda: experts.identity(pictures),
               'parser': lambda: experts.hair(pictures, context.faces.landmarks_256(coeff))}
    operations = {}
    for name in names:
        before = len(shown.graph.get_operations())
        answer = answers[name]()
        part = f'expert {name} forward, backward'
        operations[part] = budget.SCORED * budget.forward_operations(shown.graph.get_operations()[before:])
        parts[part] = gradient(tf.reduce_sum(answer), [pictures])
    return parts, operations


class Bench:
    """A TrainingGraph on one device, and the tensors its steps are made of, for pictures by chance."""

    def __init__(self, config, context):
        from dnnlib.tflib import layers
        from dnnlib.tflib.compat import tf
        from training import objectives
        from training.distributed import Cluster
        from training.graph import TrainingGraph, new_networks
        cluster = Cluster()
        cluster.devices, cluster.num_replicas = cluster.devices[:1], 1
        self._pictures = None
        reals = tf.py_func(lambda: self._pictures, [], tf.uint8)
        reals.set_shape([None, 3, None, None])
        self._config = config
        with layers.for_devices(cluster.devices):
            self._graph = TrainingGraph(cluster, context, new_networks(config, 3, NOISE_DIM), reals)
            self._parts, self._operations = _parts(self._graph, reals)
        self._graph.initialize()
        self.rates = budget.machine_rate()      # of products, of convolutions
        self._pairs = 2 * len(objectives.paired_factors(context.weights)) if context.stage == 2 else 0

    def measure(self, resolution, minibatch, repeats):
        """{name: milliseconds an image} of steps and parts at an active resolution."""
        from dnnlib.tflib import tfutil
        from training import configs
        plan = configs.schedule_of(self._config, 1)
        minibatch = minibatch or plan.minibatch_dict.get(resolution, plan.minibatch_base)
        self._pictures = np.random.RandomState(0).randint(0, 256, [minibatch, 3, resolution, resolution], np.uint8)
        feed = dict(lod=float(np.log2(plan.resolution / resolution)), minibatch=minibatch, nimg=0, seed=1000,
                    learning_rate=0.001)
        given = {tensor: feed[name] for name, tensor in self._graph.inputs._asdict().items()}
        calls = {'D step': lambda: self._graph.step_D(feed), 'G step': lambda: self._graph.step_G(feed)}
        every = self._config.r1_interval
        if every > 1:
            calls['D step without R1'] = lambda: self._graph.step_D(dict(feed, nimg=minibatch))
        calls.update((name, lambda part=part: tfutil.run(part, given)) for name, part in self._parts.items())
        times = measure_interleaved(calls, repeats)
        found = {name: 1e3 * least / minibatch for name, (_, least, _) in times.items()}
        plain = found.get('D step without R1', found['D step'])
        images = 1e3 / (found['D step'] / every + plain * (every - 1) / every + found['G step'])
        operations = budget.step_operations(self._config, resolution, minibatch, self._pairs)
        operations = {step: count / minibatch for step, count in operations.items()}
        found.update(budget.shares(dict(operations, **self._operations), max(self.rates), found))
        return {'minibatch': minibatch, 'images/s': images, **found}


def main():
    """Prints the machine and a table with a column for each resolution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--full', action='store_true', help='the networks of ffhq256 with random values')
    parser.add_argument('--stage', type=int, choices=(1, 2), default=1, help='2: with the contrastive terms')
    parser.add_argument('--resolutions', type=whole(1), nargs='+', default=None, metavar='R',
                        help='active ones; None: all of the demo, the finest of --full')
    parser.add_argument('--minibatch', type=whole(1), default=None, help="None: the schedule's for one device")
    parser.add_argument('--repeats', type=whole(1), default=3, help='timed turns')
    parser.add_argument('--r1_interval', type=whole(1), default=1, metavar='N', help='R1 in every Nth step of D')
    parser.add_argument('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP)
    args = parser.parse_args()
    from dnnlib.tflib.compat import tf
    from training import configs
    from training.distributed import Cluster
    config = configs.load('ffhq256' if args.full else 'demo64')
    config.r1_interval = args.r1_interval
    known = [4 << i for i in range(7) if 4 << i <= config.resolution]
    resolutions = args.resolutions or ([256] if args.full else [8, 16, 32, 64])
    if not set(resolutions) <= set(known):
        parser.error(f'--resolutions: of {config.name}, some of {", ".join(map(str, known))}')
    print(machine_line())
    with tf.Graph().as_default(), Cluster(precision=args.precision, core_share=config.core_share).session():
        context = (_full_context if args.full else _demo_context)(config, args.stage)
        bench = Bench(config, context)
        found = [bench.measure(r, args.minibatch, args.repeats) for r in resolutions]
    product, convolution = [rate / 1e9 for rate in bench.rates]
    print(f'TensorFlow alone, all cores: products {product:.0f}, convolutions {convolution:.0f} GFLOP/s; operations '
          "by hand of a step are those of G and D; an expert's part runs beside others within the G step")
    for resolution, column in zip(resolutions, found):
        for step in ('D step', 'G step'):
            record(f'train, {config.name}, stage {args.stage}, {resolution}x{resolution}, {args.precision}, {step}',
                   column[step], 'ms')
    print(f'{config.name}, stage {args.stage}, TensorFlow {tf.__version__}')
    print(table([['ms an image'] + resolutions] + [[name] + [f'{column[name]:.3g}' for column in found]
                                                   for name in found[0]]))


if __name__ == '__main__':
    run_main(main)
