"""The five landmarks of a face: reading and checking .txt files, and their 3-D template (paper section 4).

Order, as seen in the picture: left eye, right eye, nose, left and right mouth corner. Pixels, x right, y down.
"""

import codecs
import io
import os
import re
from typing import Optional, Tuple

import numpy as np

from dnnlib import places
from dnnlib.util import UserError, write_atomic

NAMES = ('left eye', 'right eye', 'nose', 'left mouth corner', 'right mouth corner')
_OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))      # of 68, counted from 0: an eye is its corners' mean
_NUMBER = re.compile(r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)', re.IGNORECASE)
_MOST_BYTES = 100000
_MARKS = ((codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))
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
    # float() would take 1_5 and other scripts' digits too.
    if not all(_NUMBER.fullmatch(word) for line in lines for word in line):
        raise UserError(f'something that is no number; {_EXPECTED}')
    points = np.array(lines, dtype=np.float64)
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
                        'must be pixels of this picture and not of another size of it, y down')


def read(path: str, size: Optional[Tuple[int, int]] = None) -> np.ndarray:
    """Read and check a landmark file, see `parse`; the UserError then names the file."""
    return read_with_content(path, size)[0]


def read_with_content(path: str, size: Optional[Tuple[int, int]] = None) -> Tuple[np.ndarray, places.Content]:
    """As `read`, and what the file held."""
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise UserError(f'larger than {_MOST_BYTES} bytes; {_EXPECTED}')
        data, content = places.read(path)
        return parse(_text(data), size), content
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); {_EXPECTED}')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file; {_EXPECTED}')
    except UserError as error:
        raise UserError(f'{path}: {error}')


def _text(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 as Windows' tools write it."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    if len(data) > 1 and 0 in data[:2]:         # a digit in UTF-16 without a mark
        return data.decode('utf-16-le' if data[1] == 0 else 'utf-16-be')
    return data.decode('utf-8')


def write(path, points):
    """Write landmarks [5, 2], pixels, as five lines with two decimals."""
    text = io.BytesIO()
    np.savetxt(text, points, fmt='%.2f', delimiter='\t')
    write_atomic(path, text.getvalue())
