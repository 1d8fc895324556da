"""Coefficient files (.mat, one per photo) -> one float32 array in memory. Free of TensorFlow.

They come from preprocess_data.py (`coeff`, 257 numbers) or the PyTorch version of Deep3DFaceReconstruction (`id`,
`tex`, `exp`, `angle`, `gamma`, `trans`). The parser is our own: one damaged byte can make scipy's crash the process.
"""

import os
import struct
import sys
import zlib
from multiprocessing.pool import ThreadPool

import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError, atomic_path
from renderer import factors

# MAT v5: data types of numbers, of the parts of an array, and classes of arrays (8-bit integers and all above: numbers)
NUMBERS = {kind: np.dtype(name) for kind, name in ((1, 'i1'), (2, 'u1'), (3, '<i2'), (4, '<u2'), (5, '<i4'), (6, '<u4'),
                                                   (7, '<f4'), (9, '<f8'), (12, '<i8'), (13, '<u8'))}
MATRIX, COMPRESSED, INT8, INT32, UINT32 = 14, 15, 1, 5, 6
NUMERIC_CLASSES = range(6, 16)
COMPLEX = 0x0800
LARGEST = 1 << 24           # bytes a compressed element may unpack to; coefficients need two thousand
PYTORCH_NAMES = (('id', factors.SHAPE), ('tex', factors.TEXTURE), ('exp', factors.EXPRESSION),
                 ('angle', factors.ANGLES), ('gamma', factors.LIGHTING), ('trans', factors.TRANSLATION))


# One file


def read_coeff(path):
    """The reconstruction vector of one .mat file: float32 [257], layout as in renderer/factors.py.

    Takes `coeff` of shape [257], [1, 257] or [257, 1], or the six arrays of the PyTorch reconstruction.
    UserError (file and reason) when the file is missing, damaged, of another shape, or holds NaN or infinity.
    """
    try:
        return _read(path)
    except _Unfit as error:
        raise UserError(f'{path}: {error}; expected a .mat with `coeff` of {factors.NUM_RECON} numbers, as '
                        'preprocess_data.py writes') from error


class _Unfit(Exception):
    """Why a file cannot be used."""


def _read(path):
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        raise _Unfit(f'cannot be read ({error.strerror})') from error
    arrays = _arrays(content)
    coeff = arrays['coeff'] if 'coeff' in arrays else _from_pytorch(arrays)
    if coeff.size != factors.NUM_RECON or max(coeff.shape) != coeff.size:
        raise _Unfit(f'`coeff` has shape {list(coeff.shape)}')
    with np.errstate(over='ignore'):                        # float64 beyond float32 becomes infinity
        coeff = coeff.reshape(-1).astype(np.float32)
    if not np.isfinite(coeff).all():
        raise _Unfit(f'{int((~np.isfinite(coeff)).sum())} of its numbers are NaN or infinite')
    return coeff


def _arrays(content):
    """{name: array} of the real numeric arrays in the bytes of a MAT v5 file (MATLAB -v6 and -v7, scipy's savemat)."""
    if content[126:128] != b'IM':
        raise _Unfit('saved as MATLAB -v7.3; save it with -v7' if content.startswith(b'MATLAB 7.3') else
                     'not a MATLAB v5 file' if content else 'empty')
    arrays, position = {}, 128
    try:
        while position < len(content):
            kind, element, position = _element(content, position)
            if kind == COMPRESSED:
                kind, element, _ = _element(_unpack(element), 0)
            if kind != MATRIX:
                raise _Unfit(f'damaged: element of type {kind}')
            name, array = _matrix(element)
            if array is not None:
                arrays[name] = array
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise _Unfit(f'damaged ({" ".join(str(error).split())[:80]})') from error
    return arrays


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
        raise _Unfit('cut off')
    return kind, data, end


def _unpack(data):
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, LARGEST)
    if not unpacker.eof:
        raise _Unfit('damaged: a compressed array is cut off or absurdly large')
    return content


