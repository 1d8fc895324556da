"""dnnlib.tfrecords: framing, checksums and examples equal to TensorFlow's own, and broken files named."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib import tfrecords
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from tests.common import shared


def _image(seed, shape=(3, 8, 8)):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def _write(path, images):
    with open(str(path), 'wb') as file:
        for image in images:
            file.write(tfrecords.frame(tfrecords.encode_image(image)))
    return str(path)


def _bitwise_crc32c(data):
    crc = 0xFFFFFFFF
    for value in data:
        crc ^= value
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc_of_published_vectors():
    assert tfrecords.crc32c(b'123456789') == 0xE3069283
    assert tfrecords.crc32c(bytes(32)) == 0x8A9136AA                  # RFC 3720, B.4
    assert tfrecords.crc32c(b'\xff' * 32) == 0x62A8AB43
    assert tfrecords.crc32c(bytes(range(32))) == 0x46DD794E
    assert tfrecords.crc32c(b'') == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=700))
def test_crc_equals_the_definition(data):
    assert tfrecords.crc32c(data) == _bitwise_crc32c(data)


@pytest.mark.parametrize('length', [5684, 5685, 5686, 10007, 11370, 11371, 60000, 196700])
def test_crc_of_long_messages(length):
    data = np.random.RandomState(length).bytes(length)
    by_table = 0xFFFFFFFF
    for value in data:
        by_table = tfrecords._BYTES[(by_table ^ value) & 255] ^ by_table >> 8
    assert tfrecords.crc32c(data) == by_table ^ 0xFFFFFFFF


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10 ** 6), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40))
def test_examples_come_back(seed, channels, height, width):
    image = _image(seed, (channels, height, width))
    assert np.array_equal(tfrecords.decode_image(tfrecords.encode_image(image)), image)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 200), st.integers(0, 255))
def test_damaged_examples_raise_value_error(noise, place, value):
    damaged = bytearray(tfrecords.encode_image(_image(0, (1, 4, 4))))
    damaged[place % len(damaged)] = value
    an_int_for_a_key = b'\x0a\x08\x0a\x06\x08\xff\xff\xff\xff\x7f'
    for payload in (noise, bytes(damaged), an_int_for_a_key):
        try:
            image = tfrecords.decode_image(payload)
        except ValueError:
            continue
        assert image.ndim == 3 and image.dtype == np.uint8


def test_tensorflow_reads_ours_and_we_read_tensorflows(tmp_path):
    images = [_image(k) for k in range(5)]
    ours = _write(tmp_path / 'ours', images)
    for record, image in zip(tf.python_io.tf_record_iterator(ours), images):
        feature = tf.train.Example.FromString(record).features.feature
        assert list(feature['shape'].int64_list.value) == [3, 8, 8]
        assert feature['data'].bytes_list.value[0] == image.tobytes()
    with tf.python_io.TFRecordWriter(str(tmp_path / 'theirs')) as writer:
        for image in images:
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                'data': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                'shape': tf.train.Feature(int64_list=tf.train.Int64List(value=image.shape))})).SerializeToString())
    assert np.array_equal(list(tfrecords.read_images(str(tmp_path / 'theirs'))), images)


def test_both_orders_of_the_fields():
    image = _image(0)
    example = tf.train.Example.FromString(tfrecords.encode_image(image))
    parts = [tf.train.Example(features=tf.train.Features(feature={key: example.features.feature[key]}))
             for key in ('data', 'shape')]
    for ordered in (parts, parts[::-1]):                                # concatenated messages are merged
        entries = b''.join(_inside(part.SerializeToString()) for part in ordered)
        message = b'\x0a' + _varint(len(entries)) + entries
        assert np.array_equal(tfrecords.decode_image(message), image)
        assert tf.train.Example.FromString(message) == example


def _inside(message):
    """A message of one field, without that field's tag and length."""
    return message[1 + len(_varint(len(message) - 2 if len(message) < 130 else len(message) - 3)):]


