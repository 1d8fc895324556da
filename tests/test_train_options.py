"""train.py's options: defaults, what is refused, and how --resume takes up those of a run."""

import json
import os

import pytest

import config as paths
import train
from dnnlib.util import EasyDict, UserError
from tests.training_lives import Place, train_here, write_config
from training import configs, schedule
from training.checkpoints import FOLDER as CHECKPOINTS
from training.checkpoints import Checkpoints
from worlds import label


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('training'))


@pytest.fixture(scope='module')
def begun(place):
    """Directory of a run that has its options and a checkpoint."""
    options = _resolve(*place.options())
    return _run_with(place.results, '00000-sgan-tiny-cpu', **options)


# ---- options

def _resolve(*arguments):
    return train.resolve(train.parse_options(list(arguments)))


def test_defaults_are_the_released_ones(place):
    options = _resolve('--data_dir', place.dataset)
    assert (options.stage, options.noise_dim, options.seed, options.total_kimg) == (1, 32, 1000, 15000)
    paper = dict(w_id=3, w_lm=500, w_gamma=10, w_skin=20, w_exp_warp=10, w_gamma_change=10)
    assert options.weights == dict(dict.fromkeys(train.WEIGHTS, 0), **paper)
    assert (options.config.resolution, options.result_dir) == (256, paths.RESULT_DIR)
    assert json.loads(json.dumps(options))['config']['r1_gamma'] == 10


def test_weight_of_landmarks_by_stage_unless_the_user_says(place, tmp_path):
    snapshot = tmp_path / 'network-snapshot-015000.pkl'
    snapshot.write_bytes(b'')
    label.write_model(str(snapshot), 'human')
    second = ['--stage', '2', '--run_id', str(snapshot), '--data_dir', place.dataset]
    found = _resolve(*second)
    assert (found.weights['w_lm'], found.start_kimg, found.total_kimg) == (100, 15000, 20000)
    assert found.snapshot == str(snapshot) and found.world == 'human'
    assert _resolve(*second, '--w_lm', '500').weights['w_lm'] == 500
    assert _resolve(*second, '--kimg', '10').start_kimg == 10
    assert _resolve('--w_lm', '7', '--data_dir', place.dataset).weights['w_lm'] == 7


@pytest.mark.parametrize('kimg,resolution,lod', [
    (0, 8, 3), (40, 8, 3), (41, 16, 2 + 39 / 40), (80, 16, 2), (140, 16, 2), (141, 32, 1 + 59 / 60), (200, 32, 1),
    (290, 32, 1), (290.1, 64, 1 - 0.1 / 60), (350, 64, 0), (969, 64, 0)])
def test_demo64_grows_as_planned(kimg, resolution, lod):
    config = configs.load('demo64')
    assert (configs.final_kimg(config, 1), configs.final_kimg(config, 2)) == (700, 800)
    for devices, minibatch in ((1, 16), (3, 18), (4, 16)):
        now = schedule.state_at(configs.schedule_of(config, devices), kimg * 1000)
        assert (now.resolution, now.minibatch, now.learning_rate) == (resolution, minibatch, 0.002)
        assert now.lod == pytest.approx(lod, abs=1e-6)


def test_demo128_is_at_128_pixels_for_most_of_its_time():
    config = configs.load('demo128')
    assert (configs.final_kimg(config, 1), configs.final_kimg(config, 2)) == (700, 800)
    plan = configs.schedule_of(config, 1)
    states = [schedule.state_at(plan, 1000 * kimg) for kimg in range(1, 701)]
    kimg = {size: sum(state.resolution == size for state in states) for size in (8, 16, 32, 64, 128)}
    assert kimg == {8: 40, 16: 100, 32: 150, 64: 160, 128: 250}
    assert max(config.transition_kimg.values()) <= 100 and {state.minibatch for state in states} == {16}
    assert [state.lod == 0 for state in states].index(True) == 509


