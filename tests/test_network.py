"""The Network class: building, running, copying, averaging, states."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network, register_build_func
from dnnlib.tflib.pickles import NetworkState
from dnnlib.util import UserError
from tests.common import assert_close


@register_build_func()
def tiny_part(x, size=2, is_template_graph=False, components=None):
    x.set_shape([None, 3])
    weight = tf.get_variable('weight', [3, size], initializer=tf.initializers.random_normal())
    tf.get_variable('counter', [], initializer=tf.initializers.zeros(), trainable=False)
    return tf.matmul(x, weight)


@register_build_func(shares_options_with=('tiny_part',), components=dict(part='tiny_part'))
def tiny(x, y, offset=0.0, pair=False, is_template_graph=False, components=None, **kwargs):
    """x @ weight + bias + offset, and y summed up."""
    y.set_shape([None, 2])
    if 'part' not in components:
        components.part = Network('Part', 'tiny_part', **kwargs)
    bias = tf.get_variable('layer/bias', [kwargs.get('size', 2)], initializer=tf.initializers.ones())
    x.set_shape([None, 3])
    out = components.part.get_output_for(x) + bias + offset
    return (out, tf.reduce_sum(y, axis=1)) if pair else out + tf.reduce_sum(y)


@pytest.fixture
def net(tf_session):
    return Network('Tiny', 'tiny')


X = np.arange(15, dtype=np.float32).reshape(5, 3) / 10


def _expected(net, x, offset=0.0):
    return x @ net.get_var('part/weight') + net.get_var('layer/bias') + np.float32(offset)


# ---- building

def test_description(net):
    assert (net.name, net.input_names, net.num_inputs, net.num_outputs) == ('Tiny', ['x', 'y'], 2, 1)
    assert (net.input_shapes, net.output_shapes) == ([[None, 3], [None, 2]], [[None, 2]])
    assert list(net.own_vars) == ['layer/bias']
    assert list(net.vars) == ['layer/bias', 'part/weight', 'part/counter']
    assert list(net.trainables) == ['layer/bias', 'part/weight']
    assert net.num_params == 8
    assert net.components.part is net.components['part']
    assert 'part/weight' in net.summary() and net.summary().endswith('trainable: 8')


@pytest.mark.parametrize('func_name', ['no_such_network', 'os.system', 'somewhere.else.G_style', '', '..tiny'])
def test_unknown_function(tf_session, func_name):
    """From a file: the modules it names are not even imported."""
    with pytest.raises(UserError, match='is unknown: expected one of .*tiny'):
        Network.from_state(NetworkState(name='net', build_func_name=func_name))


@pytest.mark.parametrize('name', ['a\n\x1b[2Jerror: forged', 'x' * 10 ** 6])
def test_names_of_options_from_a_file_cannot_forge_a_line(net, name):
    state = net.state()
    state.static_kwargs[name] = 1
    with pytest.raises(UserError, match='unknown option') as caught:
        Network.from_state(state)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_module_of_a_function_may_be_named(tf_session):
    assert Network('net', f'{__name__}.tiny').build_func_name == 'tiny'


def test_unknown_options(net):
    with pytest.raises(UserError, match=r"network 'other' .tiny.: unknown option 'sise'; it takes offset, pair, size"):
        Network('other', 'tiny', sise=3)
    with pytest.raises(UserError, match="unknown option 'ofset'"):
        net.run(X, None, ofset=1)


def test_needs_a_session():
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match='no default TensorFlow session'):
        Network('Tiny', 'tiny')


def test_networks_of_one_name_are_apart(net):
    other = Network('Tiny', 'tiny')
    other.set_var('layer/bias', [5, 6])
    assert list(other.vars) == list(net.vars)
    assert_close(net.get_var('layer/bias'), np.ones(2, np.float32))
    longer = Network('Tiny_', 'tiny')
    assert list(longer.own_vars) == ['layer/bias']


def test_build_inside_scopes_and_conditions(tf_session):
    """Variables belong to the network wherever it is built or evaluated."""
    with tf.variable_scope('outer'), tf.name_scope('names'):
        net = Network('Tiny', 'tiny')
        y = tf.cond(tf.constant(True), lambda: net.get_output_for(tf.constant(X), None), lambda: tf.zeros([5, 2]))
    assert list(net.vars) == ['layer/bias', 'part/weight', 'part/counter']
    assert_close(tf_session.run(y), _expected(net, X), atol=1e-6)


# ---- running

def test_run(net):
    assert_close(net.run(X, None), _expected(net, X), atol=1e-6)
    assert_close(net.run(X.astype(np.float64), np.zeros([5, 2]), offset=3), _expected(net, X, 3), atol=1e-6)


@pytest.mark.parametrize('minibatch_size', [1, 2, 5, 9])
def test_run_splits_the_batch(net, minibatch_size):
    y = np.arange(10, dtype=np.float32).reshape(5, 2)
    out, total = net.run(X, y, minibatch_size=minibatch_size, pair=True)
    assert_close(out, _expected(net, X), atol=1e-6)
    assert_close(total, y.sum(axis=1))


def test_run_builds_each_graph_once(net):
    net.run(X, None, offset=1)
    operations = len(tf.get_default_graph().get_operations())
    net.run(X[:2], None, offset=1)
    assert len(tf.get_default_graph().get_operations()) == operations
    assert_close(net.run(X, None, offset=2) - net.run(X, None, offset=1), np.ones([5, 2], np.float32), atol=1e-6)


def test_run_transforms(net):
    out = net.run(X * 2, np.zeros([5, 2]), input_transform=dict(func=lambda x, y, factor: (x * factor, y), factor=0.5),
                  output_transform=dict(func=lambda out: [out, out * 2]), return_as_list=True)
    assert_close(out[0], _expected(net, X), atol=1e-6)
    assert_close(out[1], 2 * _expected(net, X), atol=2e-6)


def test_return_as_list(net):
    assert isinstance(net.run(X, None, return_as_list=True), list)
    assert isinstance(net.get_output_for(tf.constant(X), None, return_as_list=True), list)


@pytest.mark.parametrize('arrays', [(X,), (None, None), (X, np.zeros([4, 2])), (X[:0], None), (X, None, None)])
def test_run_refuses_bad_inputs(net, arrays):
    with pytest.raises(ValueError, match="network 'Tiny' runs on 2 arrays"):
        net.run(*arrays)


def test_wrong_input_shape(net):
    with pytest.raises(ValueError, match=r"input x has shape \[5, 4\], expected \[None, 3\]"):
        net.get_output_for(tf.zeros([5, 4]), None)
    with pytest.raises(ValueError, match='takes 2 inputs'):
        net.get_output_for(tf.zeros([5, 3]))


# ---- variables, copies, averages

def test_set_get_find_reset(net):
    net.set_var('part/weight', np.full([3, 2], 7))
    assert_close(net.get_var('part/weight'), np.full([3, 2], 7, np.float32))
    assert net.find_var('part/weight') is net.find_var(net.find_var('part/weight'))
    with pytest.raises(KeyError, match='no variable'):
        net.find_var('weight')
    net.set_var('layer/bias', [3, 3])
    net.reset_own_vars()
    assert_close(net.get_var('layer/bias'), np.ones(2, np.float32))
    assert net.get_var('part/weight')[0, 0] == 7


def test_clone(net):
    net.set_var('part/counter', 4)
    other = net.clone('Other', offset=1.0)
    assert (other.name, other.static_kwargs, net.static_kwargs) == ('Other', dict(offset=1.0), {})
    assert_close(other.run(X, None), _expected(net, X, 1), atol=1e-6)
    assert other.get_var('part/counter') == 4
    net.set_var('layer/bias', [9, 9])
    assert_close(other.get_var('layer/bias'), np.ones(2, np.float32))
    with pytest.raises(ValueError, match='shape'):
        net.clone('Wider', size=3)


def test_copy_of_another_networks_values(net):
    other = Network('Other', 'tiny')
    other.set_var('part/counter', 4)
    net.copy_vars_from(other)
    assert_close(net.get_var('part/weight'), other.get_var('part/weight'))
    assert net.get_var('part/counter') == 4


def test_moving_average(net):
    average = net.clone('Average')
    beta = tf.placeholder(tf.float32, [])
    update = average.setup_as_moving_average_of(net, beta=beta)
    old = {name: average.get_var(name) for name in average.vars}
    net.set_var('part/weight', np.full([3, 2], 7))
    net.set_var('layer/bias', [8, 9])
    net.set_var('part/counter', 5)
    tfutil.run(update, {beta: 0.75})
    for name in average.trainables:
        assert_close(average.get_var(name), 0.75 * old[name] + 0.25 * net.get_var(name), atol=1e-6)
    assert average.get_var('part/counter') == 5


def test_moving_average_copies_over_nan(net):
    """A copied variable does not keep what it held, not even NaN."""
    average = net.clone('Average')
    average.set_var('part/counter', np.nan)
    tfutil.run(average.setup_as_moving_average_of(net))
    assert average.get_var('part/counter') == 0


# ---- states

def test_state_and_back(net):
    net.set_var('part/counter', 2)
    state = net.clone('Stored', offset=2.0).state()
    assert (state.version, state.name, state.build_func_name, state.static_kwargs) == \
        (3, 'Stored', 'tiny', dict(offset=2.0))
    assert [name for name, _ in state.variables] == ['layer/bias']
    part = state.components['part']
    assert [name for name, _ in part.variables] == ['weight', 'counter']
    assert type(part.variables[1][1]) is np.float32         # scalars as the released files hold them
    assert state.build_module_src.count('\n') == 1
    compile(state.build_module_src, 'source', 'exec')
    again = Network.from_state(state)
    assert_close(again.run(X, None), _expected(net, X, 2), atol=1e-6)
    assert again.get_var('part/counter') == 2


def test_source_text_is_not_executed(net):
    state = net.state()
    state.build_module_src = 'raise SystemExit("executed")'
    assert Network.from_state(state).state().build_module_src.startswith(f'from {__name__} import tiny')


def test_state_without_components_or_variables_keeps_start_values(net):
    state = net.state()
    state.components, state.variables = {}, []
    fresh = Network.from_state(state)
    assert_close(fresh.get_var('layer/bias'), np.ones(2, np.float32))
    assert fresh.get_var('part/weight').std() > 0
    assert fresh.get_var('part/counter') == 0


def test_wrong_states(net):
    state = net.state()
    state.variables.append(('layer/gain', np.ones(2)))
    with pytest.raises(UserError, match="network 'Tiny': stored variables 'layer/gain' are unknown to tiny"):
        Network.from_state(state)
    state = net.state()
    state.variables = [('layer/bias', np.ones([3]))]
    with pytest.raises(UserError, match=r"network 'Tiny': stored variable layer/bias has shape \[3\].*ask for \[2\]"):
        Network.from_state(state)
    state = net.state()
    state.build_func_name = 'os.system'
    with pytest.raises(UserError, match='os.system'):
        Network.from_state(state)
    state = net.state()
    state.components['extra'] = state.components['part']
    with pytest.raises(UserError, match=r'stored component extra \(tiny_part\) is unknown; it has part \(tiny_part\)'):
        Network.from_state(state)
    state = Network('Three', 'tiny', size=3).state()
    state.components['part'].static_kwargs['size'] = 2
    with pytest.raises(UserError, match="other values of 'size' than the network itself"):
        Network.from_state(state)


@pytest.mark.parametrize('size', [1 << 30, -1, 'two', None, 1 << 70])
def test_absurd_options_allocate_nothing(net, size):
    state = net.state()
    state.components = {}
    state.static_kwargs = dict(size=size)
    with pytest.raises(UserError, match="network '(Part|Tiny)'"):
        Network.from_state(state)
