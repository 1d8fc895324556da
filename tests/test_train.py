"""train.py: options, errors, both stages on small worlds; a run that dies again and again equals one that does not."""

import contextlib
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import types

import numpy as np
import pytest

import config as paths
import train
from dnnlib.util import EasyDict, UserError
from tests.test_distributed import free_ports
from tests.training_lives import FLAT, MINIBATCH, PER_LOOK, Lives, Place, read_stats, write_config
from training import configs, schedule, snapshots
from training.checkpoints import FOLDER as CHECKPOINTS
from training.checkpoints import Checkpoints, newest_facts
from vae.model import Decoders
from worlds import label

WAIT = 400      # seconds for a life to get anywhere, on a machine that does much else


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('training'))


@pytest.fixture(scope='module')
def lives():
    return Lives()


def _main(options):
    """train.py in this process -> (exit code, what it printed)."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = ['train.py'] + options
    try:
        with contextlib.redirect_stdout(printed):
            return train.main(), printed.getvalue()
    finally:
        sys.argv = before


@pytest.fixture(scope='module')
def whole(place, lives):
    """Directory of a run that was never interrupted, and what it printed."""
    printed = _one_life(place, lives, place.options())
    return place.run_dir(0), printed


def _one_life(place, lives, options):
    """train.py in a process of its own, to the end -> what it printed.

    Runs are compared number by number, which the threads of TensorFlow decide; in this process another test did.
    """
    output = os.path.join(place.folder, 'whole.txt')
    process = lives.start(options, output)
    process.join()
    with open(output) as file:
        printed = file.read()
    assert process.exitcode == 0, printed
    return printed


# ---- options

def _resolve(*arguments):
    return train.resolve(train.parse_options(list(arguments)))


def test_defaults_are_the_released_ones(place):
    options = _resolve('--data_dir', place.dataset)
    assert (options.stage, options.noise_dim, options.seed, options.total_kimg) == (1, 32, 1000, 15000)
    assert options.weights == dict(w_id=3, w_lm=500, w_gamma=10, w_skin=20, w_exp_warp=10, w_gamma_change=10)
    assert (options.config.resolution, options.result_dir) == (256, paths.RESULT_DIR)
    assert json.loads(json.dumps(options))['config']['r1_gamma'] == 10


def test_weight_of_landmarks_by_stage_unless_the_user_says(place, tmp_path):
    snapshot = tmp_path / 'network-snapshot-015000.pkl'
    snapshot.write_bytes(b'')
    label.write_model(str(snapshot), 'synthetic')
    second = ['--stage', '2', '--run_id', str(snapshot), '--data_dir', place.dataset]
    found = _resolve(*second)
    assert (found.weights['w_lm'], found.start_kimg, found.total_kimg) == (100, 15000, 20000)
    assert found.snapshot == str(snapshot) and found.world == 'synthetic'
    assert _resolve(*second, '--w_lm', '500').weights['w_lm'] == 500
    assert _resolve(*second, '--kimg', '10').start_kimg == 10
    assert _resolve('--w_lm', '7', '--data_dir', place.dataset).weights['w_lm'] == 7


@pytest.mark.parametrize('devices', [1, 2, 3, 4, 8])
def test_ffhq256_is_the_released_schedule(devices):
    assert configs.schedule_of(configs.load('ffhq256'), devices) == schedule.ffhq256(devices)


@pytest.mark.parametrize('kimg,resolution,lod', [
    (0, 8, 3), (40, 8, 3), (41, 16, 2 + 74 / 75), (115, 16, 2), (190, 16, 2), (191, 32, 1 + 149 / 150), (340, 32, 1),
    (520, 32, 1), (520.1, 64, 1 - 0.1 / 100), (620, 64, 0), (969, 64, 0)])
def test_demo64_grows_as_planned(kimg, resolution, lod):
    config = configs.load('demo64')
    assert (configs.final_kimg(config, 1), configs.final_kimg(config, 2)) == (700, 800)
    for devices, minibatch in ((1, 16), (3, 18), (4, 16)):
        now = schedule.state_at(configs.schedule_of(config, devices), kimg * 1000)
        assert (now.resolution, now.minibatch, now.learning_rate) == (resolution, minibatch, 0.002)
        assert now.lod == pytest.approx(lod, abs=1e-6)


def test_own_configurations(tmp_path):
    path = write_config(str(tmp_path / 'mine.json'), tick_kimg_dict={'8': 2, '16': 3}, base='ffhq256')
    config = configs.load(path)
    assert (config.name, config.tick_kimg_dict, config.r1_gamma) == ('mine', {8: 2, 16: 3}, 10)
    assert configs.from_options(EasyDict(json.loads(json.dumps(config)))) == config


@pytest.mark.parametrize('content,message', [
    ('{', 'cannot be read'), ('[1]', 'holds no table'), ('{"base": "ffhq"}', 'expected one of demo64, ffhq256'),
    ('{"resolutoin": 32}', 'unknown resolutoin'), ('{"resolution": 48}', 'resolution is 48; expected a power of two'),
    ('{"initial_resolution": 512}', 'at most "resolution"'), ('{"tick_kimg": "often"}', "tick_kimg is 'often'"),
    ('{"grid": [3]}', r'grid is \[3\]'), ('{"minibatch": 0}', 'minibatch is 0')])
def test_wrong_configurations_are_refused(tmp_path, content, message):
    path = tmp_path / 'wrong.json'
    path.write_text(content)
    with pytest.raises(UserError, match='wrong.json.*' + message):
        configs.load(str(path))


@pytest.mark.parametrize('arguments,message', [
    (['--config', 'ffhq512'], 'expected demo64 or ffhq256, or a .json file'),
    (['--data_dir', 'no/such/data'], 'no such dataset folder'),
    (['--stage', '2'], 'give --run_id'),
    (['--stage', '2', '--run_id', '77', '--result_dir', 'DATA'], 'run 77: expected a directory'),
    (['--stage', '2', '--run_id', 'DATA/some.pkl'], 'give --kimg'),
    (['--kimg', '5'], 'belong to --stage 2'),
    (['--total_kimg', '0'], 'were shown already'),
    (['--metrics_num', '9'], 'give --metrics, too'),
    (['--metrics', 'none', '--inception', 'a.pb'], 'give --metrics, too'),
    (['--metrics', ''], 'unknown'),
    (['--world', 'real'], '--data_dir is of the synthetic world, --world is of the real world'),
    (['--experts', 'FOREIGN'], '--data_dir is of the synthetic world, --experts is of the real world'),
    (['--experts', 'FOREIGN/experts.json'], '--data_dir is of the synthetic world, --experts is of the real world'),
    (['--vae_weights', 'FOREIGN'], '--data_dir is of the synthetic world, --vae_weights is of the real world'),
    (['--num_gpus', '2', '--cpu_devices', '2'], 'leave one of them out'),
    (['--stage', '2', '--run_id', 'DATA/some.pkl', '--kimg', '5'], '--run_id is of the real world'),
])
def test_options_that_do_not_fit_are_refused(place, tmp_path, arguments, message):
    (tmp_path / 'some.pkl').write_bytes(b'')
    (tmp_path / 'foreign').mkdir()
    (tmp_path / 'foreign' / 'world.json').write_text('{"world": "real"}')
    (tmp_path / 'foreign' / 'experts.json').write_text('{}')
    places = {'DATA': str(tmp_path), 'FOREIGN': str(tmp_path / 'foreign')}
    for name, path in places.items():
        arguments = [x.replace(name, path) for x in arguments]
    with pytest.raises(UserError, match=message):
        _resolve(*(arguments if '--data_dir' in arguments else ['--data_dir', place.dataset] + arguments))


@pytest.mark.parametrize('arguments,message', [
    (['--seed', 'x'], "'x' is not a whole number"), (['--num_gpus', '-1'], 'expected a whole number from 0 on'),
    (['--w_id', 'nan'], 'expected a number from 0 on'), (['--stage', '3'], 'invalid choice'),
    (['--world', 'mars'], 'invalid choice'), (['--total_kimg', '1e9'], 'expected a number from 0 to 1000000'),
    (['--seed', '4294967296'], 'from 0 to 4294967295')])
def test_values_of_the_wrong_kind_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        train.parse_options(arguments)
    error = capsys.readouterr().err
    assert f'argument {arguments[0]}: ' in error and message in error


@pytest.mark.parametrize('options,changes,message', [
    (['--vae_weights', 'EMPTY'], {}, 'VAE weights of 4 factors'),
    (['--experts', 'EMPTY'], {'full_resolution': 16}, 'no table of perception networks'),
    (['--face_model', 'EMPTY'], {}, '01_MorphableModel.mat'),
    ([], {'resolution': 32}, 'finest pictures are 16x16, but 32x32 are needed'),
    (['--num_gpus', '3'], {}, '--num_gpus 3'),
    (['--metrics', 'fid,beauty'], {}, '--metrics beauty: unknown'),
    (['--metrics', 'fid', '--inception', 'nowhere.pb'], {}, '--inception .*/nowhere.pb: not there'),
])
def test_what_is_missing_is_named_before_anything_is_written(place, tmp_path, options, changes, message):
    options = [str(tmp_path) if x == 'EMPTY' else x for x in options]
    results = str(tmp_path / 'results')
    with pytest.raises(UserError, match=message):
        _main(place.options('missing', **changes) + ['--result_dir', results] + options)
    assert not os.path.exists(results)


def test_dry_run_writes_nothing(place, tmp_path):
    options = place.options('dry') + ['--result_dir', str(tmp_path / 'results'), '--cpu_devices', '3', '-n']
    code, printed = _main(options)
    assert code == 0 and not os.listdir(str(tmp_path))
    assert '"w_lm": 500.0' in printed and 'resolution 8, minibatch 6' in printed and 'dry run' in printed


# ---- resuming: options

def test_resume_takes_the_options_of_the_run(place, whole):
    name = os.path.basename(whole[0])
    for run in (whole[0], name, '0', 'latest'):
        options, run_dir = train.resume(train.parse_options(
            ['--resume', run, '--result_dir', place.results, '--w_lm', '8', '--total_kimg', '9']))
        assert run_dir == whole[0]
        assert (options.total_kimg, options.weights['w_lm'], options.weights['w_id'], options.seed) == (9, 8, 3, 1000)
        assert options.config == configs.load(os.path.join(place.folder, 'tiny.json'))


def test_resume_takes_another_configuration(place, whole, capsys):
    slower = write_config(os.path.join(place.folder, 'slower.json'), learning_rate=0.0001)
    options, _ = train.resume(train.parse_options(['--resume', whole[0], '--config', slower]))
    assert options.config == EasyDict(configs.load(os.path.join(place.folder, 'tiny.json')), learning_rate=0.0001)
    assert 'slower.json: learning_rate: 0.002 -> 0.0001\n' in capsys.readouterr().out
    with pytest.raises(UserError, match='a run keeps its "total_kimg"; .*--total_kimg moves the end'):
        train.resume(train.parse_options(
            ['--resume', whole[0], '--config', write_config(os.path.join(place.folder, 'longer.json'), total_kimg=99)]))


def test_the_demo_models_last_configuration():
    slower, _ = configs.replacement(os.path.join(paths.DEMO_DIR, 'slower.json'), configs.load('demo64'))
    assert (slower.learning_rate, slower.average_kimg, slower.name) == (0.0005, 6, 'demo64')


def _run_with(folder, name, checkpoint=True, **options):
    """A run's directory as resuming looks at it."""
    run_dir = os.path.join(str(folder), name)
    os.makedirs(run_dir)
    with open(os.path.join(run_dir, train.OPTIONS_FILE), 'w') as file:
        json.dump(options, file)
    if checkpoint:
        Checkpoints(run_dir).save(1, {}, {})
    return run_dir


