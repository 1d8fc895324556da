"""Which world data and models belong to, by name: world.json in a folder, <model>-world.json beside a snapshot.

No TensorFlow. A world is a face model, VAEs, perception networks and a template that belong together (worlds/parts.py).
"""

import os
from typing import Any, Dict, Optional

import config
from dnnlib.json_files import read_json, write_json
from dnnlib.util import UserError, shown
from worlds.agree import one_world

FILE = 'world.json'
REAL = 'real'               # Basel face model, photographs
NAMES = tuple(config.WORLDS)


def read(folder: str) -> Optional[str]:
    """Name of the world of the data in `folder`; None when the folder says nothing. Raises UserError: a broken file, or
    an unknown world.
    """
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        return None
    return _read(path)['world']


def _read(path):
    """Content of a file that names a world. Raises UserError: a broken file, or an unknown world."""
    facts = read_json(path, f'{{"world": "{REAL}"}} or the like. Mend or delete it')
    if facts.get('world') not in NAMES:
        raise UserError(f'{path}: names the world {shown(facts.get("world"))}, which is unknown; expected "world": one '
                        f'of {", ".join(NAMES)}; mend or delete it')
    return facts


def of_data(folder: str) -> Optional[str]:
    """As `read`, of a folder of data (img, coeff, ...) or, as preprocess_data.py leaves it, of the folder above."""
    return read(folder) or read(os.path.dirname(os.path.abspath(folder)))


def write(folder: str, name: str) -> None:
    """Write world.json into `folder`. Raises UserError when the data there belong to another world."""
    one_world({folder: read(folder), 'what shall be written there': name})
    write_json(os.path.join(folder, FILE), {'world': name})


def read_model(model_path: str) -> Dict[str, Any]:
    """{'world': name, ...} from `<model>-world.json` beside the model; {'world': 'real'} if absent."""
    path = path_of_model(model_path)
    if not os.path.exists(path):
        return {'world': REAL}
    return _read(path)


def write_model(model_path: str, name: str, **facts: Any) -> str:
    """Write `<model>-world.json`; returns its path. facts: further JSON values to keep."""
    if name not in NAMES:
        raise UserError(f'world {name!r} is unknown; expected one of {", ".join(NAMES)}')
    write_json(path_of_model(model_path), dict(facts, world=name))
    return path_of_model(model_path)


def path_of_model(model_path: str) -> str:
    """`<model>-world.json` beside the model."""
    return os.path.splitext(model_path)[0] + '-world.json'
