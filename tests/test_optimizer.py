"""Optimiser over copies on several devices: Adam by NumPy, mean gradients, left-out steps, state."""

import types

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Optimizer, mean_of_towers
from tests.common import assert_close

START = {'a': np.array([1.0, -2.0, 3.0], np.float32), 'b': np.array([[0.5, 4.0]], np.float32)}


def _build(devices=2, unused=False, **options):
    """Towers with the loss sum(a * slope) + sum(b^2) * curvature; slope and curvature are fed by tower."""
    towers = types.SimpleNamespace(slope=tf.placeholder(tf.float32, [devices, 3]), rate=tf.placeholder(tf.float32, []),
                                   curvature=tf.placeholder(tf.float32, [devices]), variables=[], losses=[])
    towers.optimizer = Optimizer('Test', towers.rate, **options)
    for i in range(devices):
        with tf.device(f'/device:CPU:{i}'):
            variables = {name: tf.Variable(value, name=f'tower{i}/{name}') for name, value in START.items()}
            if unused:
                variables['unused'] = tf.Variable(7.0, name=f'tower{i}/unused')
            loss = (tf.reduce_sum(variables['a'] * towers.slope[i])
                    + tf.reduce_sum(tf.square(variables['b'])) * towers.curvature[i])
            towers.optimizer.register(loss, variables)
        towers.variables.append(variables)
        towers.losses.append(loss)
    return towers


@pytest.fixture
def two_cpus():
    """A session on two logical CPU devices, with a graph of its own."""
    config = tfutil.session_config(threads=2)
    config.device_count['CPU'] = 2
    with tf.Graph().as_default() as graph, tf.Session(config=config, graph=graph) as session:
        yield session


def _start(session, towers):
    session.run(tf.global_variables_initializer())
    session.run(towers.optimizer.reset_state())


def _adam(steps, rate, beta1=0.0, beta2=0.99, epsilon=1e-8):
    """Values of a, b after steps of mean gradients, by Kingma & Ba's second form."""
    x = {name: value.astype(np.float64) for name, value in START.items()}
    m, v = [{name: np.zeros_like(value) for name, value in x.items()} for _ in range(2)]
    for t, (slope, curvature) in enumerate(steps, 1):
        gradients = {'a': slope.mean(axis=0), 'b': 2 * x['b'] * curvature.mean()}
        for name, g in gradients.items():
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g ** 2
            scale = rate * np.sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
            x[name] -= scale * m[name] / (np.sqrt(v[name]) + epsilon)
    return x


def _steps(count, devices=2, seed=0):
    rng = np.random.RandomState(seed)
    return [(rng.randn(devices, 3), rng.rand(devices) + 0.5) for _ in range(count)]


def _feed(towers, step, rate=0.01):
    return {towers.slope: step[0], towers.curvature: step[1], towers.rate: rate}


@pytest.mark.parametrize('options', [{}, dict(beta1=0.9, beta2=0.999, epsilon=1e-3)], ids=['StyleGAN', 'other'])
def test_adam_by_mean_gradients(two_cpus, options):
    towers = _build(**options)
    op = towers.optimizer.apply()
    _start(two_cpus, towers)
    assert towers.variables[1]['a'].device == '/device:CPU:1'
    steps = _steps(5)
    for step in steps:
        two_cpus.run(op, _feed(towers, step))
    expected = _adam(steps, 0.01, **options)
    first, second = two_cpus.run(towers.variables)
    for name in START:
        assert_close(first[name], expected[name], rtol=1e-5)
        np.testing.assert_array_equal(first[name], second[name])
    assert two_cpus.run(towers.optimizer.overflow_count) == 0


def test_plain_descent(tf_session):
    towers = _build(1, method='sgd')
    op = towers.optimizer.apply()
    _start(tf_session, towers)
    tf_session.run(op, _feed(towers, (np.array([[1.0, 2.0, 3.0]]), np.array([0.0])), rate=0.1))
    assert_close(tf_session.run(towers.variables[0]['a']), START['a'] - np.float32([0.1, 0.2, 0.3]), rtol=1e-6)
    assert list(towers.optimizer.state_variables()) == ['overflow_count', 'overflow_streak']