def _varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def test_recorded_record():
    recorded = np.load(shared('oracle', 'perception', 'tfrecords', 'readback.npz'))
    image = tfrecords.decode_image(recorded['raw_first_record_r02_shuffle0'].tobytes())
    assert np.array_equal(image, recorded['lod_r02_first2'][0])


@pytest.mark.parametrize('damage, reason', [
    (lambda data: data[:-1], 'record 2 is cut off'),
    (lambda data: data[:len(data) // 3 + 5], 'record 1 is cut off'),
    (lambda data: data[:-60] + bytes([data[-60] ^ 1]) + data[-59:], 'record 2 has a wrong checksum'),
    (lambda data: bytes([data[0] ^ 1]) + data[1:], 'this is no TFRecord file'),
    (lambda data: struct.pack('<QI', 2 ** 60, tfrecords.masked_crc32c(struct.pack('<Q', 2 ** 60))), 'is cut off'),
    (lambda data: data + tfrecords.frame(b'something else'), 'record 3 holds no image'),
])
def test_broken_files_are_named(tmp_path, damage, reason):
    path = _write(tmp_path / 'x.tfrecords', [_image(k) for k in range(3)])
    with open(path, 'rb') as file:
        data = damage(file.read())
    with open(path, 'wb') as file:
        file.write(data)
    with pytest.raises(UserError) as caught:
        list(tfrecords.read_images(path))
    assert reason in str(caught.value) and path in str(caught.value)


def _dataset(folder, count=3, top=4, name='d'):
    os.makedirs(str(folder))
    for log2 in range(2, top + 1):
        size = 1 << log2
        _write(os.path.join(str(folder), f'{name}-r{log2:02d}.tfrecords'),
               [_image(k, (3, size, size)) for k in range(count)])
    return str(folder)


def test_levels(tmp_path):
    folder = _dataset(tmp_path / 'd')
    levels = tfrecords.read_levels(folder)
    assert [(level.shape, level.count) for level in levels] == [((3, 16, 16), 3), ((3, 8, 8), 3), ((3, 4, 4), 3)]
    assert [level.path for level in levels] == [tfrecords.level_path(folder + '/', log2) for log2 in (4, 3, 2)]
    assert len(tfrecords.read_levels(folder, 8)) == 2


def test_incomplete_datasets_are_refused(tmp_path):
    folder = _dataset(tmp_path / 'd')
    for change, reason in ((lambda: os.remove(folder + '/d-r03.tfrecords'), '8x8'),
                           (lambda: _write(folder + '/d-r03.tfrecords', [_image(0)]), '1 images of 3 channels'),
                           (lambda: _write(folder + '/d-r03.tfrecords', [_image(0, (3, 4, 4))]), 'images of 4x4'),
                           (lambda: open(folder + '/d-r03.tfrecords', 'wb').close(), 'empty'),
                           (lambda: shutil.copy(folder + '/d-r02.tfrecords', folder + '/e-r02.tfrecords'), 'two f')):
        change()
        with pytest.raises(UserError, match=reason):
            tfrecords.read_levels(folder)
    for path in (tmp_path, tmp_path / 'none'):
        with pytest.raises(UserError, match='dataset'):
            tfrecords.read_levels(str(path))


def test_there_is_nothing_coarser_than_4x4(tmp_path):
    folder = _dataset(tmp_path / 'd')
    for resolution in (1, 2):
        with pytest.raises(UserError, match=f'no level of {resolution}x{resolution}'):
            tfrecords.read_levels(folder, resolution)
    (tmp_path / 'e').mkdir()
    (tmp_path / 'e' / 'e-r01.tfrecords').write_bytes(b'')
    with pytest.raises(UserError, match='no level of 2x2'):
        tfrecords.read_levels(str(tmp_path / 'e'))


def test_a_cut_off_level_is_named(tmp_path):
    folder = _dataset(tmp_path / 'd')
    with open(folder + '/d-r04.tfrecords', 'r+b') as file:
        file.truncate(2000)
    with pytest.raises(UserError, match='d-r04.tfrecords: record 2 is cut off'):
        tfrecords.read_levels(folder)


def test_labels(tmp_path):
    folder = _dataset(tmp_path / 'd')
    assert tfrecords.read_labels(folder) is None
    with open(tfrecords.label_path(folder), 'wb') as file:
        np.save(file, np.arange(3))
    assert tfrecords.read_labels(folder).tolist() == [[0], [1], [2]]
    with open(tfrecords.label_path(folder), 'wb') as file:
        file.write(b'no array')
    with pytest.raises(UserError, match='labels'):
        tfrecords.read_labels(folder)


def test_recorded_files_are_read():
    folder = shared('oracle', 'perception', 'tfrecords')
    with open(os.path.join(folder, 'tfrecords_index.json'), encoding='utf-8') as file:
        index = json.load(file)
    for level in tfrecords.read_levels(os.path.join(folder, 'alignA_sh0')):
        entry = index[os.path.basename(level.path)]
        assert list(level.shape) == entry['image_shape'] and level.count == entry['records']
    assert [level.shape[0] for level in tfrecords.read_levels(os.path.join(folder, 'grayA_sh0'))] == [1] * 5


# ------------------------------------------------------------------------------------------------ hostile records

def _with(key, feature, image=None):
    """An Example whose entry `key` holds the bytes of another feature."""
    image = _image(0) if image is None else image
    shape, data = tfrecords._entries(image)
    other = tfrecords._entry(key, feature)
    return tfrecords._field(1, other + data if key == b'shape' else shape + other)


_NUMBER = tfrecords._field(3, b'\x08\x05')                  # an Int64List with one number
_ENDLESS = b'\xff' * 100000


@pytest.mark.parametrize('payload', [
    _with(b'data', _NUMBER), _with(b'data', b'\x08\x05'), _with(b'data', tfrecords._field(1, b'\x08\x05')),
    _with(b'shape', b'\x08\x05'), _with(b'shape', tfrecords._field(3, b'\x0a\x0b' + _ENDLESS[:11])),
    _with(b'shape', tfrecords._field(3, tfrecords._field(1, b'\x01\x01'))),
    _with(b'shape', tfrecords._field(3, tfrecords._field(1, b'\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01' * 3))),
    _ENDLESS, b'\x0a' + _ENDLESS, b'\x08\x05', b'', b'\x0a\x02\x0a\x00',
    tfrecords._field(1, tfrecords._entries(_image(0))[1]),              # no shape
    tfrecords._field(1, b''.join(tfrecords._entries(_image(0)) * 2))[:-1],
], ids=range(14))
def test_records_that_hold_no_image(tmp_path, payload):
    folder = _dataset(tmp_path / 'd')
    with open(os.path.join(folder, 'd-r04.tfrecords'), 'wb') as file:
        file.write(tfrecords.frame(payload))
    with pytest.raises(UserError, match='d-r04.tfrecords: record 0 holds no image'):
        tfrecords.read_levels(folder)
    with pytest.raises(ValueError):
        tfrecords.decode_image(payload)


def test_shapes_that_differ_within_a_level(tmp_path):
    path = _write(tmp_path / 'x.tfrecords', [_image(0), _image(1), _image(2, (3, 4, 16))])      # as many bytes
    images = tfrecords.read_images(path)
    assert [next(images).shape, next(images).shape] == [(3, 8, 8)] * 2
    with pytest.raises(UserError, match=r'record 2 holds an image of shape \[3, 4, 16\] among others of \[3, 8, 8\]'):
        next(images)


def test_encodings():
    """Every way in which TensorFlow writes an image of a shape."""
    for shape in ((1, 4, 4), (3, 8, 8), (3, 256, 256)):
        image = _image(0, shape)
        shaped, data = tfrecords._entries(image)
        for message in (tfrecords._field(1, shaped + data), tfrecords._field(1, data + shaped)):
            assert tf.train.Example.FromString(message).features.feature['data'].bytes_list.value[0] == image.tobytes()
            assert message in [before + image.tobytes() + after for before, after in tfrecords.encodings(shape)]
