"""TFRecord files of images without TensorFlow: framing with CRC-32C, and the tf.train.Example inside each record.

A file is <folder>/<name>-rLL.tfrecords, LL = log2 of its resolution. A record holds `shape`, int64[3] = [C, H, W], and
`data`, the uint8 values in that order; the two fields come in either order.
"""

import functools
import glob
import os
import re
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

import config
from dnnlib.util import UserError

# ------------------------------------------------------------------------------------------------ CRC-32C
# A CRC is linear: that of a message is the XOR of what each byte contributes from its place. So the CRCs of all
# 64-byte blocks are 64 table look-ups done at once, and neighbouring blocks are merged in pairs, log2(n) times.
# A long message is folded first. The polynomial divides x^5685 + x^1362 + x^426 + 1 (found by search), hence its 8s-th
# power too, for s = 1, 2, 4, ...: a byte counts as much as its copies, XORed onto the bytes (5685 - 1362) s,
# (5685 - 426) s and 5685 s places later, and can go.

_POLYNOMIAL = 0x82F63B78        # Castagnoli, reflected
_BLOCK = 64


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    return table.astype(np.uint32)


_TABLE = _byte_table()
_BYTES = _TABLE.tolist()        # many times faster than an array for one byte after the other
_SHORT = 512                    # up to here bytes one after the other are faster than arrays


def _append_zero(crc: np.ndarray) -> np.ndarray:
    """CRC registers after one more zero byte."""
    return _TABLE[crc & np.uint32(255)] ^ (crc >> np.uint32(8))


def _block_tables() -> np.ndarray:
    """[64, 256]: what a byte value contributes from each place of a block."""
    tables = [_TABLE]
    while len(tables) < _BLOCK:
        tables.append(_append_zero(tables[-1]))
    return np.ascontiguousarray(tables[::-1])


_BLOCK_TABLES = _block_tables().reshape(-1)
_BLOCK_OFFSETS = (np.arange(_BLOCK) * 256).astype(np.intp)
_shifts: Dict[int, np.ndarray] = {}         # cache: number of zero bytes (a power of two) -> [4, 256] tables


