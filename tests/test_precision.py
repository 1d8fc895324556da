"""Training in another precision: a step compared with float32 before it begins; lod is told before it is read."""

import contextlib
from unittest import mock

import numpy as np
import pytest

from benchmarks import train as bench
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import IS_TF1, tf, without_tf32
from dnnlib.util import EasyDict, UserError
from renderer import factors
from renderer.face_renderer import FaceRenderer
from sampling import latents
from training import configs, graph, training_loop
from training.distributed import Cluster
from worlds import parts

SMALL = dict(fmap_base=64, fmap_max=8)


@contextlib.contextmanager
def opened(precision):
    """A small TrainingGraph of the human world, 16 pixels; its reals are fed."""
    config = EasyDict(configs.load('demo64'), resolution=16, full_resolution=64, discriminator=SMALL,
                      generator=dict(SMALL, dlatent_size=16, mapping_fmaps=16, mapping_layers=2))
    cluster = Cluster(precision=precision)
    with tf.Graph().as_default(), cluster.session():
        tf.set_random_seed(1)
        context = bench._demo_context(config, 1)
        reals = tf.placeholder(tf.uint8, [None, 3, None, None])
        built = graph.TrainingGraph(cluster, context, graph.new_networks(config, 3, bench.NOISE_DIM), reals, (False,))
        built.initialize()
        yield built


def _feed(lod):
    return dict(lod=lod, minibatch=4, nimg=1000, seed=1, learning_rate=0.0)


def test_float32_is_itself_and_nothing_changes():
    with opened('float32') as built:
        before = tfutil.run(list(built.state.values()))
        errors = built.precision_errors(_feed(1.0))
        assert errors == {'D': (0.0, 0.0), 'G': (0.0, 0.0)}
        for one, other in zip(before, tfutil.run(list(built.state.values()))):
            assert (one == other).all()
        assert graph.check_precision(built, _feed(1.0), 'float32').startswith(
            'float32 against float32, one step at 8 pixels: D: loss')


def test_what_is_too_far_off_is_refused(monkeypatch):
    with opened('float32') as built:
        for errors in ({'D': (0.01, 0.6), 'G': (0, 0)}, {'D': (np.nan, 0), 'G': (0, 0)},
                       {'D': (0, np.nan), 'G': (0, 0)}, {'D': (0, 0), 'G': (0.01, np.nan)}):
            monkeypatch.setattr(built, 'precision_errors', lambda feed, errors=errors: errors)
            with pytest.raises(UserError, match='--precision bfloat16: a step is off float32 by more than 50%'):
                graph.check_precision(built, _feed(0.0), 'bfloat16')


def test_several_hosts_say_that_they_do_not_compare():
    one, two = [EasyDict(shard=(0, count), precision='bfloat16') for count in (1, 2)]
    said = training_loop._checked_precision(two, None, _feed(0.0))          # so no graph is asked
    assert said.startswith('bfloat16: not compared with float32') and 'alone' in said
    with mock.patch.object(training_loop, 'check_precision', return_value='compared') as check:
        assert training_loop._checked_precision(one, 'graph', _feed(0.0)) == 'compared'
    check.assert_called_once_with('graph', _feed(0.0), 'bfloat16')


def test_each_form_of_a_step_is_compared_when_its_turn_comes():
    built = EasyDict(is_full=lambda lod: lod < 1)
    for precision, expected in (('float32', []), ('bfloat16', [1.5, 0.5])):
        said = []
        compare = training_loop._comparison(EasyDict(shard=(0, 1), precision=precision), built, said.append)
        with mock.patch.object(training_loop, 'check_precision', lambda graph, feed, _: feed['lod']):
            for lod in (1.5, 1.0, 0.5, 0.0):
                compare(_feed(lod))
        assert said == expected


def test_too_far_off_ends_a_training_only_where_it_begins():
    said = []
    compare = training_loop._comparison(EasyDict(shard=(0, 1), precision='bfloat16'),
                                        EasyDict(is_full=lambda lod: lod < 1), said.append)
    with mock.patch.object(training_loop, 'check_precision', side_effect=UserError('too far')):
        with pytest.raises(UserError, match='too far'):
            compare(_feed(1.5))
        compare(_feed(0.5))
    assert said == ['warning: too far, as --resume with --precision float32 does']


def _gpus(monkeypatch, *capabilities):
    """Let TensorFlow have GPUs of these capabilities."""
    monkeypatch.setattr(tfutil, 'gpu_names', lambda: [f'/device:GPU:{i}' for i in range(len(capabilities))])
    monkeypatch.setattr(tfutil, 'gpu_capabilities', lambda: list(capabilities))


