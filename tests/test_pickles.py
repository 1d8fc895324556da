"""Snapshot files: recorded and golden ones load, old software reads ours, hostile ones run nothing and cost little."""

import glob
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest

import config
from dnnlib.tflib import pickles
from dnnlib.tflib.pickles import NetworkState, load_states, save_states
from dnnlib.util import UserError
from tests import hostile_pickles
from tests.common import data

REAL = data('generator', 'networks.pkl')
GOLDEN = sorted(glob.glob(data('golden', '*.pkl')))


def _python(*arguments):
    done = subprocess.run([sys.executable, '-W', 'ignore'] + list(arguments), cwd=config.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _sample(**changes):
    entries = dict(name='G', build_func_name='G_style', build_module_src='import this\n# \u00e9', static_kwargs={},
                   variables=[('lod', np.float32(1.5)), ('4x4/w', np.arange(6, dtype=np.float32).reshape(2, 3))])
    return NetworkState(**dict(entries, **changes))


def _same(a, b):
    """Equal values of equal types, arrays with equal dtypes, shapes and contents."""
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    if isinstance(a, NetworkState):
        return isinstance(b, NetworkState) and _same(vars(a), vars(b))
    return type(a) is type(b) and a == b


def _listed(networks, prefix=''):
    """As tests.old_installation lists a file."""
    found = []
    for state in networks:
        name = prefix + state.name
        found += [[f'{name}/{key}', f'{type(value).__name__} {value.dtype} {list(value.shape)}',
                   float(np.sum(value, dtype=np.float64))] for key, value in state.variables]
        for key, component in state.components.items():
            renamed = NetworkState(**dict(vars(component), name=key))
            found += _listed([renamed], name + '/')
    return found


def test_recorded_snapshot():
    G, D, Gs = load_states(REAL)
    assert [s.name for s in (G, D, Gs)] == ['G', 'D', 'Gs']
    assert (G.version, G.build_func_name, D.build_func_name) == (3, 'G_style', 'D_basic')
    assert G.static_kwargs['latent_size'] == 286 and G.static_kwargs['resolution'] == 64
    assert [name for name, _ in G.variables] == ['lod', 'dlatent_avg']
    assert list(G.components) == ['synthesis', 'mapping']
    assert [len(s.variables) for s in (G.components['synthesis'], G.components['mapping'], D)] == [71, 16, 33]
    assert type(D.variables[0][1]) is np.float32
    weight = dict(G.components['mapping'].variables)['Dense0/weight']
    assert weight.shape == (286, 48) and weight.flags.writeable and weight.flags.aligned and weight.flags.c_contiguous
    assert type(G.build_module_src) is str and 'raise' in G.build_module_src      # kept, not run


def test_round_trip_gives_the_same_bytes_on_every_line(tmp_path):
    states = load_states(REAL)
    path = str(tmp_path / 'again.pkl')
    save_states(states, path)
    assert _same(load_states(path), states)
    with open(path, 'rb') as file:
        written = file.read()
    assert hashlib.md5(written).hexdigest() == 'f4ee2f0e00965e4d3f90d89d4f32f9d4'
    save_states(load_states(path), path)
    with open(path, 'rb') as file:
        assert file.read() == written


def test_old_installations_and_we_read_the_same(tmp_path):
    """The standard pickle module reads what we write, and the golden files it knows the protocol of."""
    ours = str(tmp_path / 'ours.pkl')
    save_states(load_states(REAL), ours)
    paths = [ours, REAL] + [path for path in GOLDEN if _protocol(path) <= pickle.HIGHEST_PROTOCOL]
    if np.__version__.startswith('1.'):         # NumPy 1 has no numpy._core; our reader minds it not
        paths = [path for path in paths if 'numpy2' not in path]
    listed = json.loads(_python('-m', 'tests.old_installation', 'list', *paths))
    for path in paths:
        assert listed[path] == _listed(load_states(path)), path
    assert listed[ours] == listed[REAL]


def _protocol(path):
    with open(path, 'rb') as file:
        return file.read(2)[1]


@pytest.mark.parametrize('protocol', range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_other_software_rewrites_and_we_read(tmp_path, protocol):
    path = str(tmp_path / 'other.pkl')
    _python('-m', 'tests.old_installation', 'rewrite', REAL, path, str(protocol))
    assert _protocol(path) == protocol
    assert _same(load_states(path), load_states(REAL))


@pytest.mark.parametrize('first, second', [('tf1', 'tf1-numpy1-protocol5'), ('tf1', 'tf1-numpy2-protocol4'),
                                           ('tf2', 'tf2-numpy2-protocol5'), ('tf2', 'tf2-numpy1-protocol3')])
def test_golden_variants_agree(first, second):
    assert _same(load_states(data('golden', first + '.pkl')), load_states(data('golden', second + '.pkl')))


def test_arrays_of_protocol_5_in_any_order():
    """What NumPy writes for Fortran order and permuted axes."""
    from tests.hostile_pickles import call, dtype, name, number, raw, shape_of, text
    values = np.arange(24, dtype='<f4')

    def load(*arguments):
        frombuffer = name('numpy._core.numeric', '_frombuffer')
        return pickles._Reader(hostile_pickles.whole(call(frombuffer, raw(values.tobytes()), dtype(), *arguments),
                                                     5)).run().value
    assert _same(load(shape_of(2, 12), text('C')), values.reshape(2, 12))
    assert _same(load(shape_of(2, 12), text('F')), np.ascontiguousarray(values.reshape((2, 12), order='F')))
    assert _same(load(shape_of(2, 3, 4), text('K'), hostile_pickles.row(number(1), number(2), number(0))),
                 np.ascontiguousarray(values.reshape(2, 3, 4).transpose(1, 2, 0)))


#----------------------------------------------------------------------------
# Writing.

NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
ARRAYS = hypothesis.extra.numpy.arrays(st.sampled_from(['<f4', '>f4', '<f8', '<i4', '|u1', '<f2']),
                                       hypothesis.extra.numpy.array_shapes(min_dims=1, max_dims=4, min_side=0,
                                                                           max_side=4),
                                       elements=st.integers(0, 100))
LEAVES = st.none() | st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False) | ARRAYS | \
    st.text(st.characters(blacklist_categories=('Cs',)), max_size=300)
PLAIN = st.dictionaries(NAMES, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    NAMES, inner, max_size=3) | st.tuples(inner, inner), max_leaves=8), max_size=4)


