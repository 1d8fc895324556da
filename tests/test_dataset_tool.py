"""dataset_tool.py: the recorded datasets, and what it does with pictures that do not fit."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

import config
import dataset_tool
from dnnlib import places, tfrecords
from dnnlib.util import UserError
from preprocess import dataset_writer, picture_files
from tests.common import shared
from worlds import label


def _run(*arguments, **options):
    command = [sys.executable, os.path.join(config.ROOT, 'dataset_tool.py')] + [str(a) for a in arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300,
                          **options)


def _pictures(folder, count=5, size=16, channels=3):
    """Noise pictures p0.png, ... -> the arrays [H, W, C]."""
    folder.mkdir()
    pictures = []
    for k in range(count):
        picture = np.random.RandomState(k).randint(0, 256, [size, size, channels]).astype(np.uint8)
        Image.fromarray(picture[:, :, 0] if channels == 1 else picture).save(str(folder / f'p{k}.png'))
        pictures.append(picture)
    return pictures


def _read(folder, level=0):
    return list(tfrecords.read_images(tfrecords.read_levels(str(folder))[level].path))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A folder with pictures and the dataset `d` made of them by the command, unshuffled -> (folder, pictures)."""
    folder = tmp_path_factory.mktemp('small')
    pictures = _pictures(folder / 'in')
    label.write(str(folder), 'human')
    done = _run('create_from_images', 'd/', 'in', '--shuffle', '0', '--workers', '1', cwd=str(folder))
    assert done.returncode == 0 and 'Added 5 images.' in done.stdout, done.stderr
    return folder, pictures


def test_create(small):
    folder, pictures = small
    assert sorted(os.listdir(str(folder / 'd'))) == ['d-r02.tfrecords', 'd-r03.tfrecords', 'd-r04.tfrecords',
                                                     'made.jsonl', 'world.json']
    assert label.read(str(folder / 'd')) == 'human'
    for picture, image in zip(pictures, _read(folder / 'd')):
        assert np.array_equal(image, picture.transpose(2, 0, 1))
    for picture, image in zip(pictures, _read(folder / 'd', 2)):
        means = picture.astype(float).reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
        assert np.array_equal(image, np.rint(means).transpose(2, 0, 1))         # unrounded in between


def test_rounding_is_half_to_even():
    picture = np.zeros([8, 8, 1], np.uint8)
    picture[::2, ::2] = 2                                   # 0.5
    picture[4:, :, 0] += np.tile([[1, 0], [1, 2]], [2, 4]).astype(np.uint8)    # plus 1: 1.5
    assert np.array_equal(dataset_writer.pyramid(picture)[1][0], [[0] * 4] * 2 + [[2] * 4] * 2)


@pytest.mark.parametrize('shuffle', [0, 1])
def test_recorded_datasets(tmp_path, shuffle):
    name = f'alignA_sh{shuffle}'
    with open(shared('oracle', 'perception', 'tfrecords', 'tfrecords_index.json'), encoding='utf-8') as file:
        index = json.load(file)
    source = dataset_writer.ImageFiles(shared('oracle', 'perception', 'preprocess', 'crop256'))
    skipped, count = dataset_writer.write_dataset(str(tmp_path / name), source, shuffle, 1)
    assert (skipped, count) == ([], 8)
    for log2 in range(2, 9):
        path = str(tmp_path / name / f'{name}-r{log2:02d}.tfrecords')
        entry, md5 = index[os.path.basename(path)], hashlib.md5()
        for image in tfrecords.read_images(path):
            md5.update(image.tobytes())
        assert md5.hexdigest() == entry['md5_of_concatenated_raw_image_bytes']
        assert os.path.getsize(path) == entry['bytes']


def test_recorded_grey_dataset(tmp_path):
    source = dataset_writer.ImageFiles(shared('oracle', 'perception', 'tfrecords', 'grayA_source'))
    dataset_writer.write_dataset(str(tmp_path / 'g'), source, False, 1)
    recorded = shared('oracle', 'perception', 'tfrecords', 'grayA_sh0')
    for level in range(5):
        assert np.array_equal(_read(tmp_path / 'g', level), _read(recorded, level))


def test_order_is_kept_over_many_chunks(tmp_path):
    pictures = _pictures(tmp_path / 'in', count=40, size=4, channels=1)
    names = sorted(range(40), key=lambda k: f'p{k}.png')
    order = np.arange(40)
    np.random.RandomState(123).shuffle(order)
    dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(tmp_path / 'in')), True, 2)
    for image, k in zip(_read(tmp_path / 'd'), order):
        assert np.array_equal(image[0], pictures[names[k]][:, :, 0])


