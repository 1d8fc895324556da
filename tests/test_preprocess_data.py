"""preprocess_data.py and its pipeline: good photos are done whatever lies beside them, interrupted runs resume."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from PIL import Image

import config
import preprocess_data
from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import EasyDict, UserError
from perception import networks_recon, networks_small
from preprocess import alignment, detect, landmarks, picture_files, pipeline, plan
from renderer import face_model
from tests import oracle_networks
from tests.common import assert_close, shared
from worlds import label

TEMPLATE = np.array([[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0.0, -0.05, 0.55], [-0.25, -0.38, 0.22],
                     [0.25, -0.38, 0.22]])
POINTS = np.array([100, 80]) + TEMPLATE[:, :2] * [90, -90]         # a face in a picture of 200 x 160


def _photo(path, seed):
    noise = np.random.RandomState(seed).randint(0, 256, [20, 25, 3]).astype(np.uint8)
    Image.fromarray(noise).resize((200, 160)).save(str(path))


def _good_photos(folder, names):
    folder.mkdir()
    for seed, name in enumerate(names):
        _photo(folder / name, seed)
        landmarks.write(str(folder / (os.path.splitext(name)[0] + '.txt')), POINTS)
    return folder


def _reconstruct(batch):
    """Coefficients that tell the pictures apart, no translation."""
    coeffs = np.zeros([len(batch), 257], np.float32)
    coeffs[:, 0] = batch.reshape(len(batch), -1).mean(axis=1)
    return coeffs


def _process(folder, save_path, reconstruct=_reconstruct, batch=2):
    jobs, outcome = plan.plan(str(folder), str(folder), str(save_path))
    pipeline.process(jobs, outcome, TEMPLATE, str(save_path), reconstruct, batch=batch, workers=1)
    return outcome


def _add_broken_files(folder):
    """Files of every broken kind -> {name: part of the reason}."""
    whole = (folder / 'a.png').read_bytes()
    (folder / 'zero.png').write_bytes(b'')
    (folder / 'text.jpg').write_bytes(b'no picture')
    (folder / 'cut.png').write_bytes(whole[:len(whole) // 2])
    for name in ('zero', 'text', 'cut'):
        landmarks.write(str(folder / (name + '.txt')), POINTS)
    reasons = {'zero.png': 'cannot be read', 'text.jpg': 'cannot be read', 'cut.png': 'cannot be read'}
    for name, text, reason in (('four', '1 2\n' * 4, '4 lines'), ('words', 'a b\n' * 5, 'no number'),
                               ('outside', '150 110\n190 110\n170 132\n154 155\n190 190\n', 'outside the picture'),
                               ('tiny', '9 9\n9.1 9\n9 9.1\n9 9.2\n9.1 9.2\n', 'too close')):
        _photo(folder / (name + '.png'), 7)
        (folder / (name + '.txt')).write_text(text)
        reasons[name + '.png'] = reason
    _photo(folder / 'alone.png', 8)
    _photo(folder / 'a.jpg', 9)
    reasons.update({'alone.png': 'no landmarks', 'a.jpg': 'has the name of a.png'})
    return reasons


def test_broken_files_lose_none_of_the_good(tmp_path):
    folder = _good_photos(tmp_path / 'in', ['a.png', 'b.JPG', 'c.jpeg', 'd.PNG', 'e.png'])
    Image.open(str(folder / 'e.png')).convert('L').save(str(folder / 'e.png'))
    reasons = _add_broken_files(folder)
    out = tmp_path / 'out'
    outcome = _process(folder, out)
    assert (outcome.new, outcome.before) == (5, 0)
    assert set(outcome.skipped) == set(reasons)
    for name, reason in reasons.items():
        assert reason in outcome.skipped[name], name
    assert sorted(os.listdir(str(out / 'img'))) == ['a.png', 'b.png', 'c.png', 'd.png', 'e.png']
    assert sorted(os.listdir(str(out / 'coeff'))) == ['a.mat', 'b.mat', 'c.mat', 'd.mat', 'e.mat']
    for file in ('a.png', 'b.JPG'):
        _check_result(folder, file, out)
    plan.write_skipped(str(out), outcome.skipped)
    lines = (out / 'skipped.txt').read_text().splitlines()
    assert len(lines) == len(reasons) and lines == sorted(lines)
    plan.write_skipped(str(out), {})
    assert not (out / 'skipped.txt').exists()


def _check_result(folder, file, out):
    """The two results of a photo are what alignment gives for it."""
    name = os.path.splitext(file)[0]
    photo = picture_files.read_rgb(str(folder / file))
    aligned = alignment.align(photo, alignment.fit(np.round(POINTS, 2), TEMPLATE, (200, 160)))
    coeff = scipy.io.loadmat(str(out / 'coeff' / (name + '.mat')))['coeff']
    assert coeff.shape == (1, 257) and coeff.dtype == np.float32
    assert np.array_equal(coeff, _reconstruct(alignment.recon_input(aligned)[None]))
    crop = np.asarray(Image.open(str(out / 'img' / (name + '.png'))))
    assert np.array_equal(crop, alignment.crop_face(aligned, (0, 0, 0)))


def test_interrupted_run_resumes(tmp_path):
    folder = _good_photos(tmp_path / 'in', ['a.png', 'b.png', 'c.png', 'd.png', 'e.png', 'f.png'])
    out = tmp_path / 'out'
    calls = []

    def interrupted(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return _reconstruct(batch)

    jobs, outcome = plan.plan(str(folder), str(folder), str(out))
    with pytest.raises(KeyboardInterrupt):
        pipeline.process(jobs, outcome, TEMPLATE, str(out), interrupted, batch=2, workers=1)
    done = set(os.listdir(str(out / 'img')))
    assert 1 <= len(done) <= 4 and outcome.new == len(done)
    times = {name: os.stat(str(out / 'img' / name)).st_mtime_ns for name in done}
    first = sorted(done)[0][:-4]
    (out / 'coeff' / (first + '.mat')).unlink()                        # half a result counts as none
    outcome = _process(folder, out)
    assert outcome.before == len(done) - 1 and outcome.new == 6 - outcome.before
    assert len(os.listdir(str(out / 'img'))) == len(os.listdir(str(out / 'coeff'))) == 6
    for name in done - {first + '.png'}:
        assert os.stat(str(out / 'img' / name)).st_mtime_ns == times[name]


def test_reconstructions_that_cannot_be_used(tmp_path):
    folder = _good_photos(tmp_path / 'in', ['a.png', 'b.png'])
    values = {'a': (0, np.nan), 'b': (256, 10.0)}                      # not finite; a face in the camera
    order = iter(sorted(values))

    def bad(batch):
        coeffs = _reconstruct(batch)
        for row in coeffs:
            index, value = values[next(order)]
            row[index] = value
        return coeffs

    outcome = _process(folder, tmp_path / 'out', bad, batch=1)
    assert outcome.new == 0 and 'not finite' in outcome.skipped['a.png'] and 'translation' in outcome.skipped['b.png']
    assert not (tmp_path / 'out' / 'img').exists() and not (tmp_path / 'out' / 'coeff').exists()


def test_both_results_or_none(tmp_path):
    (tmp_path / 'img').write_text('in the way')
    with pytest.raises(UserError, match='img'):
        pipeline.write_results(str(tmp_path), 'a', np.zeros([256, 256, 3], np.uint8), np.zeros(257))
    assert os.listdir(str(tmp_path / 'coeff')) == []


def test_world_is_kept(tmp_path):
    assert label.read(str(tmp_path)) is None
    label.write(str(tmp_path), 'real')
    label.write(str(tmp_path), 'real')
    assert label.read(str(tmp_path)) == 'real'
    with pytest.raises(UserError, match='cannot be mixed'):
        label.write(str(tmp_path), 'human')
    (tmp_path / 'world.json').write_text('[]')
    with pytest.raises(UserError, match='world.json'):
        label.read(str(tmp_path))


def test_worlds_of_model_and_networks_must_agree(tmp_path):
    for name in ('face', 'nets'):
        (tmp_path / name).mkdir()
    options = preprocess_data.parse_options(
        ['--image_path', 'x', '--world', 'human', '--face_model', str(tmp_path / 'face'), '--weights',
         str(tmp_path / 'nets' / 'experts.json')])
    (tmp_path / 'nets' / 'experts.json').write_text('{}')
    preprocess_data.open_world(options)
    label.write(str(tmp_path / 'face'), 'human')
    preprocess_data.open_world(options)
    label.write(str(tmp_path / 'nets'), 'real')
    with pytest.raises(UserError, match='nets/experts.json is of the real world, all else is of the human world'):
        preprocess_data.open_world(options)
    options.world = 'real'
    with pytest.raises(UserError, match='face is of the human world'):
        preprocess_data.open_world(options)


class _Detector:
    """Stands for mtcnn: one small and one large face, none in a dark picture."""

    def detect_faces(self, picture):
        if picture.mean() < 10:
            return []
        point = lambda x, y: dict(left_eye=(x, y), right_eye=(x + 9, y), nose=(x + 4, y + 5), mouth_left=(x, y + 9),
                                  mouth_right=(x + 9, y + 9))
        return [dict(box=[0, 0, 5, 5], keypoints=point(1, 1)), dict(box=[0, 0, 50, 50], keypoints=point(20, 30))]


def test_detection_takes_the_largest_face_and_goes_on(tmp_path):
    _photo(tmp_path / 'a.png', 0)
    _photo(tmp_path / 'b.png', 1)
    (tmp_path / 'b.txt').write_text('kept')
    Image.new('RGB', (50, 50)).save(str(tmp_path / 'dark.png'))
    (tmp_path / 'zero.png').write_bytes(b'')
    count, skipped = detect.detect_folder(str(tmp_path), str(tmp_path), _Detector())
    assert count == 1 and set(skipped) == {'dark.png', 'zero.png'}
    assert skipped['dark.png'] == 'no face was found'
    assert landmarks.read(str(tmp_path / 'a.txt'))[0].tolist() == [20, 30]
    assert (tmp_path / 'b.txt').read_text() == 'kept'


# ------------------------------------------------------------------------------------------------ what is done again

def _outcome(folder, out, settings=None):
    jobs, outcome = plan.plan(str(folder), str(folder), str(out), settings)
    pipeline.process(jobs, outcome, TEMPLATE, str(out), _reconstruct, batch=2, workers=1, settings=settings)
    return outcome


def test_results_belong_to_what_they_were_made_from(tmp_path):
    folder, out = _good_photos(tmp_path / 'in', ['a.png', 'b.png', 'c.png']), tmp_path / 'out'
    assert _outcome(folder, out, {'network': 'x'}).new == 3
    first = (out / 'img' / 'a.png').read_bytes()
    landmarks.write(str(folder / 'a.txt'), POINTS + 5)              # corrected
    _photo(folder / 'b.png', 77)                                    # replaced under its name
    outcome = _outcome(folder, out, {'network': 'x'})
    assert (outcome.new, outcome.before) == (2, 1)
    assert outcome.again == {'landmarks changed': 1, 'photo changed': 1}
    assert (out / 'img' / 'a.png').read_bytes() != first
    _check_result(folder, 'b.png', out)
    outcome = _outcome(folder, out, {'network': 'y'})
    assert outcome.again == {'other network': 3} and outcome.new == 3
    assert _outcome(folder, out, {'network': 'y'}).before == 3


def test_networks_and_templates_are_told_apart(tmp_path):
    def settings(content, template=TEMPLATE, **more):
        (tmp_path / 'w.index').write_bytes(b'index')
        (tmp_path / 'w.data-00000-of-00001').write_bytes(content)
        spec = EasyDict(network='small_recon', weights=str(tmp_path / 'w'), **more)
        return preprocess_data.settings_of(template, {'recon': spec})

    first = settings(b'one')
    assert settings(b'one') == first and set(first) == {'face model', 'reconstruction network'}
    assert settings(b'two')['reconstruction network'] != first['reconstruction network']
    assert settings(b'one', size=64)['reconstruction network'] != first['reconstruction network']
    assert settings(b'one', TEMPLATE + 0.01)['face model'] != first['face model']
    spec = EasyDict(network='small_recon', weights=str(tmp_path / 'w'))
    other = preprocess_data.settings_of(TEMPLATE, {'recon': spec}, 'bfloat16')
    assert set(other) - set(first) == {'precision'}             # so results of float32 are made again


def test_a_result_that_no_longer_fits_is_named(tmp_path):
    folder, out = _good_photos(tmp_path / 'in', ['a.png']), tmp_path / 'out'
    _outcome(folder, out)
    (folder / 'a.txt').write_text('no landmarks')
    outcome = _outcome(folder, out)
    assert 'its results of an earlier run no longer fit' in outcome.skipped['a.png']
    (folder / 'a.txt').unlink()
    assert 'a.png is of an earlier run' in _outcome(folder, out).skipped['a.png']


def test_only_results_of_ours_are_replaced(tmp_path):
    folder, out = _good_photos(tmp_path / 'in', ['a.png', 'b.png', 'c.png']), tmp_path / 'out'
    (out / 'img').mkdir(parents=True)
    (out / 'img' / 'a.png').write_text('precious')
    outcome = _outcome(folder, out)
    assert outcome.new == 2 and 'was not made here' in outcome.skipped['a.png']
    (out / 'img' / 'b.png').write_text('retouched')
    landmarks.write(str(folder / 'b.txt'), POINTS + 5)
    outcome = _outcome(folder, out)
    assert outcome.new == 0 and 'changed since' in outcome.skipped['b.png']
    assert (out / 'img' / 'a.png').read_text() == 'precious' and (out / 'img' / 'b.png').read_text() == 'retouched'
    (out / 'skipped.txt').write_text('precious')
    with pytest.raises(UserError, match='skipped.txt: not written here'):
        plan.plan(str(folder), str(folder), str(out))


def test_folders_of_earlier_versions(tmp_path):
    """Without a record: what is not older than its sources is taken as it is, the rest is made again."""
    folder, out = _good_photos(tmp_path / 'in', ['a.png', 'b.png', 'c.png']), tmp_path / 'out'
    _outcome(folder, out)
    plan.write_skipped(str(out), {'x.png': 'old'})
    (out / 'made.jsonl').unlink()
    label.write(str(out), 'human')
    later = os.stat(str(out / 'img' / 'b.png')).st_mtime + 10
    os.utime(str(folder / 'b.txt'), (later, later))
    outcome = _outcome(folder, out)
    assert (outcome.adopted, outcome.before, outcome.new) == (2, 2, 1)
    assert outcome.again == {'landmarks and photo changed': 1}
    plan.write_skipped(str(out), {})
    assert not (out / 'skipped.txt').exists()
    outcome = _outcome(folder, out)
    assert (outcome.adopted, outcome.before) == (0, 3)
    landmarks.write(str(folder / 'a.txt'), POINTS + 5)
    assert _outcome(folder, out).again == {'landmarks changed': 1}


def test_photos_of_the_human_world_are_no_earlier_results(tmp_path):
    folder, out = _good_photos(tmp_path / 'in', ['a.png']), tmp_path / 'out'
    _outcome(folder, out)
    (out / 'made.jsonl').unlink()
    label.write(str(out), 'human')
    (out / 'photos.json').write_text('{}')
    outcome = _outcome(folder, out)
    assert (outcome.adopted, outcome.new, outcome.before) == (0, 0, 0)
    assert 'was not made here' in outcome.skipped['a.png']


@pytest.mark.parametrize('images, points, save', [
    ('D/img', 'D/lm', 'D'), ('D/./img', 'D/lm', 'link'), ('D', 'D/lm', 'D'), ('D/img', 'D/coeff', 'D')])
def test_results_never_lie_among_the_photos(tmp_path, monkeypatch, images, points, save):
    monkeypatch.chdir(tmp_path)
    for name in ('D/lm', 'D/coeff'):
        os.makedirs(name)
    _good_photos(tmp_path / 'D' / 'img', ['a.png'])
    os.symlink('D', 'link')
    before = (tmp_path / 'D' / 'img' / 'a.png').read_bytes()
    with pytest.raises(UserError, match='is the same place as|lies among the photos'):
        plan.plan(images, points, save)
    assert (tmp_path / 'D' / 'img' / 'a.png').read_bytes() == before
    assert sorted(os.listdir('D')) == ['coeff', 'img', 'lm']


def test_results_below_the_photos(tmp_path, monkeypatch):
    """The default ./data, run in the folder of the photos: results are no photos of the next run."""
    folder = _good_photos(tmp_path / 'in', ['a.png'])
    monkeypatch.chdir(folder)
    for expected in (1, 0):
        jobs, outcome = plan.plan('.', '.', './data')
        assert len(jobs) == expected and not outcome.skipped
        pipeline.process(jobs, outcome, TEMPLATE, './data', _reconstruct, workers=1)


# ------------------------------------------------------------------------------------------------ which photos

def test_folders_in_folders_and_other_kinds(tmp_path):
    folder = _good_photos(tmp_path / 'in', ['a.png'])
    for name in ('00000/1.webp', '00000/2.bmp', '01000/1.tif', '01000/3.jfif'):
        (folder / name).parent.mkdir(exist_ok=True)
        _photo(folder / name, 3)
        landmarks.write(str(folder / (os.path.splitext(name)[0] + '.txt')), POINTS)
    os.rename(str(folder / '01000' / '3.txt'), str(folder / '3.txt'))       # as if all landmarks lay in one folder
    (folder / '01000' / 'phone.HEIC').write_bytes(b'')
    outcome = _process(folder, tmp_path / 'out')
    assert outcome.new == 5 and sorted(os.listdir(str(tmp_path / 'out' / 'img'))) == [
        '00000_1.png', '00000_2.png', '01000_1.png', '01000_3.png', 'a.png']
    assert list(outcome.skipped) == ['01000/phone.HEIC'] and 'not read' in outcome.skipped['01000/phone.HEIC']


def test_names_that_are_long_or_not_utf8_or_forge_lines(tmp_path):
    folder = _good_photos(tmp_path / 'in', ['a.png'])
    names = ['x' * 251, os.fsdecode(b'\xc8\xcb'), 'a\nb.png: fine', 'deep/' + 'y' * 250]
    (folder / 'deep').mkdir()
    for name in names:
        shutil.copy(str(folder / 'a.png'), str(folder / (name + '.png')))
        shutil.copy(str(folder / 'a.txt'), str(folder / (name + '.txt')))
    (folder / 'b\nforged.jpg').write_bytes(b'')
    outcome = _process(folder, tmp_path / 'out')
    assert outcome.new == 4
    assert set(outcome.skipped) == {names[3] + '.png', 'b\nforged.jpg'}
    assert 'too long' in outcome.skipped[names[3] + '.png']
    plan.write_skipped(str(tmp_path / 'out'), outcome.skipped)
    assert len((tmp_path / 'out' / 'skipped.txt').read_text(encoding='utf-8').splitlines()) == 2


def test_a_photo_turned_by_its_exif_data(tmp_path):
    """Landmarks of the view and of the stored pixels both give the upright face, and it is said which they are."""
    folder = _good_photos(tmp_path / 'in', ['plain.png'])
    upright = picture_files.read_rgb(str(folder / 'plain.png'))
    stored = np.rot90(upright)                              # to be turned right by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, points in (('view', POINTS), ('stored', np.stack([POINTS[:, 1], 199 - POINTS[:, 0]], axis=1))):
        Image.fromarray(stored).save(str(folder / (name + '.png')), exif=exif)
        landmarks.write(str(folder / (name + '.txt')), points)
    outcome = _process(folder, tmp_path / 'out')
    assert outcome.new == 3 and set(outcome.turned) == {'view.png', 'stored.png'}
    assert outcome.turned['view.png'].endswith('the landmarks are of this view')
    assert outcome.turned['stored.png'].endswith('the landmarks are of the picture as it is stored')
    pictures = [np.asarray(Image.open(str(tmp_path / 'out' / 'img' / (name + '.png'))))
                for name in ('plain', 'view', 'stored')]
    assert np.array_equal(pictures[0], pictures[1]) and np.array_equal(pictures[0], pictures[2])


def test_detection_looks_at_the_photo_that_has_the_name(tmp_path):
    _photo(tmp_path / 'a.PNG', 0)
    Image.new('RGB', (50, 50)).save(str(tmp_path / 'a.jpg'))            # dark: no face would be found
    count, skipped = detect.detect_folder(str(tmp_path), str(tmp_path), _Detector())
    assert count == 1 and list(skipped) == ['a.jpg'] and 'has the name of a.PNG' in skipped['a.jpg']
    names, left_out = plan.photo_names(str(tmp_path))
    assert names == {'a': 'a.PNG'} and list(left_out) == ['a.jpg']      # the same rule


class _UprightDetector(_Detector):
    """Sees a face only in pictures that are higher than wide."""

    def detect_faces(self, picture):
        return super().detect_faces(picture) if picture.shape[0] > picture.shape[1] else []


def test_detection_says_that_a_photo_lies_on_its_side(tmp_path):
    _photo(tmp_path / 'a.png', 0)                           # 200 x 160
    count, skipped = detect.detect_folder(str(tmp_path), str(tmp_path), _UprightDetector())
    assert count == 0
    assert skipped['a.png'].startswith('no face was found, but one when it is turned right by 90 degrees: the photo is')
    exif = Image.Exif()
    exif[0x0112] = 6                                        # as a viewer shows it, it is upright
    Image.open(str(tmp_path / 'a.png')).save(str(tmp_path / 'a.png'), exif=exif)
    assert detect.detect_folder(str(tmp_path), str(tmp_path), _UprightDetector())[0] == 1


def test_the_reason_of_detection_is_kept(tmp_path, monkeypatch):
    folder = _good_photos(tmp_path / 'in', ['a.png', 'b.png'])
    (folder / 'b.txt').unlink()
    jobs, outcome = plan.plan(str(folder), str(folder), str(tmp_path / 'out'), {}, {'b.png': 'no face was found'})
    assert outcome.skipped == {'b.png': 'no face was found'} and len(jobs) == 1


# ------------------------------------------------------------------------------------------------ the command itself

def _run(*arguments, **options):
    command = [sys.executable, os.path.join(config.ROOT, 'preprocess_data.py')] + list(arguments)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300,
                          **options)


def _face_model_folder(folder, points_68):
    folder.mkdir()
    (folder / face_model.MODEL_FILE).write_bytes(b'')                  # converted already; only the template is read
    scipy.io.savemat(str(folder / 'similarity_Lm3D_all.mat'), {'lm': points_68})
    return str(folder)


def _save_network(build, prefix, fill):
    with tf.Graph().as_default() as graph, tfutil.create_session(2, graph):
        build()
        fill()
        checkpoints.save(prefix, {v.op.name: v for v in tf.global_variables()})


@pytest.fixture(scope='module')
def small_world(tmp_path_factory):
    """Face model folder and table of networks of a world whose reconstruction network is small and untrained."""
    folder = tmp_path_factory.mktemp('world')
    points = np.zeros([68, 3])
    for place, five in zip(([36, 39], [42, 45], [30], [48], [54]), TEMPLATE):
        points[place] = five
    model = _face_model_folder(folder / 'face', points)
    _save_network(lambda: networks_small.small_recon(tf.zeros([1, 32, 32, 3]), width=4), str(folder / 'recon'),
                  tfutil.init_uninitialized_vars)
    table = folder / 'experts.json'
    table.write_text(json.dumps({'recon': dict(network='small_recon', weights='recon', size=32, width=4)}))
    return ['--face_model', model, '--weights', str(table), '--world', 'human', '--workers', '1']


def test_command_end_to_end(tmp_path, small_world):
    folder = _good_photos(tmp_path / 'in', ['a.png', 'b.png', 'c.jpg'])
    reasons = _add_broken_files(folder)
    options = ['--image_path', 'in', '--save_path', 'out'] + small_world
    first = _run(*options, cwd=str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert f'3 photos done, 0 were done before, {len(reasons)} skipped' in first.stdout
    assert '--detect finds them' in first.stdout
    assert len((tmp_path / 'out' / 'skipped.txt').read_text().splitlines()) == len(reasons)
    assert label.read(str(tmp_path / 'out')) == 'human'
    again = _run(*options, cwd=str(tmp_path))
    assert again.returncode == 0 and '0 photos done, 3 were done before' in again.stdout
    mixed = _run(*(options + ['--world', 'real']), cwd=str(tmp_path))
    assert mixed.returncode == 1 and 'cannot be mixed' in mixed.stderr


def test_a_precision_is_used_or_refused_before_anything_is_written(tmp_path, small_world):
    _good_photos(tmp_path / 'in', ['a.png'])
    done = _run('--image_path', 'in', '--save_path', 'out', '--precision', 'bfloat16', *small_world, cwd=str(tmp_path))
    try:
        tfutil.check_precision('bfloat16')
    except UserError as error:
        assert done.returncode == 1 and str(error) in done.stderr and not (tmp_path / 'out').exists()
    else:
        assert done.returncode == 0 and '1 photos done' in done.stdout, done.stderr
        assert '"precision":"bfloat16"' in (tmp_path / 'out' / 'made.jsonl').read_text()


def test_command_names_what_is_missing(tmp_path, small_world):
    (tmp_path / 'empty').mkdir()
    folder = _good_photos(tmp_path / 'in', ['a.png'])
    save = ['--save_path', str(tmp_path / 'out')]
    for options, expected in ((['--image_path', str(tmp_path / 'none')], 'cannot be listed'),
                              (['--image_path', str(tmp_path / 'empty')], 'no photos'),
                              (['--image_path', str(folder), '--lm_path', str(tmp_path / 'none')], '--lm_path'),
                              (['--image_path', str(folder), '--face_model', str(tmp_path / 'none')],
                               '01_MorphableModel.mat'),
                              (['--image_path', str(folder)] + small_world[:2] + ['--weights', str(tmp_path / 'none')],
                               'none.index')):
        done = _run(*(options + save))
        assert done.returncode == 1 and expected in done.stderr and 'Traceback' not in done.stderr, done.stderr
    assert not (tmp_path / 'out').exists()


def test_recorded_end_to_end(tmp_path):
    """The photos of the recorded run with the recorded network: coefficients within 1e-4, pictures within 3 levels."""
    names = ['vd006', 'vd034']
    (tmp_path / 'in').mkdir()
    for name in names:
        for ending in ('.png', '.txt'):
            shutil.copy(shared('data', 'photos', name + ending), str(tmp_path / 'in' / (name + ending)))
    points = scipy.io.loadmat(shared('data', 'bfm_index', 'similarity_Lm3D_all.mat'))['lm']
    model = _face_model_folder(tmp_path / 'face', points)
    weights = str(tmp_path / 'FaceReconModel')
    _save_network(lambda: networks_recon.R_Net(tf.zeros([1, 224, 224, 3])), weights,
                  oracle_networks.fill_with_oracle_weights)
    out = tmp_path / 'out'
    done = _run('--image_path', str(tmp_path / 'in'), '--save_path', str(out), '--face_model', model,
                '--weights', weights, '--workers', '1')
    assert done.returncode == 0, done.stderr
    for name in names:
        expected = scipy.io.loadmat(shared('oracle', 'perception', 'e2e_preprocess_data', 'coeff', name + '.mat'))
        assert_close(scipy.io.loadmat(str(out / 'coeff' / (name + '.mat')))['coeff'], expected['coeff'], atol=1e-4)
        picture = np.asarray(Image.open(shared('oracle', 'perception', 'e2e_preprocess_data', 'img', name + '.png')))
        actual = np.asarray(Image.open(str(out / 'img' / (name + '.png'))))
        assert_close(actual.astype(int), picture.astype(int), atol=3)
