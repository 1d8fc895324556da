"""Coefficient files, .mat or .npz, one per photo -> named arrays -> the 257 numbers. NumPy only.

They come from preprocess_data.py (`coeff`) or either version of Deep3DFaceReconstruction. The parser of .mat files is
our own: one damaged byte can make scipy's crash the process.
"""

import os
import struct
import zipfile
import zlib
from typing import Dict, Optional, Sequence

import numpy as np

from dnnlib.util import UserError
from renderer import factors

# Arrays of Deep3DFaceReconstruction's PyTorch version, in the order of the reconstruction vector. `trans` may lack.
PYTORCH_ARRAYS = (('id', factors.SHAPE), ('tex', factors.TEXTURE), ('exp', factors.EXPRESSION),
                  ('angle', factors.ANGLES), ('gamma', factors.LIGHTING), ('trans', factors.TRANSLATION))

NAMES = ('coeff',) + tuple(name for name, _ in PYTORCH_ARRAYS)

# MAT v5: data types of numbers, of the parts of an array, and classes of arrays (8-bit integers and all above: numbers)
NUMBERS = {kind: np.dtype(name) for kind, name in ((1, 'i1'), (2, 'u1'), (3, '<i2'), (4, '<u2'), (5, '<i4'), (6, '<u4'),
                                                   (7, '<f4'), (9, '<f8'), (12, '<i8'), (13, '<u8'))}
MATRIX, COMPRESSED, INT8, INT32, UINT32 = 14, 15, 1, 5, 6
NUMERIC_CLASSES = range(6, 16)
COMPLEX = 0x0800
NUMBERS_V4 = ('f8', 'f4', 'i4', 'i2', 'u2', 'u1')
LARGEST = 1 << 25           # bytes that all arrays may unpack to together; coefficients need two thousand


