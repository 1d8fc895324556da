"""Checkpoints by exact names: round trips, TensorFlow's own Saver, and one clear error for every way to be wrong."""

import os
import resource
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError

VALUES = {'a/kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'a/bias': np.float32([1, 2, 3]),
          'step': np.int32(7), 'b/ä weird-name': np.zeros([0, 2], np.float32)}


@pytest.fixture
def prefix(tmp_path):
    path = str(tmp_path / 'deep' / 'file.ckpt')
    checkpoints.save(path, VALUES)
    return path


def _variables():
    return {'a/kernel': tf.get_variable('mine', [2, 3]), 'step': tf.get_variable('s', [], tf.int32, use_resource=True)}


def test_round_trip(prefix):
    assert sorted(os.listdir(os.path.dirname(prefix))) == ['file.ckpt.data-00000-of-00001', 'file.ckpt.index']
    assert checkpoints.read_names(prefix) == {name: list(np.shape(value)) for name, value in VALUES.items()}
    for name, value in checkpoints.read(prefix).items():
        assert value.dtype == VALUES[name].dtype
        np.testing.assert_array_equal(value, VALUES[name])
    assert checkpoints.size(prefix)[0] == 10


def test_restore_by_map_and_by_own_names(tf_session, prefix):
    variables = _variables()
    checkpoints.restore(prefix, variables)
    kernel, step = tf_session.run([variables['a/kernel'], variables['step']])
    np.testing.assert_array_equal(kernel, VALUES['a/kernel'])
    assert step == 7
    bias = tf.get_variable('a/bias', [3])
    checkpoints.restore(prefix, [bias])
    np.testing.assert_array_equal(tf_session.run(bias), VALUES['a/bias'])


def test_saver_of_tensorflow_reads_ours_and_we_read_its(tf_session, prefix, tmp_path):
    variables = _variables()
    saver = tf.train.Saver(variables)
    saver.restore(tf_session, prefix)
    np.testing.assert_array_equal(tf_session.run(variables['a/kernel']), VALUES['a/kernel'])
    path = saver.save(tf_session, str(tmp_path / 'theirs.ckpt'))
    np.testing.assert_array_equal(checkpoints.read(path)['a/kernel'], VALUES['a/kernel'])


def test_variables_are_saved_by_value(tf_session, tmp_path):
    variables = _variables()
    tfutil.set_vars({variables['a/kernel']: np.ones([2, 3]), variables['step']: 3})
    path = str(tmp_path / 'x.ckpt')
    checkpoints.save(path, dict(variables, plain=np.float32(2)))
    content = checkpoints.read(path)
    assert content['step'] == 3 and content['plain'] == 2 and content['a/kernel'].sum() == 6


def test_mismatch_is_one_error_that_names_everything(tf_session, prefix):
    wanted = {'a/kernel': tf.get_variable('k', [3, 2]), 'a/gone': tf.get_variable('g', [1]),
              'step': tf.get_variable('st', [], tf.int32)}
    tfutil.set_vars({wanted['step']: 1})
    with pytest.raises(UserError) as caught:
        checkpoints.restore(prefix, wanted, scopes=['a'])
    message = str(caught.value)
    assert "missing: 'a/gone'" in message and "not expected: 'a/bias'" in message and "'a/kernel' [2, 3]" in message
    assert '\n' not in message and prefix in message
    assert tf_session.run(wanted['step']) == 1      # nothing was changed


@pytest.mark.parametrize('value', [[1, 1e300], [np.nan, 1]])
def test_weights_that_float32_cannot_hold_are_refused(tf_session, tmp_path, value):
    variable = tf.get_variable('w', initializer=np.float32([5, 6]))
    tf_session.run(variable.initializer)
    checkpoints.save(str(tmp_path / 'x.ckpt'), {'w': np.float64(value)})
    with pytest.raises(UserError, match="x.ckpt: 'w' hold values that are NaN, infinite or beyond float32"):
        checkpoints.restore(str(tmp_path / 'x.ckpt'), [variable])
    np.testing.assert_array_equal(tf_session.run(variable), [5, 6])


def test_names_beyond_the_scopes_are_ignored(tf_session, prefix):
    checkpoints.restore(prefix, {'step': tf.get_variable('x', [], tf.int32)}, scopes=['st'])


def test_names_in_a_checkpoint_cannot_forge_a_line(tf_session, tmp_path):
    path = str(tmp_path / 'x.ckpt')
    checkpoints.save(path, {'a/\n\x1b[2Jerror: forged': np.zeros(1), 'a/' + 'x' * 10 ** 5: np.zeros(1)})
    with pytest.raises(UserError, match='not expected') as caught:
        checkpoints.restore(path, {}, scopes=['a'])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_read_of_an_unknown_name(prefix):
    with pytest.raises(UserError, match="lacks 'nothing/like/it'"):
        checkpoints.read(prefix, ['nothing/like/it'])


@pytest.mark.parametrize('suffix', ['.index', '.data-00000-of-00001'])
def test_missing_file_is_named(prefix, suffix):
    os.remove(prefix + suffix)
    assert not checkpoints.exists(prefix)
    with pytest.raises(UserError) as caught:
        checkpoints.read_names(prefix)
    assert prefix + suffix in str(caught.value)


@pytest.mark.parametrize('suffix', ['.index', '.data-00000-of-00001'])
@pytest.mark.parametrize('content', [b'', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n' * 3])
def test_other_content_is_named(prefix, suffix, content):
    with open(prefix + suffix, 'wb') as file:
        file.write(content)
    with pytest.raises(UserError) as caught:
        checkpoints.read(prefix)
    assert prefix in str(caught.value) and '\n' not in str(caught.value)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(['.index', '.data-00000-of-00001']), st.floats(0, 1), st.integers(1, 255), st.booleans())
def test_damage_never_goes_unnoticed(prefix, suffix, where, change, cut):
    with open(prefix + suffix, 'rb') as file:
        good = file.read()
    place = min(int(where * len(good)), len(good) - 1)
    bad = good[:place] if cut else good[:place] + bytes([good[place] ^ change]) + good[place + 1:]
    try:
        with open(prefix + suffix, 'wb') as file:
            file.write(bad)
        content = checkpoints.read(prefix)
        for name, value in content.items():     # padding of the index may change without harm
            np.testing.assert_array_equal(value, VALUES[name])
    except UserError as error:
        assert prefix in str(error)
    finally:
        with open(prefix + suffix, 'wb') as file:
            file.write(good)


def test_save_replaces_and_failure_leaves_nothing(prefix, tmp_path):
    checkpoints.save(prefix, {'only': np.float32(1)})
    assert list(checkpoints.read(prefix)) == ['only']
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='could not be written'):
        checkpoints.save(str(tmp_path / 'file' / 'x.ckpt'), VALUES)
    assert sorted(os.listdir(str(tmp_path))) == ['deep', 'file']


def test_a_full_disk_is_named(tmp_path):
    """TensorFlow 2 begins what it says of it with 'Graph execution error:'."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))       # the kernel refuses what is larger
        with pytest.raises(UserError, match=r'model: the checkpoint could not be written \(File too large\); free'):
            checkpoints.save(str(tmp_path / 'model'), {'a': np.zeros(100000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_copy_and_remove(prefix, tmp_path):
    target = str(tmp_path / 'part.ckpt')
    checkpoints.copy(prefix, target, ['step'])
    assert list(checkpoints.read_names(target)) == ['step']
    checkpoints.remove(target)
    assert not checkpoints.exists(target)
    checkpoints.remove(target)