def _shift_tables(count: int) -> np.ndarray:
    """[4, 256]: the register's four bytes -> the register after `count` zero bytes, `count` a power of two."""
    if count not in _shifts:
        registers = (np.arange(256, dtype=np.uint32)[None] << (np.uint32(8) * np.arange(4, dtype=np.uint32)[:, None]))
        _shifts[count] = _append_zero(registers) if count == 1 else _shift(_shift(registers, count // 2), count // 2)
    return _shifts[count]


def _shift(crc: np.ndarray, count: int) -> np.ndarray:
    tables = _shift_tables(count)
    byte = lambda k: (crc >> np.uint32(8 * k)) & np.uint32(255)
    return tables[0][byte(0)] ^ tables[1][byte(1)] ^ tables[2][byte(2)] ^ tables[3][byte(3)]


_FOLD = 5685
_FOLD_TO = (5685 - 1362, 5685 - 426, 5685)      # the nearest first: so many bytes can be folded at once


def _fold(messages: np.ndarray) -> np.ndarray:
    """The last bytes of messages [m, n] uint8, which are changed, with the same CRC registers (started at 0)."""
    start, scale = 0, 1
    while 2 * _FOLD * scale < messages.shape[1]:
        scale *= 2
    while scale:
        length = min(_FOLD_TO[0] * scale, messages.shape[1] - start - _FOLD * scale)
        if length <= 0:
            scale //= 2
            continue
        for place in _FOLD_TO:
            target = messages[:, start + place * scale:start + place * scale + length]
            np.bitwise_xor(target, messages[:, start:start + length], out=target)
        start += length
    return messages[:, start:]


def crc32c_of_many(messages: np.ndarray) -> np.ndarray:
    """CRC-32C (Castagnoli) of messages of one length, [m, n] uint8 with n >= 4 -> [m] uint32."""
    messages = np.array(messages)                           # a copy
    messages[:, :4] ^= 255                                  # the same as starting with register 0xFFFFFFFF
    messages = _fold(messages)
    blocks = -(-messages.shape[1] // _BLOCK)
    padded = np.zeros([len(messages), blocks * _BLOCK], np.uint8)   # zeros in front, with register 0, change nothing
    padded[:, padded.shape[1] - messages.shape[1]:] = messages
    index = padded.reshape(len(messages), blocks, _BLOCK) + _BLOCK_OFFSETS
    crcs = np.bitwise_xor.reduce(_BLOCK_TABLES[index], axis=2)
    length = _BLOCK
    while crcs.shape[1] > 1:
        if crcs.shape[1] % 2:
            crcs = np.concatenate([np.zeros([len(crcs), 1], np.uint32), crcs], axis=1)
        crcs = _shift(crcs[:, 0::2], length) ^ crcs[:, 1::2]
        length *= 2
    return crcs[:, 0] ^ np.uint32(0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of bytes."""
    if len(data) >= _SHORT:
        return int(crc32c_of_many(np.frombuffer(data, np.uint8)[None])[0])
    register = 0xFFFFFFFF
    for value in data:
        register = _BYTES[(register ^ value) & 255] ^ register >> 8
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """CRC-32C turned and shifted, as TFRecord files store it."""
    return _masked(crc32c(data))


def _masked(crc: Any) -> Any:
    """crc: an int, or an array of 64 bits."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# ------------------------------------------------------------------------------------------------ records

def frame(payload: bytes) -> bytes:
    """A record as it stands in the file: length, its CRC, payload, its CRC."""
    length = struct.pack('<Q', len(payload))
    return b''.join([length, struct.pack('<I', masked_crc32c(length)), payload,
                     struct.pack('<I', masked_crc32c(payload))])


def read_records(path: str, check: bool = True) -> Iterator[bytes]:
    """The payloads of a TFRecord file. check: verify the CRC of each payload too.

    Raises UserError that names the file and the record where it is truncated or corrupt.
    """
    try:
        with open(path, 'rb') as file:
            left = os.fstat(file.fileno()).st_size
            number = 0
            while left:
                payload = _read_record(path, number, file, left, check)
                left -= len(payload) + 16
                yield payload
                number += 1
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})')


def _read_record(path: str, number: int, file: Any, left: int, check: bool) -> bytes:
    header = file.read(12)
    if len(header) < 12:
        raise _broken(path, number, 'is cut off')
    length, crc = struct.unpack('<QI', header)
    if crc != masked_crc32c(header[:8]):
        raise _broken(path, number, 'has a wrong checksum' + ('' if number else ': this is no TFRecord file'))
    if length + 16 > left:
        raise _broken(path, number, 'is cut off')
    payload = file.read(length)
    footer = file.read(4)
    if check and struct.unpack('<I', footer)[0] != masked_crc32c(payload):
        raise _broken(path, number, 'has a wrong checksum')
    return payload


def _broken(path: str, number: int, what: str) -> UserError:
    return UserError(f'{path}: record {number} {what}; copy the file again or make the dataset anew')


# ------------------------------------------------------------------------------------------------ examples

def encode_image(image: np.ndarray) -> bytes:
    """[C, H, W] uint8 -> a serialised tf.train.Example."""
    return _field(1, b''.join(_entries(image)))


def _entries(image: np.ndarray) -> Tuple[bytes, bytes]:
    assert image.dtype == np.uint8 and image.ndim == 3
    shape = _field(1, b''.join(_varint(n) for n in image.shape))            # Int64List, packed
    data = _field(1, image.tobytes())                                       # BytesList
    return _entry(b'shape', _field(3, shape)), _entry(b'data', _field(1, data))


def _entry(key: bytes, feature: bytes) -> bytes:
    return _field(1, _field(1, key) + _field(2, feature))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_image(payload: bytes) -> np.ndarray:
    """A serialised tf.train.Example -> [C, H, W] uint8, read-only. Raises ValueError when it holds no such image."""
    try:
        features = {}
        for _, entry in _fields(_only(payload, 1)):
            features[bytes(_only(entry, 1, bytes))] = _only(entry, 2, bytes)
        shape = _int64_list(_only(features[b'shape'], 3, bytes))
        data = _only(_only(features[b'data'], 1, bytes), 1, bytes)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f'not an image record ({type(error).__name__} {error})')
    if len(shape) != 3 or min(shape) < 1 or len(data) != shape[0] * shape[1] * shape[2]:
        raise ValueError(f'{len(data)} bytes do not fit the shape {shape[:4]}')
    return np.frombuffer(data, np.uint8).reshape(shape)


def _only(message: Any, number: int, kind: type = bytes) -> Any:
    """The one field of this number in a message; kind: bytes or int."""
    found = [value for field, value in _fields(message) if field == number]
    if len(found) != 1:
        raise KeyError(f'field {number} comes {len(found)} times')
    if isinstance(found[0], int) != (kind is int):
        raise TypeError(f'field {number} is a number')
    return found[0]


def _fields(message: Any) -> Iterator[Tuple[int, Any]]:
    """(field number, value) of a protocol buffer: bytes of length-delimited fields, ints of varints."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _read_varint(view, at)
        if tag & 7 == 0:
            value, at = _read_varint(view, at)
        elif tag & 7 == 2:
            length, at = _read_varint(view, at)
            if at + length > len(view):
                raise IndexError('field beyond the end')
            value, at = view[at:at + length], at + length
        else:
            raise KeyError(f'wire type {tag & 7}')
        yield tag >> 3, value


_LONGEST_VARINT = 10        # bytes of 64 bits


def _read_varint(view: Any, at: int) -> Tuple[int, int]:
    value = 0
    for k, byte in enumerate(view[at:at + _LONGEST_VARINT]):
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, at + k + 1
    raise IndexError('a number without an end')


def _int64_list(message: Any) -> List[int]:
    """Values of an Int64List, packed or not."""
    values = []
    for _, content in _fields(message):
        if isinstance(content, int):
            values.append(content)
            continue
        at = 0
        while at < len(content):
            value, at = _read_varint(content, at)
            values.append(value)
    return values


def frame_images(images: np.ndarray) -> bytes:
    """Images [N, C, H, W] uint8 -> their records, framed, one after the other."""
    before, after = encodings(images.shape[1:])[0]
    pixels = images.reshape(len(images), -1)
    length = struct.pack('<Q', len(before) + pixels.shape[1] + len(after))
    head = length + struct.pack('<I', masked_crc32c(length)) + before
    records = np.empty([len(images), len(head) + pixels.shape[1] + len(after) + 4], np.uint8)
    records[:, :len(head)] = np.frombuffer(head, np.uint8)
    records[:, len(head):len(head) + pixels.shape[1]] = pixels
    records[:, len(head) + pixels.shape[1]:-4] = np.frombuffer(after, np.uint8)
    crcs = _masked(crc32c_of_many(records[:, 12:-4]).astype(np.uint64))
    records[:, -4:] = crcs.astype('<u4').view(np.uint8).reshape(-1, 4)
    return records.tobytes()


def read_images(path: str) -> Iterator[np.ndarray]:
    """The images [C, H, W] uint8 of a file, in order, checksums verified, all of one shape.

    Raises UserError naming file and record.
    """
    shape = None
    for number, payload in enumerate(read_records(path)):
        try:
            image = decode_image(payload)
        except ValueError as error:
            raise _broken(path, number, f'holds no image: {error}')
        if image.shape != (shape or image.shape):
            raise _broken(path, number, f'holds an image of shape {list(image.shape)} among others of {list(shape)}')
        shape = image.shape
        yield image


@functools.lru_cache(maxsize=None)
def encodings(shape: Tuple[int, int, int]) -> List[Tuple[bytes, bytes]]:
    """[(what stands before the pixels, what stands after them)] in a serialised Example of an image of `shape`.

    One for each order of its two fields. All records of a file have one shape, so that this is all there is to parse.
    """
    pixels = int(np.prod(shape))
    entries = _entries(np.zeros(shape, np.uint8))
    found = []
    for first, last in (entries, entries[::-1]):
        message = _field(1, first + last)
        start = message.index(bytes(pixels)) if pixels else 0
        found.append((message[:start], message[start + pixels:]))
    return found


# ------------------------------------------------------------------------------------------------ datasets

class Level(NamedTuple):
    """One file of a dataset: its images all have `shape` [C, H, W]; `count` of them."""
    path: str
    shape: Tuple[int, int, int]
    count: int


def dataset_folder(name: str) -> str:
    """Folder of a dataset: the path itself, else below the project's root, else below config.DATASET_DIR."""
    for path in (name, os.path.join(config.ROOT, name), os.path.join(config.DATASET_DIR, name)):
        if os.path.isdir(path):
            return os.path.abspath(path)
    raise UserError(f'{name}: no such dataset folder, neither here nor in {config.DATASET_DIR}; make one with '
                    'dataset_tool.py create_from_images')


def level_path(folder: str, resolution_log2: int, name: Optional[str] = None) -> str:
    """File of the level with images of 2^resolution_log2 pixels; its name starts with the folder's, or with `name`."""
    name = name or os.path.basename(os.path.abspath(folder))
    return os.path.join(folder, f'{name}-r{resolution_log2:02d}.tfrecords')


def label_path(folder: str, name: Optional[str] = None) -> str:
    """File of a dataset's labels, a NumPy array."""
    return os.path.join(folder, (name or os.path.basename(os.path.abspath(folder))) + '-rxx.labels')


def read_levels(folder: str, resolution: Optional[int] = None) -> List[Level]:
    """The levels of a dataset, finest first, down to 4 x 4; the finest is `resolution` (default: the largest there).

    Raises UserError: no dataset, a level missing, twice or cut off, or levels that do not fit each other.
    """
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder; a dataset made by dataset_tool.py was expected')
    by_log2 = _files_by_level(folder)
    top = resolution.bit_length() - 1 if resolution else max(by_log2)
    if resolution and resolution != 1 << top:
        raise UserError(f'resolution {resolution} is no power of two')
    if top < 2:
        raise UserError(f'{folder}: there is no level of {1 << top}x{1 << top}; the coarsest of a dataset is 4x4')
    if top > max(by_log2):
        finest = 1 << max(by_log2)
        raise UserError(f'{folder}: its finest pictures are {finest}x{finest}, but {resolution}x{resolution} are '
                        'needed; make it from larger pictures, or train at its resolution (--config)')
    missing = [f'{1 << log2}x{1 << log2}' for log2 in range(2, top + 1) if log2 not in by_log2]
    if missing:
        raise UserError(f'{folder}: no file for the level(s) {", ".join(missing)}; the dataset (finest level '
                        f'{1 << max(by_log2)}) is incomplete: make it again with dataset_tool.py')
    levels = [_read_level(by_log2[log2], log2) for log2 in range(top, 1, -1)]
    for level in levels[1:]:
        if level.count != levels[0].count or level.shape[0] != levels[0].shape[0]:
            raise UserError(f'{level.path}: {level.count} images of {level.shape[0]} channels, but {levels[0].path} '
                            f'has {levels[0].count} of {levels[0].shape[0]}; make the dataset again')
    return levels


def _files_by_level(folder: str) -> Dict[int, str]:
    by_log2: Dict[int, str] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), '*.tfrecords'))):
        match = re.search(r'-r(\d\d)\.tfrecords$', path)
        if not match:
            continue
        if int(match.group(1)) in by_log2:
            raise UserError(f'{folder}: two files of the same level, {os.path.basename(by_log2[int(match.group(1))])} '
                            f'and {os.path.basename(path)}; keep one dataset in a folder')
        by_log2[int(match.group(1))] = path
    if not by_log2:
        raise UserError(f'{folder}: no dataset: no file named NAME-rLL.tfrecords; make one with dataset_tool.py')
    return by_log2


