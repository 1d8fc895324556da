"""The world a folder of data belongs to, 'real' (Basel model, photographs) or 'synthetic'; kept in its world.json."""

import json
import os

from dnnlib.util import UserError, atomic_path

FILE = 'world.json'
REAL = 'real'


def read(folder):
    """Name of the world of the data in `folder`; None when the folder says nothing. Raises UserError: a broken file."""
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            name = json.load(file)['world']
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f'{path}: cannot be read; {{"world": "{REAL}"}} or the like was expected. Mend or delete it')
    if not isinstance(name, str):
        raise UserError(f'{path}: "world" must be a name such as "{REAL}", not {name!r}')
    return name


def of_data(folder):
    """As `read`, of a folder of data (img, coeff, ...) or, as preprocess_data.py leaves it, of the folder above."""
    return read(folder) or read(os.path.dirname(os.path.abspath(folder)))


def write(folder, name):
    """Write world.json into `folder`. Raises UserError when the data there belong to another world."""
    there = read(folder)
    if there is not None and there != name:
        raise UserError(f'{folder}: holds data of the world "{there}", which cannot be mixed with "{name}"; choose '
                        'another folder')
    with atomic_path(os.path.join(folder, FILE)) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump({'world': name}, file)
        file.write('\n')
