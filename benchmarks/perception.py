"""Speed of the perception networks: forward, and forward plus the gradient with respect to the pictures.

Weights are random; the time does not depend on them. `python benchmarks/perception.py --help` lists the options.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from dnnlib.options import whole  # noqa: E402
from dnnlib.util import UserError, run_main  # noqa: E402

CASES = ('recon', 'id', 'parser', 'small_recon', 'small_id', 'small_parser')
SMALL = dict(size=64, width=24)


def _options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('networks', nargs='*', metavar='NETWORK',
                        help=f'some of {", ".join(CASES)} (default: all)')
    parser.add_argument('--batch', type=whole(1), default=4, help='pictures per run (default: %(default)s)')
    parser.add_argument('--small-batch', type=whole(1), default=16,
                        help='pictures per run of the small networks (default: %(default)s)')
    parser.add_argument('--size', type=whole(1), default=256,
                        help='pixels of the pictures; the small networks get 64 (default: %(default)s)')
    parser.add_argument('--repeats', type=whole(1), default=5, help='timed runs (default: %(default)s)')
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - set(CASES))
    if unknown:
        raise UserError(f'unknown network {", ".join(unknown)}: some of {", ".join(CASES)} expected')
    if min(options.batch, options.small_batch, options.size, options.repeats) < 1:
        raise UserError('--batch, --small-batch, --size and --repeats must be at least 1')
    return options


def _experts(case):
    """(expert, Experts with the one network `case`, not restored)."""
    from dnnlib.util import EasyDict
    from perception import experts
    expert, specs = case.split('_')[-1], experts.released_specs()
    if case.startswith('small_'):
        specs[expert] = EasyDict(network=case, weights='', **SMALL)
    built = experts.Experts(specs, names=())             # no names: no weights are asked for
    kind = experts.KINDS[specs[expert].network]
    built.kinds[expert] = kind._replace(size=kind.size or SMALL['size'])
    return expert, built


def _output(expert, experts, fakes):
    from dnnlib.tflib.compat import tf
    if expert == 'parser':
        landmarks = tf.random_uniform([fakes.shape.as_list()[0], 68, 2], 60.0, 200.0, seed=1)
        return experts.hair(fakes, landmarks)
    return {'recon': experts.reconstruct, 'id': experts.identity}[expert](fakes)


def _gflop(graph):
    """10^9 operations of all convolutions in a graph, a multiplication and an addition counted as two."""
    total = 0
    for op in graph.get_operations():
        if op.type == 'Conv2D':
            kernel, out = [x.shape.as_list() for x in (op.inputs[1], op.outputs[0])]
            total += 2 * kernel[0] * kernel[1] * kernel[2] * out[0] * out[1] * out[2] * out[3]
    return total / 1e9


def _measure(case, batch, size, repeats):
    """(10^9 operations of the forward pass, timing forward, timing forward and gradient), all for one picture."""
    from benchmarks.common import measure_interleaved
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph) as session:
        fakes = tf.get_variable('fakes', [batch, 3, size, size], initializer=tf.random_uniform_initializer(-1, 1, 0))
        output = _output(*_experts(case), fakes=fakes)
        gflop = _gflop(graph) / batch
        gradient = tf.gradients(tf.reduce_sum(tf.square(output)), fakes)[0]
        session.run(tf.global_variables_initializer())
        runs = {'forward': lambda: session.run(output.op), 'both': lambda: session.run([output.op, gradient.op])}
        times = measure_interleaved(runs, repeats)
    return [gflop] + [tuple(seconds / batch for seconds in times[name]) for name in ('forward', 'both')]


def main():
    """Measure and print one table."""
    options = _options()
    from benchmarks.common import machine_line, milliseconds, record, table
    from dnnlib.tflib.compat import VERSION
    print(f'TensorFlow {VERSION[0]}.{VERSION[1]}; {machine_line()}', flush=True)
    rows = [('network', 'batch', 'GFLOP forward', 'forward, a picture', 'forward and gradient, a picture')]
    for case in options.networks or CASES:
        small = case.startswith('small_')
        batch = options.small_batch if small else options.batch
        gflop, *times = _measure(case, batch, SMALL['size'] if small else options.size, options.repeats)
        for what, timing in zip(('forward', 'forward and gradient'), times):
            record(f'{case}, {what}', 1e3 * timing[0], 'ms')
        rows.append([case, batch, f'{gflop:.3g}'] + [milliseconds(t) for t in times])
    print(table(rows))


if __name__ == '__main__':
    run_main(main)
