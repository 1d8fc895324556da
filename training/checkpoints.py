"""The whole state of a training on disk: one file, written whole or not at all; the last few are kept."""

import contextlib
import json
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from dnnlib.util import UserError, atomic_path

FOLDER = 'checkpoints'          # below a run's directory
_NAME = re.compile(r'checkpoint-(\d{9,})\.npz$')
_FACTS = 'facts.json'           # entry of the file beside the arrays
_DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError)


class Checkpoint(NamedTuple):
    """What `Checkpoints.load_newest` returns."""

    path: str
    facts: Dict[str, Any]                   # plain values
    arrays: 'OrderedDict[str, np.ndarray]'


class Checkpoints:
    """The checkpoints of one run, in `<run_dir>/checkpoints/`, the newest `keep` of them.

    Making one clears what killed runs left half-written there.
    """

    def __init__(self, run_dir: str, keep: int = 3) -> None:
        self.run_dir, self.folder = run_dir, os.path.join(run_dir, FOLDER)
        self.keep = keep
        for name in _names_in(self.folder):
            if name.startswith('.tmp-'):
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def save(self, nimg: int, arrays: Dict[str, np.ndarray], facts: Dict[str, Any]) -> str:
        """Write {name: array} and facts (JSON values) after `nimg` images -> path; then drop the oldest.

        UserError when it cannot be written (disk full, no permission): the older ones stay and nothing else does.
        """
        path = os.path.join(self.folder, f'checkpoint-{nimg:09d}.npz')
        with atomic_path(path, sync=True) as temporary:
            with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED, allowZip64=True) as archive:
                archive.writestr(_FACTS, json.dumps(facts))
                for name, value in arrays.items():
                    with archive.open(name + '.npy', 'w', force_zip64=True) as entry:
                        np.lib.format.write_array(entry, np.asarray(value), allow_pickle=False)
        for _, old in existing(self.run_dir)[:-self.keep]:
            with contextlib.suppress(OSError):
                os.remove(old)
        return path

    def load_newest(self) -> Optional[Checkpoint]:
        """The newest checkpoint that is whole, None where there is none; damaged ones are named on stderr.

        UserError when all of them are damaged.
        """
        errors = []
        for _, path in reversed(existing(self.run_dir)):
            try:
                return load(path)
            except UserError as error:
                print(f'warning: {error}; the one before it is taken', file=sys.stderr)
                errors.append(path)
        if errors:
            raise UserError(f'{self.folder}: all {len(errors)} checkpoints are damaged; start from a snapshot instead '
                            '(--stage 2 --run_id), or anew')
        return None


def existing(run_dir: str) -> List[Tuple[int, str]]:
    """(images shown, path) of each checkpoint of a run, the oldest first."""
    folder = os.path.join(run_dir, FOLDER)
    found = [match for match in map(_NAME.match, _names_in(folder)) if match]
    return sorted((int(match.group(1)), os.path.join(folder, match.string)) for match in found)


def _names_in(folder: str) -> List[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def newest_facts(run_dir: str) -> Optional[Dict[str, Any]]:
    """The facts of the newest checkpoint of a run whose facts can be read, None where there is none.

    Unlike making a Checkpoints this changes nothing, so another process may be training there.
    """
    for _, path in reversed(existing(run_dir)):
        with contextlib.suppress(*_DAMAGE), zipfile.ZipFile(path) as archive:
            return _read_facts(archive)
    return None


def load(path: str) -> Checkpoint:
    """A checkpoint from its file, every checksum verified. UserError when it is damaged or no checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            facts = _read_facts(archive)
            names = [name for name in archive.namelist() if name != _FACTS]
            arrays = OrderedDict((name[:-len('.npy')], _read_array(archive, name)) for name in names)
    except _DAMAGE as error:
        raise UserError(f'{path}: not a whole checkpoint ({type(error).__name__}: {error})') from error
    return Checkpoint(path, facts, arrays)


def _read_facts(archive: zipfile.ZipFile) -> Dict[str, Any]:
    facts = json.loads(archive.read(_FACTS).decode())
    if not isinstance(facts, dict):
        raise ValueError(f'{_FACTS} holds no table')
    return facts


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as entry:
        value = np.lib.format.read_array(entry, allow_pickle=False)
        if entry.read(1):               # to the very end: only then is the checksum compared
            raise ValueError(f'{name} is longer than its array')
    return value
