"""A folder of many pictures, filled by long, interruptible runs: settings, resuming, writing in threads.

No TensorFlow here.
"""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from dnnlib import pictures
from dnnlib.json_files import read_json, write_json
from dnnlib.util import UserError

SETTINGS = 'settings.json'
_STALE_SECONDS = 3600.0


class ImageFolder:
    """Pictures `<name>.png` and, if wanted, their coefficients `<name>.npz|mat` in the folder `path`.

    settings: dict of plain values; what decides how the pictures look. It is kept in settings.json, and a folder whose
      pictures were made with other settings is refused.
    belongs: name -> bool, whether a picture of that name is of the kind this run writes.
    dealt: name -> bool, whether it is this run's own share of them (`overwrite` removes those only).
    coeffs: None, 'npz' or 'mat'. overwrite: make existing pictures again.
    UserError when the folder cannot be written or holds pictures of other settings.

    Use as a context manager: leaving it waits until everything is written.
    """

    def __init__(self, path, settings, belongs, dealt=None, coeffs=None, overwrite=False):
        self.path = os.path.abspath(path)
        self.coeffs = coeffs
        self._there = _listing(self.path)
        self._check_settings(settings, belongs, overwrite)
        if overwrite:
            self._remove(dealt or belongs)
        write_json(os.path.join(self.path, SETTINGS), settings)
        self._pool = ThreadPoolExecutor(max_workers=min(8, max(2, os.cpu_count() or 2)))
        self._room = threading.Semaphore(64)        # pictures that may wait for a thread: bounds the memory
        self._error = None

    # ---- what is there

    def _check_settings(self, settings, belongs, overwrite):
        """Refuse a folder whose pictures would not go with this run's."""
        made = [name for name in self._there if name.endswith('.png') and belongs(name[:-4])]
        if not made or overwrite:
            return
        if SETTINGS not in self._there:
            raise UserError(f'{self.path}: holds {len(made)} pictures but no {SETTINGS}, so nobody knows how they '
                            'were made; choose another --outdir, or give --overwrite to make them again')
        old = read_json(os.path.join(self.path, SETTINGS),
                        'the settings of a sampling run; choose another --outdir, or give --overwrite')
        changed = [key for key in sorted(set(old) | set(settings)) if old.get(key) != settings.get(key)]
        if changed:
            what = ', '.join(f'{key} {_short(old.get(key))} (now {_short(settings.get(key))})' for key in changed)
            raise UserError(f'{self.path}: its {len(made)} pictures were made with {what}; choose another '
                            '--outdir, or give --overwrite to make them again')

    def _remove(self, dealt):
        """Remove this run's share, so that what an interrupted run leaves is never mistaken for the new."""
        endings = ('.png', '.npz', '.mat')
        for name in sorted(self._there):
            stem, ending = os.path.splitext(name)
            if ending in endings and dealt(stem):
                try:
                    os.remove(os.path.join(self.path, name))
                except OSError as error:
                    raise UserError(f'{os.path.join(self.path, name)}: cannot be replaced ({error.strerror})')
                self._there.discard(name)

    def files(self, name):
        """Paths of the picture called `name` and, if wanted, of its coefficients."""
        stem = os.path.join(self.path, name)
        return [stem + '.png'] + ([f'{stem}.{self.coeffs}'] if self.coeffs else [])

    def has(self, name, since=None):
        """Whether everything of picture `name` was there when this run began; since: and is not older than that time.

        Files appear whole or not at all, so a file that is there is complete.
        """
        paths = self.files(name)
        if not all(os.path.basename(path) in self._there for path in paths):
            return False
        return since is None or all(os.path.getmtime(path) >= since for path in paths)

    # ---- writing

    def save(self, name, image, face):
        """Have uint8 RGB `image` [H, W, 3] and the coefficients of `face` written by a thread; returns at once."""
        self._raise_error()
        self._room.acquire()
        self._pool.submit(self._write, name, image, face)

    def _write(self, name, image, face):
        try:
            if self._error is None:
                paths = self.files(name)
                for path in paths[1:]:
                    face.save(path)         # first: the picture says that all of it is there
                pictures.save_image(image, paths[0])
        except Exception as error:          # raised in the main thread by save or close
            self._error = error
        finally:
            self._room.release()

    def _raise_error(self):
        if self._error is not None:
            raise self._error

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self._pool.shutdown(wait=True)
        if kind is None:
            self._raise_error()


def _listing(path):
    """Set of the file names in a folder, made where it is missing; left-overs of killed runs are cleared away."""
    try:
        os.makedirs(path, exist_ok=True)
        names = set(os.listdir(path))
    except OSError as error:
        raise UserError(f'{path}: cannot be used as the folder of the pictures ({error.strerror}); give another '
                        '--outdir')
    for name in names:
        holder = os.path.join(path, name)
        # Another shard may be writing here now: only old ones are surely dead.
        if name.startswith('.tmp-') and time.time() - os.path.getmtime(holder) > _STALE_SECONDS:
            shutil.rmtree(holder, ignore_errors=True)
    return names


def _short(value):
    """A setting for a message: digests shortened."""
    if isinstance(value, str) and len(value) == 64:
        return f'{value[:8]}...'
    return 'unset' if value is None else json.dumps(value)[:200]
