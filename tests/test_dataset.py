"""training.dataset: levels, order, shards, labels, determinism, and errors that name the file."""

import os

import numpy as np
import pytest

import config
from dnnlib import tfrecords
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from tests.common import shared
from training import dataset

COUNT = 12


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A labelled dataset of 12 images 16 x 16; image k is filled with k, its label is [k, -k]."""
    folder = str(tmp_path_factory.mktemp('data') / 'd')
    os.makedirs(folder)
    for log2 in (2, 3, 4):
        with open(tfrecords.level_path(folder, log2), 'wb') as file:
            for k in range(COUNT):
                image = np.full([3, 1 << log2, 1 << log2], k, np.uint8)
                file.write(tfrecords.frame(tfrecords.encode_image(image)))
    with open(tfrecords.label_path(folder), 'wb') as file:
        np.save(file, np.stack([np.arange(COUNT), -np.arange(COUNT)], axis=1))
    return folder


def _ids(images):
    """Which images these are, by what they are filled with."""
    assert all(len(np.unique(image)) == 1 for image in images)
    return images[:, 0, 0, 0].tolist()


def _draw(data, minibatch, times, lod=0):
    return [k for _ in range(times) for k in _ids(data.get_minibatch_np(minibatch, lod)[0])]


def test_attributes(tf_session, folder):
    data = dataset.TFRecordDataset(folder)
    assert (data.shape, data.num_images, data.label_size) == ([3, 16, 16], COUNT, 0)


def test_levels_in_file_order(tf_session, folder):
    data = dataset.TFRecordDataset(folder, shuffle_mb=0)
    for lod, size in ((0, 16), (1.7, 8), (2, 4), (0.5, 16)):
        images, labels = data.get_minibatch_np(5, lod)
        assert images.shape == (5, 3, size, size) and images.dtype == np.uint8 and labels.shape == (5, 0)
        assert _ids(images) == [0, 1, 2, 3, 4]                         # a change of level starts anew
    assert _draw(data, 5, 3, 0.5) == [5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]   # repeats without a gap
    with pytest.raises(ValueError, match='lod 3'):
        data.configure(4, 3)
    assert dataset.TFRecordDataset(folder, resolution=8).shape == [3, 8, 8]


def test_recorded_images(tf_session):
    recorded = np.load(shared('oracle', 'perception', 'tfrecords', 'readback.npz'))
    data = dataset.TFRecordDataset(shared('oracle', 'perception', 'tfrecords', 'alignA_sh0'), shuffle_mb=0)
    for log2 in range(2, 9):
        images, _ = data.get_minibatch_np(8, 8 - log2)
        assert np.array_equal(images[:2], recorded[f'lod_r{log2:02d}_first2'])
        assert np.array_equal(images.astype(np.int64).sum(axis=(2, 3)), recorded[f'sum_r{log2:02d}_shuffle0'])


def test_shuffling_is_complete_and_follows_the_seed(folder):
    orders = []
    for seed in (1, 1, 2):
        with tf.Graph().as_default(), tfutil.create_session(2):
            data = dataset.TFRecordDataset(folder, seed=seed)
            orders.append(_draw(data, 4, 6))
            assert sorted(orders[-1][:COUNT]) == sorted(orders[-1][COUNT:]) == list(range(COUNT))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:COUNT] != orders[0][COUNT:]                      # every pass has an order of its own


@pytest.mark.parametrize('shards', [1, 2])
def test_the_stream_goes_on_from_any_position(folder, shards):
    with tf.Graph().as_default(), tfutil.create_session(2):
        data = dataset.TFRecordDataset(folder, seed=3, num_shards=shards, shard_index=shards - 1)
        whole = _draw(data, 5, 6)
    for position in (0, 5, 10, 15):
        with tf.Graph().as_default(), tfutil.create_session(2):
            data = dataset.TFRecordDataset(folder, seed=3, num_shards=shards, shard_index=shards - 1)
            data.configure(5, 1, position=4)
            data.configure(5, 0, position=position)
            assert _draw(data, 5, 3) == whole[position:position + 15]


def test_minibatches_are_prepared_ahead(tf_session, folder):
    """Whole minibatches wait for the training, so that it never waits for them to be put together."""
    dataset.TFRecordDataset(folder)
    last = [op.inputs[0].op for op in tf_session.graph.get_operations() if op.type == 'MakeIterator']
    assert len(last) == 3
    for op in last:
        while op.type in ('OptionsDataset', 'ModelDataset', 'OptimizeDataset', 'Identity'):
            op = op.inputs[0].op
        assert op.type == 'PrefetchDataset' and op.inputs[0].op.type.startswith('BatchDataset')


def test_one_pass(tf_session, folder):
    data = dataset.TFRecordDataset(folder, repeat=False, shuffle_mb=0)
    assert _draw(data, 5, 3) == list(range(COUNT))                     # the last minibatch is smaller
    with pytest.raises(tf.errors.OutOfRangeError):
        data.get_minibatch_np(5)
    data.configure(5, 0, restart=True)
    assert _draw(data, 5, 1) == [0, 1, 2, 3, 4]


def test_shards_share_the_images(tf_session, folder):
    shards = [dataset.TFRecordDataset(folder, repeat=False, num_shards=3, shard_index=k, seed=0) for k in range(3)]
    drawn = [_draw(shard, 4, 1) for shard in shards]
    assert sorted(sum(drawn, [])) == list(range(COUNT))
    with pytest.raises(UserError, match='13 hosts'):
        dataset.TFRecordDataset(folder, num_shards=13)
    with pytest.raises(ValueError, match='shard_index'):
        dataset.TFRecordDataset(folder, num_shards=2, shard_index=2)


def test_tensors_of_several_towers(tf_session, folder):
    data = dataset.TFRecordDataset(folder, shuffle_mb=0)
    towers = [data.get_minibatch_tf()[0] for _ in range(2)]
    assert towers[0].shape.as_list() == [None, 3, None, None] and towers[0].dtype == tf.uint8
    data.configure(3)
    drawn = sum((_ids(images) for images in tfutil.run(towers)), [])
    assert sorted(drawn) == [0, 1, 2, 3, 4, 5]


def test_labels(tf_session, folder):
    data = dataset.TFRecordDataset(folder, max_label_size='full', seed=0)
    assert data.label_size == 2
    for _ in range(3):
        images, labels = data.get_minibatch_np(4)
        assert np.array_equal(labels, [[k, -k] for k in _ids(images)])
    assert dataset.TFRecordDataset(folder, max_label_size=1).label_size == 1
    assert dataset.TFRecordDataset(folder).label_size == 0


def test_wrong_labels_are_refused(tmp_path, tf_session, folder):
    np.save(str(tmp_path / 'few.npy'), np.zeros([3, 2]))
    with pytest.raises(UserError, match='3 labels for 12 images'):
        dataset.TFRecordDataset(folder, label_file=str(tmp_path / 'few.npy'), max_label_size='full')


def _damaged_copy(folder, target, place):
    """A copy of the dataset with the byte at `place` of its finest level changed."""
    os.makedirs(target)
    for log2 in (2, 3, 4):
        with open(tfrecords.level_path(folder, log2), 'rb') as file:
            data = bytearray(file.read())
        if log2 == 4:
            data[place] ^= 255
        with open(tfrecords.level_path(target, log2), 'wb') as file:
            file.write(data)
    return target


def test_a_corrupt_record_is_named(tmp_path, tf_session, folder):
    data = dataset.TFRecordDataset(_damaged_copy(folder, str(tmp_path / 'x'), 2000), shuffle_mb=0)
    assert _ids(data.get_minibatch_np(4, 1)[0]) == [0, 1, 2, 3]
    with pytest.raises(UserError) as caught:
        for _ in range(3):
            data.get_minibatch_np(4, 0)
    assert 'x-r04.tfrecords: record 2 has a wrong checksum' in str(caught.value)


def test_a_foreign_record_is_named(tmp_path, tf_session, folder):
    target = _damaged_copy(folder, str(tmp_path / 'x'), 0)
    good, foreign = np.zeros([3, 16, 16], np.uint8), np.zeros([1, 48, 16], np.uint8)
    images = [good, good, foreign, good]
    with open(tfrecords.level_path(target, 4), 'wb') as file:
        file.write(b''.join(tfrecords.frame(tfrecords.encode_image(image)) for image in images * 3))
    data = dataset.TFRecordDataset(target, shuffle_mb=0)
    with pytest.raises(UserError, match=r'x-r04.tfrecords: record 2 holds an image of shape \[1, 48, 16\]'):
        data.get_minibatch_np(4)


def test_a_broken_example_is_named(tmp_path, tf_session, folder):
    """Checksums are right: TensorFlow 1.15's parser crashed on this one, others' messages were not UTF-8."""
    target = _damaged_copy(folder, str(tmp_path / 'x'), 0)
    good = tfrecords.encode_image(np.zeros([3, 16, 16], np.uint8))
    broken = b'\x0a\xff\xff\xff\xff\x0f' + good[6:]
    with open(tfrecords.level_path(target, 4), 'wb') as file:
        file.write(b''.join(map(tfrecords.frame, [good, good, broken, good] * 3)))
    data = dataset.TFRecordDataset(target, shuffle_mb=0)
    with pytest.raises(UserError, match='x-r04.tfrecords: record 2 holds no image'):
        data.get_minibatch_np(4)


def test_windows_fit_the_memory(tf_session, folder, monkeypatch):
    free = dataset.free_memory()
    assert 2 ** 26 < free < 2 ** 50
    monkeypatch.setattr(dataset, 'free_memory', lambda: 2 ** 20)
    small = dataset.TFRecordDataset(folder)
    assert small.shuffle_bytes == 2 ** 18 and small.prefetch_bytes < 2 ** 17 and small.buffer_bytes < 2 ** 17
    assert sorted(_draw(small, 12, 1)) == list(range(COUNT))


def test_folders_are_found(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(config, 'DATASET_DIR', os.path.dirname(folder))
    assert dataset.dataset_folder('d') == folder == dataset.dataset_folder(folder)
    with pytest.raises(UserError, match='no such dataset'):
        dataset.dataset_folder('absent')


def test_the_start_reads_no_more_of_a_large_dataset(tf_session, folder, monkeypatch):
    """The window holds so many images, whatever the memory allows."""
    monkeypatch.setattr(dataset, '_MOST_SHUFFLED', 3)
    data = dataset.TFRecordDataset(folder, repeat=False, seed=1)
    drawn = _draw(data, COUNT, 1)
    assert sorted(drawn) == list(range(COUNT)) != drawn
    assert all(number <= place + 2 for place, number in enumerate(drawn))
    monkeypatch.setattr(dataset, '_MOST_SHUFFLED', COUNT)
    drawn = _draw(dataset.TFRecordDataset(folder, repeat=False, seed=1), COUNT, 1)
    assert not all(number <= place + 2 for place, number in enumerate(drawn))
