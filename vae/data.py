"""A folder of coefficient files (.mat, one per photo) -> one float32 array in memory. Free of TensorFlow."""

import os
import sys
from multiprocessing.pool import ThreadPool
from typing import List, Tuple

import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError, one_line, write_atomic
from renderer import coefficient_files, factors


def list_mat(folder: str) -> List[str]:
    """Sorted names of the .mat files in a folder; UserError when it is missing or has none."""
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder; --datapath wants the folder of .mat coefficient files that '
                        'preprocess_data.py writes (its <save_path>/coeff)')
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith('.mat') and not name.startswith('.'))
    if not names:
        raise UserError(f'{folder}: no .mat file in this folder; --datapath wants the coefficient files that '
                        'preprocess_data.py writes (its <save_path>/coeff)')
    return names


def load_coeffs(folder: str, where: slice = slice(0, factors.NUM_COEFFS), threads: int = 4,
                progress: bool = True) -> Tuple[np.ndarray, List[str], List[Tuple[str, str]]]:
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
            if isinstance(result, coefficient_files.UnusableFile):
                skipped.append((name, result.reason))
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
        return coefficient_files.read_reconstruction(path)[where]
    except coefficient_files.UnusableFile as error:
        return error


def report_skipped(skipped: List[Tuple[str, str]], path: str) -> None:
    """Tell on stderr what was skipped and list all of it in the text file `path`; an older list goes away if none."""
    if not skipped:
        if os.path.exists(path):
            os.remove(path)
        return
    lines = [one_line(name) + f'\t{reason}\n' for name, reason in skipped]
    write_atomic(path, ''.join(lines).encode())
    first = '; '.join(f'{one_line(name)}: {reason}' for name, reason in skipped[:3])
    first += '; ...' if len(skipped) > 3 else ''
    files = 'file' if len(skipped) == 1 else 'files'
    print(f'skipped {len(skipped)} {files} ({first}); all are listed in {path}', file=sys.stderr)