def _tf32_is_on():
    return tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize('capabilities, said', [
    ([], 'for GPUs only; on CPUs there is --precision bfloat16'),
    ([(8, 6), (7, 5)], '1.15.* has no switch for it' if IS_TF1 else r'capability 8.0 .* here is one of 7.5'),
    ([(8, 0)], '1.15.* has no switch for it' if IS_TF1 else None)])
def test_tf32_only_where_gpus_have_it(monkeypatch, capabilities, said):
    _gpus(monkeypatch, *capabilities)
    with pytest.raises(UserError, match=f'--precision tf32: .*{said}') if said else contextlib.nullcontext():
        tfutil.check_precision('tf32')


@pytest.mark.skipif(IS_TF1, reason='TensorFlow 1.15 has no such switch')
def test_tf32_is_switched_on_for_the_process_and_off_where_float32_is_due(monkeypatch):
    _gpus(monkeypatch, (9, 0))
    assert not _tf32_is_on()
    with tf.Graph().as_default():
        tf.get_variable('any', initializer=1.0)
        try:
            with tfutil.create_session(precision='tf32') as session:
                session.run(tf.global_variables_initializer())
                assert _tf32_is_on()
                with tfutil.float32_session(tf.global_variables()):
                    assert not _tf32_is_on()
                with tfutil.create_session():
                    assert _tf32_is_on(), 'a float32 session beside it changed it'
            with pytest.raises(ValueError), without_tf32():
                raise ValueError
            assert _tf32_is_on()
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(False)
    with without_tf32():
        assert not _tf32_is_on()
    assert not _tf32_is_on()


@pytest.mark.skipif(IS_TF1, reason='TensorFlow 1.15 has no such switch')
def test_coefficients_are_decoded_without_tf32(monkeypatch):
    _gpus(monkeypatch, (8, 0))
    seen = []
    with latents.LatentDecoder(parts.World('human').vae_weights, precision='tf32') as decoder:
        try:
            decoder.decode(np.zeros([1, factors.NUM_LATENTS]))
            monkeypatch.setattr(decoder._decoders, 'run', lambda z: seen.append(_tf32_is_on()))
            decoder.decode(np.zeros([1, factors.NUM_LATENTS]))
            assert seen == [False] and _tf32_is_on()
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(False)


def _needs_bfloat16():
    try:
        tfutil.check_precision('bfloat16', on_gpu=False)
    except UserError as error:
        pytest.skip(str(error))


def test_bfloat16_is_near_float32_and_sees_each_lod_at_once():
    _needs_bfloat16()
    with opened('bfloat16') as built:
        errors = built.precision_errors(_feed(0.0))
        assert all(0 < error < graph.LARGEST_ERROR for pair in errors.values() for error in pair)
        for lod in (1.0, 0.0):
            built._tell_lod(lod)
            pictures = np.random.RandomState(0).randint(0, 256, [4, 3, 16 >> int(lod), 16 >> int(lod)], np.uint8)
            given = {built._placeholders[key]: value for key, value in _feed(lod).items()}
            given[built._reals] = pictures
            loss = built._checked['D'][0]
            assert tfutil.run(loss, given) == tfutil.run(loss, given)       # the first step sees this lod already


def test_geometry_keeps_its_digits_in_bfloat16():
    """Depth of the layers of an eye or a mouth needs more digits than bfloat16 has: renders must be the same."""
    _needs_bfloat16()
    from human import face_model, prior
    coeff = np.stack([prior.draw(0, i, False)[0] for i in range(2)])[:, :factors.NUM_COEFFS].astype(np.float32)
    with tf.Graph().as_default() as graph:
        given = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS])
        variable = tf.get_variable('unit', initializer=np.eye(factors.NUM_COEFFS, dtype=np.float32))
        coeff_after_product = tf.matmul(given, variable)        # what follows a product is what gets rewritten
        image = FaceRenderer(face_model.load_model()).render(coeff_after_product, 64).image
        pictures = []
        for precision in ('float32', 'bfloat16'):
            with tfutil.create_session(1, graph, precision=precision) as session:
                session.run(tf.global_variables_initializer())
                pictures.append(session.run(image, {given: coeff}))
    difference = np.abs(pictures[0] - pictures[1])
    assert difference.max() > 0, 'computed in float32'
    assert difference.mean() < 0.5 and (difference > 16).mean() < 0.002     # 0 to 255; 7 and 0.09 without care