@hypothesis.settings(deadline=None, max_examples=80)
@hypothesis.given(kwargs=PLAIN, values=st.dictionaries(NAMES, ARRAYS, max_size=3))
def test_whatever_is_saved_comes_back(tmp_path_factory, kwargs, values):
    path = str(tmp_path_factory.getbasetemp() / 'property.pkl')
    state = _sample(static_kwargs=kwargs, variables=sorted(values.items()), components={'inner': _sample(name='inner')})
    save_states([state], path)
    native = pickle.loads(pickle.dumps(vars(state)))        # a deep copy
    native['static_kwargs'] = _native(native['static_kwargs'])
    native['variables'] = [(name, _native(value)) for name, value in native['variables']]
    assert _same(load_states(path), [NetworkState(**native)])


def _native(value):
    if isinstance(value, np.ndarray):
        return np.array(value, value.dtype.newbyteorder('='), order='C')
    if isinstance(value, dict):
        return {key: _native(item) for key, item in value.items()}
    return type(value)([_native(item) for item in value]) if isinstance(value, (list, tuple)) else value


def test_scalars_stay_scalars(tmp_path):
    path = str(tmp_path / 'a.pkl')
    save_states([_sample(variables=[('lod', np.array(2.5, np.float32)), ('n', np.int64(7))])], path)
    assert _same(load_states(path)[0].variables, [('lod', np.float32(2.5)), ('n', np.int64(7))])


def test_a_file_with_weights_beyond_float32_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, 'finite_in_float32', lambda value: True)       # another program may write it
    path = str(tmp_path / 'a.pkl')
    save_states([_sample(variables=[('w', np.array([1, 1e300]))])], path)
    monkeypatch.undo()
    with pytest.raises(UserError, match='a.pkl: network .*: variable w holds .* beyond float32'):
        load_states(path)
    largest = np.array([np.finfo(np.float32).max, -1e-300])
    save_states([_sample(variables=[('w', largest)])], path)
    assert _same(load_states(path)[0].variables, [('w', largest)])



