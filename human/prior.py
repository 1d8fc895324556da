"""How the human world's photos vary: distributions of the 257 coefficients and of everything a face model does not
describe (hair, neck, clothes, background). Deterministic: photo number i of a seed is always the same.
"""

import functools
import math

import numpy as np

from human import expressions, names, paint, scenes
from human.paint import ramp
from renderer import factors
from renderer.face_model import NUM_SHAPE

IDENTITY_LIMIT = 2.8        # of the 80 coefficients of shape: normal, clipped at this
ANGLES = ((0.10, 0.30), (0.25, 0.70), (0.05, 0.15))         # pitch, yaw, roll: deviation and limit, radians

# Lighting: mean and deviation of the nine harmonics, common to the channels; each channel differs a little more.
LIGHT_MEAN = (-0.04, -0.12, 0.16, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
LIGHT_DEVIATION = (0.07, 0.09, 0.06, 0.14, 0.04, 0.04, 0.04, 0.04, 0.04)
LIGHT_LIMIT = 2.0           # deviations
LIGHT_COLOR = 0.010

# Free photos: the face wanders and its size changes, as in pictures that nobody aligned.
TRANSLATION = ((0.10, 0.25), (0.10, 0.25), (0.35, 0.9))     # x, y, z: deviation and limit, decimetres


def coefficients(random, free=False):
    """One reconstruction vector [257] float32. random: RandomState; free: with translation."""
    value = np.zeros(factors.NUM_RECON)
    shape = np.clip(random.standard_normal(NUM_SHAPE), -IDENTITY_LIMIT, IDENTITY_LIMIT)
    value[factors.SHAPE] = shape
    colors = _colors(random, shape)
    value[factors.TEXTURE][:len(colors)] = colors
    value[factors.EXPRESSION] = expressions.draw(random, 1)[0] @ expressions.columns()
    value[factors.ANGLES] = _limited(random, ANGLES)
    light = np.array(LIGHT_MEAN) + LIGHT_DEVIATION * np.clip(random.standard_normal(9), -LIGHT_LIMIT, LIGHT_LIMIT)
    value[factors.LIGHTING] = (light + LIGHT_COLOR * random.standard_normal([3, 9])).reshape(-1)
    translation = _limited(random, TRANSLATION)
    if free:
        value[factors.TRANSLATION] = translation
    return value.astype(np.float32)


@functools.lru_cache(maxsize=None)
def _scores():
    """Unit vectors [4, 80]: how male, how old, how African rather than European, how Asian a shape is."""
    table = names.directions()
    vector = lambda name: table[name].vector[:NUM_SHAPE].astype(np.float64)
    rows = np.stack([vector('sex'), vector('age'), vector('african') - vector('caucasian'), vector('asian')])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _colors(random, shape):
    """Coefficients of texture [15] for a shape [80]: normal, with correlations to what the shape is.

    Melanin is uniform between its ends over all people, and correlated .6 with how African rather than European a
    shape is; half-way skin is more golden. Men have stubble, moustaches and thicker brows, women redder lips and darker
    lashes on average; the old have lines, shadows below the eyes and lighter brows.
    """
    male, old, african, asian = _scores() @ shape
    normal = dict(zip(paint.COLUMNS, random.standard_normal(len(paint.COLUMNS))))
    melanin = paint.MELANIN_LIMIT * math.erf((0.6 * african + 0.8 * normal['melanin']) / math.sqrt(2))
    dark = melanin / paint.MELANIN_LIMIT
    beard = ramp(male, 0.0, 0.7)
    value = dict(normal)
    value['melanin'] = melanin
    value['blood'] = np.clip(normal['blood'], -0.9, 2.4)
    value['gold'] = max(0.5 * normal['gold'] + 0.8 * (0.9 - dark ** 2) + 0.2 * np.clip(asian, -1.5, 1.5), -0.4)
    value['dark brows'] = 0.8 * normal['dark brows'] + 0.9 * dark - 0.3 * max(old, 0)
    value['thick brows'] = max(0.9 * normal['thick brows'] + 0.5 * male, -1.6)
    value['red lips'] = max(0.8 * normal['red lips'] - 0.5 * male, -1.2)
    value['blush'] = 0.8 * max(normal['blush'], 0)
    value['stubble'] = beard * max(0.5 + 1.2 * normal['stubble'], 0)
    value['moustache'] = beard * max(1.3 * normal['moustache'] - 0.6, 0)
    value['light eyes'] = np.clip(0.8 * normal['light eyes'] - 0.9 * dark - 0.3, -1.3, 1.2 - dark)
    value['blue eyes'] = np.clip(0.9 * normal['blue eyes'] - 0.5 * dark, -0.6, 1.4 - dark)
    value['freckles'] = max(normal['freckles'] - 0.5, 0) * (1 - 0.5 * max(dark, 0))
    value['tired eyes'] = 0.8 * normal['tired eyes'] + 0.4 * old
    value['lines'] = np.clip(0.35 * normal['lines'] + 0.55 * max(old + 0.4, 0), 0, 2.2) - paint.MEAN_LINES
    value['dark lashes'] = 0.7 * normal['dark lashes'] - 0.5 * male
    return np.array([np.clip(value[name], -2.4, 2.4) for name in paint.COLUMNS])


def scene(random):
    """One scenes.Scene; independent of the coefficients."""
    return scenes.draw(random)


def draw(seed, index, free=False):
    """Photo number `index` of `seed` -> (coefficients [257], Scene, RandomState for its noise)."""
    random = np.random.RandomState([seed, index])
    return coefficients(random, free), scene(random), random


def _limited(random, table):
    return [np.clip(deviation * random.standard_normal(), -limit, limit) for deviation, limit in table]
