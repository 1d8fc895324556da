"""SHA-256 of files, each read once while it does not change, and the checksum that is kept beside a download."""

import functools
import hashlib
import json
import os
from typing import Any, Iterable

from dnnlib.util import UserError, write_atomic


def sha256(path: str) -> str:
    """Hexadecimal SHA-256 of a file."""
    about = os.stat(path)
    return _sha256(os.path.abspath(path), about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=None)
def _sha256(path, *_):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for chunk in iter(lambda: file.read(1 << 20), b''):
            digest.update(chunk)
    return digest.hexdigest()


def files_digest(paths: Iterable[str]) -> str:
    """SHA-256 of the contents of files together, in this order."""
    return hashlib.sha256(' '.join(sha256(path) for path in paths).encode()).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_checksum(path: str) -> str:
    """Remember the SHA-256 of `path` in `<path>.sha256` (the form of sha256sum); returns the digest."""
    found = sha256(path)
    write_atomic(path + '.sha256', os.fsencode(f'{found}  {os.path.basename(path)}\n'))
    return found


def verify_checksum(path: str) -> None:
    """Raise UserError if `path` is no longer the file whose SHA-256 was remembered; without one nothing happens."""
    try:
        with open(path + '.sha256', encoding='utf-8', errors='replace') as file:
            expected = file.read(200).split()[:1]
    except FileNotFoundError:
        return
    found = sha256(path)
    if expected != [found]:
        raise UserError(f'{path}: SHA-256 is {found}, but {path}.sha256 says {"".join(expected) or "nothing"}; the '
                        'file changed or is damaged: remove both and fetch it again (or only the .sha256 to accept it)')