def _matrix(element):
    """Body of an array element -> (name, array), column-major; array None where it does not hold real numbers."""
    kind, flags, position = _element(element, 0)
    shape_kind, shape, position = _element(element, position)
    name_kind, name, position = _element(element, position)
    if (kind, len(flags), shape_kind, name_kind) != (UINT32, 8, INT32, INT8):
        raise _Unfit('damaged: an array without flags, shape and name')
    name, flags = name.decode('latin-1'), struct.unpack_from('<I', flags)[0]
    if flags & 0xff not in NUMERIC_CLASSES or flags & COMPLEX:
        return name, None
    kind, data, _ = _element(element, position)
    if kind not in NUMBERS:
        raise _Unfit(f'damaged: numbers of type {kind}')
    return name, np.frombuffer(data, NUMBERS[kind]).reshape(np.frombuffer(shape, '<i4'), order='F')


def _from_pytorch(arrays):
    """The reconstruction vector [257] put together from the PyTorch version's arrays."""
    missing = [name for name, _ in PYTORCH_NAMES if name not in arrays]
    if missing:
        raise _Unfit('it has no real `coeff`')
    coeff = np.zeros(factors.NUM_RECON)
    for name, where in PYTORCH_NAMES:
        if arrays[name].size != where.stop - where.start:
            raise _Unfit(f'`{name}` has shape {list(arrays[name].shape)}, {where.stop - where.start} numbers expected')
        coeff[where] = arrays[name].reshape(-1)
    return coeff


# A folder


def list_mat(folder):
    """Sorted names of the .mat files in a folder; UserError when it is missing or has none."""
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder; --datapath wants the folder of .mat coefficient files that '
                        'preprocess_data.py writes (its <save_path>/coeff)')
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith('.mat') and not name.startswith('.'))
    if not names:
        raise UserError(f'{folder}: no .mat file in this folder; --datapath wants the coefficient files that '
                        'preprocess_data.py writes (its <save_path>/coeff)')
    return names


def load_coeffs(folder, where=slice(0, factors.NUM_COEFFS), threads=4, progress=True):
    """Read all coefficient files of a folder, in the order of their names.

    where: slice of the 257 numbers to keep, e.g. `BY_NAME['exp'].coeffs`. threads: readers; more than cores help on
    slow disks. progress: show a bar on a terminal.
    Returns (float32 [N, n], [N file names], [(name, reason) of each file skipped]). UserError when no file is usable.
    """
    names = list_mat(folder)
    coeffs = np.empty([len(names), where.stop - where.start], np.float32)
    kept, skipped = [], []
    with ThreadPool(threads) as pool, \
            tqdm(total=len(names), desc='Coefficients', unit='file', disable=None if progress else True) as bar:
        for name, result in pool.imap(lambda name: (name, _try(os.path.join(folder, name), where)), names, 64):
            if isinstance(result, _Unfit):
                skipped.append((name, str(result)))
            else:
                coeffs[len(kept)] = result
                kept.append(name)
            bar.update()
    if not kept:
        raise UserError(f'{folder}: none of its {len(names)} .mat files can be used; the first, {skipped[0][0]}: '
                        f'{skipped[0][1]}; make them again with preprocess_data.py')
    return coeffs[:len(kept)], kept, skipped


def _try(path, where):
    try:
        return _read(path)[where]
    except _Unfit as error:
        return error


def report_skipped(skipped, path):
    """Tell on stderr what was skipped and list all of it in the text file `path`; an older list goes away if none."""
    if not skipped:
        if os.path.exists(path):
            os.remove(path)
        return
    with atomic_path(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        file.writelines(f'{name}\t{reason}\n' for name, reason in skipped)
    first = '; '.join(f'{name}: {reason}' for name, reason in skipped[:3]) + ('; ...' if len(skipped) > 3 else '')
    files = 'file' if len(skipped) == 1 else 'files'
    print(f'skipped {len(skipped)} {files} ({first}); all are listed in {path}', file=sys.stderr)