def test_misfits_lose_none_of_the_good(tmp_path):
    pictures = _pictures(tmp_path / 'in')
    folder = tmp_path / 'in'
    whole = (folder / 'p0.png').read_bytes()
    (folder / 'cut.png').write_bytes(whole[:len(whole) // 2])
    (folder / 'zero.png').write_bytes(b'')
    Image.new('RGB', (8, 8)).save(str(folder / 'small.png'))
    Image.new('RGB', (16, 8)).save(str(folder / 'wide.png'))
    (folder / 'notes.txt').write_text('text')
    (folder / '.hidden').write_text('text')
    (folder / 'sub').mkdir()
    (folder / 'sub' / 'phone.heic').write_bytes(b'')
    grey = Image.fromarray(pictures[1][:, :, 0])
    grey.save(str(folder / 'q-grey.png'))
    rgba = np.dstack([pictures[2], np.full([16, 16], 255, np.uint8)])
    Image.fromarray(rgba).save(str(folder / 'q-rgba.png'))
    done = _run('create_from_images', 'd', 'in', '--shuffle', '0', '--workers', '1', cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert 'Added 7 images. Skipped 4.' in done.stdout
    for line in ('cut.png: cannot be read', 'zero.png: cannot be read',
                 'small.png: 8x8 RGB, but the dataset is 16x16 RGB',
                 'wide.png: 16x8 RGB', 'notes.txt: no picture', 'sub/phone.heic: a kind of picture that is not read'):
        assert 'skipped ' + line in done.stdout, line
    images = _read(tmp_path / 'd')
    expected = pictures + [np.repeat(pictures[1][:, :, :1], 3, axis=2), pictures[2]]
    assert np.array_equal(images, [picture.transpose(2, 0, 1) for picture in expected])


def test_left_out_images_leave_no_gaps(tmp_path):
    """Records are written into their places by several threads; what could not be used is closed up."""
    pictures = _pictures(tmp_path / 'in', count=60, size=8)
    names = [f'p{k}.png' for k in range(60)]
    bad = {'p0.png', 'p17.png', 'p18.png', 'p35.png', 'p59.png'}
    for name in bad:
        (tmp_path / 'in' / name).write_bytes(b'damaged')
    source = dataset_writer.ImageFiles(str(tmp_path / 'in'))
    skipped, count = dataset_writer.write_dataset(str(tmp_path / 'd'), source, True, 3)
    assert count == 55 and {line.split(':')[0] for line in skipped} == bad
    order = np.arange(60)
    np.random.RandomState(123).shuffle(order)
    expected = [pictures[names.index(source.names[k])].transpose(2, 0, 1) for k in order if source.names[k] not in bad]
    assert np.array_equal(_read(tmp_path / 'd'), expected)
    assert [level.count for level in tfrecords.read_levels(str(tmp_path / 'd'))] == [55, 55]


def test_zip_files(tmp_path, small):
    folder, pictures = small
    path = str(tmp_path / 'in.zip')
    with zipfile.ZipFile(path, 'w') as file:
        for k in range(5):
            file.write(str(folder / 'in' / f'p{k}.png'), f'deep/p{k}.png')
        file.writestr('deep/readme.txt', 'text')
    source = dataset_writer.ImageFiles(path)
    assert source.ignored == ['deep/readme.txt']
    dataset_writer.write_dataset(str(tmp_path / 'd'), source, False, 1)
    assert np.array_equal(_read(tmp_path / 'd'), _read(folder / 'd'))
    with open(path, 'wb') as file:
        file.write(b'no zip file')
    with pytest.raises(UserError, match='zip'):
        dataset_writer.ImageFiles(path)


def test_hdf5_with_labels(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, [6, 3, 8, 8]).astype(np.uint8)
    with h5py.File(str(tmp_path / 'x.h5'), 'w') as file:
        file['data4x4'], file['data8x8'], file['other'] = images[:, :, :4, :4], images, images
    np.save(str(tmp_path / 'x-labels.npy'), np.arange(12.0).reshape(6, 2))
    done = _run('create_from_hdf5', 'd', 'x.h5', '--workers', '1', cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    order = np.arange(6)
    np.random.RandomState(123).shuffle(order)
    assert np.array_equal(_read(tmp_path / 'd'), images[order])
    labels = tfrecords.read_labels(str(tmp_path / 'd'))
    assert labels.dtype == np.float32 and np.array_equal(labels, np.arange(12.0).reshape(6, 2)[order])
    with h5py.File(str(tmp_path / 'y.h5'), 'w') as file:
        file['pictures'] = images
    with pytest.raises(UserError, match='data'):
        dataset_writer.Hdf5Images(str(tmp_path / 'y.h5'))


@pytest.mark.parametrize('labels, reason', [
    (b'', 'cannot be read'), (b'no array', 'cannot be read'), (b'PK\3\4 no zip', 'cannot be read'),
    (np.array(3.0), r'shape \[\]'), (np.zeros([6, 1], complex), 'type complex128'), (np.zeros(5), '5 labels for 6')])
def test_labels_that_do_not_fit(tmp_path, labels, reason):
    path = str(tmp_path / 'x.h5')
    with h5py.File(path, 'w') as file:
        file['data'] = np.zeros([6, 3, 8, 8], np.uint8)
    if isinstance(labels, bytes):
        (tmp_path / 'x-labels.npy').write_bytes(labels)
    else:
        np.save(str(tmp_path / 'x-labels.npy'), labels)
    with pytest.raises(UserError, match='x-labels.npy: .*' + reason) as caught:
        dataset_tool.create_from_hdf5(str(tmp_path / 'd'), path, 1, 1, None)
    assert '\n' not in str(caught.value) and not (tmp_path / 'd').exists()


@pytest.mark.parametrize('shape', [[0, 3, 8, 8], [6, 3, 8, 0]])
def test_hdf5_without_images(tmp_path, shape):
    with h5py.File(str(tmp_path / 'x.h5'), 'w') as file:
        file.create_group('data')
        file['data1'] = np.zeros(shape, np.uint8)
    with pytest.raises(UserError, match=r"x.h5: its array 'data1' of shape .* holds no images"):
        dataset_writer.Hdf5Images(str(tmp_path / 'x.h5'))


def test_folders_that_cannot_be_used(tmp_path):
    for name, size in (('wide', (16, 8)), ('odd', (12, 12)), ('dots', (2, 2))):
        (tmp_path / name).mkdir()
        Image.new('RGB', size).save(str(tmp_path / name / 'a.png'))
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'a.png').write_bytes(b'')
    for name, reason in (('wide', 'same width and height'), ('odd', 'power-of-two'), ('dots', 'power-of-two'),
                         ('broken', 'none of the images'), ('empty', 'No input images'), ('none', 'No input images')):
        with pytest.raises(UserError, match=reason):
            dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(tmp_path / name)), True, 1)
    assert not (tmp_path / 'd').exists()


def test_target_folder(tmp_path, small):
    """An older dataset of ours is replaced, with all its levels; anything else is left alone."""
    folder, _ = small
    _pictures(tmp_path / 'large', size=32)
    source = dataset_writer.ImageFiles(str(folder / 'in'))
    dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(tmp_path / 'large')), False, 1)
    dataset_writer.write_dataset(str(tmp_path / 'd'), source, False, 1)
    assert 'd-r05.tfrecords' not in os.listdir(str(tmp_path / 'd')) and len(_read(tmp_path / 'd')) == 5
    for name in ('thesis.tex', 'other-r05.tfrecords', 'd-rxx.labels'):
        (tmp_path / 'd' / name).write_text('precious')
        with pytest.raises(UserError, match=name):
            dataset_writer.write_dataset(str(tmp_path / 'd'), source, False, 1)
        assert (tmp_path / 'd' / name).read_text() == 'precious'
        (tmp_path / 'd' / name).unlink()
    (tmp_path / 'd' / places.RECORD).unlink()               # of an earlier version, or somebody else's
    with pytest.raises(UserError, match='d-r02.tfrecords, which was not made here'):
        dataset_writer.write_dataset(str(tmp_path / 'd'), source, False, 1)
    assert len(_read(tmp_path / 'd')) == 5


