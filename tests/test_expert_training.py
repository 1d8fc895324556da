"""Small experts of the human world: lessons, training that can be resumed, the command, the committed weights."""

import glob
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import config
from dnnlib.util import UserError
from human import experts
from perception import expert_training
from renderer import camera, factors
from tests.common import assert_close

SEED = 5


@pytest.fixture(scope='module')
def world():
    return experts.SCHOOL.world()


@pytest.fixture(scope='module')
def album(world):
    """Sixteen photos of four people."""
    return _drawn(world.photos, SEED, 16)


def _drawn(photos, seed, count):
    """Photos 0 to `count` - 1 of `seed`."""
    studio = photos.Studio()
    album = studio.draw(seed, 0, count)
    studio.close()
    return album


# ------------------------------------------------------------------------------------------------ lessons

def _options(**changes):
    return SimpleNamespace(**dict(dict(size=16, width=8, batch=4, seed=0, kimg=0.032, minutes=None, rate=1e-3,
                                       threads=1, save_minutes=9.0, precision='float32'), **changes))


@pytest.mark.parametrize('name', expert_training.NETWORKS)
def test_lessons_learn(world, album, name, tf_session):
    """On one batch the loss falls well below where it starts."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from perception.expert_lessons import LESSONS
    tf.set_random_seed(1)
    lesson = LESSONS[name](world)
    lesson.build(_options())
    update = tf.train.AdamOptimizer(3e-3).minimize(lesson.loss)
    tfutil.init_uninitialized_vars()
    tfutil.set_vars(lesson.statistics(album))
    feed = lesson.feed(lesson.batch(album, np.random.RandomState(0), _options()))
    first = tf_session.run(lesson.loss, feed)
    for _ in range(100):
        tf_session.run(update, feed)
    last, shown = tf_session.run([lesson.loss, lesson.shown], feed)
    assert np.isfinite(first) and last < 0.6 * first
    assert isinstance(lesson.describe(shown), str)


def test_batches_depend_on_the_random_state_alone(world, album):
    from perception.expert_lessons import LESSONS
    for name in expert_training.NETWORKS:
        lesson = LESSONS[name](world)
        one, same, other = (lesson.batch(album, np.random.RandomState(s), _options()) for s in (3, 3, 4))
        assert all((a == b).all() for a, b in zip(one, same))
        assert any((a != b).any() for a, b in zip(one, other))


def test_parser_shares_sum_to_one(world, album):
    from perception.expert_lessons import LESSONS
    _, shares = LESSONS['parser'](world).batch(album, np.random.RandomState(0), _options(size=32))
    assert_close(shares.sum(axis=3), np.ones(shares.shape[:3]), atol=1e-5)
    assert shares.shape[-1] == 4
    assert shares.min() >= 0 and (shares.mean(axis=(0, 1, 2)) > 0.03).all() and shares[..., 0].mean() > 0.1


def test_interrupted_training_goes_on_exactly(world, album, tmp_path, monkeypatch):
    """Stopped half way and started again, the trained numbers are the same."""
    from perception.expert_lessons import LESSONS
    whole, kimg = expert_training.train(LESSONS['recon'](world), album, _options(), str(tmp_path / 'whole' / 'state'))

    lesson, real, calls = LESSONS['recon'](world), LESSONS['recon'].feed, []

    def feed(self, batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, batch)
    state = str(tmp_path / 'half' / 'state')
    monkeypatch.setattr(LESSONS['recon'], 'feed', feed)
    with pytest.raises(KeyboardInterrupt):
        expert_training.train(lesson, album, _options(save_minutes=1e-9), state)
    half, _ = expert_training.train(LESSONS['recon'](world), album, _options(), state)
    assert len(calls) == 4 + 8 - 3                              # of eight steps three were saved
    assert kimg == 0.032
    for name, array in whole.items():
        assert_close(half[name], array, atol=1e-6)


def test_training_is_done_by_steps_or_by_time():
    assert expert_training.progress(25, 0, 100) == 0.25
    assert expert_training.progress(25, 20, 100, minutes=10, passed=5) == pytest.approx(0.6)
    assert expert_training.progress(25, 20, 100, minutes=10, passed=0.1) == 0.25
    assert expert_training.progress(25, 20, 100, minutes=10, passed=99) == 1


def test_verification():
    from perception.expert_lessons import verification
    unit = np.eye(8)
    found = dict(verification(unit, unit))
    assert found['accuracy'] == 1 and found['cosine, same person'] == 1 and found['cosine, others'] == 0
    mixed = dict(verification(unit, unit[::-1]))
    assert mixed['found first among all'] == 0 and mixed['accuracy'] < 0.6


# ------------------------------------------------------------------------------------------------ the command

def test_command_writes_weights_and_a_table(world, tmp_path, monkeypatch):
    monkeypatch.setattr(world.photos, 'PART', 8)
    from dnnlib.tflib import checkpoints
    from perception import experts as perception
    output, kept = str(tmp_path / 'out'), str(tmp_path / 'work')
    for name in ('recon', 'parser'):
        options = expert_training.parse_options(experts.SCHOOL, [
            '--output', output, '--work', kept, '--photos', '256', '--held_out', '64', '--kimg', '0.016', '--size',
            '16', '--width', '4', '--batch', '8'])
        options.photos, options.held_out = 16, 8
        accuracy = expert_training.run(experts.SCHOOL, options, name)
        assert all(np.isfinite(value) for value in accuracy.values())
    specs = perception.load_specs(os.path.join(output, expert_training.TABLE))
    assert sorted(specs) == ['parser', 'recon']
    perception.check_weights(specs, specs)
    arrays = checkpoints.read(specs['recon'].weights)
    assert arrays['small_recon/dense/kernel'].dtype == np.float16
    assert arrays['small_recon/output/mean'].dtype == np.float32
    assert (arrays['small_recon/output/std'][:10] > 0.2).all()
    assert arrays['small_recon/output/std'][factors.TEXTURE][-1] == 0
    with open(os.path.join(output, expert_training.TABLE), encoding='utf-8') as file:
        table = json.load(file)
    assert table['accuracy']['parser'] == accuracy and table['made']['recon']['kimg'] == 0.016


@pytest.mark.parametrize('arguments, message', [
    (['--network', 'hair'], 'invalid choice'), (['--size', '50'], 'argument --size'), (['--kimg', '0'], '--kimg 0'),
    (['--width', '5'], '--width 5'), (['--seed', '-1'], '--seed -1'), (['--photos', '3'], '--photos'),
    (['--photos', '258', '--batch', '130'], '--batch 130: at most half of --photos'),
    (['--kimg', 'inf'], '--kimg inf')])
def test_wrong_options_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        expert_training.parse_options(experts.SCHOOL, arguments)
    assert message in capsys.readouterr().err


def test_a_broken_table_is_not_overwritten(tmp_path):
    path = tmp_path / expert_training.TABLE
    path.write_text('[]')
    with pytest.raises(UserError, match='a table'):
        expert_training.write_table(str(tmp_path), 'id', {}, {}, {})
    assert path.read_text() == '[]'


def test_help_does_not_load_tensorflow():
    code = ('import sys; from human import experts; sys.argv = ["x", "--help"]\n'
            'try: experts.main()\nexcept SystemExit: pass\nassert "tensorflow" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], cwd=config.ROOT, stdout=subprocess.PIPE,
                          universal_newlines=True)
    assert done.returncode == 0 and '--network' in done.stdout and camera.RECON_SIZE


# ------------------------------------------------------------------------------------------------ committed weights

@pytest.fixture(scope='module')
def committed():
    """(specs, table) of the weights that belong to the project."""
    from perception import experts as perception
    path = os.path.join(config.ROOT, 'human', 'weights', expert_training.TABLE)
    with open(path, encoding='utf-8') as file:
        return perception.load_specs(path), json.load(file)


def test_committed_weights_are_small(committed):
    for spec in committed[0].values():
        for path in glob.glob(spec.weights + '.*'):
            assert os.path.getsize(path) < 2e6, path


def test_committed_weights_fit_the_world(world, committed):
    """On photos drawn now they are about as good as their table says: head, prior and weights belong together."""
    from perception.expert_lessons import LESSONS
    specs, table = committed
    album = _drawn(world.photos, expert_training.HELD_OUT_SEED, 32)
    found = {name: LESSONS[name](world).measure(specs, album) for name in expert_training.NETWORKS}
    for what in ('crop', 'render', 'free photo'):
        key = what + ': landmark error, pixels of 224'
        assert found['recon'][key] < 1.4 * table['accuracy']['recon'][key] + 0.2
    for key in ('hair: intersection over union', 'background: intersection over union'):
        assert found['parser'][key] > table['accuracy']['parser'][key] - 0.06
    same, others = (found['id']['photo / other photo: cosine, ' + who] for who in ('same person', 'others'))
    assert same > others + 0.2
