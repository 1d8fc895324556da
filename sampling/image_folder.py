"""A folder of many pictures, filled by long, interruptible runs: settings, resuming, writing in threads.

No TensorFlow here.
"""

import json
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional

import numpy as np

from dnnlib import pictures, places
from dnnlib.hashes import digest
from dnnlib.json_files import read_json
from dnnlib.util import UserError, listed, shown
from sampling.part_names import FILE_KINDS

SETTINGS = 'settings.json'
GRID = 'grid.png'
_NEW = 'not there'
LONGEST_NAME = 255          # bytes of a file name, on nearly every file system


class ImageFolder:
    """Pictures `<name>.png` and, if wanted, their coefficients `<name>.npz|mat` in the folder `path`.

    settings: dict of plain values; what decides how all the pictures look. It is kept in settings.json, and a folder
      whose pictures were made with other settings is refused.
    wanted: {picture name: {what: path}}, the files a picture is made from besides. What is there and was made from
      the same contents is kept; what was made from others is made again.
    coeffs: None, 'npz' or 'mat'. overwrite: make existing pictures again: first those of `wanted` are removed; with
      other settings than theirs all of ours.
    dealt: picture name -> bool, whether it is this run's own share of the folder (`overwrite` removes those only).
    Attributes: path; todo {name: reason}, those of `wanted` that are to be made.

    Nothing is written over or removed that the folder's own record (dnnlib.places) does not know. UserError, before
    anything is done, where that would be, where the folder cannot be written, or holds pictures of other settings.
    Use as a context manager: leaving it waits until everything is written.
    """

    def __init__(self, path: str, settings: Dict[str, Any], wanted: Dict[str, Dict[str, str]],
                 coeffs: Optional[str] = None, overwrite: bool = False,
                 dealt: Callable[[str], bool] = lambda name: True) -> None:
        self.path, self.coeffs = os.path.abspath(path), coeffs
        self._there = _listing(self.path)
        self._record = places.Record(self.path)
        self._settings = {'settings': digest(settings)}     # of each picture: other shards' may be older
        self._refuse_foreign(wanted)
        if not overwrite:
            self._check_settings(settings)
        elif self._old_settings() == settings:
            self._remove(wanted.__contains__)
        else:
            self._remove(dealt)
        self.todo = {}
        for name, sources in wanted.items():
            reason = self._why(name, sources)
            if reason:
                self.todo[name] = reason
        self._remove_coeffs()
        self._sources = {name: _contents(wanted[name]) for name in self.todo}
        self._write_settings(settings)
        self._pool = ThreadPoolExecutor(max_workers=min(8, max(2, os.cpu_count() or 2)))
        self._room = threading.Semaphore(64)        # pictures that may wait for a thread: bounds the memory
        self._error: Optional[BaseException] = None

    # ---- what is there

    def file(self, name: str) -> str:
        """Path of the picture called `name`."""
        return os.path.join(self.path, name + '.png')

    def _files(self, name):
        """Names of the files of picture `name`; the picture comes last: it says that all of it is there."""
        return ([f'{name}.{self.coeffs}'] if self.coeffs else []) + [name + '.png']

    def _why(self, name, sources):
        """Why a picture must be made (again), None when it need not."""
        files = self._files(name)
        made = self._record.made.get(name)
        if made is None or any(file not in self._there or file not in made.files for file in files):
            return _NEW
        return self._record.why_again(name, sources, self._settings)

    def _refuse_foreign(self, wanted):
        """UserError when a file is in the way that is not as we made it."""
        files = [file for name in wanted for file in self._files(name)] + [SETTINGS, GRID]
        foreign = [file for file in files if file in self._there and not self._record.owns(file)]
        if foreign:
            raise UserError(f'{self.path}: {listed(foreign)} there would be written over, but {places.RECORD} does not '
                            'say that this program made what it holds; choose another --outdir, or move it away')

    def _made(self):
        """Names of our pictures that are there, the contact sheet aside."""
        return [name for name, made in self._record.made.items()
                if name not in (SETTINGS, GRID) and name + '.png' in self._there]

    def _check_settings(self, settings):
        """Refuse a folder whose pictures would not go with this run's."""
        made = self._made()
        if not made:
            return
        advice = 'choose another --outdir, or give --overwrite to make them again'
        old = read_json(os.path.join(self.path, SETTINGS), f'the settings of {len(made)} pictures there; {advice}')
        changed = [key for key in sorted(set(old) | set(settings)) if old.get(key) != settings.get(key)]
        if changed:
            what = [f'{_key(key)} {_short(old.get(key))} (now {_short(settings.get(key))})' for key in changed[:8]]
            raise UserError(f'{self.path}: its {len(made)} pictures were made with {", ".join(what)}; {advice}')

    def _old_settings(self):
        """Those of the pictures that are there; None where there are none that can be read."""
        try:
            return read_json(os.path.join(self.path, SETTINGS))
        except UserError:
            return None

    def _remove(self, chosen):
        """Remove our pictures whose names are chosen, so that what an interrupted run leaves is not taken for the new.

        The contact sheet goes, too.
        """
        for file in sorted(self._there):
            name = os.path.splitext(file)[0]
            if file == GRID or name in self._record.made and chosen(name):
                self._discard(file)

    def _remove_coeffs(self):
        """Remove coefficients of pictures that are made again: beside the new picture they would be wrong."""
        for name in self.todo:
            for kind in FILE_KINDS:
                if f'{name}.{kind}' in self._there:
                    self._discard(f'{name}.{kind}')

    def _discard(self, file):
        if self._record.remove(file):
            self._there.discard(file)

    def _write_settings(self, settings):
        data = (json.dumps(settings, indent=1, sort_keys=True) + '\n').encode()
        try:
            with open(os.path.join(self.path, SETTINGS), 'rb') as file:
                if file.read() == data:         # another shard's, perhaps of this very moment
                    return
        except FileNotFoundError:
            pass
        self._record.put(SETTINGS, {SETTINGS: data}, {}, {})

    def explain(self) -> Optional[str]:
        """A line on the pictures that are made again though they were there, and why; None when there are none."""
        again = {name: reason for name, reason in self.todo.items() if reason not in (_NEW, 'new', 'not finished')}
        if not again:
            return None
        reasons = ', '.join(sorted(set(again.values())))
        return f'{len(again)} pictures are made again ({reasons}): {listed(sorted(again))}'

    # ---- writing

    def save(self, name: str, image: np.ndarray, face: Any) -> None:
        """Have uint8 RGB `image` [H, W, 3] and the coefficients of `face` written by a thread; returns at once."""
        self._raise_error()
        self._room.acquire()
        self._pool.submit(self._write, name, image, face)

    def _write(self, name, image, face):
        try:
            if self._error is None:
                data = [face.encoded(self.coeffs)] if self.coeffs else []
                data.append(pictures.encode_image(image))
                self._record.put(name, dict(zip(self._files(name), data)), self._sources.get(name, {}),
                                 self._settings)
        except Exception as error:          # raised in the main thread by save or close
            self._error = error
        finally:
            self._room.release()

    def save_grid(self, sheet: np.ndarray) -> str:
        """Write a contact sheet, uint8 RGB [H, W, 3]; returns its path."""
        places.Record(self.path).put(GRID, {GRID: pictures.encode_image(sheet)}, {}, {})    # anew: shards write it too
        return os.path.join(self.path, GRID)

    def _raise_error(self):
        if self._error is not None:
            raise self._error

    def __enter__(self) -> 'ImageFolder':
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self._raise_error()