def test_latest_is_the_newest_with_a_checkpoint(tmp_path, capsys):
    first = _run_with(tmp_path, '00003-a', checkpoint=False)
    assert train._find_run('latest', str(tmp_path)) == first
    second = _run_with(tmp_path, '00009-a')
    assert train._find_run('latest', str(tmp_path)) == second and capsys.readouterr().out == ''
    third = _run_with(tmp_path, '00010-a', checkpoint=False)
    assert train._find_run('latest', str(tmp_path)) == second and f'{third} has no' in capsys.readouterr().out
    os.makedirs(os.path.join(third, CHECKPOINTS))
    with open(os.path.join(third, CHECKPOINTS, 'checkpoint-000000016.npz'), 'wb') as file:
        file.write(b'half')
    assert train._find_run('latest', str(tmp_path)) == second


def test_resuming_takes_new_paths_of_a_world_and_keeps_to_it(place, tmp_path, monkeypatch):
    world_parts = {'face_model': '/gone', 'experts': '/gone.json', 'vae_weights': '/gone'}
    run_dir = _run_with(tmp_path, '00000-a', data_dir=place.dataset, result_dir=str(tmp_path), weights={}, num_gpus=0,
                        config=configs.load('demo64'), world='synthetic', world_parts=world_parts, cpu_devices=None)
    monkeypatch.chdir(str(tmp_path))
    for name, world in (('face', None), ('other', 'real'), ('data', 'real')):
        os.mkdir(name)
        if world:
            label.write(name, world)

    def resumed(*arguments):
        return train.resume(train.parse_options(['--resume', run_dir] + list(arguments)))[0]
    found = resumed('--face_model', 'face', '--vae_weights', 'face', '--cpu_devices', '3')
    assert found.world_parts == {'face_model': str(tmp_path / 'face'), 'experts': '/gone.json',
                                 'vae_weights': str(tmp_path / 'face')}
    assert (found.num_gpus, found.cpu_devices) == (None, 3)
    os.mkdir(os.path.join(run_dir, 'vae'))
    assert resumed().world_parts['vae_weights'] == os.path.join(run_dir, 'vae')
    for arguments, message in ((('--vae_weights', 'face'), 'the run has its own copy'),
                               (('--experts', 'other/experts.json'), '--experts is of the real world'),
                               (('--face_model', 'other'), 'the run is of the synth.*, --face_model is of the real'),
                               (('--data_dir', 'data'), 'the run is of the synth.*, --data_dir is of the real')):
        with pytest.raises(UserError, match=message):
            resumed(*arguments)


