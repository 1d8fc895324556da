"""demo/tour.ipynb runs from top to bottom in an empty folder, without Jupyter, and shows pictures of faces."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image

import config

NOTEBOOK = os.path.join(config.DEMO_DIR, 'tour.ipynb')

# What Jupyter does with code cells: the last expression of each is what it shows.
RUN = '''
import ast, json, sys
with open(sys.argv[1], encoding='utf-8') as file:
    cells = [cell for cell in json.load(file)['cells'] if cell['cell_type'] == 'code']
names = {'__name__': '__main__'}
for number, cell in enumerate(cells):
    body = ast.parse(''.join(cell['source'])).body
    for statement in body[:-1]:
        exec(compile(ast.Interactive([statement]), 'cell', 'single'), names)
    eval(compile(ast.Expression(body[-1].value), 'cell', 'eval'), names).convert('RGB').save(f'shown_{number}.png')
'''


def _code_cells():
    with open(NOTEBOOK, encoding='utf-8') as file:
        return [cell for cell in json.load(file)['cells'] if cell['cell_type'] == 'code']


def test_ten_cells_without_outputs():
    cells = _code_cells()
    assert len(cells) == 10
    assert not any(cell['outputs'] or cell['execution_count'] for cell in cells)
    imported = {name.split('.')[0] for cell in cells for name in _imports(''.join(cell['source']))}
    assert imported == {'os', 'numpy', 'PIL', 'config', 'dnnlib', 'sampling'}


def _imports(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_cell_runs_and_shows_a_picture(tmp_path):
    environment = dict(os.environ, PYTHONPATH=config.ROOT)         # as pip install -e . does
    done = subprocess.run([sys.executable, '-c', RUN, NOTEBOOK], cwd=str(tmp_path), env=environment, timeout=600,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'largest difference' in done.stdout and 'smile' in done.stdout
    shown = [_read(str(tmp_path / f'shown_{i}.png')) for i in range(10)]
    assert min(picture.std() for picture in shown) > 20            # of 255: no blank one among them
    widths = [picture.shape[1] // picture.shape[0] for picture in shown]
    assert widths == [1, 2, 5, 7, 3, 5, 2, 3, 1, 1]
    for number in (1, 2, 3, 4, 5, 7):                               # what was asked to change changes
        tiles = np.split(shown[number], widths[number], axis=1)
        assert np.abs(tiles[0] - tiles[-1]).mean() > 2, number
    _check_edit(shown[7])
    assert os.path.isfile(str(tmp_path / 'faces_saved' / 'saved_model.pb'))
    assert Image.open(str(tmp_path / 'turning.gif')).n_frames == 12


def _check_edit(shown):
    """The second is the picture found again, the third is turned."""
    photo, found, turned = np.split(shown, 3, axis=1)
    assert np.abs(photo - found).mean() < 0.7 * np.abs(photo - turned).mean()


def _read(path):
    with Image.open(path) as image:
        return np.asarray(image, np.float64)
