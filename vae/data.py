"""Coefficient files (.mat, one per photo) -> one float32 array in memory. Free of TensorFlow.

Files come from preprocess_data.py (`coeff`, 257 numbers) or from the PyTorch version of Deep3DFaceReconstruction
(separate arrays `id`, `tex`, `exp`, `angle`, `gamma`, `trans`).
"""

import os
import struct
import sys
import zlib
from multiprocessing.pool import ThreadPool

import numpy as np
import scipy.io
from tqdm import tqdm

from dnnlib.util import UserError, atomic_path
from renderer import factors

NUMBERS = {7: np.dtype('<f4'), 9: np.dtype('<f8')}          # MAT v5: miSINGLE, miDOUBLE
MATRIX, COMPRESSED = 14, 15                                 # miMATRIX, miCOMPRESSED
NAME_COEFF = struct.pack('<II8s', 1, 5, b'coeff')           # miINT8, length, padded to 8 bytes
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
    coeff = _fast_coeff(content)
    coeff = _slow_coeff(path) if coeff is None else coeff
    if coeff.size != factors.NUM_RECON or max(coeff.shape) != coeff.size:
        raise _Unfit(f'`coeff` has shape {list(coeff.shape)}')
    with np.errstate(over='ignore'):                        # float64 beyond float32 becomes infinity
        coeff = coeff.reshape(-1).astype(np.float32)
    if not np.isfinite(coeff).all():
        raise _Unfit(f'{int((~np.isfinite(coeff)).sum())} of its numbers are NaN or infinite')
    return coeff


def _fast_coeff(content):
    """`coeff` of a little-endian MAT v5 file that holds it as a plain real float array; None for anything else.

    About ten times as fast as scipy, which matters for 70,000 files.
    """
    if len(content) < 136 or content[126:128] != b'IM':
        return None
    try:
        position = 128
        while position + 8 <= len(content):
            kind, size = struct.unpack_from('<II', content, position)
            element = content[position + 8:position + 8 + size]
            if kind not in (MATRIX, COMPRESSED) or len(element) != size:
                return None
            if kind == COMPRESSED:
                element = zlib.decompress(element)[8:]
            found = _matrix(element)
            if found is not None:
                return found
            position += 8 + size
    except (struct.error, zlib.error, ValueError):
        pass
    return None


def _matrix(element):
    """The array in the body of an miMATRIX element if it is named `coeff`, two-dimensional, real and of floats."""
    if struct.unpack_from('<II', element, 0) != (6, 8) or struct.unpack_from('<II', element, 16) != (5, 8):
        return None
    flags, rows, columns = struct.unpack_from('<I4x8xii', element, 8)
    if element[32:48] != NAME_COEFF or flags & 0xff not in (6, 7) or flags & 0x0800:    # double, single; complex
        return None
    kind, size = struct.unpack_from('<II', element, 48)
    if kind not in NUMBERS or size != rows * columns * NUMBERS[kind].itemsize or len(element) < 56 + size:
        return None
    return np.frombuffer(element, NUMBERS[kind], rows * columns, 56).reshape(rows, columns, order='F')


def _slow_coeff(path):
    """`coeff` read by scipy, or put together from the PyTorch version's arrays."""
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:          # scipy raises whatever its parser trips over
        raise _Unfit(f'not a readable .mat file ({type(error).__name__}: {_one_line(error)})') from error
    if 'coeff' in content:
        return _numbers('coeff', content['coeff'])
    missing = [name for name, _ in PYTORCH_NAMES if name not in content]
    if missing:
        raise _Unfit('it has no `coeff`')
    coeff = np.zeros(factors.NUM_RECON)
    for name, where in PYTORCH_NAMES:
        part = _numbers(name, content[name])
        if part.size != where.stop - where.start:
            raise _Unfit(f'`{name}` has shape {list(part.shape)}, {where.stop - where.start} numbers expected')
        coeff[where] = part.reshape(-1)
    return coeff


def _numbers(name, array):
    array = np.asarray(array)
    if array.dtype.kind not in 'fiu':
        raise _Unfit(f'`{name}` holds no real numbers ({array.dtype})')
    return array


def _one_line(error):
    return ' '.join(str(error).split())[:120]


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
    first = '; '.join(f'{name}: {reason}' for name, reason in skipped[:3])
    print(f'skipped {len(skipped)} files ({first}{"; ..." if len(skipped) > 3 else ""}); all are listed in {path}',
          file=sys.stderr)
