"""Photos in w+ and edits of them: the search, the rule of edits, edit_images.py, and truth in the synthetic world."""

import os

import numpy as np
import pytest
from PIL import Image

import config
from benchmarks.editing import differences
from dnnlib.util import UserError
from preprocess import pipeline
from renderer import coefficient_files, factors
from sampling import editing
from sampling.generator import FaceGenerator
from tests.common import assert_close
from tests.test_generate_images import here, pictures, run_script, write_small_world  # noqa: F401  here: a fixture
from worlds import label

SCRIPT = os.path.join(config.ROOT, 'edit_images.py')
DEMO = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
STEPS = 200


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name a small model."""
    return write_small_world(str(tmp_path_factory.mktemp('world')))


@pytest.fixture(scope='module')
def embedded(world):
    """(faces, editor, photos, their faces, their embeddings) of a small model: three of its own pictures."""
    with FaceGenerator(world[1], world[3]) as faces:
        subjects = faces.random_faces(3, seed=5)
        photos = faces.images(subjects, rate=1)
        editor = editing.PhotoEditor(faces, w_id=0, batch=4)
        estimates = faces.random_faces(3, seed=6)
        yield faces, editor, photos, estimates, editor.embed(photos, estimates, STEPS)


def test_the_search_draws_the_photo(embedded):
    faces, editor, photos, estimates, found = embedded
    before = np.abs(faces.images(estimates, rate=1).astype(float) - photos).mean()
    redrawn = editor.images([editing.Edit(embedding, embedding.face) for embedding in found])
    errors = np.abs(redrawn.astype(float) - photos).mean(axis=(1, 2, 3))
    assert errors.mean() < 0.5 * before
    assert_close(errors, [embedding.error for embedding in found], atol=0.6)       # 8 bits
    for embedding, estimate in zip(found, estimates):
        assert_close(embedding.face.coeffs[:factors.NUM_COEFFS], estimate.coeffs[:factors.NUM_COEFFS])
        assert embedding.face.noise.any()


def test_a_photo_does_not_depend_on_its_batch(embedded):
    _, editor, photos, estimates, found = embedded
    alone = editor.embed(photos[1:2], estimates[1:2], STEPS)[0]
    assert_close(alone.w, found[1].w, atol=0.02)
    assert_close(alone.face.noise, found[1].face.noise, atol=0.02)


def test_an_edit_moves_w_as_its_coefficients_move_the_mapping(embedded):
    faces, editor, _, _, found = embedded
    changed = found[0].face.transfer(faces.random_face(seed=8), 'pose', 'lighting')
    move = faces.dlatents([changed]) - faces.dlatents([found[0].face])
    w = editor.dlatents([editing.Edit(found[0], changed), editing.Edit(found[0], found[0].face)])
    assert_close(w[0], found[0].w + move[0], atol=1e-5)
    assert_close(w[1], found[0].w)
    assert np.abs(move).max() > 0.01


def test_the_noise_vector_of_the_wish_is_ignored(embedded):
    faces, editor, _, _, found = embedded
    wish = found[0].face.copy()
    wish.noise = np.ones(faces.noise_dim)
    assert_close(editor.dlatents([editing.Edit(found[0], wish)])[0], found[0].w)


def test_embeddings_are_kept(embedded, tmp_path):
    found, path = embedded[-1][0], str(tmp_path / 'a.npz')
    found.save(path, 'made of this')
    read = editing.Embedding.load(path, 'made of this')
    assert_close(read.w, found.w)
    assert_close(read.face.coeffs, found.face.coeffs)
    assert (read.error, read.likeness) == (found.error, found.likeness)
    assert editing.Embedding.load(path, 'something else') is None
    (tmp_path / 'b.npz').write_bytes((tmp_path / 'a.npz').read_bytes()[:500])
    assert editing.Embedding.load(str(tmp_path / 'b.npz')) is None


def test_wrong_photos_are_refused(embedded):
    _, editor, photos, estimates, _ = embedded
    for wrong in (photos.astype(np.float32), photos[:, :4], photos[:0], np.concatenate([photos, photos])):
        with pytest.raises(UserError, match='were expected'):
            editor.embed(wrong, estimates, STEPS)
    with pytest.raises(UserError, match='as many as photos'):
        editor.embed(photos, estimates[:2], STEPS)
    with pytest.raises(UserError, match='square'):
        editing.fit_photo(np.zeros([10, 12, 3], np.uint8), 8)


def test_a_search_that_fails_costs_one_photo(embedded, tmp_path):
    faces, editor, photos, estimates, _ = embedded
    wild = [estimates[0], estimates[1].copy(), estimates[2]]
    wild[1].coeffs[:] = np.float32(3e38)
    found = editor.embed(photos, wild, 8)
    assert found[1] is None and found[0] and found[2]
    listed = [editing.Photo(name, photo, face, str(tmp_path / f'{name}.npz'), '')
              for name, photo, face in zip('abc', photos, wild)]
    assert editing.embed_photos(editor, listed, 8)['b'] is None
    assert sorted(os.listdir(str(tmp_path))) == ['a.npz', 'c.npz']


def test_photos_get_the_generators_size():
    photo = np.random.RandomState(0).randint(256, size=[16, 16, 3]).astype(np.uint8)
    means = photo.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    assert_close(editing.fit_photo(photo, 8), np.floor(means + 0.5), atol=1)
    assert_close(editing.fit_photo(photo, 16), photo)
    assert editing.fit_photo(photo, 32).shape == (32, 32, 3)


def test_the_pyramid_compares_all_sizes():
    from dnnlib.tflib.compat import tf
    a = np.random.RandomState(1).uniform(-1, 1, [2, 3, 32, 32]).astype(np.float32)
    expected = sum(np.abs(a.reshape(2, 3, s, 32 // s, s, 32 // s).mean(axis=(3, 5))).mean(axis=(1, 2, 3))
                   for s in (32, 16, 8))
    with tf.Graph().as_default(), tf.Session() as session:
        assert_close(session.run(editing.pyramid_l1(tf.constant(a), tf.zeros_like(a))), expected, rtol=1e-5)


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
        coeff = [coefficient_files.read_arrays(f'edit_images/{name}_0{i}.npz')['coeff'] for i in range(2)]
        assert_close(coeff[0][:227], own[:227], atol=1e-6)          # lighting is 227:254
        assert np.abs(coeff[0][227:254] - coeff[1][227:254]).max() > 0
    lights = [coefficient_files.read_arrays(f'edit_images/{name}_00.npz')['coeff'][227:254] for name in 'ab']
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


def test_embeddings_are_searched_for_once(world, photos, capsys):
    _run(world, capsys)
    first = {name: os.stat(f'data/embedded/{name}.npz').st_mtime_ns for name in 'ab'}
    code, _, err = _run(world, capsys, '--factor', 1, '--outdir', 'other')
    assert code == 0 and 'embedding' not in err
    assert first == {name: os.stat(f'data/embedded/{name}.npz').st_mtime_ns for name in 'ab'}
    Image.fromarray(np.full([256, 256, 3], 9, np.uint8)).save('data/img/a.png')     # another photo
    code, _, err = _run(world, capsys, '--factor', 1, '--outdir', 'third')
    assert code == 0 and 'embedding' in err
    assert first['a'] < os.stat('data/embedded/a.npz').st_mtime_ns
    assert first['b'] == os.stat('data/embedded/b.npz').st_mtime_ns


def _times(*names):
    return {name: os.stat(f'edit_images/{name}.png').st_mtime_ns for name in names}


def test_pictures_are_kept_until_what_they_show_changes(world, photos, capsys):
    command = ['--reference', 'data/coeff/b.mat', '--take', 'pose']
    _run(world, capsys, *command)
    old = _times('a_as_b', 'a_redrawn')
    _run(world, capsys, *command)
    assert _times(*old) == old
    os.remove('edit_images/a_redrawn.png')
    later = os.path.getmtime('data/coeff/b.mat') + 1000
    os.utime('data/coeff/b.mat', (later, later))
    _run(world, capsys, *command)
    assert all(now > old[name] for name, now in _times(*old).items())
    code, _, err = _run(world, capsys, '--reference', 'data/coeff/a.mat', '--take', 'pose')
    assert code == 1 and 'reference' in err


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
    label.write('data', 'synthetic')
    code, _, err = _run(world, capsys)
    assert code == 1 and 'worlds cannot be mixed' in err


# The truth: photos of the synthetic world can be taken again with another pose or light

def test_edits_come_nearer_to_the_true_photo():
    results, _ = differences(DEMO, count=4, steps=120)
    assert results['redrawn'][0] < 16
    for word in ('pose', 'lighting'):
        edited, left_as_it_is = results[word]
        assert edited < 0.85 * left_as_it_is, word