def test_gradients_of_several_runs_make_one_step(two_cpus):
    """Also after one that was left out because of them: what was kept is forgotten with every step."""
    towers = _build(method='sgd')
    keep, op = towers.optimizer.accumulate(3), towers.optimizer.apply()
    _start(two_cpus, towers)
    x = {name: value.astype(np.float64) for name, value in START.items()}
    for turn in range(3):
        parts = _steps(3, seed=turn)
        broken = [(np.full([2, 3], np.nan), parts[0][1])] + parts[1:]
        for given in ([broken] if turn == 1 else []) + [parts]:
            for part in given[:2]:
                two_cpus.run(keep, _feed(towers, part))
            two_cpus.run(op, _feed(towers, given[2]))
        x['a'] -= 0.01 * np.mean([slope.mean(axis=0) for slope, _ in parts], axis=0)
        x['b'] *= 1 - 0.02 * np.mean([curvature.mean() for _, curvature in parts])
        for variables in two_cpus.run(towers.variables):
            assert_close(variables['a'], np.float32(x['a']), rtol=1e-5)
            assert_close(variables['b'], np.float32(x['b']), rtol=1e-5)
    assert two_cpus.run(towers.optimizer.overflow_count) == 1


def test_parts_of_a_minibatch_step_as_the_whole(tf_session):
    """Three runs with a third of the pictures each change a discriminator as one run with all of them does."""
    random = np.random.RandomState(0)
    pictures = random.standard_normal([6, 3, 8, 8]).astype(np.float32)
    shown = tf.placeholder(tf.float32, [None, 3, 8, 8])
    D = Network('D', 'training.networks_stylegan.D_basic', fmap_base=64, fmap_max=8, resolution=8, structure='fixed',
                mbstd_group_size=1)
    start = {variable: random.standard_normal(variable.shape.as_list()) for variable in D.trainables.values()}

    def after(runs):
        """Weights after two steps of `runs` runs each."""
        optimizer = Optimizer(f'In{runs}', 0.01, beta1=0.5)
        scores = D.get_output_for(shown, None)
        penalty = tf.square(tf.gradients(tf.reduce_sum(scores), shown)[0])
        loss = tf.reduce_mean(tf.nn.softplus(scores)) + tf.reduce_mean(tf.reduce_sum(penalty, axis=[1, 2, 3]))
        optimizer.register(loss, D.trainables)
        keep = optimizer.accumulate(runs) if runs > 1 else None
        step = optimizer.apply()
        tf_session.run(tf.global_variables_initializer())
        tfutil.set_vars(start)
        for _ in range(2):
            for i, part in enumerate(np.split(pictures, runs)):
                tf_session.run(step if i == runs - 1 else keep, {shown: part})
        return tf_session.run(list(D.trainables.values()))
    whole, parts = after(1), after(3)
    moved = [np.abs(other - first).max() > 0.01 for other, first in zip(whole, start.values())]
    assert sum(moved) == len(moved) - 2             # all but FromRGB_lod1, which sees coarser pictures
    for one, other in zip(parts, whole):
        assert_close(one, other, atol=2e-4)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_step_is_left_out_on_all_devices(two_cpus, bad):
    towers = _build()
    op = towers.optimizer.apply()
    _start(two_cpus, towers)
    good, wrong = _steps(2)
    two_cpus.run(op, _feed(towers, good))
    wrong[0][1, 2] = bad                    # one value, on the second device
    before = two_cpus.run([towers.variables, [towers.optimizer.state_variables(i) for i in range(2)]])
    for _ in range(2):
        two_cpus.run(op, _feed(towers, wrong))
    after = two_cpus.run([towers.variables, [towers.optimizer.state_variables(i) for i in range(2)]])
    for i in range(2):
        for name in START:
            np.testing.assert_array_equal(after[0][i][name], before[0][i][name])
        for name, value in before[1][i].items():
            expected = 2 if name.startswith('overflow') else value
            np.testing.assert_array_equal(after[1][i][name], expected)
    two_cpus.run(op, _feed(towers, good))
    counts = [towers.optimizer.overflow_count, towers.optimizer.overflow_streak]
    assert two_cpus.run(counts) == [2, 0]
    assert np.isfinite(two_cpus.run(towers.variables[1]['a'])).all()


def test_missing_gradient_counts_as_zero(tf_session):
    towers = _build(1, unused=True)
    op = towers.optimizer.apply()
    _start(tf_session, towers)
    tf_session.run(op, _feed(towers, _steps(1, 1)[0]))
    assert tf_session.run(towers.variables[0]['unused']) == 7
    assert not np.array_equal(tf_session.run(towers.variables[0]['a']), START['a'])


