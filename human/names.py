"""The table of the human world: what can be asked of a face by name, as directions in the coefficients."""

import functools
from collections import namedtuple

import numpy as np

from dnnlib.util import UserError
from human import expressions, face_model, paint, people
from renderer import factors
from renderer.face_model import NUM_SHAPE, NUM_TEXTURE

# factor: 'id' or 'exp'; vector [160] or [64]: what is added to that factor's coefficients per unit; low, high: amounts
# between which faces stay faces.
Direction = namedtuple('Direction', 'factor vector low high')

_TEXTURE_RANGES = {'melanin': (-paint.MELANIN_LIMIT, paint.MELANIN_LIMIT), 'stubble': (0.0, 2.5),
                   'freckles': (0.0, 2.5), 'blush': (0.0, 2.0),
                   'moustache': (0.0, 2.5), 'lines': (-paint.MEAN_LINES, 2.0), 'blood': (-1.5, 2.0),
                   'gold': (-0.5, 2.0)}


# What goes with a shape in life, as in the prior: amounts of texture columns per unit of the direction.
_WITH = {'age': {'lines': 0.4, 'tired eyes': 0.3, 'dark brows': -0.2}, 'african': {'melanin': 0.45},
         'caucasian': {'melanin': -0.45}, 'asian': {'gold': 0.3},
         'sex': {'thick brows': 0.4, 'red lips': -0.5, 'dark lashes': -0.5, 'stubble': 0.3}}


@functools.lru_cache(maxsize=None)
def directions():
    """{name: Direction}: identity by shape in deviations of the prior, identity by colour, expressions (1: fully)."""
    out = {}
    weights = people.named_weights()
    for name, vector in zip(weights, people.coefficients_of(list(weights.values()))):
        # No unit is more than one deviation of how people differ.
        vector = _padded(vector / max(1.0, np.linalg.norm(vector)), 0)
        for color, amount in _WITH.get(name, {}).items():
            vector[NUM_SHAPE + face_model.column('texture', color)] += amount
        out[name] = Direction('id', vector, -2.5, 2.5)
    for i, name in enumerate(face_model.head()[1]['texture']):
        out[name] = Direction('id', _padded([1.0], NUM_SHAPE + i), *_TEXTURE_RANGES.get(name, (-2.0, 2.0)))
    for name in tuple(expressions.FULL) + expressions.names():       # in the order of the page
        amounts = {name: 1.0}
        if name == 'mouthClose':
            amounts['jawOpen'] = 1.0                            # it closes the lips of an open mouth
        vector = expressions.units(**amounts) @ expressions.columns()
        out[name] = Direction('exp', vector.astype(np.float32), 0.0, 1.0)
    return out


def _padded(values, start):
    out = np.zeros(NUM_SHAPE + NUM_TEXTURE, np.float32)
    out[start:start + len(values)] = values
    return out


def coefficients(**amounts):
    """Amounts by name -> reconstruction vector [257] float32, all else zero. E.g. coefficients(age=1.5, smile=0.8).

    Raises UserError for a name that is not in the table.
    """
    out = np.zeros(factors.NUM_RECON, np.float32)
    start = {'id': factors.SHAPE.start, 'exp': factors.EXPRESSION.start}
    for name, amount in amounts.items():
        if name not in directions():
            raise UserError(f'{name!r}: no direction of the human world; these are: {", ".join(directions())}')
        direction = directions()[name]
        first = start[direction.factor]
        out[first:first + len(direction.vector)] += amount * direction.vector
    return out