@pytest.mark.parametrize('changes, word', [
    ({'variables': [('w', np.float32('nan'))]}, 'variable w holds values that are NaN'),
    ({'variables': [('w', np.array([1, np.inf]))]}, 'variable w holds values that are NaN'),
    ({'variables': [('w', np.array([1, -1e300]))]}, 'variable w holds values that are NaN, infinite or beyond float32'),
    ({'variables': [('w', np.float64(3.5e38))]}, 'variable w holds'),
    ({'variables': [('w', 3)]}, 'numpy array'),
    ({'variables': [('w', np.array([None]))]}, 'numpy array'),
    ({'static_kwargs': {'f': len}}, 'static_kwargs'),
    ({'static_kwargs': {'f': 1 << 80}}, 'static_kwargs'),
    ({'static_kwargs': {1: 1}}, 'static_kwargs'),
    ({'static_kwargs': {'a': np.array(['text'])}}, 'dtype'),
    ({'name': 'a\nb'}, 'name'), ({'version': 4}, 'version 4'), ({'build_func_name': 'f()'}, 'build_func_name'),
    ({'components': {'x': _sample(name='')}}, 'name'),
])
def test_what_a_snapshot_cannot_hold(tmp_path, changes, word):
    path = tmp_path / 'kept.pkl'
    path.write_bytes(b'older')
    with pytest.raises(UserError, match=re.escape(word)) as caught:
        save_states([_sample(), _sample(**changes)], str(path))
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    assert path.read_bytes() == b'older' and os.listdir(tmp_path) == ['kept.pkl']


#----------------------------------------------------------------------------
# Reading what should not be read.

def _outcomes(group, folder, *reader):
    return json.loads(_python('-m', 'tests.hostile_pickles', group, str(folder), *reader))


@pytest.mark.parametrize('group, least', [('attacks', 15), ('hidden_attacks', 35), ('giants', 50), ('strangers', 85),
                                          ('truncated', 120)])
def test_hostile_files_are_refused_in_one_line(tmp_path, group, least):
    outcomes = _outcomes(group, tmp_path)
    assert len(outcomes) >= least
    for case, (outcome, message) in outcomes.items():
        assert outcome == 'refused', f'{case}: {outcome}: {message}'
        assert message.startswith(str(tmp_path / 'case.pkl')), f'{case}: {message}'
        assert message.isprintable() and len(message) < 500 + len(str(tmp_path)), f'{case}: {message}'
    assert os.listdir(tmp_path) == ['case.pkl']         # no mark, nothing half-written


def test_damaged_files_load_or_are_refused(tmp_path):
    outcomes = _outcomes('mutated', tmp_path)
    kinds = [outcome for outcome, _ in outcomes.values()]
    assert set(kinds) == {'loaded', 'refused'}, [item for item in outcomes.items() if item[1][0] == 'crashed'][:3]
    assert kinds.count('refused') > len(kinds) / 2
    assert sorted(os.listdir(tmp_path)) == ['case.pkl', 'case.pkl.again']


def test_unusual_but_right_files_load(tmp_path):
    for case, (outcome, message) in _outcomes('good', tmp_path).items():
        assert outcome == 'loaded', f'{case}: {message}'


def test_the_attacks_are_real(tmp_path):
    """Each would have run in the standard unpickler, so the refusals above mean something."""
    outcomes = _outcomes('attacks', tmp_path, 'pickle')
    assert {outcome for outcome, _ in outcomes.values()} == {'ran'}, outcomes


@pytest.mark.parametrize('content, word', [(b'<!doctype html><html>', 'web page'), (b'PK\x03\x04..', 'PyTorch'),
                                           (b'\x89HDF\r\n', 'HDF5'), (b'', 'empty'), (b'version https://git-lfs',
                                                                                      'Git LFS')])
def test_other_kinds_of_files_are_recognised(tmp_path, content, word):
    path = tmp_path / 'model.pkl'
    path.write_bytes(content)
    with pytest.raises(UserError, match=word):
        load_states(str(path))


def test_places_without_a_file(tmp_path):
    os.mkfifo(str(tmp_path / 'pipe'))
    for name, word in (('absent.pkl', 'no such file'), ('', 'not a regular file'), ('pipe', 'not a regular file')):
        with pytest.raises(UserError, match=word):
            load_states(os.path.join(str(tmp_path), name))


def test_needs_no_tensorflow():
    _python('-c', 'import sys, dnnlib.tflib.pickles; assert "tensorflow" not in sys.modules')