class UnusableFile(UserError):
    """A coefficient file that cannot be used. `reason` says why without naming the file."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'{path}: {reason}')
        self.reason = reason


def read_reconstruction(path: str) -> np.ndarray:
    """The reconstruction vector of a file: float32 [257], layout of renderer/factors.py. UnusableFile where none is."""
    return reconstruction_vector(read_arrays(path), path)


def reconstruction_vector(arrays: Dict[str, Optional[np.ndarray]], path: str) -> np.ndarray:
    """The 257 numbers of a coefficient file, float32, from either layout of Deep3DFaceReconstruction.

    arrays: {'coeff': [257], [1, 257] or [257, 1]} (TensorFlow version, preprocess_data.py) or {'id', 'tex', 'exp',
    'angle', 'gamma', 'trans'} (PyTorch version; 'trans' may be absent: zero). path: for the message of UnusableFile.
    """
    if 'coeff' in arrays:
        return numbers(arrays, 'coeff', factors.NUM_RECON, path)
    missing = [name for name, _ in PYTORCH_ARRAYS if name not in arrays and name != 'trans']
    if missing:
        raise UnusableFile(path, f'neither `coeff` nor {", ".join(f"`{name}`" for name in missing)} is in it; expected '
                           f'`coeff` ({factors.NUM_RECON} numbers) or the arrays id, tex, exp, angle, gamma, trans')
    recon = np.zeros(factors.NUM_RECON, np.float32)
    for name, where in PYTORCH_ARRAYS:
        if name in arrays:
            recon[where] = numbers(arrays, name, where.stop - where.start, path)
    return recon


def numbers(arrays: Dict[str, Optional[np.ndarray]], name: str, count: Optional[int], path: str) -> np.ndarray:
    """Array `name` of a file as flat float32. count: how many numbers it must have; None: any. Else UnusableFile."""
    values = np.asarray(arrays[name])
    if values.dtype.kind not in 'biuf':
        raise UnusableFile(path, f'`{name}` holds no real numbers; expected {count or "some"}')
    if count is not None and values.size != count:
        raise UnusableFile(path, f'`{name}` has shape {list(values.shape)}; expected {count} numbers')
    with np.errstate(over='ignore'):                        # float64 beyond float32 becomes infinity
        values = values.reshape(-1).astype(np.float32)
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise UnusableFile(path, f'{broken} numbers of `{name}` are NaN or infinite; make the file again')
    return values


def read_arrays(path: str, names: Sequence[str] = NAMES) -> Dict[str, Optional[np.ndarray]]:
    """{name: array}, those of `names` that are in a .npz file, or in what is taken for a .mat file (MATLAB -v4 to -v7).

    None in place of an array of a .mat that holds no real numbers (text, cells, objects). UnusableFile: not readable,
    or more than LARGEST bytes when unpacked.
    """
    if not os.path.isfile(path):
        raise UnusableFile(path, 'no such file; expected coefficients as .mat or .npz')
    try:
        if path.lower().endswith('.npz'):
            return _read_npz(path, names)
        return {name: array for name, array in _read_mat(path).items() if name in names}
    except _Unreadable as error:
        raise UnusableFile(path, f'{error}; expected .mat (MATLAB -v7) or .npz, as preprocess_data.py or '
                           'Deep3DFaceReconstruction writes it') from error


class _Unreadable(Exception):
    """Why a file cannot be read."""


def _read_npz(path, names):
    try:
        with zipfile.ZipFile(path) as archive:  # NumPy 1.18 complains once more when it forgets a damaged one
            if sum(entry.file_size for entry in archive.infolist() if entry.filename[:-4] in names) > LARGEST:
                raise _Unreadable(f'its arrays are absurdly large, more than {LARGEST >> 20} MiB')
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if name in names}
    except _Unreadable:
        raise
    except Exception as error:                  # damaged files make NumPy raise almost anything
        raise _Unreadable(f'damaged ({_one_line(error)})') from error


def _one_line(error):
    return ' '.join(str(error).split())[:80] or type(error).__name__


# MAT v5


def _read_mat(path):
    try:
        with open(path, 'rb') as file:
            return _arrays(file.read())
    except OSError as error:
        raise _Unreadable(f'cannot be read ({error.strerror})') from error


def _arrays(content):
    """{name: array, None where it does not hold real numbers} in the bytes of a MAT file."""
    if content.startswith((b'MATLAB 7.3', b'\x89HDF')) or content[512:516] == b'\x89HDF':
        raise _Unreadable('saved as MATLAB -v7.3; save it with -v7')
    if content[126:128] == b'IM':
        read, position = _array_v5, 128
    elif content[1:4] == b'\0\0\0':
        read, position = _array_v4, 0
    else:
        raise _Unreadable('not a MATLAB file' if content else 'empty')
    arrays, room = {}, LARGEST
    try:
        while position < len(content):
            name, arrays[name], position, room = read(content, position, room)
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise _Unreadable(f'damaged ({_one_line(error)})') from error
    return arrays


def _array_v4(content, position, room):
    """The array at `position` of a MAT v4 file -> (name, array, position of the next, room)."""
    kind, rows, columns, imaginary, length = struct.unpack_from('<5i', content, position)
    precision, is_text = divmod(kind, 10)
    if not 0 <= precision < len(NUMBERS_V4) or min(rows, columns, length) < 0:
        raise _Unreadable('damaged: an array of unknown type')
    numbers = np.dtype('<' + NUMBERS_V4[precision])
    begin = position + 20 + length
    end = begin + rows * columns * numbers.itemsize * (2 if imaginary else 1)
    if end > len(content):
        raise _Unreadable('cut off')
    name = content[position + 20:begin].rstrip(b'\0').decode('latin-1')
    if is_text or imaginary:
        return name, None, end, room
    return name, np.frombuffer(content[begin:end], numbers).reshape([rows, columns], order='F'), end, room


def _array_v5(content, position, room):
    """As `_array_v4`, of a MAT v5 file. room: bytes that may still be unpacked."""
    kind, element, position = _element(content, position)
    if kind == COMPRESSED:
        element = _unpack(element, room)
        room -= len(element)
        kind, element, _ = _element(element, 0)
    if kind != MATRIX:
        raise _Unreadable(f'damaged: element of type {kind}')
    return _matrix(element) + (position, room)


def _element(content, position):
    """The data element at `position` -> (type, its bytes, position of the next)."""
    kind, size = struct.unpack_from('<II', content, position)
    if kind >> 16:                                          # small form: size, type and up to four bytes in one tag
        kind, size, start, end = kind & 0xffff, kind >> 16, position + 4, position + 8
    else:
        start = position + 8
        end = start + size + (-size % 8 if kind != COMPRESSED else 0)
    data = content[start:start + size]
    if len(data) != size or start + size > end:
        raise _Unreadable('cut off')
    return kind, data, end


def _unpack(data, room):
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, room + 1)
    if not unpacker.eof or len(content) > room:
        raise _Unreadable('damaged: its compressed arrays are cut off or absurdly large')
    return content


def _matrix(element):
    """Body of an array element -> (name, array), column-major; array None where it does not hold real numbers."""
    kind, flags, position = _element(element, 0)
    if (kind, len(flags)) != (UINT32, 8):
        raise _Unreadable('damaged: an array without flags')
    flags = struct.unpack_from('<I', flags)[0]
    shape_kind, shape, position = _element(element, position)
    if shape_kind == INT8:                                  # an object (MATLAB's "text"): its name follows at once
        return shape.decode('latin-1'), None
    name_kind, name, position = _element(element, position)
    if (shape_kind, name_kind) != (INT32, INT8):
        raise _Unreadable('damaged: an array without shape and name')
    if flags & 0xff not in NUMERIC_CLASSES or flags & COMPLEX:
        return name.decode('latin-1'), None
    kind, data, _ = _element(element, position)
    if kind not in NUMBERS:
        raise _Unreadable(f'damaged: numbers of type {kind}')
    shape = np.frombuffer(shape, '<i4')
    return name.decode('latin-1'), np.frombuffer(data, NUMBERS[kind]).reshape(shape, order='F')