def test_new_state(tf_session):
    """After reset_state a step is as the first one."""
    towers = _build(1)
    op, reset = towers.optimizer.apply(), towers.optimizer.reset_state()
    _start(tf_session, towers)
    steps = _steps(3, 1)
    for step in steps[:2]:
        tf_session.run(op, _feed(towers, step))
    tf_session.run(reset)
    tfutil.set_vars({towers.variables[0][name]: value for name, value in START.items()})
    tf_session.run(op, _feed(towers, steps[2]))
    for name, expected in _adam(steps[2:], 0.01).items():
        assert_close(tf_session.run(towers.variables[0][name]), expected, rtol=1e-5)


def test_state_makes_a_run_go_on(two_cpus):
    towers = _build()
    op = towers.optimizer.apply()
    _start(two_cpus, towers)
    states = [towers.optimizer.state_variables(i) for i in range(2)]
    assert list(states[0]) == list(states[1])
    assert set(states[0]) == {'overflow_count', 'overflow_streak', 'a/m', 'a/v', 'b/m', 'b/v', 'beta1_power',
                              'beta2_power'}
    assert len({v.name for state in states for v in state.values()}) == 16
    steps = _steps(4)
    for step in steps[:2]:
        two_cpus.run(op, _feed(towers, step))
    saved, values = two_cpus.run([states[0], towers.variables[0]])
    for step in steps[2:]:
        two_cpus.run(op, _feed(towers, step))
    expected = two_cpus.run(towers.variables[0])
    _start(two_cpus, towers)
    for state, variables in zip(states, towers.variables):
        tfutil.set_vars({state[name]: value for name, value in saved.items()})
        tfutil.set_vars({variables[name]: value for name, value in values.items()})
    for step in steps[2:]:
        two_cpus.run(op, _feed(towers, step))
    for variables in two_cpus.run(towers.variables):
        for name, value in variables.items():
            np.testing.assert_array_equal(value, expected[name])


def test_two_objectives_share_the_state(tf_session):
    towers = _build(1)
    first = towers.optimizer.apply()
    towers.optimizer.register(towers.losses[0] * 2, towers.variables[0])
    second = towers.optimizer.apply()
    _start(tf_session, towers)
    assert len(towers.optimizer.state_variables()) == 8
    steps = _steps(2, 1)
    tf_session.run(first, _feed(towers, steps[0]))
    tf_session.run(second, _feed(towers, steps[1]))
    for name, expected in _adam([steps[0], (steps[1][0] * 2, steps[1][1] * 2)], 0.01).items():
        assert_close(tf_session.run(towers.variables[0][name]), expected, rtol=1e-5)


def test_all_reduce_is_given_every_device_and_returns_the_means(tf_session):
    towers, asked = _build(2), []

    def all_reduce(gradients):
        asked.extend(gradients)
        return [[g * 0 + 1 for g in mine] for mine in gradients]
    op = towers.optimizer.apply(all_reduce)
    _start(tf_session, towers)
    tf_session.run(op, _feed(towers, _steps(1)[0], rate=0.25))
    assert [[g.shape.as_list() for g in mine] for mine in asked] == [[[3], [1, 2]]] * 2
    for variables in tf_session.run(towers.variables):
        assert_close(variables['a'], START['a'] - 0.25, rtol=1e-5)


def test_mean_of_towers(tf_session):
    one, two = [tf.constant([1.0]), tf.constant(4.0)], [tf.constant([3.0]), tf.constant(8.0)]
    assert tf_session.run(mean_of_towers([one, two])) == [[[2.0], 6.0]] * 2
    assert mean_of_towers([one]) == [one]


def test_wrong_use_is_told(tf_session):
    with pytest.raises(ValueError, match='rmsprop'):
        Optimizer('G', 0.1, method='rmsprop')
    towers = _build(2)
    with pytest.raises(ValueError, match='different variables'):
        towers.optimizer.register(towers.losses[0], {'c': towers.variables[0]['a']})
    towers.optimizer.apply()
    with pytest.raises(ValueError, match='0 losses registered for 2 devices'):
        towers.optimizer.apply()
    with pytest.raises(ValueError, match='other variables before'):
        towers.optimizer.register(towers.losses[1], towers.variables[1])