def test_a_linked_target_stays_a_link(tmp_path, small):
    folder, _ = small
    (tmp_path / 'big').mkdir()
    os.symlink('big', str(tmp_path / 'ffhq'))
    for _ in range(2):                                      # the second time over the first, from inside it
        done = _run('create_from_images', '../ffhq', folder / 'in', '--workers', '1', cwd=str(tmp_path / 'big'))
        assert done.returncode == 0, done.stderr
        assert os.path.islink(str(tmp_path / 'ffhq')) and len(_read(tmp_path / 'ffhq')) == 5
    assert 'ffhq-r04.tfrecords' in os.listdir(str(tmp_path / 'big'))
    os.symlink('new', str(tmp_path / 'out'))
    (tmp_path / 'new').mkdir()
    assert _run('extract', tmp_path / 'ffhq', tmp_path / 'out').returncode == 0
    assert len(os.listdir(str(tmp_path / 'new'))) == 5 and os.path.islink(str(tmp_path / 'out'))


def test_pictures_are_no_target(tmp_path, small):
    folder, _ = small
    os.symlink(str(folder / 'in'), str(tmp_path / 'link'))
    before = sorted(os.listdir(str(folder / 'in')))
    done = _run('create_from_images', tmp_path / 'link', folder / 'in')
    assert done.returncode == 1 and 'same place' in done.stderr
    assert sorted(os.listdir(str(folder / 'in'))) == before


