"""JSON files of ours and of users: read with one clear error, written whole or not at all."""

import json
import math
import os
from typing import Any

from dnnlib.util import UserError, shown, write_atomic

MAX_BYTES = 1 << 26
_KINDS = {dict: 'table {...}', list: 'list [...]'}


def read_json(path: str, expected: str = 'a JSON file', kind: type = dict) -> Any:
    """The content of a JSON file, a `kind` (dict or list). UTF-8, or UTF-16 and UTF-32; a byte order mark may lead.

    expected: what should have been there, for the UserError when it is not: no such file, no JSON, another kind, a
    number that is not finite.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected {expected}') from error
    return parse_json(data, path, expected, kind)


def parse_json(data: bytes, source: str, expected: str = 'JSON', kind: type = dict) -> Any:
    """As `read_json`, of bytes; `source` says where they come from."""
    if len(data) > MAX_BYTES:
        raise UserError(f'{source}: more than {MAX_BYTES >> 20} MiB; expected {expected}')
    try:
        content = json.loads(data, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else str(error)[:120]
        raise UserError(f'{source}: not readable JSON ({reason}); expected {expected}') from error
    if not isinstance(content, kind):
        raise UserError(f'{source}: holds no {_KINDS.get(kind, kind.__name__)}; expected {expected}')
    return content


def _whole(text):
    if len(text) > 4000:        # Python takes a time that grows with the square
        raise ValueError(f'a number of {len(text)} digits')
    return int(text)


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'{shown(text)} is no finite number')
    return value


def write_json(path: str, value: Any) -> None:
    """Write a JSON value, keys sorted; the file appears whole or not at all. UserError where it cannot be written."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + '\n').encode())


def keep_facts(path: str, facts: dict) -> None:
    """Say in a JSON file how the files beside it are made. UserError when it says that they were made otherwise."""
    if not os.path.exists(path):
        write_json(path, facts)
        return
    there = read_json(path, 'how the files beside it were made; delete the folder and run again')
    if there != facts:
        raise UserError(f'{path}: the files beside it were made with {shown(json.dumps(there, sort_keys=True))}, not '
                        f'{json.dumps(facts, sort_keys=True)}; choose another folder or the same options')