def test_paths_of_a_run_hold_everywhere(place, tmp_path, monkeypatch):
    (tmp_path / 'graph.pb').write_bytes(b'')
    monkeypatch.chdir(str(tmp_path))
    options = _resolve('--data_dir', os.path.relpath(place.dataset), '--result_dir', 'runs', '--metrics', 'fid',
                       '--inception', 'graph.pb')
    assert (options.data_dir, options.result_dir, options.inception) == (
        place.dataset, str(tmp_path / 'runs'), str(tmp_path / 'graph.pb'))


@pytest.mark.parametrize('devices', [['--num_gpus', '0'], ['--num_gpus', '0', '--cpu_devices', '2']])
def test_training_on_cpus_of_a_machine_with_gpus(place, tmp_path, monkeypatch, devices):
    """Layers are built for the devices that are used: TensorFlow 1.15 has no convolution of NCHW on CPUs."""
    from dnnlib.tflib import layers
    from training import distributed, towers

    def stop(*_):
        raise UserError(f'data format {layers.data_format()}')
    monkeypatch.setattr(towers, 'load_context', stop)
    for module in (layers, distributed):
        monkeypatch.setattr(module, 'gpu_names', lambda: ['/device:GPU:0'])
    monkeypatch.delenv('DISCO_DATA_FORMAT', raising=False)
    assert layers.data_format() == 'NCHW'
    with pytest.raises(UserError, match='data format NHWC'):
        _main(place.options('cpus') + ['--result_dir', str(tmp_path)] + devices)