def test_nothing_is_left_of_an_interrupted_dataset(tmp_path, small, monkeypatch):
    folder, _ = small

    def interrupted(*_):
        yield 0, None
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_writer, '_convert', interrupted)
    with pytest.raises(KeyboardInterrupt):
        dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(folder / 'in')), False, 1)
    assert os.listdir(str(tmp_path)) == []


def test_extract_and_display(tmp_path, small):
    folder, pictures = small
    done = _run('extract', folder / 'd', tmp_path / 'out')
    assert done.returncode == 0 and 'Extracted 5 images.' in done.stdout, done.stderr
    for k, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(Image.open(str(tmp_path / 'out' / f'img{k:08d}.png'))), picture)
    again = _run('extract', folder / 'd', tmp_path / 'out')
    assert again.returncode == 1 and 'not an empty folder' in again.stderr
    done = _run('display', folder / 'd', '--save', tmp_path / 'sheet.png', '--count', '4')
    assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(str(tmp_path / 'sheet.png')))
    assert np.array_equal(sheet, np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:4])]))
    screenless = {key: value for key, value in os.environ.items() if 'DISPLAY' not in key}
    if sys.platform == 'linux':
        done = _run('display', folder / 'd', env=screenless)
        assert done.returncode == 1 and '--save' in done.stderr


def test_display_writes_over_nothing(tmp_path, small):
    (tmp_path / 'a.png').write_text('precious')
    for name, reason in (('a.png', 'there already'), ('a', 'there already'), ('a.doc', 'not the name of a picture')):
        done = _run('display', small[0] / 'd', '--save', tmp_path / name)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    assert (tmp_path / 'a.png').read_text() == 'precious' and os.listdir(str(tmp_path)) == ['a.png']


def test_a_sheet_has_its_limit(tmp_path, small, monkeypatch):
    monkeypatch.setattr(dataset_tool, 'MOST_SHEET_PIXELS', 2 * 16 * 16)
    dataset_tool.display(str(small[0] / 'd'), str(tmp_path / 'a.png'), 1, 64, None)
    assert Image.open(str(tmp_path / 'a.png')).size == (32, 16)


def test_names_cannot_forge_lines(tmp_path):
    _pictures(tmp_path / 'in')
    (tmp_path / 'in' / 'a\nAdded 9 images.\x1b[2K.png').write_bytes(b'')
    (tmp_path / 'in' / os.fsdecode(b'\xc8\xcb.txt')).write_bytes(b'')
    done = _run('create_from_images', 'd', 'in', '--workers', '1', cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert '\nAdded 9' not in done.stdout and '\x1b[2K' not in done.stdout and 'Added 5 images.' in done.stdout


def test_folders_in_folders_and_those_of_preprocessing(tmp_path):
    pictures = _pictures(tmp_path / 'in')
    (tmp_path / 'in' / '00000').mkdir()
    os.rename(str(tmp_path / 'in' / 'p4.png'), str(tmp_path / 'in' / '00000' / 'p4.png'))
    source = dataset_writer.ImageFiles(str(tmp_path / 'in'))
    assert source.names == ['00000/p4.png', 'p0.png', 'p1.png', 'p2.png', 'p3.png']
    dataset_writer.write_dataset(str(tmp_path / 'd'), source, False, 1)
    assert np.array_equal(_read(tmp_path / 'd')[0], pictures[4].transpose(2, 0, 1))
    os.rename(str(tmp_path / 'in'), str(tmp_path / 'img'))
    (tmp_path / 'hair').mkdir()
    shutil.copy(str(tmp_path / 'img' / 'p0.png'), str(tmp_path / 'hair' / 'p0.png'))
    label.write(str(tmp_path), 'human')
    assert dataset_writer.ImageFiles(str(tmp_path)).names == source.names


def test_pictures_are_turned_as_their_exif_data_say(tmp_path):
    pictures = _pictures(tmp_path / 'in')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(pictures[0]))).save(str(tmp_path / 'in' / 'p0.png'), exif=exif)
    dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(tmp_path / 'in')), False, 1)
    assert np.array_equal(_read(tmp_path / 'd'), [picture.transpose(2, 0, 1) for picture in pictures])


