"""Photos in w+ and edits of them: the search, the rule of edits, edit_images.py, and truth in the human world."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import config
from benchmarks.editing import _photographs, differences
from dnnlib.tflib import checkpoints
from dnnlib.util import UserError
from preprocess import pipeline
from renderer import coefficient_files, factors
from sampling import editing, health, inversion
from sampling.faces import Face
from sampling.generator import FaceGenerator
from tests.common import assert_close, shared
from tests.test_generate_images import _tree, here, pictures, run_script, stored_numbers, write_small_world  # noqa: F401  here: a fixture
from worlds import label

SCRIPT = os.path.join(config.ROOT, 'edit_images.py')
DEMO = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
STEPS = 200


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name a small model."""
    return write_small_world(str(tmp_path_factory.mktemp('world')))


@pytest.fixture(scope='module')
def inverted(world):
    """(faces, inverter, photos, their faces, their inversions) of a small model: three of its own pictures."""
    with FaceGenerator(world[1], world[3]) as faces:
        subjects = faces.random_faces(3, seed=5)
        photos = faces.images(subjects, rate=1)
        inverter = inversion.Inverter(faces, w_id=0, batch=4)
        estimates = faces.random_faces(3, seed=6)
        yield faces, inverter, photos, estimates, inverter.invert(photos, estimates, STEPS)


def test_the_search_draws_the_photo(inverted):
    faces, _, photos, estimates, found = inverted
    before = np.abs(faces.images(estimates, rate=1).astype(float) - photos).mean()
    redrawn = editing.PhotoEditor(faces).images([editing.Edit(one, one.face) for one in found])
    errors = np.abs(redrawn.astype(float) - photos).mean(axis=(1, 2, 3))
    assert errors.mean() < 0.5 * before
    assert_close(errors, [one.error for one in found], atol=0.6)       # 8 bits
    for one, estimate in zip(found, estimates):
        assert_close(one.face.coeffs[:factors.NUM_COEFFS], estimate.coeffs[:factors.NUM_COEFFS])
        assert one.face.noise.any()


def test_a_photo_does_not_depend_on_its_batch(inverted):
    _, inverter, photos, estimates, found = inverted
    alone = inverter.invert(photos[1:2], estimates[1:2], STEPS)[0]
    assert_close(alone.w, found[1].w, atol=0.02)
    assert_close(alone.face.noise, found[1].face.noise, atol=0.02)


def test_an_edit_moves_w_as_its_coefficients_move_the_mapping(inverted):
    faces, _, _, _, found = inverted
    changed = found[0].face.transfer(faces.random_face(seed=8), 'pose', 'lighting')
    move = faces.dlatents([changed]) - faces.dlatents([found[0].face])
    w = editing.PhotoEditor(faces).dlatents([editing.Edit(found[0], changed), editing.Edit(found[0], found[0].face)])
    assert_close(w[0], found[0].w + move[0], atol=1e-5)
    assert_close(w[1], found[0].w)
    assert np.abs(move).max() > 0.01


def test_the_noise_vector_of_the_wish_is_ignored(inverted):
    faces, _, _, _, found = inverted
    wish = found[0].face.copy()
    wish.noise = np.ones(faces.noise_dim)
    assert_close(editing.PhotoEditor(faces).dlatents([editing.Edit(found[0], wish)])[0], found[0].w)


def test_inversions_are_kept(inverted, tmp_path):
    found, path = inverted[-1][0], str(tmp_path / 'a.npz')
    (tmp_path / 'a.npz').write_bytes(found.encoded())
    read = inversion.Inversion.load(path)
    assert_close(read.w, found.w)
    assert_close(read.face.coeffs, found.face.coeffs)
    assert (read.error, read.likeness) == (found.error, found.likeness)
    for damaged in ((tmp_path / 'a.npz').read_bytes()[:500], found.face.encoded('npz')):
        (tmp_path / 'b.npz').write_bytes(damaged)
        with pytest.raises(UserError, match='b.npz'):
            inversion.Inversion.load(str(tmp_path / 'b.npz'))


def test_wrong_photos_are_refused(inverted):
    _, inverter, photos, estimates, _ = inverted
    for wrong in (photos.astype(np.float32), photos[:, :4], photos[:0], np.concatenate([photos, photos])):
        with pytest.raises(UserError, match='were expected'):
            inverter.invert(wrong, estimates, STEPS)
    with pytest.raises(UserError, match='as many as photos'):
        inverter.invert(photos, estimates[:2], STEPS)
    with pytest.raises(UserError, match='square'):
        inversion.fit_photo(np.zeros([10, 12, 3], np.uint8), 8)


