"""Which convention five landmarks follow: the right one, or one in which a face would come out turned or torn.

The alignment's own fit tells. In the right convention x grows with the template's x and y with its y, and the five lie
near the fit; in every other one that is seen in the wild, some reading of the numbers fits much better.
"""

from typing import Dict, NamedTuple, Tuple

import numpy as np

from dnnlib.util import UserError
from preprocess import picture_files

_RIGHT = 'right'
_SWAPPED = 'from right to left'         # the alignment uses lengths alone: swapped back, it is as good
# {name: order in which the points of such a file are the right ones}
_ORDERS = {_RIGHT: [0, 1, 2, 3, 4], _SWAPPED: [1, 0, 2, 4, 3], 'nose first': [1, 2, 0, 3, 4],
           'nose last': [0, 1, 4, 2, 3], 'mouth before the eyes': [3, 4, 2, 0, 1],
           'in reverse order': [4, 3, 2, 1, 0], 'around the face': [0, 1, 2, 4, 3],
           'with the eyes from right to left': [1, 0, 2, 3, 4]}
# {name: numbers of such a file (x, y up) -> x, y up of an upright face}
_AXES = {'with y upwards': [[1, 0], [0, -1]], 'with row and column swapped': [[0, -1], [-1, 0]],
         'of a view turned left by 90 degrees': [[0, -1], [1, 0]],
         'of a view turned right by 90 degrees': [[0, 1], [-1, 0]], 'of a view upside down': [[-1, 0], [0, -1]]}
_NEAR = 0.15                            # readings whose scores differ less are not told apart
# Right files score .75 to .96 (photographs), .39 and more (heads turned by 40 and tilted by 29 degrees at once); wrong
# ones below .1, and some other reading of them as much as a right one.
_LEAST = 0.25
_NARROWEST = 0.05                       # extent across, in parts of that along; faces have .4 and more, even in profile


class Reading(NamedTuple):
    """Landmarks [5, 2] in the right order, pixels of the picture as a viewer shows it; how well they fit; whether they
    were given as pixels of the picture as it is stored.
    """
    points: np.ndarray
    score: float
    stored: bool


def understand(points: np.ndarray, template: np.ndarray, size: Tuple[int, int], orientation: int = 1) -> Reading:
    """What landmarks of a picture mean -> Reading.

    points: [5, 2] pixels, y down; template: [5, 3]; size: (width, height) of the picture as a viewer shows it;
    orientation: how its EXIF data have it turned for that. UserError with the likely reason where they are not those of
    an upright face, neither in the view nor, where the two differ, in the stored picture.
    """
    choices = [(points, False)]
    if orientation != 1:
        choices.append((picture_files.turn_points(points, size, orientation), True))
    readings, refusals = [], []
    for given, stored in choices:
        try:
            readings.append(_read(given, template, size, stored))
        except UserError as error:
            refusals.append(error)
    if not readings:
        turned = '' if orientation == 1 else (', neither of the picture as it is stored nor as its EXIF data have it '
                                              f'shown ({picture_files.TURNS[orientation]})')
        raise UserError(f'{refusals[0]}{turned}')
    return max(readings, key=lambda reading: reading.score)


def _read(points, template, size, stored):
    outside = ((points < 0) | (points > size)).any()
    length, width = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if width <= _NARROWEST * length:
        raise UserError('the five landmarks lie on one line, or in one point; expected left eye, right eye, nose, left '
                        'and right mouth corner')
    points_up = points * [1, -1]
    readings = {name: points_up[order] for name, order in _ORDERS.items()}
    readings.update((name, points_up @ np.array(axes)) for name, axes in _AXES.items())
    scores = _scores(readings, template)
    best = max(scores, key=scores.get)
    if best not in (_RIGHT, _SWAPPED) or scores[best] < _LEAST:
        likely = [name for name in scores if scores[name] > max(scores[best] - _NEAR, 2 * _LEAST) and name != _RIGHT]
        what = f'they seem to be {" or ".join(likely)}' if likely else 'in no order'
        raise UserError(f'the landmarks do not lie as those of an upright face, {what}; expected left eye, right eye, '
                        'nose, left and right mouth corner, in pixels of the picture, x from the left, y from the top')
    if outside:
        raise UserError(f'landmarks outside the picture of {size[0]} x {size[1]} pixels; they must be pixels of this '
                        'picture and not of another size of it')
    # Swapped sides are likelier a mirrored picture than a custom, where both readings are possible.
    swapped = best == _SWAPPED
    return Reading(points[_ORDERS[best]], scores[best] - swapped, stored)


def _scores(readings: Dict[str, np.ndarray], template: np.ndarray) -> Dict[str, float]:
    """How well points [5, 2], y up, are a picture of the template [5, 3]: about 1 at best, below 0 where not at all.

    The smaller slope of x on the template's x and of y on its y, in parts of the face's scale, less twice the largest
    distance of a point from the fit.
    """
    unknowns = np.concatenate([template, np.ones([5, 1])], axis=1)                      # [5, 4]
    inverse = np.linalg.pinv(unknowns)                                                  # [4, 5]
    scores = {}
    for name, points in readings.items():
        solution = inverse @ points                                                     # [4, 2]
        scale = np.sqrt((solution[:3] ** 2).sum(axis=0)).mean() + 1e-12
        misfit = np.abs(unknowns @ solution - points).max()
        scores[name] = float((min(solution[0, 0], solution[1, 1]) - 2 * misfit) / scale)
    return scores
