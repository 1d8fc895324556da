"""The human world's experts: lessons, training that can be resumed, the command, the weights that are committed.
"""

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
from human import expert_photos, experts
from renderer import camera, factors
from tests.common import assert_close

SEED = 5


@pytest.fixture(scope='module')
def album():
    """Sixteen photos of four people."""
    studio = expert_photos.Studio()
    yield expert_photos.joined([studio.draw(SEED, 0, 8), studio.draw(SEED, 8, 8)])
    studio.close()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(expert_photos, 'PART', 8)


# ------------------------------------------------------------------------------------------------ lessons

def _options(**changes):
    return SimpleNamespace(**dict(dict(size=16, width=8, batch=4, seed=0, kimg=0.032, minutes=None, rate=1e-3,
                                       threads=1, save_minutes=9.0, precision='float32'), **changes))


@pytest.mark.parametrize('name', experts.NETWORKS)
def test_lessons_learn(album, name, tf_session):
    """On one batch the loss falls well below where it starts."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from human.expert_lessons import LESSONS
    tf.set_random_seed(1)
    lesson = LESSONS[name]()
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


def test_batches_depend_on_the_random_state_alone(album):
    from human.expert_lessons import LESSONS
    for name in experts.NETWORKS:
        lesson = LESSONS[name]()
        one, same, other = (lesson.batch(album, np.random.RandomState(s), _options()) for s in (3, 3, 4))
        assert all((a == b).all() for a, b in zip(one, same))
        assert any((a != b).any() for a, b in zip(one, other))


def test_parser_shares_sum_to_one(album):
    from human.expert_lessons import LESSONS
    _, shares = LESSONS['parser']().batch(album, np.random.RandomState(0), _options(size=32))
    assert_close(shares.sum(axis=3), np.ones(shares.shape[:3]), atol=1e-5)
    assert shares.min() >= 0 and (shares.mean(axis=(0, 1, 2)) > 0.03).all()


def test_interrupted_training_goes_on_exactly(album, tmp_path, monkeypatch):
    """Stopped half way and started again, the trained numbers are the same."""
    from human.expert_lessons import LESSONS
    whole, kimg = experts.train(LESSONS['recon'](), album, _options(), str(tmp_path / 'whole' / 'state'))

    lesson, real, calls = LESSONS['recon'](), LESSONS['recon'].feed, []

    def feed(self, batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, batch)
    state = str(tmp_path / 'half' / 'state')
    monkeypatch.setattr(LESSONS['recon'], 'feed', feed)
    with pytest.raises(KeyboardInterrupt):
        experts.train(lesson, album, _options(save_minutes=1e-9), state)
    half, _ = experts.train(LESSONS['recon'](), album, _options(), state)
    assert len(calls) == 4 + 8 - 3                              # of eight steps three were saved
    assert kimg == 0.032
    for name, array in whole.items():
        assert_close(half[name], array, atol=1e-6)


def test_training_is_done_by_steps_or_by_time():
    assert experts.progress(25, 0, 100) == 0.25
    assert experts.progress(25, 20, 100, minutes=10, passed=5) == pytest.approx(0.6)
    assert experts.progress(25, 20, 100, minutes=10, passed=0.1) == 0.25
    assert experts.progress(25, 20, 100, minutes=10, passed=99) == 1


def test_verification():
    from human.expert_lessons import verification
    unit = np.eye(8)
    found = dict(verification(unit, unit))
    assert found['accuracy'] == 1 and found['cosine, same person'] == 1 and found['cosine, others'] == 0
    mixed = dict(verification(unit, unit[::-1]))
    assert mixed['found first among all'] == 0 and mixed['accuracy'] < 0.6


# ------------------------------------------------------------------------------------------------ the command

def test_command_writes_weights_and_a_table(tmp_path, small_parts):
    from dnnlib.tflib import checkpoints
    from perception import experts as perception
    output, kept = str(tmp_path / 'out'), str(tmp_path / 'work')
    for name in ('recon', 'parser'):
        options = experts.parse_options(['--output', output, '--work', kept, '--photos', '256', '--held_out', '64',
                                         '--kimg', '0.016', '--size', '16', '--width', '4', '--batch', '8'])
        options.photos, options.held_out = 16, 8
        accuracy = experts.run(options, name)
        assert all(np.isfinite(value) for value in accuracy.values())
    specs = perception.load_specs(os.path.join(output, experts.TABLE))
    assert sorted(specs) == ['parser', 'recon']
    perception.check_weights(specs, specs)
    arrays = checkpoints.read(specs['recon'].weights)
    assert arrays['small_recon/dense/kernel'].dtype == np.float16
    assert arrays['small_recon/output/mean'].dtype == np.float32
    assert (arrays['small_recon/output/std'][:10] > 0.2).all()
    assert arrays['small_recon/output/std'][factors.TEXTURE][-1] == 0
    with open(os.path.join(output, experts.TABLE), encoding='utf-8') as file:
        table = json.load(file)
    assert table['accuracy']['parser'] == accuracy and table['made']['recon']['kimg'] == 0.016


@pytest.mark.parametrize('arguments, message', [
    (['--network', 'hair'], 'invalid choice'), (['--size', '50'], 'argument --size'), (['--kimg', '0'], '--kimg 0'),
    (['--width', '5'], '--width 5'), (['--seed', '-1'], '--seed -1'), (['--photos', '3'], '--photos')])
def test_wrong_options_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        experts.parse_options(arguments)
    assert message in capsys.readouterr().err


def test_a_broken_table_is_not_overwritten(tmp_path):
    path = tmp_path / experts.TABLE
    path.write_text('[]')
    with pytest.raises(UserError, match='a table'):
        experts.write_table(str(tmp_path), 'id', {}, {}, {})
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
    path = os.path.join(experts.WEIGHTS_DIR, experts.TABLE)
    with open(path, encoding='utf-8') as file:
        return perception.load_specs(path), json.load(file)


def test_committed_weights_are_small(committed):
    for spec in committed[0].values():
        for path in glob.glob(spec.weights + '.*'):
            assert os.path.getsize(path) < 2e6, path


def test_committed_weights_fit_the_world(committed):
    """On photos drawn now they are about as good as their table says: head, prior and weights belong together."""
    from human.expert_lessons import LESSONS
    specs, table = committed
    studio = expert_photos.Studio()
    album = studio.draw(experts.HELD_OUT_SEED, 0, 32)
    studio.close()
    found = {name: LESSONS[name]().measure(specs, album) for name in experts.NETWORKS}
    for what in ('crop', 'render', 'free photo'):
        key = what + ': landmark error, pixels of 224'
        assert found['recon'][key] < 1.4 * table['accuracy']['recon'][key] + 0.2
    key = 'hair: intersection over union'
    assert found['parser'][key] > table['accuracy']['parser'][key] - 0.06
    same, others = (found['id']['photo / other photo: cosine, ' + who] for who in ('same person', 'others'))
    assert same > others + 0.2