def test_dry_run_checks_the_precision(place, monkeypatch):
    from dnnlib.tflib import layers
    from training import distributed
    for module in (layers, distributed):
        monkeypatch.setattr(module, 'gpu_names', lambda: ['/device:GPU:0'])
    options = place.options('dry') + ['--precision', 'bfloat16', '--dry-run']
    with pytest.raises(UserError, match='--precision bfloat16: for CPUs only'):
        _main(options + ['--num_gpus', '1'])


@pytest.mark.parametrize('arguments,message', [
    (['--resume', 'latest', '--result_dir', 'EMPTY'], 'no run in'),
    (['--resume', 'EMPTY'], 'submit_config.json cannot be read'),
    (['--resume', 'RUN', '--seed', '3', '--noise_dim', '4'], 'leave out --noise_dim, --seed'),
    (['--resume', 'RUN', '--config', 'ffhq256'], 'a run keeps its "data_dir"; expected "demo64", not "ffhq_align"'),
])
def test_resume_refuses(tmp_path, whole, arguments, message):
    arguments = [{'EMPTY': str(tmp_path), 'RUN': whole[0]}.get(x, x) for x in arguments]
    with pytest.raises(UserError, match=message):
        train.resume(train.parse_options(arguments))


def test_one_process_at_a_time(tmp_path):
    with train._alone(str(tmp_path)):
        with pytest.raises(UserError, match='another process is training there'), train._alone(str(tmp_path)):
            pass
    with train._alone(str(tmp_path)):
        assert os.listdir(str(tmp_path)) == []


# ---- one whole life

def test_what_a_run_leaves(whole, place):
    run_dir, printed = whole
    assert os.path.basename(run_dir) == '00000-sgan-tiny-cpu'
    names = set(os.listdir(run_dir))
    assert {'log.txt', 'config.txt', 'submit_config.json', 'submit_config.txt', 'run.txt', 'reals.png', 'stats.jsonl',
            'fakes000000.png', 'network-snapshot-000000.pkl', 'network-final.pkl', 'network-final-world.json',
            '_finished.txt', 'checkpoints', 'vae'} <= names
    assert not [name for name in names if name.startswith('.')]
    with open(os.path.join(run_dir, 'submit_config.json')) as file:
        assert json.load(file)['data_dir'] == place.dataset
    with open(os.path.join(run_dir, 'log.txt')) as file:
        log = file.read()
    lines, seen = [[line for line in text.splitlines() if line.startswith('tick ')] for text in (log, printed)]
    assert [line.split()[1] for line in lines] == [str(i + 1) for i in range(25)] and lines == seen
    assert len(Checkpoints(run_dir).existing()) == 3
    networks = newest_facts(run_dir)['networks']
    assert [entry['name'] for entry in networks] == ['G', 'D', 'Gs'] and networks[0]['static_kwargs']['coeff_scale']
    facts = label.read_model(os.path.join(run_dir, 'network-final.pkl'))
    assert (facts['world'], facts['vae_weights']) == ('synthetic', 'vae') and os.path.isdir(facts['face_model'])
    assert {os.path.basename(path) for path, _, _ in os.walk(os.path.join(run_dir, 'vae'))} == {
        'vae', 'id', 'exp', 'gamma', 'rot'}
    assert label.read(os.path.join(run_dir, 'vae')) == 'synthetic'


def test_growing_and_numbers_of_a_run(whole):
    stats = read_stats(whole[0])
    assert [entry['nimg'] for entry in stats] == list(range(PER_LOOK, 400 + 1, PER_LOOK))
    assert [entry['tick'] for entry in stats] == list(range(1, 26))
    lods = [entry['lod'] for entry in stats]
    assert lods[:6] == [1] * 6 and lods[6] == pytest.approx(0.9) and lods[-1] == 0 and lods == sorted(lods)[::-1]
    assert {entry['minibatch'] for entry in stats} == {MINIBATCH}
    for name in ('Loss/G', 'Loss/D', 'Loss/l1_loss', 'Loss/scores/real', 'Loss/scores/fake', 'Loss/r1_penalty'):
        assert all(np.isfinite(entry[name]) for entry in stats), name
    assert {entry['TrainG/overflow_frequency'] + entry['TrainD/overflow_frequency'] for entry in stats} == {0.0}


