"""One process of a small training run: started by tests/test_distributed.py with TF_CONFIG in its environment.

python -m tests.distributed_worker OUT STEPS [--rest SECONDS] [--hang-at STEP]
"""

import argparse
import time

import numpy as np

REPLICAS = 2
BATCH = 6


def build(tf, device, replica, seed=3):
    """A small network and its loss on the part of the data that belongs to `replica`; returns (loss, variables)."""
    rng = np.random.RandomState(seed)
    widths = [12, 16, 8, 1]
    inputs, labels = rng.randn(REPLICAS, BATCH, widths[0]), rng.randn(REPLICAS, BATCH, 1)
    with tf.device(device), tf.variable_scope(f'tower{replica}'):
        x, variables = tf.constant(inputs[replica], tf.float32), []
        for i, (rows, columns) in enumerate(zip(widths, widths[1:])):
            start = tf.constant_initializer(rng.randn(rows, columns) / np.sqrt(rows))
            weight = tf.get_variable(f'weight{i}', [rows, columns], initializer=start)
            bias = tf.get_variable(f'bias{i}', [columns], initializer=tf.zeros_initializer())
            x = tf.nn.leaky_relu(tf.matmul(x, weight) + bias)
            variables += [weight, bias]
        return tf.reduce_mean(tf.square(x - tf.constant(labels[replica], tf.float32))), variables


def training(tf, cluster, rate=0.05):
    """(train op, mean gradients, variables of each tower) of the small network on the devices of `cluster`."""
    towers = [build(tf, device, cluster.first_replica + i) for i, device in enumerate(cluster.devices)]
    means = cluster.all_reduce([tf.gradients(loss, variables) for loss, variables in towers], 'Gradients')
    updates = [v.assign_sub(rate * g) for (_, variables), mean in zip(towers, means) for v, g in zip(variables, mean)]
    return tf.group(*updates), means, [variables for _, variables in towers]


def flat(session, tensors):
    """Values of tensors or variables as one vector."""
    return np.concatenate([np.ravel(value) for value in session.run(tensors)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='file for the arrays')
    parser.add_argument('steps', type=int, help='number of SGD steps')
    parser.add_argument('--rest', type=float, default=0, help='seconds after each step')
    parser.add_argument('--hang-at', type=int, help='step after which this process does nothing any more')
    options = parser.parse_args()
    from dnnlib.tflib.compat import tf
    from training.distributed import Cluster
    with Cluster.from_environment(logical_cpus=1) as cluster, tf.Graph().as_default():
        train, means, variables = training(tf, cluster)
        vote, same = cluster.vote(2), cluster.broadcast(variables)
        cluster.on_lost(lambda: print('last words', flush=True))
        with cluster.session() as session:
            session.run(tf.global_variables_initializer())
            tf.get_default_graph().finalize()
            arrays = {'gradient': np.concatenate([g.ravel() for g in session.run(means)[0]])}
            for step in range(options.steps):
                session.run(train)
                print(f'step {step}', flush=True)
                time.sleep(600 if step == options.hang_at else options.rest)
            arrays['variable'] = flat(session, variables[0])
            if not cluster.is_chief:
                for v in variables[0]:
                    v.load(np.zeros(v.shape.as_list(), np.float32), session)
            session.run(same)
            arrays['sent'] = flat(session, variables[0])
            arrays['vote'] = vote.run([cluster.shard[0], 5])
        np.savez(options.out, **arrays)


if __name__ == '__main__':
    from dnnlib.util import run_main
    run_main(main)