def test_a_search_that_fails_costs_one_photo(inverted, tmp_path):
    _, inverter, photos, estimates, _ = inverted
    wild = [estimates[0], estimates[1].copy(), estimates[2]]
    wild[1].coeffs[:] = np.float32(3e38)
    found = inverter.invert(photos, wild, 8)
    assert found[1] is None and found[0] and found[2]
    listed = [inversion.Photo(name, photo, face, {}, {}) for name, photo, face in zip('abc', photos, wild)]
    kept = inversion.Kept(str(tmp_path), listed, {})
    assert inversion.invert_photos(lambda: inverter, listed, kept, 8)['b'] is None
    assert sorted(os.listdir(str(tmp_path))) == ['a.npz', 'c.npz', 'made.jsonl']


def test_photos_get_the_generators_size():
    photo = np.random.RandomState(0).randint(256, size=[16, 16, 3]).astype(np.uint8)
    means = photo.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    assert_close(inversion.fit_photo(photo, 8), np.floor(means + 0.5), atol=1)
    assert_close(inversion.fit_photo(photo, 16), photo)
    assert inversion.fit_photo(photo, 32).shape == (32, 32, 3)


def test_the_pyramid_compares_all_sizes():
    from dnnlib.tflib.compat import tf
    a = np.random.RandomState(1).uniform(-1, 1, [2, 3, 32, 32]).astype(np.float32)
    expected = sum(np.abs(a.reshape(2, 3, s, 32 // s, s, 32 // s).mean(axis=(3, 5))).mean(axis=(1, 2, 3))
                   for s in (32, 16, 8))
    with tf.Graph().as_default(), tf.Session() as session:
        assert_close(session.run(inversion.pyramid_l1(tf.constant(a), tf.zeros_like(a))), expected, rtol=1e-5)


# edit_images.py

@pytest.fixture
def photos(here):  # noqa: F811
    """data/ with two photos as preprocess_data.py leaves them; returns their coefficients."""
    rng = np.random.RandomState(2)
    coeffs = 0.3 * rng.standard_normal([2, 257]).astype(np.float32)
    for name, coeff in zip('ab', coeffs):
        pipeline.write_results('data', name, rng.randint(256, size=[256, 256, 3]).astype(np.uint8), coeff)
    return coeffs


def _run(world, capsys, *arguments):
    return run_script(SCRIPT, world + ['--w_id', 0, '--steps', 8] + list(arguments), capsys)


def test_random_edits_of_one_factor(world, photos, capsys):
    code, out, err = _run(world, capsys, '--factor', 'lighting', '--variation', 2, '--grid', '--save_coeffs', 'npz')
    assert code == 0 and '2 photos, 2 edits of each' in out, err
    made = pictures('edit_images')
    assert sorted(made) == [f'{name}_{what}.png' for name in 'ab' for what in ('00', '01', 'photo', 'redrawn')]
    assert all(picture.shape == (8, 8, 3) for picture in made.values())
    for name, own in zip('ab', photos):
        coeff = [stored_numbers(f'edit_images/{name}_0{i}.npz')['coeff'] for i in range(2)]
        assert_close(coeff[0][:227], own[:227], atol=1e-6)          # lighting is 227:254
        assert np.abs(coeff[0][227:254] - coeff[1][227:254]).max() > 0
    lights = [stored_numbers(f'edit_images/{name}_00.npz')['coeff'][227:254] for name in 'ab']
    assert_close(*lights)                                           # a column has one light
    assert os.path.exists('edit_images/grid.png')


def test_edits_by_reference(world, photos, capsys):
    code, out, err = _run(world, capsys, '--reference', 'data/coeff', '--take', 'pose', '--save_coeffs', 'mat')
    assert code == 0 and '2 photos, 2 edits of each' in out, err
    stored = coefficient_files.read_reconstruction('edit_images/a_as_b.mat')
    assert_close(stored[factors.ANGLES], photos[1][factors.ANGLES], atol=1e-6)
    assert_close(stored[:224], photos[0][:224], atol=1e-6)
    made = pictures('edit_images')
    assert np.abs(made['a_as_a.png'].astype(int) - made['a_redrawn.png']).max() <= 1
    Face(np.zeros(254 + 5)).save('five.npz')                        # of a generator with another noise vector
    code, out, err = _run(world, capsys, '--reference', 'five.npz', '--take', 'pose', '--outdir', 'five')
    assert code == 0 and 'a_as_five.png' in os.listdir('five'), err


def test_photos_are_searched_for_once(world, photos, capsys):
    _run(world, capsys)
    first = {name: os.stat(f'data/inversions/{name}.npz').st_mtime_ns for name in 'ab'}
    code, _, err = _run(world, capsys, '--factor', 1, '--outdir', 'other')
    assert code == 0 and 'inversion' not in err
    assert first == {name: os.stat(f'data/inversions/{name}.npz').st_mtime_ns for name in 'ab'}
    Image.fromarray(np.full([256, 256, 3], 9, np.uint8)).save('data/img/a.png')     # another photo
    code, _, err = _run(world, capsys, '--factor', 1, '--outdir', 'third')
    assert code == 0 and 'inversion' in err
    assert first['a'] < os.stat('data/inversions/a.npz').st_mtime_ns
    assert first['b'] == os.stat('data/inversions/b.npz').st_mtime_ns


def _times(*names):
    return {name: os.stat(f'edit_images/{name}.png').st_mtime_ns for name in names}


def test_pictures_are_kept_until_what_they_show_changes(world, photos, capsys):
    command = ['--reference', 'data/coeff/b.mat', '--take', 'pose']
    _run(world, capsys, *command)
    old = _times('a_as_b', 'a_redrawn')
    code, _, err = _run(world, capsys, *command)
    assert _times(*old) == old and 'again' not in err
    os.makedirs('other')
    Face(-photos[0][:254]).save('other/b.mat')                      # another reference of the same name, and older
    os.utime('other/b.mat', (1, 1))
    code, _, err = _run(world, capsys, '--reference', 'other/b.mat', '--take', 'pose')
    assert code == 0 and '2 pictures are made again (reference changed)' in err
    assert _times('a_as_b')['a_as_b'] > old['a_as_b'] and _times('a_redrawn')['a_redrawn'] == old['a_redrawn']
    stored = pictures('edit_images')['a_as_b.png']
    shutil.copy('other/b.mat', 'data/coeff/b.mat')                  # b's own coefficients, replaced by an older file
    os.utime('data/coeff/b.mat', (1, 1))
    code, _, err = _run(world, capsys, '--reference', 'other/b.mat', '--take', 'pose')
    assert code == 0 and '3 pictures are made again (coefficients changed)' in err
    assert_close(pictures('edit_images')['a_as_b.png'], stored)
    code, _, err = _run(world, capsys, '--reference', 'other/b.mat', '--take', 'pose,expression')
    assert code == 1 and 'take' in err


def test_another_identity_network_means_another_search(world, photos, capsys):
    table = os.path.join(config.ROOT, 'human', 'weights')
    shutil.copytree(table, 'experts')
    os.remove('experts/world.json')
    command = world + ['--steps', 8, '--variation', 1, '--experts', 'experts']
    code, _, err = run_script(SCRIPT, command, capsys)
    assert code == 0 and 'inversion' in err, err
    changed = checkpoints.read('experts/small_id')
    checkpoints.save('experts/small_id', {name: value * np.float32(1.5) for name, value in changed.items()})
    code, _, err = run_script(SCRIPT, command, capsys)
    assert code == 1 and 'identity_network' in err
    code, _, err = run_script(SCRIPT, command + ['--outdir', 'other'], capsys)
    assert code == 0 and 'inversion' in err


@pytest.mark.parametrize('options, message', [
    (['--outdir', 'data/img/.'], 'is the same place as --input, img'), (['--outdir', 'link'], '--input, coeff'),
    (['--outdir', 'data'], 'is the same place as --input'), (['--inversions', 'data/coeff'], '--input, coeff'),
    (['--embedded', 'refs', '--reference', 'refs'], '--inversions refs is the same place as --reference'),
    (['--outdir', 'refs', '--reference', 'refs'], '--outdir refs is the same place as --reference'),
    (['--outdir', 'o', '--inversions', 'o'], '--outdir o is the same place as --inversions'),
    (['--inversions', 'mine'], 'mine/a.npz: there already'), (['--outdir', 'mine'], "'a_photo.png' there would be")])
def test_outputs_never_go_over_inputs(world, photos, capsys, options, message):
    os.symlink(os.path.abspath('data/coeff'), 'link')
    os.makedirs('refs')
    os.makedirs('mine')
    for path in ('refs/a.npz', 'mine/a.npz'):
        Face(photos[0][:254]).save(path)
    with open('mine/a_photo.png', 'w') as file:
        file.write('precious')
    os.makedirs('o')
    before = _tree('.')
    code, _, err = _run(world, capsys, '--overwrite', *options)
    assert code == 1 and message in err and err.count('\n') == 1, err
    after = _tree('.')
    assert {name: after[name] for name in before} == before


def test_names_of_any_length_and_any_bytes(world, photos, capsys):
    long, strange = 'n' * 240 + '\u00e9' * 4, os.fsdecode(b'caf\xe9')
    for name in (long, strange):
        pipeline.write_results('data', name, np.full([256, 256, 3], 9, np.uint8), photos[0])
    code, out, err = _run(world, capsys, '--variation', 1, '--grid', '--save_coeffs', 'npz')
    assert code == 0 and '4 photos' in out, err
    made = os.listdir('edit_images')
    assert len(made) == 4 * 3 * 2 + 3 and all(len(os.fsencode(name)) <= 255 for name in made)
    assert f'{strange}_redrawn.png' in made
    assert len([name for name in made if name.startswith('nnn') and name.endswith('_redrawn.png')]) == 1
    code, out, err = _run(world, capsys, '--variation', 1)
    assert code == 0 and 'inversion' not in err


def test_bad_photos_are_skipped_and_named(world, photos, capsys):
    with open('data/img/broken.png', 'w') as file:
        file.write('nothing')
    Image.new('RGB', (30, 20)).save('data/img/wide.png')
    pipeline.write_results('data', 'lonely', np.zeros([256, 256, 3], np.uint8), photos[0])
    os.remove('data/coeff/lonely.mat')
    os.link('data/coeff/a.mat', 'data/coeff/wide.mat')
    code, out, err = _run(world, capsys)
    assert code == 0 and '2 photos' in out
    assert 'skipped data/img/broken.png' in err and 'data/coeff/lonely.mat: no such file' in err
    assert 'data/img/wide.png: 30 x 20 pixels' in err
    for name in 'ab':
        os.remove(f'data/img/{name}.png')
    code, out, err = _run(world, capsys, '--outdir', 'o')
    assert code == 1 and 'none of 3 photos can be used' in err and not os.path.exists('o')


@pytest.mark.parametrize('arguments, message', [
    (['--input', 'nowhere'], 'nowhere/img'), (['--reference', 'nowhere.mat'], 'nowhere.mat: no such file'),
    (['--reference', 'data/coeff/a.mat', 'data/coeff'], 'its name is that of'), (['--take', 'hair'], 'expected names'),
    (['--w_id', '-1'], '--w_id'), (['--steps', '0'], '--steps'), (['--factor', '7'], 'is unknown'),
    (['--experts', 'nowhere'], 'no table of perception networks')])
def test_wrong_options(world, photos, capsys, arguments, message):
    code, _, err = _run(world, capsys, *arguments)
    assert code != 0 and message in err and 'Traceback' not in err
    assert not os.path.exists('edit_images')


def test_missing_networks_and_mixed_worlds(world, photos, capsys, monkeypatch):
    monkeypatch.setattr(config, 'PRETRAINED_DIR', 'no_weights')
    code, _, err = run_script(SCRIPT, world, capsys)
    assert code == 1 and 'id_net' in err
    label.write('data', 'human')
    code, _, err = _run(world, capsys)
    assert code == 1 and 'worlds cannot be mixed' in err


# Photos of another world

def test_photos_that_the_model_cannot_draw_are_named_before_the_search(capsys):
    with FaceGenerator(DEMO) as faces:
        own = faces.images(faces.random_faces(2, seed=11), rate=1)
        y, x = np.mgrid[:faces.resolution, :faces.resolution] / faces.resolution
        strange = np.stack([255 * x * y, 128 + 100 * np.sin(9 * x), 255 * (1 - y)], axis=2).astype(np.uint8)
        health.warn_of_photos(faces, own, 'ab', 'human')
        assert capsys.readouterr().err == ''
        health.warn_of_photos(faces, list(own) + [strange], 'abc', 'human')
        said = capsys.readouterr().err
        assert said.startswith("warning: 1 of 3 photos") and "('c')" in said and 'the released model' in said


def test_real_photos_are_strange_to_the_small_model():
    folder = shared('data', 'photos')
    real = [Image.open(os.path.join(folder, name)).convert('RGB') for name in sorted(os.listdir(folder))
            if name.endswith(('.jpg', '.png'))]
    with FaceGenerator(DEMO) as faces:
        own, size = faces.images(faces.random_faces(128, seed=0), rate=1), faces.resolution
    real = np.stack([np.asarray(photo.resize((size, size), Image.BOX)) for photo in real])
    photos = _photographs(24, size)[0]
    assert np.mean(health.strangeness(own, photos) > health.MOST_STRANGE) < 0.1
    assert np.mean(health.strangeness(own, real) > health.MOST_STRANGE) > 0.8


# The truth: photos of the human world can be taken again with another pose or light

def test_edits_come_nearer_to_the_true_photo():
    results, _ = differences(DEMO, count=3, steps=100)
    assert results['redrawn'][0] < 16
    for word in ('pose', 'lighting'):
        edited, left_as_it_is = results[word]
        assert edited < 0.85 * left_as_it_is, word