def test_generator_follows_its_renders(whole):
    """L1 to the render is what 100 steps can learn."""
    losses = [entry['Loss/l1_loss'] for entry in read_stats(whole[0])]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_snapshots_are_measured(place):
    """Two snapshots: what is told of them, and where."""
    from dnnlib.tflib.compat import tf
    options = place.options('measured', total_kimg=2 * PER_LOOK / 1000, **FLAT)
    results = os.path.join(place.folder, 'measured')
    code, printed = _main(options + ['--result_dir', results, '--metrics', 'slope,fid', '--metrics_num', '8'])
    run_dir = os.path.join(results, '00000-sgan-measured-cpu')
    assert code == 0
    with open(os.path.join(run_dir, 'metrics.jsonl')) as file:
        found = [json.loads(line) for line in file]
    assert sorted({(entry['nimg'], entry['metric']) for entry in found}) == [
        (PER_LOOK, 'fid'), (PER_LOOK, 'slope'), (2 * PER_LOOK, 'fid'), (2 * PER_LOOK, 'slope')]
    assert all(np.isfinite(entry['value']) for entry in found)
    for name, words in (('metric-fid8.txt', ['fid8']), ('metric-slope.txt', ['identity', 'expression', 'pose'])):
        with open(os.path.join(run_dir, name)) as file:
            lines = file.read().splitlines()
        assert len(lines) == 2 and all(line in printed for line in lines)
        assert all(word in line for word in words for line in lines)
    tags = {value.tag for name in os.listdir(run_dir) if name.startswith('events')
            for event in tf.train.summary_iterator(os.path.join(run_dir, name)) for value in event.summary.value}
    assert {'Metrics/fid8', 'Metrics/slope/lighting'} <= tags


# ---- many lives

def _wait(process, output, until):
    """Until something is true; an error when the process ends before. False when it ended in peace."""
    end = time.monotonic() + WAIT
    while not until():
        process.join(0.02)
        if process.exitcode is not None:
            with open(output) as file:
                assert process.exitcode == 0, file.read()
            return False
        assert time.monotonic() < end, f'nothing happened for {WAIT} s; see {output}'
    return True


def _newest(run_dir):
    """Images of the newest checkpoint's name; without the tidying that a Checkpoints does when it is made."""
    folder = os.path.join(run_dir, CHECKPOINTS)
    names = [name for name in os.listdir(folder) if name.endswith('.npz')] if os.path.isdir(folder) else []
    return max([int(name[len('checkpoint-'):-len('.npz')]) for name in names] or [0])


class Chain:
    """A run that lives many times, in a results folder of its own."""

    def __init__(self, place, lives, name, options):
        self.lives, self.results = lives, os.path.join(place.folder, name)
        self.output = os.path.join(place.folder, name + '.txt')
        self.options = options + ['--result_dir', self.results]
        self.process = None

    @property
    def run_dir(self):
        names = os.listdir(self.results) if os.path.isdir(self.results) else []
        return os.path.join(self.results, names[0]) if names else self.results

    def start(self):
        """The first life, or one more; False when it ended before it wrote a new checkpoint."""
        there = _newest(self.run_dir)
        again = ['--resume', 'latest', '--result_dir', self.results]
        self.process = self.lives.start(again if there else self.options, self.output)
        return _wait(self.process, self.output, lambda: _newest(self.run_dir) > there)

    def end(self, number, after=0.0):
        """Send a signal after a while -> exit code."""
        time.sleep(after)
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)
        self.process.join()
        return self.process.exitcode

    def check(self, before):
        """After a death: the newest checkpoint loads, at most one interval is lost. Returns its images."""
        shown = [entry['nimg'] for entry in read_stats(self.run_dir)]
        nimg = Checkpoints(self.run_dir).load_newest().facts['nimg']
        assert nimg > before and nimg >= shown[-1] - PER_LOOK
        return nimg

    def kill(self, times, seed):
        """So many lives, each killed at a random moment after its first checkpoint."""
        chance, nimg = random.Random(seed), 0
        for _ in range(times):
            assert self.start(), 'the run ended too soon to be killed'
            assert self.end(signal.SIGKILL, chance.uniform(0, 0.4)) == -signal.SIGKILL
            nimg = self.check(nimg)


def _same_losses(one, other):
    """Entries of stats.jsonl of the same images have the same losses; `other` may end earlier."""
    assert [entry['nimg'] for entry in one[:len(other)]] == [entry['nimg'] for entry in other]
    for a, b in zip(one, other):
        names = [name for name in a if name.startswith('Loss/')]
        assert len(names) >= 6
        np.testing.assert_allclose([a[name] for name in names], [b[name] for name in names], rtol=1e-4, atol=1e-4)