def test_weights_of_a_configuration_come_before_the_defaults_and_after_the_users(place, begun, tmp_path, capsys):
    path = write_config(str(tmp_path / 'heavy.json'), stage1_weights={'w_lm': 2000, 'w_id': 4})
    weights = _resolve('--config', path, '--data_dir', place.dataset, '--w_id', '5').weights
    assert weights == dict(train.resolve(train.parse_options(['--data_dir', place.dataset])).weights, w_id=5, w_lm=2000)
    resume = ['--resume', begun, '--config', path]
    assert train.resume(train.parse_options(resume))[0].weights == dict(weights, w_id=4)
    assert 'stage1_weights: {} -> {"w_lm": 2000, "w_id": 4}' in capsys.readouterr().out
    assert train.resume(train.parse_options(resume + ['--w_lm', '9']))[0].weights['w_lm'] == 9
    options = _resolve('--config', path, '--data_dir', place.dataset, '--w_id', '5')
    run_dir = _run_with(tmp_path, '00000-heavy', **options)
    resumed = train.resume(train.parse_options(['--resume', run_dir, '--config', path]))[0]
    assert resumed.weights == weights                   # what the configuration says no other stays the user's


def test_weights_are_flags():
    assert configs.config_rules.LOSS_WEIGHTS == train.WEIGHTS


def test_own_configurations(tmp_path):
    path = write_config(str(tmp_path / 'mine.json'), tick_kimg_dict={'8': 2, '16': 3}, base='ffhq256')
    config = configs.load(path)
    assert (config.name, config.tick_kimg_dict, config.r1_gamma) == ('mine', {8: 2, 16: 3}, 10)
    assert configs.from_options(EasyDict(json.loads(json.dumps(config)))) == config


@pytest.mark.parametrize('content,message', [
    ('{', 'not readable JSON'), ('[1]', 'holds no table'),
    ('{"base": "ffhq"}', 'expected one of demo128, demo64, ffhq256'),
    ('{"resolutoin": 32}', 'unknown resolutoin'), ('{"resolution": 48}', 'resolution is 48; expected a power of two'),
    ('{"initial_resolution": 512}', 'at most "resolution"'), ('{"tick_kimg": "often"}', "tick_kimg is 'often'"),
    ('{"grid": [3]}', r'grid is \[3\]'), ('{"minibatch": 0}', 'minibatch is 0')])
def test_wrong_configurations_are_refused(tmp_path, content, message):
    path = tmp_path / 'wrong.json'
    path.write_text(content)
    with pytest.raises(UserError, match='wrong.json.*' + message):
        configs.load(str(path))