def _listing(path):
    """Set of the file names in a folder, made where it is missing."""
    try:
        os.makedirs(path, exist_ok=True)
        return set(os.listdir(path))
    except OSError as error:
        raise UserError(f'{path}: cannot be used as the folder of the pictures ({error.strerror}); give another '
                        '--outdir')


def _contents(sources):
    """{what: path} -> {what: places.Content}."""
    try:
        return {what: places.content(path) for what, path in sources.items()}
    except OSError as error:
        raise UserError(f'{error.filename}: cannot be read ({error.strerror})') from error


def composed_name(stem: str, suffix: str) -> str:
    """'<stem>_<suffix>' as a picture's name: too long a stem is cut, and told from others by digits of its checksum."""
    name, room = f'{stem}_{suffix}', LONGEST_NAME - len('.png')
    if len(os.fsencode(name)) <= room:
        return name
    digits = f'~{zlib.crc32(os.fsencode(stem)):08x}'
    kept = os.fsencode(stem)[:room - len(os.fsencode(f'{digits}_{suffix}'))]
    while True:
        try:
            return f'{kept.decode()}{digits}_{suffix}'
        except UnicodeDecodeError:
            kept = kept[:-1]            # within a character, or a name that is not UTF-8


def _key(name):
    """A key of settings.json for a message: our own as they are."""
    return name if name.isidentifier() and len(name) < 40 else shown(name)


def _short(value):
    """A setting for a message: digests shortened."""
    if value is None:
        return 'unset'
    if isinstance(value, str):
        return f'{value[:8]}...' if len(value) == 64 and value.isalnum() else json.dumps(value[:80])
    if isinstance(value, list):
        return '[' + ', '.join(map(_short, value[:8])) + ']'
    return shown(value)
