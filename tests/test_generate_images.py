"""generate_images.py end to end: names, what moves, shards, resuming after a kill, settings, coefficients, messages."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import config
from benchmarks.sampling import write_random_model, write_random_vaes
from dnnlib import places
from dnnlib.util import UserError
from renderer import coefficient_files, factors
from sampling import faces
from sampling.image_folder import ImageFolder
from tests.common import assert_close, data, recording, shared

SCRIPT = os.path.join(config.ROOT, 'generate_images.py')


def run_script(script, arguments, capsys):
    """Run a script in this process -> (exit code, standard output, errors)."""
    before = sys.argv
    sys.argv = [script] + [str(argument) for argument in arguments]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name='__main__')
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def stored_numbers(path):
    """{name: array} of what --save_coeffs writes."""
    return coefficient_files.read_arrays(path, coefficient_files.NAMES + ('noise', 'z'))


def write_small_world(folder):
    """An 8-pixel model with its average of w, random VAEs; returns the options that name them."""
    model, vaes = os.path.join(folder, 'small.pkl'), os.path.join(folder, 'vaes')
    write_random_model(model, resolution=8, fmap_base=64, fmap_max=16, dlatent_size=24, mapping_fmaps=16,
                       mapping_layers=2)
    write_random_vaes(vaes)
    np.savetxt(os.path.join(folder, 'small-average_w_id.txt'), np.zeros([4, 24]))
    return ['--model', model, '--vae_weights', vaes]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name the small model."""
    return write_small_world(str(tmp_path_factory.mktemp('world')))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path)


def pictures(folder):
    """{name: picture} of a folder."""
    return {name: np.asarray(Image.open(os.path.join(folder, name))) for name in sorted(os.listdir(folder))
            if name.endswith('.png') and name != 'grid.png'}


def assert_same_pictures(first, second):
    """The same names; values differ by 1 at most, and hardly ever."""
    assert sorted(first) == sorted(second)
    off = {name: np.abs(first[name].astype(int) - second[name].astype(int)) for name in first}
    assert all(values.max() <= 1 for values in off.values()), {name: v.max() for name, v in off.items() if v.max() > 1}
    assert np.mean([np.mean(values > 0) for values in off.values()]) <= 0.005


@pytest.mark.parametrize('number', range(4))
def test_only_the_factor_moves(number, world, here, capsys):
    moving = factors.FACTOR_CHOICES[number][1]
    code, out, err = run_script(SCRIPT, world + ['--factor', number, '--subject', 2, '--variation', 3,
                                                 '--save_coeffs', 'npz', '--batch', 4], capsys)
    assert code == 0 and '6 pictures made' in out, err
    names = [f'{i:03d}_{j:02d}' for i in range(2) for j in range(3)]
    folder = 'generate_images/' + ('', 'expression', 'lighting', 'pose')[number]
    assert sorted(os.listdir(folder)) == sorted([f'{n}.png' for n in names] + [f'{n}.npz' for n in names]
                                                + ['made.jsonl', 'settings.json'])
    assert {p.shape for p in pictures(folder).values()} == {(8, 8, 3)}
    stored = {name: stored_numbers(f'{folder}/{name}.npz') for name in names}
    for subject in range(2):
        own = [stored[name] for name in names[3 * subject:3 * subject + 3]]
        assert not np.ptp([arrays['noise'] for arrays in own], axis=0).any()
        for factor in factors.FACTORS:
            for key, where in (('coeff', factor.coeffs), ('z', factor.latents)):
                spread = np.ptp([arrays[key][where] for arrays in own], axis=0)
                assert spread.all() if factor.name in moving else not spread.any(), (key, factor.name)
    assert np.abs(stored[names[0]]['coeff'][:160] - stored[names[3]]['coeff'][:160]).max() > 0.01