def test_pictures_of_another_size_are_not_decoded(tmp_path, monkeypatch):
    _pictures(tmp_path / 'in')
    Image.new('RGB', (64, 64)).save(str(tmp_path / 'in' / 'large.png'))
    source = dataset_writer.ImageFiles(str(tmp_path / 'in'))
    monkeypatch.setattr(picture_files, '_by_opencv', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(UserError, match='64x64 RGB, but the dataset is 16x16 RGB'):
        source.read(0, (3, 16, 16))


def test_levels_equal_the_unrounded_means():
    """The sums of whole numbers round as the means of StyleGAN's float arithmetic do."""
    for size, channels in ((4, 1), (64, 3), (512, 1)):
        picture = np.random.RandomState(size).randint(0, 256, [size, size, channels]).astype(np.uint8)
        picture[: size // 2] = picture[: size // 2] // 254 * 255                    # many ties and extremes
        means = picture.transpose(2, 0, 1).astype(np.float64)
        for level in dataset_writer.pyramid(picture):
            assert level.dtype == np.uint8 and level.flags.c_contiguous
            assert np.array_equal(level, np.rint(means))
            means = (means[:, 0::2, 0::2] + means[:, 1::2, 0::2] + means[:, 0::2, 1::2] + means[:, 1::2, 1::2]) / 4


@pytest.mark.parametrize('arguments, code, reason', [
    (['--resolution', '2'], 2, 'argument --resolution: 2 is out of range: expected a whole number from 4 on'),
    (['--start', '-1'], 2, 'argument --start: -1 is out of range: expected a whole number from 0 on'),
    (['--start', '5'], 1, 'error: --start 5: the dataset has 5 images only'),
    (['--start', '9' * 30], 1, 'the dataset has 5 images only'), (['--resolution', '12'], 1, 'no power of two')])
def test_display_of_what_is_not_there(tmp_path, small, arguments, code, reason):
    done = _run('display', small[0] / 'd', '--save', tmp_path / 'sheet.png', *arguments)
    assert done.returncode == code and reason in done.stderr and 'Traceback' not in done.stderr, done.stderr
    assert os.listdir(str(tmp_path)) == []


def test_grey_extract(tmp_path):
    pictures = _pictures(tmp_path / 'in', count=2, channels=1)
    dataset_writer.write_dataset(str(tmp_path / 'd'), dataset_writer.ImageFiles(str(tmp_path / 'in')), False, 1)
    assert _run('extract', tmp_path / 'd', tmp_path / 'out').returncode == 0
    image = Image.open(str(tmp_path / 'out' / 'img00000001.png'))
    assert image.mode == 'L' and np.array_equal(np.asarray(image), pictures[1][:, :, 0])


def test_compare(tmp_path, small):
    folder, _ = small
    same = _run('compare', folder / 'd', folder / 'd')
    assert same.returncode == 0 and 'Identical images: 5 / 5\nIdentical labels: 5 / 5' in same.stdout
    source = dataset_writer.ImageFiles(str(folder / 'in'))
    source.names = source.names[:3] + source.names[2:3]
    dataset_writer.write_dataset(str(tmp_path / 'e'), source, False, 1, labels=np.eye(4))
    differ = _run('compare', folder / 'd', tmp_path / 'e')
    assert differ.returncode == 1
    for line in ('Image 3 is different', 'different number of images', 'Identical images: 3 / 4',
                 'Label 0 is different', 'Identical labels: 0 / 4'):
        assert line in differ.stdout
    with open(tfrecords.level_path(str(tmp_path / 'e'), 4), 'r+b') as file:
        file.seek(200)
        file.write(b'\0\0\0\0')
    broken = _run('compare', folder / 'd', tmp_path / 'e', '--ignore_labels', '1')
    assert broken.returncode == 1 and 'record 0 has a wrong checksum' in broken.stderr


def test_command_line():
    bare = _run()
    assert bare.returncode == 0 and 'create_from_images' in bare.stdout
    assert _run('create_mnist', 'a', 'b').returncode == 2
    missing = _run('extract', 'no-such-folder', 'out')
    assert missing.returncode == 1 and 'no-such-folder' in missing.stderr and 'Traceback' not in missing.stderr
