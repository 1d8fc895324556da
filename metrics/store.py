"""Arrays that take long to make, kept on disk block by block: an interrupted run goes on, a finished one is kept.

What an array depends on is its key; a file appears whole or not at all.
"""

import os
import shutil
import sys
import zipfile
import zlib
from typing import Any, Callable, Dict

import numpy as np
from tqdm import tqdm

from dnnlib.hashes import digest
from dnnlib.util import UserError, atomic_path, pace

_FORMAT = 3         # counted up when stored arrays change their meaning
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Store:
    """Arrays below `folder`, which is made. UserError when it cannot be."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise UserError(f'{folder}: no folder for half-finished work can be made there ({error.strerror}); choose '
                            'another --cache')
        self._passing = []

    def collect(self, name: str, facts: Any, total: int, block: int,
                compute: Callable[[int, int], Dict[str, np.ndarray]], passing: bool = False,
                unit: str = 'img', scale: int = 1) -> Dict[str, np.ndarray]:
        """{array name: [total, ...]}, read, or made by `compute(start, count)` -> {array name: [count, ...]}.

        facts: JSON values that decide the arrays. block: rows computed and saved together. passing: `discard` removes
        the file. unit, scale: of the bar, and how many of it are in a row. UserError when the disk is full.
        """
        stem = os.path.join(self.folder, f'{name}-{digest([_FORMAT, facts, total])[:16]}')
        whole, parts = stem + '.npz', stem + '.parts'
        arrays = _load(whole, total)
        if arrays is None:
            pieces = self._make(parts, name, total, block, compute, unit, scale)
            arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
            _save(whole, arrays)
            shutil.rmtree(parts, ignore_errors=True)
        if passing:
            self._passing.append(whole)
        return arrays

    @staticmethod
    def _make(parts, name, total, block, compute, unit, scale):
        pieces = []
        with tqdm(total=total * scale, desc=name, unit=unit, mininterval=pace(), leave=False) as bar:
            for start in range(0, total, block):
                count = min(block, total - start)
                path = os.path.join(parts, f'{start:08d}-{count}.npz')
                piece = _load(path, count)
                if piece is None:
                    piece = compute(start, count)
                    _save(path, piece)
                    bar.update(count * scale)
                else:
                    bar.initial += count * scale        # so that the rate counts new ones only
                    bar.n += count * scale
                pieces.append(piece)
        return pieces

    def discard(self) -> None:
        """Remove what was collected in passing: it is large and only useful while a run may be interrupted."""
        for path in self._passing:
            if os.path.exists(path):
                os.remove(path)
        self._passing = []


def _load(path, rows):
    """The arrays of a file, None where there is none or it is damaged (said on stderr): it is made again then."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if arrays and all(len(array) == rows for array in arrays.values()):
            return arrays
    except _DAMAGED:
        pass
    print(f'{path}: damaged; it is made again', file=sys.stderr)
    return None


def _save(path, arrays):
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)