def _read_level(path: str, log2: int) -> Level:
    """All records of a file have one size, so the first tells the number; otherwise every record is looked at."""
    size = os.path.getsize(path)
    if not size:
        raise UserError(f'{path}: the file is empty; make the dataset again')
    payload = next(read_records(path))
    try:
        shape = decode_image(payload).shape
    except ValueError as error:
        raise _broken(path, 0, f'holds no image: {error}')
    if shape[1:] != (1 << log2, 1 << log2):
        raise UserError(f'{path}: images of {shape[2]}x{shape[1]} in the file of level {1 << log2}; rename the file')
    if size % (len(payload) + 16) == 0:
        return Level(path, shape, size // (len(payload) + 16))
    return Level(path, shape, sum(1 for _ in read_records(path, check=False)))


def read_labels(folder: str, path: Optional[str] = None) -> Optional[np.ndarray]:
    """Labels of a dataset, [n, label_size] float32, from `path` or its `-rxx.labels`; None when it has none."""
    found = sorted(glob.glob(os.path.join(glob.escape(folder), '*.labels')))
    path = path or (found[0] if found else None)
    return None if path is None else read_label_file(path)


def read_label_file(path: str) -> np.ndarray:
    """Labels [n, label_size] float32 of a .npy file of numbers [n, label_size] or [n]. UserError: no such array."""
    try:
        labels = np.load(path, allow_pickle=False)
        labels = labels[:, None] if labels.ndim == 1 else labels
    except Exception as error:      # damaged files make NumPy raise almost anything
        reason = ' '.join(str(error).split())[:120] or type(error).__name__
        raise UserError(f'{path}: cannot be read as a NumPy array of labels ({reason}); save one with numpy.save')
    if labels.ndim != 2 or labels.dtype.kind not in 'biuf':
        raise UserError(f'{path}: shape {list(labels.shape)}, type {labels.dtype}; labels [images, size] expected')
    return labels.astype(np.float32)