@pytest.mark.parametrize('arguments,message', [
    (['--config', 'ffhq512'], 'expected demo128 or demo64 or ffhq256, or a .json file'),
    (['--data_dir', 'no/such/data'], 'no such dataset folder'),
    (['--stage', '2'], 'give --run_id'),
    (['--stage', '2', '--run_id', '77', '--result_dir', 'DATA'], 'run 77: expected a directory'),
    (['--stage', '2', '--run_id', 'DATA/some.pkl'], 'give --kimg'),
    (['--kimg', '5'], 'belong to --stage 2'),
    (['--total_kimg', '0'], 'were shown already'),
    (['--metrics_num', '9'], 'give --metrics, too'),
    (['--metrics', 'none', '--inception', 'a.pb'], 'give --metrics, too'),
    (['--metrics', ''], 'unknown'),
    (['--world', 'real'], '--data_dir is of the human world, --world is of the real world'),
    (['--experts', 'FOREIGN'], '--data_dir is of the human world, --experts is of the real world'),
    (['--experts', 'FOREIGN/experts.json'], '--data_dir is of the human world, --experts is of the real world'),
    (['--vae_weights', 'FOREIGN'], '--data_dir is of the human world, --vae_weights is of the real world'),
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
    with pytest.raises(UserError) as caught:
        train.parse_options(arguments)
    assert str(caught.value).startswith(f'argument {arguments[0]}: ') and message in str(caught.value)
    assert '\n' not in str(caught.value) and capsys.readouterr() == ('', '')


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
        train_here(place.options('missing', **changes) + ['--result_dir', results] + options)
    assert not os.path.exists(results)


def test_a_missing_compiler_is_named_before_anything_is_written(place, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(UserError, match='CXX=no-such-compiler'):
        train_here(place.options('missing') + ['--result_dir', str(tmp_path / 'results'), '--num_gpus', '0'])
    assert not os.listdir(str(tmp_path))


def test_dry_run_writes_nothing(place, tmp_path):
    options = place.options('dry') + ['--result_dir', str(tmp_path / 'results'), '--cpu_devices', '3', '-n']
    code, printed = train_here(options)
    assert code == 0 and not os.listdir(str(tmp_path))
    assert '"w_lm": 500.0' in printed and 'resolution 8, minibatch 6' in printed and 'dry run' in printed


# ---- resuming: options

def test_resume_takes_the_options_of_the_run(place, begun):
    name = os.path.basename(begun)
    for run in (begun, name, '0', 'latest'):
        options, run_dir = train.resume(train.parse_options(
            ['--resume', run, '--result_dir', place.results, '--w_lm', '8', '--total_kimg', '9']))
        assert run_dir == begun
        assert (options.total_kimg, options.weights['w_lm'], options.weights['w_id'], options.seed) == (9, 8, 3, 1000)
        assert options.config == configs.load(os.path.join(place.folder, 'tiny.json'))


def test_resume_takes_another_configuration(place, begun, capsys):
    slower = write_config(os.path.join(place.folder, 'slower.json'), learning_rate=0.0001)
    options, _ = train.resume(train.parse_options(['--resume', begun, '--config', slower]))
    assert options.config == EasyDict(configs.load(os.path.join(place.folder, 'tiny.json')), learning_rate=0.0001)
    assert 'slower.json: learning_rate: 0.002 -> 0.0001\n' in capsys.readouterr().out
    with pytest.raises(UserError, match='a run keeps its "total_kimg"; .*--total_kimg moves the end'):
        train.resume(train.parse_options(
            ['--resume', begun, '--config', write_config(os.path.join(place.folder, 'longer.json'), total_kimg=99)]))


def _run_with(folder, name, checkpoint=True, **options):
    """A run's directory as resuming looks at it."""
    run_dir = os.path.join(str(folder), name)
    os.makedirs(run_dir)
    with open(os.path.join(run_dir, train.OPTIONS_FILE), 'w') as file:
        json.dump(options, file)
    if checkpoint:
        Checkpoints(run_dir).save(1, {}, {})
    return run_dir


def test_a_run_without_a_checkpoint_is_said_to_begin_anew(place, tmp_path, capsys):
    for name, checkpoint in (('00001-a', False), ('00002-a', True)):
        run_dir = _run_with(tmp_path, name, checkpoint, **_resolve(*place.options()))
        train.resume(train.parse_options(['--resume', run_dir]))
        assert (f'no checkpoint was written in {run_dir}, so there is nothing to go on from: training begins anew at 0 '
                'kimg, in that directory' in capsys.readouterr().out) == (not checkpoint)


def test_a_run_of_an_earlier_version_goes_on(place, tmp_path):
    """Its options lack what came later: that has its default."""
    options = _resolve(*place.options())
    for name in ('precision', 'metrics', 'metrics_num', 'inception'):
        del options[name]
    for name in configs.NEWER:
        del options.config[name]
    found, _ = train.resume(train.parse_options(['--resume', _run_with(tmp_path, '00001-a', **options)]))
    assert (found.precision, found.metrics, found.config.r1_interval) == ('float32', None, 1)


@pytest.mark.parametrize('content', ['[]', '{}', '{"config": 5}', '{"config": {}, "weights": {}}', '{"weights": 3'])
def test_options_that_somebody_changed_are_refused_in_one_line(tmp_path, content):
    (tmp_path / train.OPTIONS_FILE).write_text(content)
    with pytest.raises(UserError, match=f'{train.OPTIONS_FILE}: .*when it begins') as caught:
        train.resume(train.parse_options(['--resume', str(tmp_path)]))
    assert '\n' not in str(caught.value)


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
                        config=configs.load('demo64'), world='human', world_parts=world_parts, cpu_devices=None,
                        start_kimg=0.0)
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
                               (('--face_model', 'other'), 'the run is of the human world, .* --face_model is of'),
                               (('--data_dir', 'data'), 'the run is of the human world, --data_dir is of')):
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
    from training import distributed, training_loop

    def stop(*_):
        raise UserError(f'data format {layers.data_format()}')
    monkeypatch.setattr(training_loop, 'load_context', stop)
    for module in (layers, distributed):
        monkeypatch.setattr(module, 'gpu_names', lambda: ['/device:GPU:0'])
    monkeypatch.delenv('DISCO_DATA_FORMAT', raising=False)
    assert layers.data_format() == 'NCHW'
    with pytest.raises(UserError, match='data format NHWC'):
        train_here(place.options('cpus') + ['--result_dir', str(tmp_path)] + devices)


def test_dry_run_checks_the_precision(place, monkeypatch):
    from dnnlib.tflib import layers
    from training import distributed
    for module in (layers, distributed):
        monkeypatch.setattr(module, 'gpu_names', lambda: ['/device:GPU:0'])
    options = place.options('dry') + ['--precision', 'bfloat16', '--dry-run']
    with pytest.raises(UserError, match='--precision bfloat16: for CPUs only; on GPUs there is --precision tf32'):
        train_here(options + ['--num_gpus', '1'])


@pytest.mark.parametrize('arguments,message', [
    (['--resume', 'latest', '--result_dir', 'EMPTY'], 'no run in'),
    (['--resume', 'EMPTY'], 'submit_config.json: cannot be read'),
    (['--resume', 'RUN', '--seed', '3', '--noise_dim', '4'], 'leave out --noise_dim, --seed'),
    (['--resume', 'RUN', '--config', 'ffhq256'], 'a run keeps its "data_dir"; expected "demo64", not "ffhq_align"'),
])
def test_resume_refuses(tmp_path, begun, arguments, message):
    arguments = [{'EMPTY': str(tmp_path), 'RUN': begun}.get(x, x) for x in arguments]
    with pytest.raises(UserError, match=message):
        train.resume(train.parse_options(arguments))


def test_one_process_at_a_time(tmp_path):
    with train._alone(str(tmp_path)):
        with pytest.raises(UserError, match='another process is training there'), train._alone(str(tmp_path)):
            pass
    with train._alone(str(tmp_path)):
        assert os.listdir(str(tmp_path)) == []


def test_what_a_killed_life_left_is_tidied_up(tmp_path):
    for name in ('.tmp-1-2', '_finished.txt', 'log.txt'):
        (tmp_path / name).write_text('x')
    (tmp_path / '.tmp-abc').mkdir()
    (tmp_path / '.tmp-abc' / 'half.pkl').write_text('x')
    train._tidy(str(tmp_path))
    assert os.listdir(str(tmp_path)) == ['log.txt']


@pytest.mark.parametrize('flag', ['w_light_background', 'w_pose_background'])
def test_a_parser_without_a_class_for_the_background_is_refused(flag):
    plain, four = [dict(parser=EasyDict(network=network, weights='parser-expert'))
                   for network in ('Parsing', 'small_parser')]
    weights = dict(train.DEFAULTS, **{flag: 1.0})
    with pytest.raises(UserError, match=f'--{flag}: the parser parser-expert has no class of its own'):
        train.check_background(weights, plain)
    train.check_background(weights, four)
    train.check_background(train.DEFAULTS, plain)