def test_killed_lives_equal_one(place, lives, whole):
    chain = Chain(place, lives, 'chain', place.options())
    chain.kill(5, seed=2)
    assert chain.start(), 'the run ended too soon to be aborted'
    with open(os.path.join(chain.run_dir, 'abort.txt'), 'w'):
        pass
    chain.process.join()
    assert chain.process.exitcode == 0
    assert {'_finished.txt', 'network-final.pkl'} <= set(os.listdir(chain.run_dir))
    assert not [name for name in os.listdir(chain.run_dir) if name.startswith('.')]
    _same_losses(read_stats(whole[0]), read_stats(chain.run_dir))
    with pytest.raises(UserError, match='abort.txt first'):
        train.resume(train.parse_options(['--resume', chain.run_dir]))


# ---- stage 2, several devices, SIGTERM

@pytest.fixture(scope='module')
def flat_snapshot(place):
    """A snapshot of untrained networks that do not grow."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from training import towers
    config = configs.load(place.options('flat', **FLAT)[1])
    path = os.path.join(place.folder, 'network-snapshot-000000.pkl')
    with tf.Graph().as_default(), tfutil.create_session(threads=2):
        context = types.SimpleNamespace(noise_dim=32, decoders=Decoders(os.path.join(paths.DEMO_DIR, 'vae')))
        nets = towers.build_networks(['/device:CPU:0'], config, 3, context)
        snapshots.save_networks(nets.copies[0] + (nets.Gs,), path)
    label.write_model(path, 'synthetic')
    return path


def _stage_2(place, snapshot, devices):
    return place.options('flat2', full_resolution=16, stage2_kimg=50, **FLAT) + [
        '--stage', '2', '--run_id', snapshot, '--cpu_devices', str(devices)]


def test_stage_2_on_two_devices_until_sigterm(place, lives, flat_snapshot):
    chain = Chain(place, lives, 'stage2', _stage_2(place, flat_snapshot, 2))
    assert chain.start(), 'it ended by itself'
    assert chain.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert os.path.basename(chain.run_dir) == '00000-sgan-flat2-cpu-stage2'
    assert 'network-final.pkl' not in os.listdir(chain.run_dir) and '_finished.txt' not in os.listdir(chain.run_dir)
    entries = read_stats(chain.run_dir)
    assert chain.check(0) == entries[-1]['nimg']                        # nothing is lost
    with open(os.path.join(chain.run_dir, 'log.txt')) as file:
        assert f'stopped; go on with: python train.py --resume {chain.run_dir}' in file.read()
    names = {'Loss/' + name for name in (
        'G', 'D', 'scores/real', 'scores/fake', 'r1_penalty', 'l1_loss', 'skin_loss', 'lm_loss', 'gamma_loss',
        'id_loss', 'Exp_warp_loss', 'Hair_region_loss', 'ID_consistent_loss', 'Lm_consistent_loss')}
    assert {name for name in entries[0] if name.startswith('Loss/')} == names
    assert all(np.isfinite(entries[0][name]) for name in names)
    assert (entries[0]['nimg'], entries[0]['lod']) == (PER_LOOK, 0)


@pytest.mark.slow
def test_stage_2_goes_on_without_its_snapshot(place, lives, flat_snapshot):
    snapshot = os.path.join(place.folder, 'network-snapshot-000001.pkl')
    shutil.copy(flat_snapshot, snapshot)
    label.write_model(snapshot, 'synthetic')
    chain = Chain(place, lives, 'alone', _stage_2(place, snapshot, 1))
    nimg = 0
    for _ in range(2):
        assert chain.start(), 'it ended by itself'
        assert chain.end(signal.SIGTERM) == 128 + signal.SIGTERM
        nimg = chain.check(nimg)
        if os.path.exists(snapshot):
            os.remove(snapshot)
    assert [entry['nimg'] for entry in read_stats(chain.run_dir)] == list(range(1000 + PER_LOOK, nimg + 1, PER_LOOK))


@pytest.mark.parametrize('options,changes,message', [
    (['--noise_dim', '5'], {}, 'its noise vector has 32 numbers, not 5; give --noise_dim 32'),
    ([], dict(resolution=8, initial_resolution=8), '16 pixels and 3 channels, but 8 and 3 are wanted'),
    (['--run_id', 'BROKEN'], {}, 'broken.pkl: '),
])
def test_a_snapshot_that_does_not_fit_is_refused_before_anything_is_written(
        place, tmp_path, flat_snapshot, options, changes, message):
    broken, results = str(tmp_path / 'broken.pkl'), str(tmp_path / 'results')
    with open(flat_snapshot, 'rb') as file, open(broken, 'wb') as other:
        other.write(file.read()[:5000])
    label.write_model(broken, 'synthetic')
    options = [broken if x == 'BROKEN' else x for x in options]
    for last in ([], ['--dry-run']):
        with pytest.raises(UserError, match=message):
            _main(place.options('misfit', **dict(FLAT, **changes)) + [
                '--stage', '2', '--run_id', flat_snapshot, '--kimg', '0', '--result_dir', results] + options + last)
    assert not os.path.exists(results)


def test_networks_are_described_to_be_built_again(tf_session, flat_snapshot):
    from training import towers
    nets = [snapshots.load_networks(flat_snapshot)]
    described = json.loads(json.dumps(snapshots.describe_networks(nets[0])))
    nets.append(snapshots.build_networks(described, 'here'))
    for one, other in zip(*nets):
        assert [(name, v.shape) for name, v in one.vars.items()] == [(name, v.shape) for name, v in other.vars.items()]
        assert (one.static_kwargs, one.build_func_name) == (other.static_kwargs, other.build_func_name)
    assert 'coeff_scale' not in described[0]['components']['synthesis']['static_kwargs']
    del described[1]['static_kwargs']
    with pytest.raises(UserError, match='here: its description of the networks is damaged'):
        snapshots.build_networks(described, 'here')
    with pytest.raises(UserError, match='16 pixels and 3 channels, but 16 and 1 are wanted'):
        towers.check_snapshot(flat_snapshot, 16, 1, 32)


def test_a_run_of_stage_2_that_holds_its_networks_needs_no_snapshot(place, tmp_path, tf_session, flat_snapshot):
    from training import towers
    options = _resolve(*_stage_2(place, flat_snapshot, 1))
    options.snapshot = str(tmp_path / 'gone.pkl')
    described = snapshots.describe_networks(snapshots.load_networks(flat_snapshot))
    for nimg, facts in enumerate((None, {}, {'networks': None})):       # a run of an earlier version
        if facts is not None:
            Checkpoints(str(tmp_path)).save(nimg, {}, facts)
        with pytest.raises(UserError, match='gone.pkl: no such file'):
            train.check_files(options, str(tmp_path))
    Checkpoints(str(tmp_path)).save(9, {}, {'networks': described})
    train.check_files(options, str(tmp_path))
    context = types.SimpleNamespace(noise_dim=32, resolution=16)
    nets = towers.build_networks(['/device:CPU:0'], options.config, 3, context, options.snapshot, described=described)
    assert towers.describe(nets) == described


# ---- several hosts

def _pair(place, lives, options):
    """Two processes on this machine that train together, to their end -> what the worker printed."""
    ports = free_ports(3)
    cluster = {'chief': [f'127.0.0.1:{ports[0]}'], 'worker': [f'127.0.0.1:{ports[1]}']}
    outputs = [os.path.join(place.folder, f'{job}-{ports[0]}.txt') for job in cluster]
    processes = [lives.start(options, output, DISCO_HEARTBEAT_PORT=str(ports[2]), TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': job, 'index': 0}})) for job, output in zip(cluster, outputs)]
    texts = []
    for process, output in zip(processes, outputs):
        process.join()
        with open(output) as file:
            texts.append(file.read())
    assert [process.exitcode for process in processes] == [0, 0], texts
    return texts[1]


def test_two_processes_train_together(place, lives):
    results = os.path.join(place.folder, 'pair')
    options = place.options('pair', total_kimg=2 * PER_LOOK / 1000, **FLAT) + ['--result_dir', results]
    worker = _pair(place, lives, options)
    assert 'tick 1 ' not in worker and 'run directory' not in worker
    assert os.listdir(results) == ['00000-sgan-pair-cpu']               # only the chief writes
    entries = read_stats(os.path.join(results, '00000-sgan-pair-cpu'))
    assert [entry['nimg'] for entry in entries] == [PER_LOOK, 2 * PER_LOOK]


@pytest.mark.slow
def test_two_processes_resume(place, lives):
    """Three looks at once, and two plus one after a new start of both processes: the same losses."""
    found = []
    for name, lengths in (('together', (3,)), ('apart', (2, 3))):
        results = os.path.join(place.folder, name)
        for i, length in enumerate(lengths):
            end = ['--total_kimg', str(length * PER_LOOK / 1000), '--result_dir', results]
            _pair(place, lives, (['--resume', 'latest'] if i else place.options('pair', **FLAT)) + end)
        found.append(read_stats(os.path.join(results, '00000-sgan-pair-cpu')))
    assert len(found[0]) == 3
    _same_losses(*found)


# ---- soak

@pytest.mark.slow
def test_fifty_kills(place, lives):
    """As in the short test, but 50 times, and to the end."""
    options = place.options('long', total_kimg=50 * 8 * PER_LOOK / 1000)
    _one_life(place, lives, options)
    chain = Chain(place, lives, 'fifty', options)
    chain.kill(50, seed=3)
    chain.start()
    chain.process.join()
    assert chain.process.exitcode == 0
    whole = next(name for name in os.listdir(place.results) if '-long-' in name)
    _same_losses(read_stats(os.path.join(place.results, whole)), read_stats(chain.run_dir))


@pytest.mark.slow
def test_memory_stays(place, monkeypatch):
    """Resident memory at step 2500 within 1% of step 500."""
    from training import telemetry
    sizes = {}

    def remember(self, nimg, terms):
        step = nimg // MINIBATCH
        if step in (500, 2500):
            gc.collect()
            with open('/proc/self/statm') as file:
                sizes[step] = int(file.read().split()[1]) * resource.getpagesize()
        return original(self, nimg, terms)
    original = telemetry.Telemetry.step
    monkeypatch.setattr(telemetry.Telemetry, 'step', remember)
    options = place.options('memory', total_kimg=2510 * MINIBATCH / 1000, tick_kimg=1, **FLAT)
    assert _main(options + ['--checkpoint_minutes', '0.1'])[0] == 0
    print(f'resident memory: {sizes}')
    assert abs(sizes[2500] / sizes[500] - 1) < 0.01


# ---- what goes wrong on the way

def test_gradients_that_are_never_finite_end_the_run(tf_session):
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.optimizer import Optimizer
    from training import towers
    weight, slope = tf.Variable([1.0, 2.0]), tf.placeholder(tf.float32, [])
    optimizer = Optimizer('TrainG', 0.1)
    optimizer.register(tf.reduce_sum(weight * slope), {'weight': weight})
    op = optimizer.apply()
    with tf.control_dependencies([op]):
        step = towers.Step('TrainG', op, {'Loss/G': tf.reduce_sum(weight)}, optimizer.overflow_streak.read_value())
    tf_session.run(tf.global_variables_initializer())
    for x in [np.inf, np.nan] * 30 + [1.0] + [np.nan] * (towers.MOST_LEFT_OUT - 1):
        values = towers.run_step(step, {slope: x})
        assert values['TrainG/overflow_frequency'] == float(not np.isfinite(x))
    with pytest.raises(UserError, match='last 100 gradients of TrainG were not finite'):
        towers.run_step(step, {slope: np.nan})


def test_errors_of_tensorflow_are_explained():
    from dnnlib.tflib.compat import tf
    from training import training_loop
    dataset = types.SimpleNamespace(explain=lambda error: UserError('d-r04.tfrecords: record 2 has a wrong checksum'))
    with pytest.raises(UserError, match='record 2'), training_loop._explained_by(dataset):
        raise tf.errors.DataLossError(None, None, 'corrupted record at 2000')
    with pytest.raises(UserError, match='out of memory'), training_loop._explained_by(dataset):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')


@pytest.mark.parametrize('error,reason', [
    (ValueError('a\nb'), 'ValueError: a'), (np.linalg.LinAlgError('did not converge'), 'LinAlgError: did not converge'),
    (MemoryError(), 'MemoryError: no further words'), (UserError('a.pkl: damaged'), 'a.pkl: damaged')])
def test_a_failed_measurement_does_not_end_the_training(tmp_path, monkeypatch, error, reason):
    from metrics import evaluation
    from training.archive import Archive
    said = []

    def fail(*_):
        raise error
    monkeypatch.setattr(evaluation.metric_base, 'measure', fail)
    measure = evaluation.Evaluation(str(tmp_path), None, 'fid', 8, None, None, {}).measure
    archive = types.SimpleNamespace(telemetry=types.SimpleNamespace(say=said.append))
    assert Archive._try(archive, measure, 'a.pkl', 16, must=False) is False
    assert len(said) == 1 and reason in said[0] and 'training goes on' in said[0] and '\n' not in said[0]


def test_what_cannot_be_written_ends_the_run_only_at_the_end():
    from training.archive import Archive
    said = []
    archive = types.SimpleNamespace(telemetry=types.SimpleNamespace(say=said.append))

    def full(path):
        raise UserError(f'{path}: could not be written (No space left on device)')
    assert Archive._try(archive, full, 'a.pkl', must=False) is False
    assert said == ['warning: a.pkl: could not be written (No space left on device); training goes on']
    with pytest.raises(UserError, match='No space'):
        Archive._try(archive, full, 'a.pkl', must=True)
    assert Archive._try(archive, said.append, 'b', must=True) is True


def test_unit_scale_leaves_residue_small():
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from training import towers
    with tf.Graph().as_default(), tfutil.create_session(threads=2):
        decoders = Decoders(os.path.join(paths.DEMO_DIR, 'vae'))
        scale = np.array(towers.unit_scale(decoders, 5))
        spread = decoders.run(np.random.RandomState(3).standard_normal([2000, 179])).std(axis=0)
    assert scale.shape == (259,) and (scale[254:] == 1).all()
    scaled = spread * scale[:254]
    assert (scaled < 1.1).all() and scaled[[225, 227]].min() > 0.8          # yaw, brightness
    unused = spread[160:224] < 0.1                                          # of 64 expressions 8 are in use
    assert 50 <= unused.sum() <= 56 and scaled[160:224][unused].max() < 0.1
