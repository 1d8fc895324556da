"""Training of the VAEs: Adam in the loop, exact resume, what is learned, and the script's files and messages."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

import config
from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import IS_TF1, gpu_names, tf
from dnnlib.util import EasyDict, UserError
from renderer import factors
from tests.common import assert_close
from vae import demo, model
from vae.trainer import Trainer, holds_gamma, kl_weight

SCRIPT = os.path.join(config.ROOT, 'vae', 'demo.py')


def _samples(n, size, seed=0):
    """Correlated coefficients: four causes behind `size` numbers, with a mean of their own."""
    mixing = np.random.RandomState(size).standard_normal([4, size]) * 0.5
    causes = np.random.RandomState(seed).standard_normal([n, 4])
    return (causes @ mixing + mixing[0]).astype(np.float32)


def _trained(x, epochs, start=None, save=None, name='gamma', rate=1e-3, precision='float32', **kwargs):
    """(terms of every step, all state) after training in a graph of its own."""
    with tf.Graph().as_default() as graph, tfutil.create_session(1, graph, precision=precision) as session:
        trainer = Trainer(name, x, seed=3, **kwargs)
        if start:
            trainer.restore(start)
        terms = [block for epoch in epochs for block in trainer.train_epoch(epoch, rate)]
        if save:
            trainer.save(save)
        return np.concatenate(terms), session.run(trainer.state)


def test_steps_are_those_of_the_adam_optimizer(tf_session):
    x = _samples(6, 3)
    terms, state = _trained(x, range(5), name='rot', batch_size=6)
    weights = model.create_variables(model.model_shapes('rot'), seed=3)
    rows, noise = tf.placeholder(tf.float32, [6, 3]), tf.placeholder(tf.float32, [6, 3])
    kl, generation = model.losses(rows, noise, 'rot', weights)
    step = tf.train.AdamOptimizer(1e-3).minimize(kl + generation)
    tf_session.run(tf.global_variables_initializer())
    trainer = EasyDict(seed=3, num_samples=6, steps_per_epoch=1, batch_size=6)
    for epoch in range(5):
        order = Trainer.epoch_rows(trainer, epoch)[0]
        drawn = tf_session.run(tf.random.stateless_normal([1, 6, 3], [3, epoch]))[0]
        found = tf_session.run([kl, generation, step], {rows: x[order], noise: drawn})
        assert_close(terms[epoch][:2], found[:2], rtol=1e-5)
    for name, value in tf_session.run(weights).items():
        assert_close(state[name], value, atol=1e-6, rtol=1e-5)
    assert_close(state['rot/beta1_power'], 0.9 ** 6, rtol=1e-5)
    assert state['rot/global_step'] == 5


def test_every_epoch_shows_every_sample():
    trainer = EasyDict(seed=1, num_samples=150, steps_per_epoch=3, batch_size=64)
    first, second = [Trainer.epoch_rows(trainer, epoch) for epoch in (0, 1)]
    assert first.shape == (3, 64) and set(first.flat) == set(second.flat) == set(range(150))
    assert (first != second).any()
    np.testing.assert_array_equal(first, Trainer.epoch_rows(trainer, 0))


def test_resumed_training_equals_one_that_was_not_interrupted(tmp_path):
    x, path = _samples(200, 27), str(tmp_path / 'half.ckpt')
    whole_terms, whole = _trained(x, range(4))
    first_terms, _ = _trained(x, range(2), save=path)
    second_terms, resumed = _trained(x, range(2, 4), start=path)
    assert_close(np.concatenate([first_terms, second_terms]), whole_terms, rtol=1e-6)
    for name, value in whole.items():
        assert_close(resumed[name], value, atol=1e-7, rtol=1e-6)


@pytest.mark.skipif(IS_TF1 or gpu_names() or not tfutil.cpu_has_bfloat16(),
                    reason='bfloat16 needs TensorFlow 2.x and, without a GPU, a processor with AVX512_BF16 or AMX')
def test_bfloat16_learns_the_same():
    x = _samples(640, 160)
    (exact, _), (rounded, state) = [_trained(x, range(12), name='id', width=64, precision=precision)
                                    for precision in ('float32', 'bfloat16')]
    assert all(value.dtype != 'bfloat16' for value in state.values())
    assert exact[-1, 1] < 0.9 * exact[0, 1], 'too few epochs to say anything'
    assert_close(rounded[:, :2], exact[:, :2], rtol=0.05, atol=0.5)
    assert np.abs(rounded - exact).max() > 0, 'computed in float32'


@pytest.mark.parametrize('name, width', [('id', 64), ('exp', 64), ('gamma', 64), ('rot', None)])
def test_all_factors_learn_to_reconstruct(tf_session, name, width):
    x = _samples(1280, factors.num_coeffs(name))
    trainer = Trainer(name, x[:1024], seed=1, width=width)
    before = trainer.evaluate(x[1024:], x.mean(axis=0))
    losses = [np.concatenate(list(trainer.train_epoch(epoch, 3e-3)))[:, 2].mean() for epoch in range(40)]
    after = trainer.evaluate(x[1024:], x.mean(axis=0))
    assert before['explained_variance'] < 0.3
    assert after['explained_variance'] > 0.8 and after['rms'] < 0.5 * before['rms'] and after['kl'] > 1
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('warmup, start_gamma, collapses', [(0, 1.0, True), (5, 0.3, False)])
def test_warmup_of_the_kl_divergence_keeps_the_latents_alive(tf_session, warmup, start_gamma, collapses):
    x = np.zeros([4096, factors.num_coeffs('exp')], np.float32)     # few coefficients vary: the human world's way
    x[:, :6] = np.random.RandomState(2).standard_normal([4096, 6])
    trainer = Trainer('exp', x, seed=1, width=64, start_gamma=start_gamma)
    for epoch in range(14):
        for terms in trainer.train_epoch(epoch, 2e-3, kl_weight(epoch, warmup), holds_gamma(epoch, warmup)):
            assert terms[-1, 3] == pytest.approx(start_gamma) or not holds_gamma(epoch, warmup)
    report = trainer.evaluate(x, x.mean(axis=0))
    assert terms[-1, 3] < 0.7 * start_gamma
    if collapses:
        assert report['explained_variance'] < 0.05 and report['kl'] < 0.1 and report['sampled_spread'] < 0.1
    else:
        assert report['explained_variance'] > 0.9 and report['kl'] > 5 and 0.8 < report['sampled_spread'] < 1.2


def test_fitted_latents_decode_to_the_spread_of_the_data(tf_session):
    """More latents than the data has dimensions: random ones decode to too little before, to what is right after."""
    x = _samples(2048, factors.num_coeffs('exp'), 3)
    trainer = Trainer('exp', x, seed=1, width=64, start_gamma=0.1)
    for epoch in range(12):
        list(trainer.train_epoch(epoch, 3e-3, kl_weight(epoch, 5), holds_gamma(epoch, 5)))
    before = trainer.evaluate(x, x.mean(axis=0))
    trainer.fit_latents(x)
    after = trainer.evaluate(x, x.mean(axis=0))
    assert after['rms'] == pytest.approx(before['rms'], rel=1e-3)
    mean, log_sigma = tf_session.run(trainer._code, {trainer._x: x})
    together = np.cov(mean.T) + np.diag(np.exp(2 * log_sigma).mean(axis=0))
    assert_close(mean.mean(axis=0), np.zeros(mean.shape[1]), atol=1e-3)
    assert_close(np.diag(together), np.ones(mean.shape[1]), atol=0.02)
    assert abs(after['sampled_spread'] - 1) < max(0.05, 0.5 * abs(before['sampled_spread'] - 1))


def test_cross_entropy_trains_all_but_gamma():
    x = np.random.RandomState(0).uniform(0.2, 0.8, [64, 3]).astype(np.float32)
    terms, state = _trained(x, range(20), name='rot', cross_entropy=True)
    assert np.isfinite(terms).all() and terms[-1, 2] < terms[0, 2]
    assert state['rot/stage1/decoder/loggamma_x'] == 0


def test_a_single_sample_has_no_variance_to_explain(tf_session):
    x = _samples(1, 3)
    trainer = Trainer('rot', x)
    assert np.isfinite(np.concatenate(list(trainer.train_epoch(0, 1e-3)))).all()
    report = trainer.evaluate(x, x[0])
    assert report['explained_variance'] is None and 'no variance to explain' in demo._describe('x', report)


# The script


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """80 coefficient files, one of nonsense and one with NaN."""
    path = tmp_path_factory.mktemp('coeff')
    for i, coeff in enumerate(_samples(80, factors.NUM_RECON)):
        scipy.io.savemat(str(path / f'{i:03d}.mat'), {'coeff': coeff})
    (path / '004b.mat').write_bytes(b'nonsense')
    scipy.io.savemat(str(path / '005b.mat'), {'coeff': np.full(257, np.nan)})
    return str(path)


def _command(*options):
    return [sys.executable, SCRIPT, '--gpu', '-1', '--threads', '1'] + [str(option) for option in options]


def _run(*options, **kwargs):
    """(exit code, stdout, last line of stderr that is no warning)."""
    done = subprocess.run(_command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    errors = done.stderr.decode()
    assert 'Traceback' not in errors, errors
    lines = [line for line in errors.strip().split('\n') if not line.startswith('warning:')]
    return done.returncode, done.stdout.decode(), (lines or [''])[-1]


def test_training_is_saved_logged_resumed_and_published(folder, tmp_path):
    options = ['--root-folder', tmp_path, '--datapath', folder, '--output-path', 'out', '--factor', 'gamma', '--val',
               '--batch-size', 16, '--write-iteration', 3, '--width', 16, '--lr', 0.003]
    code, out, errors = _run(*options, '--epochs', 7, cwd=str(tmp_path))
    assert code == 0 and 'skipped 2 files (004b.mat' in errors
    assert '76 samples of gamma (lighting) to train on, 4 held out' in out
    assert '\tEpoch: [Stage 1][6/7]\tLoss: ' in out and 'held out: RMS' in out
    gamma = str(tmp_path / 'out' / 'gamma')
    assert model.epochs_in(os.path.join(gamma, 'from_scratch')) == [0, 5, 6]
    code, out, errors = _run(*options, '--epochs', 27, cwd=str(tmp_path))
    assert code == 0 and 'resumed from' in out and '[6/' not in out and '[7/27]' in out
    assert model.epochs_in(os.path.join(gamma, 'from_scratch')) == [10, 15, 20, 25, 26]
    with open(os.path.join(gamma, 'log.jsonl')) as file:
        log = [json.loads(line) for line in file]
    assert [line['step'] for line in log] == list(range(3, 27 * 5 + 1, 3))
    assert set(log[0]) == {'step', 'epoch', 'kl_loss', 'gen_loss', 'loss', 'gamma'}
    assert np.mean([line['loss'] for line in log[-9:]]) < np.mean([line['loss'] for line in log[:9]]) - 1
    assert any(name.startswith('events.out.tfevents') for name in os.listdir(gamma))
    with open(os.path.join(gamma, 'trained.json')) as file:
        result = json.load(file)
    assert (result['epoch'], result['samples'], result['skipped']) == (26, 76, 2) and result['held_out']['rms'] > 0
    assert model.find_checkpoint('gamma', str(tmp_path / 'out')) == os.path.join(gamma, model.RELEASED)
    assert checkpoints.read(os.path.join(gamma, model.RELEASED))['gamma/global_step'] == 27 * 5

    # A rate at which training diverges: the checkpoints stay as they were.
    code, out, errors = _run(*options, '--epochs', 40, '--lr', 1e30, cwd=str(tmp_path))
    assert code == 1 and errors.startswith('error: the loss is no longer finite in epoch 27') and '--lr' in errors
    assert model.epochs_in(os.path.join(gamma, 'from_scratch')) == [10, 15, 20, 25, 26]


def test_interrupted_training_saves_its_epoch(folder, tmp_path):
    options = ['--datapath', folder, '--output-path', tmp_path, '--epochs', 100000]
    process = subprocess.Popen(_command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if b'Epoch: [Stage 1][2/' in line:
            process.send_signal(signal.SIGINT)
            break
    out, errors = process.communicate()
    assert process.returncode == 130, errors
    assert b'the same command goes on' in out and b'Traceback' not in errors
    last = [line for line in (line + out).decode().split('\n') if 'Epoch:' in line][-1]
    epoch = int(last.split('[Stage 1][')[1].split('/')[0])
    trained = os.path.join(str(tmp_path), 'rot', 'from_scratch')
    assert model.epochs_in(trained)[-1] == epoch
    step = checkpoints.read(os.path.join(trained, model.CHECKPOINT.format(epoch)))['rot/global_step']
    assert step == (epoch + 1) * 2


def test_full_disk_leaves_no_half_checkpoint(folder, tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))      # a checkpoint has 57,348 bytes
    code, _, errors = _run('--datapath', folder, '--output-path', tmp_path, '--epochs', 2, preexec_fn=limit)
    assert code == 1 and errors.startswith('error: ') and 'stage1_epoch_0.ckpt: the checkpoint could not' in errors
    assert os.listdir(str(tmp_path / 'rot' / 'from_scratch')) == ['training.json']


@pytest.mark.parametrize('options, code, message', [
    (['--kl-warmup', '-1'], 2, 'expected a whole number from 0 on'),
    (['--factor', 'nose'], 2, "invalid choice: 'nose'"), (['--epochs', '0'], 2, '0 is out of range'),
    (['--lr', 'nan'], 2, 'expected a number above 0'), (['--seed', '-1'], 2, 'from 0 to 4294967295'),
    (['--datapath', 'nowhere'], 1, 'nowhere: no such folder'), (['--datapath', '.'], 1, 'no .mat file')])
def test_mistakes_are_told_in_one_line(tmp_path, options, code, message):
    found, out, errors = _run(*options, cwd=str(tmp_path))
    assert (found, out) == (code, '') and message in errors
    assert os.listdir(str(tmp_path)) == []


def test_options_need_no_tensorflow():
    code = "import sys, vae.demo; vae.demo.parse_options([]); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], cwd=config.ROOT).returncode == 0


def test_defaults_are_the_released_ones():
    options = demo.parse_options([])
    expected = dict(root_folder='.', output_path='./weights', factor='rot', datapath='../FFHQ_data/coeff', gpu='0',
                    write_iteration=600, batch_size=64, epochs=400, lr=1e-4, lr_epochs=150, lr_fac=0.5,
                    cross_entropy_loss=False, val=False)
    assert {key: options[key] for key in expected} == expected


def test_weights_of_other_origin_are_left_alone(tmp_path, capsys):
    folders = EasyDict(weights=str(tmp_path), factor=str(tmp_path / 'rot'), epochs=str(tmp_path / 'rot/from_scratch'))
    new, used = os.path.join(folders.epochs, model.CHECKPOINT.format(5)), os.path.join(folders.factor, model.RELEASED)
    checkpoints.save(new, {'x': np.float32(1)})
    checkpoints.save(used, {'x': np.float32(2)})
    demo._publish(folders, 5, {})
    assert 'left alone' in capsys.readouterr().err and checkpoints.read(used)['x'] == 2
    checkpoints.remove(used)
    demo._publish(folders, 5, {})
    assert checkpoints.read(used)['x'] == 1
    checkpoints.save(new, {'x': np.float32(3)})
    demo._publish(folders, 5, {})               # our own result may be replaced
    assert checkpoints.read(used)['x'] == 3
    assert f'with --vae_weights {tmp_path}' in capsys.readouterr().out


def test_resuming_at_another_width_is_refused(tmp_path):
    shapes = model.model_shapes('rot', 8)
    checkpoints.save(str(tmp_path / model.CHECKPOINT.format(5)), {n: np.zeros(s) for n, s in shapes.items()})
    with pytest.raises(UserError, match='go on with --width 8, or start anew with --no-resume'):
        demo._resume(None, EasyDict(epochs=str(tmp_path)), demo.parse_options([]), {})


def test_no_resume_keeps_the_older_training_aside(tmp_path, capsys):
    path = tmp_path / 'from_scratch'
    for _ in range(2):
        path.mkdir()
        (path / 'x').write_text('')
        demo._set_aside(str(path))
    assert sorted(os.listdir(str(tmp_path))) == ['from_scratch.1', 'from_scratch.2']


def test_log_forgets_steps_that_will_be_taken_again(tmp_path):
    path = tmp_path / 'log.jsonl'
    path.write_text('{"step": 3}\n{"step": 6}\n{"step": 9}\n{"ste')
    log = demo.Log(str(tmp_path), 3, 6)
    log.add(2, 7, np.ones([4, 1]), ['loss'])
    log.close()
    assert [json.loads(line)['step'] for line in path.read_text().split('\n')[:-1]] == [3, 6, 9]
