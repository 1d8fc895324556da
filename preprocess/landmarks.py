"""The five landmarks of a face: reading and checking .txt files, and their 3-D template (paper section 4).

Order, as seen in the picture: left eye, right eye, nose, left and right mouth corner. Pixels of the stored picture
(before any EXIF rotation), x right, y down.
"""

import os

import numpy as np

from dnnlib.util import UserError, atomic_path

NAMES = ('left eye', 'right eye', 'nose', 'left mouth corner', 'right mouth corner')
_OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))      # of 68, counted from 0: an eye is its corners' mean
_EXPECTED = 'expected five lines "x y": ' + ', '.join(NAMES)


def five_points(landmarks_68):
    """68 standard landmarks [68, D] -> the five, [5, D], same type. For the 3-D template of a face model, D = 3."""
    return np.stack([landmarks_68[list(indices)].mean(axis=0) for indices in _OF_68])


def path_of(folder, name):
    """Landmark file of the picture `name` (without extension) in `folder`."""
    return os.path.join(folder, name + '.txt')


def parse(text, size=None):
    """Text of a landmark file -> [5, 2] float64, pixels. Raises UserError that says what is wrong and what is expected.

    Numbers may be separated by blanks, tabs or commas; empty lines are ignored. size: (width, height) of the picture,
    to check that every point lies in it.
    """
    lines = [line.replace(',', ' ').split() for line in text.splitlines() if line.strip()]
    if len(lines) != 5 or any(len(line) != 2 for line in lines):
        found = f'{len(lines)} lines' if len(lines) != 5 else 'a line without exactly two numbers'
        raise UserError(f'{found}; {_EXPECTED}')
    try:
        points = np.array(lines, dtype=np.float64)
    except ValueError:
        raise UserError(f'something that is no number; {_EXPECTED}')
    check(points, size)
    return points


def check(points, size=None):
    """Raise UserError unless points [5, 2] are finite, different and inside a picture of `size` (width, height)."""
    if not np.isfinite(points).all():
        raise UserError('a landmark is not finite (nan or inf)')
    if len(np.unique(points, axis=0)) < 2:
        raise UserError('all five landmarks are the same point')
    if size is None:
        return
    outside = [NAMES[i] for i, point in enumerate(points) if not ((point >= 0) & (point <= size)).all()]
    if outside:
        raise UserError(f'landmarks outside the picture of {size[0]} x {size[1]} pixels: {", ".join(outside)}; they '
                        'must be pixels of the picture as it is stored, y down')


def read(path, size=None):
    """Read and check a landmark file, see `parse`; the UserError then names the file."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            return parse(file.read(100000), size)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); {_EXPECTED}')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file; {_EXPECTED}')
    except UserError as error:
        raise UserError(f'{path}: {error}')


def write(path, points):
    """Write landmarks [5, 2], pixels, as five lines with two decimals."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, points, fmt='%.2f', delimiter='\t')
