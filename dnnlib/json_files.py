"""JSON files of ours and of users: read with one clear error, written whole or not at all."""

import json
from typing import Any

from dnnlib.util import UserError, atomic_path

_KINDS = {dict: 'table {...}', list: 'list [...]'}


def read_json(path: str, expected: str = 'a JSON file', kind: type = dict) -> Any:
    """The content of a JSON file, a `kind` (dict or list). A byte order mark is allowed.

    expected: what should have been there, for the UserError when it is not: no such file, no JSON, another kind.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected {expected}') from error
    except (ValueError, RecursionError, MemoryError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else ' '.join(str(error).split())[:120]
        raise UserError(f'{path}: not readable JSON ({reason}); expected {expected}') from error
    if not isinstance(content, kind):
        raise UserError(f'{path}: holds no {_KINDS.get(kind, kind.__name__)}; expected {expected}')
    return content


def write_json(path: str, value: Any) -> None:
    """Write a JSON value, keys sorted; the file appears whole or not at all. UserError where it cannot be written."""
    text = json.dumps(value, indent=1, sort_keys=True) + '\n'
    with atomic_path(path) as temporary:
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(text)