def test_defaults_and_the_recorded_model_in_a_process_of_its_own(here):
    for name in ('id', 'exp', 'gamma', 'rot'):
        shared('oracle', 'generator', 'vae_weights', name)
    shutil.copy(data('generator', 'networks.pkl'), 'networks.pkl')
    recorded = np.load(recording('generator', 'truncate_io.npz'))
    np.savetxt('average.txt', recorded['average_w_id'])
    done = subprocess.run([sys.executable, SCRIPT, '--model', 'networks.pkl', '--average_w', 'average.txt', '--grid',
                           '--vae_weights', shared('oracle', 'generator', 'vae_weights')],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 0, done.stderr
    assert 'warning: pictures look like blobs of colour' in done.stderr       # what a random network draws
    made = pictures('generate_images')
    assert sorted(made) == [f'{i:03d}_{j:02d}.png' for i in range(20) for j in range(5)]
    sheet = np.asarray(Image.open('generate_images/grid.png'))
    top, left = sheet.shape[0] - (20 * 132 + 4), sheet.shape[1] - (5 * 132 + 4)      # labels
    assert 8 < top < 30 and 15 < left < 60
    tile = np.asarray(Image.fromarray(made['001_02.png']).resize([128, 128], Image.BICUBIC))
    assert_close(sheet[top + 136:top + 264, left + 268:left + 396], tile)
    assert (sheet[:top] < 100).any() and (sheet[:, :left] < 100).any()               # something is written there
    check_first_subject(recorded, made)


def check_first_subject(recorded, made):
    """Picture 000_00 by other means: np.random in the order of the release, and the networks one by one."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from training import snapshots
    from vae.model import decode_latents
    np.random.seed(1)
    z, noise = np.random.normal(size=[1, 179]), np.random.normal(size=[1, 32])
    z[:, 128:160], z[:, 160:176], z[:, 176:179] = [np.random.normal(size=[1, n]) for n in (32, 16, 3)]
    coeffs = np.concatenate([decode_latents(z, shared('oracle', 'generator', 'vae_weights')), noise], axis=1)
    with tf.Graph().as_default() as graph, tfutil.create_session(2, graph):
        Gs = snapshots.load_generator('networks.pkl')
        w = Gs.components.mapping.run(coeffs, None)
        coeffs[:, 160:] = 0
        w[:, :8] += 0.3 * (recorded['average_w_id'] - Gs.components.mapping.run(coeffs, None))[:, :8]
        picture = Gs.components.synthesis.run(w, randomize_noise=False)[0].transpose(1, 2, 0)
    expected = np.clip((picture + 1) * 127.5, 0, 255).astype(np.uint8)
    assert_same_pictures({'000_00.png': expected}, {'000_00.png': made['000_00.png']})


def test_shards_batches_and_words_give_the_same_pictures(world, here, capsys):
    common = world + ['--factor', 'lighting', '--subject', 5, '--variation', 2, '--seed', 9]
    assert run_script(SCRIPT, common + ['--outdir', 'whole'], capsys)[0] == 0
    for number in (2, 1):
        shard = ['--outdir', 'parts', '--shard', f'{number}/2', '--batch', 1]
        code, out, _ = run_script(SCRIPT, common + shard, capsys)
        assert code == 0 and ('4 pictures made' if number == 2 else '6 pictures made') in out
    assert len(pictures('whole')) == 10
    assert_same_pictures(pictures('whole'), pictures('parts'))


def test_existing_pictures_stay_and_other_settings_are_refused(world, here, capsys):
    common = world + ['--variation', 2, '--outdir', 'out']
    assert run_script(SCRIPT, common + ['--subject', 2], capsys)[0] == 0
    before = {name: os.path.getmtime(f'out/{name}') for name in pictures('out')}
    os.remove('out/001_00.png')
    code, out, _ = run_script(SCRIPT, common + ['--subject', 3, '--grid', '--grid_scale', 1], capsys)
    assert code == 0 and '3 pictures made, 3 were there already' in out
    assert all(os.path.getmtime(f'out/{name}') == t for name, t in before.items() if name != '001_00.png')
    assert os.path.exists('out/grid.png')
    code, out, err = run_script(SCRIPT, common + ['--subject', 3, '--seed', 2, '--factor', 3, '--rate', 0.5], capsys)
    assert code == 1 and err.count('\n') == 1 and '--overwrite' in err
    for words in ('6 pictures', 'seed 1 (now 2)', 'factor "all" (now "pose")', 'rate 0.7 (now 0.5)'):
        assert words in err
    assert len(pictures('out')) == 6
    code, out, _ = run_script(SCRIPT, common + ['--subject', 1, '--seed', 2, '--overwrite'], capsys)
    assert code == 0 and sorted(pictures('out')) == ['000_00.png', '000_01.png']


def test_every_factor_has_its_place(world, here, capsys):
    """The README's commands one after the other."""
    common = world + ['--subject', 1, '--variation', 1]
    for factor in ([], ['--factor', 'pose', '--grid'], ['--factor', 1], ['--factor', 'all']):
        code, _, err = run_script(SCRIPT, common + factor, capsys)
        assert code == 0, err
    assert sorted(pictures('generate_images')) == ['000_00.png']
    assert os.path.exists('generate_images/pose/000_00.png') and os.path.exists('generate_images/expression/000_00.png')


def _tree(folder):
    """{path: content} of all files below a folder."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), 'rb') as file:
                found[os.path.join(where, name)] = file.read()
    return found


@pytest.mark.parametrize('name', ['000_00.png', '001_01.npz', 'settings.json', 'grid.png'])
@pytest.mark.parametrize('overwrite', [[], ['--overwrite']])
def test_what_we_did_not_make_is_never_replaced(name, overwrite, world, here, capsys):
    os.mkdir('out')
    with open(f'out/{name}', 'w') as file:
        file.write('{}')
    before = _tree('out')
    command = world + ['--subject', 2, '--variation', 2, '--save_coeffs', 'npz', '--grid', '--outdir', 'out']
    code, _, err = run_script(SCRIPT, command + overwrite, capsys)
    assert code == 1 and name in err and 'choose another --outdir' in err and err.startswith('error: '), err
    assert _tree('out') == before


def test_overwriting_takes_back_what_we_made_and_leaves_the_rest(world, here, capsys):
    command = world + ['--subject', 2, '--variation', 2, '--save_coeffs', 'npz', '--grid', '--outdir', 'out']
    assert run_script(SCRIPT, command, capsys)[0] == 0
    kept = {'out/mine.png': b'a', 'out/000_02.png': b'b', 'out/001_01.mat': b'c', 'out/.tmp-mine/x': b'd'}
    os.mkdir('out/.tmp-mine')
    os.utime('out/.tmp-mine', (0, 0))
    for path, content in kept.items():
        with open(path, 'wb') as file:
            file.write(content)
    code, _, err = run_script(SCRIPT, command[:4] + ['--subject', 1, '--variation', 1, '--seed', 7, '--outdir', 'out',
                                                     '--overwrite'], capsys)
    assert code == 0, err
    left = _tree('out')
    assert {path: left.pop(path) for path in kept} == kept
    assert sorted(left) == ['out/000_00.png', 'out/made.jsonl', 'out/settings.json']
    with open('out/000_00.png', 'ab') as file:
        file.write(b'the user drew on it')
    code, _, err = run_script(SCRIPT, command[:4] + ['--seed', 7, '--outdir', 'out', '--overwrite'], capsys)
    assert code == 1 and '000_00.png' in err and _tree('out')['out/000_00.png'].endswith(b'drew on it')


def test_outputs_are_no_inputs_and_links_are_folders(world, here, capsys):
    vaes = os.path.join(os.path.dirname(world[1]), 'vaes')
    os.symlink(vaes, 'link')
    code, _, err = run_script(SCRIPT, world + ['--outdir', 'link/../vaes/./'], capsys)
    assert code == 1 and 'is the same place as --vae_weights' in err
    code, _, err = run_script(SCRIPT, world + ['--outdir', 'link'], capsys)
    assert code == 1 and 'is the same place as --vae_weights' in err
    os.mkdir('real')
    os.symlink('real', 'there')
    assert run_script(SCRIPT, world + ['--subject', 1, '--variation', 1, '--outdir', 'there'], capsys)[0] == 0
    assert os.path.islink('there') and os.path.exists('real/000_00.png')
    os.chdir('real')
    again = world + ['--subject', 1, '--variation', 2, '--outdir', '.', '--overwrite']
    assert run_script(SCRIPT, again, capsys)[0] == 0
    assert sorted(os.listdir('.')) == ['000_00.png', '000_01.png', 'made.jsonl', 'settings.json']


def test_another_average_of_w_makes_other_pictures(world, here, capsys):
    """The same model with another file beside it: pictures there were made with the old one."""
    folder = shutil.copytree(os.path.dirname(world[1]), 'model')
    command = ['--model', os.path.join(folder, 'small.pkl'), '--vae_weights', os.path.join(folder, 'vaes'),
               '--subject', 1, '--variation', 1, '--outdir', 'out']
    assert run_script(SCRIPT, command, capsys)[0] == 0
    np.savetxt(os.path.join(folder, 'small-average_w_id.txt'), np.ones([4, 24]))
    code, _, err = run_script(SCRIPT, command, capsys)
    assert code == 1 and 'average_w' in err


def test_a_damaged_settings_file_is_not_ours(here):
    ImageFolder(here, {'a': 1}, {'000_01': {}})
    for content in ('{', '[]', ''):
        with open('settings.json', 'w') as file:
            file.write(content)
        with pytest.raises(UserError, match='settings.json'):
            ImageFolder(here, {'a': 1}, {'000_01': {}})


def test_overwriting_removes_this_shard_only(here):
    with ImageFolder(here, {}, {'000_00': {}, '001_00': {}}) as folder:
        for name in folder.todo:
            folder.save(name, np.zeros([8, 8, 3], np.uint8), None)
    ImageFolder(here, {}, {'000_00': {}}, dealt=lambda name: name == '000_00', overwrite=True)
    assert sorted(os.listdir(here)) == ['001_00.png', 'made.jsonl', 'settings.json']


def test_settings_of_a_stranger_are_shown_on_one_line(here):
    with ImageFolder(here, {'seed': 1}, {'000_00': {}}) as folder:
        folder.save('000_00', np.zeros([8, 8, 3], np.uint8), None)
    foreign = {'x\n\x1b[31merror: all is lost': 1, 'seed': 'y\x1b]0;\u202e' * 10 ** 5, 'z': {'a': [1] * 10 ** 5}}
    record = places.Record(here)
    record.put('settings.json', {'settings.json': json.dumps(foreign).encode()}, {}, {})
    with pytest.raises(UserError) as caught:
        ImageFolder(here, {'seed': 1}, {'000_00': {}})
    text = str(caught.value)
    assert len(text) < 1500 and text.isprintable() and '--overwrite' in text


def test_a_full_disk_stops_the_run_with_a_line(here):
    class Broken:
        def encoded(self, kind):
            raise UserError(f'{kind}: could not be written (No space left on device)')

    folder = ImageFolder(here, {}, {'000_00': {}}, coeffs='npz')
    with pytest.raises(UserError, match='No space'), folder:
        for _ in range(200):
            folder.save('000_00', np.zeros([8, 8, 3], np.uint8), Broken())
    assert sorted(os.listdir(here)) == ['made.jsonl', 'settings.json']


def test_a_killed_run_is_taken_up(world, here, capsys):
    options = [str(o) for o in world + ['--subject', 400, '--variation', 5, '--save_coeffs', 'mat', '--batch', 2]]
    child = subprocess.Popen([sys.executable, SCRIPT] + options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time() + 120
    while time.time() < end and len([n for n in _listing('generate_images') if n.endswith('.png')]) < 10:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = [name for name in _listing('generate_images') if name.endswith('.png')]
    assert 10 <= len(there) < 2000
    for name in there:
        assert np.asarray(Image.open(f'generate_images/{name}')).shape == (8, 8, 3)
        assert faces.Face.load(f'generate_images/{name[:-4]}.mat').latents is not None
    subjects = max(int(name[:3]) for name in there) + 2
    options[options.index('400')] = str(subjects)
    code, out, _ = run_script(SCRIPT, options, capsys)
    assert code == 0 and f'{len(there)} were there already' in out
    assert run_script(SCRIPT, options + ['--outdir', 'whole'], capsys)[0] == 0
    assert_same_pictures(pictures('generate_images'), pictures('whole'))


def _listing(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


@pytest.mark.parametrize('bad,message', [
    (['--subject', '0'], '--subject: 0 is out of range'),
    (['--variation', '-2'], '--variation: -2 is out of range'),
    (['--variation', '2.5'], "'2.5' is not a whole number"),
    (['--batch', 'x'], "--batch: 'x' is not"),
    (['--rate', 'nan'], '--rate: nan is out of range'),
    (['--seed', '-1'], '--seed: -1 is out of range'),
    (['--shard', '3/2'], "'3/2' is no shard"),
    (['--shard', '0/2'], 'I from 1 to N'),
    (['--factor', '4'], "'4' is unknown: expected 0 or all"),
    (['--factor', 'smile'], '3 or pose'),
    (['--save_coeffs', 'csv'], 'npz'),
    (['--model', 'none.pkl'], '--model none.pkl: no such file'),
    (['--average_w', 'none.txt'], '--average_w none.txt: no such file'),
    (['--vae_weights', 'none'], '--vae_weights none: no such folder'),
])
def test_bad_options_are_one_line_without_tensorflow(bad, message, here, capsys):
    code, out, err = run_script(SCRIPT, bad, capsys)
    assert code == 1 and message in err and err.startswith('error: ') and err.count('\n') == 1, err
    assert os.listdir(here) == []


def test_bad_files_are_one_line_and_leave_nothing(world, here, capsys):
    with open('cut.pkl', 'wb') as file, open(world[1], 'rb') as whole:
        file.write(whole.read(5000))
    np.savetxt('average.txt', np.zeros([4, 3]))
    with open('file', 'w'):
        pass
    for bad, message in ((['--model', 'cut.pkl'], 'cut.pkl'), (['--average_w', 'average.txt'], 'holds [4, 3]'),
                         (['--outdir', 'file/x'], 'cannot be used as the folder'), (['--vae_weights', '.'], 'VAE')):
        code, out, err = run_script(SCRIPT, world + ['--subject', 1] + bad, capsys)
        assert code == 1 and message in err and err.startswith('error: ') and err.count('\n') == 1, err
    assert sorted(os.listdir(here)) == ['average.txt', 'cut.pkl', 'file']


def test_numbers_beyond_three_digits():
    from sampling.bulk import picture_name
    assert [picture_name(*at) for at in ((0, 0), (999, 99), (1000, 5), (123456, 100))] == [
        '000_00', '999_99', '1000_05', '123456_100']


def test_noise_modes_draw_other_pictures(here, capsys):
    common = ['--model', os.path.join(config.DEMO_DIR, config.DEMO_NAME), '--subject', 1, '--variation', 1]
    drawn = {}
    for mode in ('const', 'random', 'none'):
        code, _, err = run_script(SCRIPT, common + ['--noise-mode', mode, '--outdir', mode], capsys)
        assert code == 0, err
        drawn[mode] = pictures(mode)['000_00.png']
    assert not np.array_equal(drawn['const'], drawn['random']) and not np.array_equal(drawn['const'], drawn['none'])


def test_what_lies_beside_a_picture_is_its_own(world, here, capsys):
    """Coefficients of an older picture are not kept beside the new one; another shard's old pictures are made again."""
    common = world + ['--variation', 1, '--outdir', 'o']

    def run(*more):
        code, out, err = run_script(SCRIPT, common + list(more), capsys)
        assert code == 0, err
        return out + err
    run('--subject', 1, '--save_coeffs', 'npz')
    run('--subject', 1, '--seed', 2, '--overwrite')
    assert not os.path.exists('o/000_00.npz')
    run('--subject', 1, '--seed', 2, '--save_coeffs', 'npz')
    assert os.path.exists('o/000_00.npz')
    run('--subject', 4, '--rate', 1, '--overwrite')
    run('--subject', 4, '--rate', 0.5, '--shard', '1/2', '--overwrite')
    assert 'other settings' in run('--subject', 4, '--rate', 0.5, '--shard', '2/2')
    mixed = pictures('o')
    run('--subject', 4, '--rate', 0.5, '--outdir', 'clean')
    for name, picture in pictures('clean').items():
        assert np.array_equal(picture, mixed[name])
    run('--subject', 1, '--rate', 0.5, '--overwrite')           # the same settings: the others stay
    assert set(pictures('o')) == set(mixed)


def test_several_settings_count_together(world, here, capsys):
    common = world + ['--subject', 1, '--variation', 1, '--outdir', 'o']
    code, _, err = run_script(SCRIPT, common + ['--set', 'yaw=0.1', '--set', 'yaw=0.2'], capsys)
    assert code == 1 and 'yaw is there twice' in err
    code, _, err = run_script(SCRIPT, common + ['--set', 'yaw=0.1,yaw=0.2'], capsys)
    assert code == 1 and 'is there twice' in err
    code, _, err = run_script(SCRIPT, common + ['--set', 'yaw=0.1', '--set', 'roll=0.2'], capsys)
    assert code == 0, err
    with open('o/settings.json') as file:
        assert [name for name, _ in json.load(file)['set']] == ['yaw', 'roll']
