"""How the synthetic world's photos vary: distributions of the 257 coefficients and of everything a face model does not
describe (hair, neck, clothes, background). Deterministic: photo number i of a seed is always the same.
"""

from collections import namedtuple

import numpy as np

from renderer import factors
from synthetic import face_model

# Expression: (coefficient, lowest, highest); normal with deviation 1, clipped. Below -0.6 the lips would cross.
EXPRESSIONS = (('open mouth', -0.6, 2.4), ('smile', -1.8, 2.0), ('raised brows', -2.0, 2.0),
               ('closed eyes', -1.2, 2.3), ('pucker', -1.8, 1.8), ('angry brows', -2.0, 2.0), ('jaw aside', -2.0, 2.0),
               ('crooked smile', -1.8, 1.8))
IDENTITY_LIMIT = 2.0                        # every named coefficient of shape and texture: normal, clipped at this
LOWEST = {'beard': 0.0, 'rosy cheeks': 0.0, 'dark skin': -1.1}     # nobody has less than no beard; paler skin burns out
ANGLES = ((0.10, 0.30), (0.25, 0.70), (0.05, 0.15))         # pitch, yaw, roll: deviation and limit, radians

# Lighting: mean and deviation of the nine harmonics, common to the channels; each channel differs a little more.
LIGHT_MEAN = (-0.05, -0.12, 0.17, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
LIGHT_DEVIATION = (0.09, 0.09, 0.10, 0.16, 0.04, 0.04, 0.04, 0.04, 0.04)
LIGHT_COLOR = 0.012

# Free photos: the face wanders and its size changes, as in pictures that nobody aligned.
TRANSLATION = ((0.10, 0.25), (0.10, 0.25), (0.35, 0.9))     # x, y, z: deviation and limit, decimetres

HAIR_COLORS = np.array([(28, 22, 20), (52, 36, 28), (92, 60, 40), (140, 100, 62), (196, 160, 106), (150, 70, 38),
                        (136, 128, 120)], np.float64)
HAIR_SHARES = np.array([0.24, 0.22, 0.18, 0.12, 0.11, 0.07, 0.06])

# One photo's surroundings: 12 numbers and three colours.
#   length       0 short .. 1 to the shoulders      volume  decimetres that the hair stands off the head
#   fringe       0 none .. 1 to the brows           parting -1..1 where the hair parts, in half head widths
#   hairline     -1..1 low or high                  wave    0 straight .. 1 wavy
#   hair, shirt, sky: RGB 0-255; sky is the background, which fades by `slope` from one side to the other (`turn`)
Scene = namedtuple('Scene', 'length volume fringe parting hairline wave hair shirt sky slope turn blotch strands')


def coefficients(random, free=False):
    """One reconstruction vector [257] float32. random: RandomState; free: with translation."""
    value = np.zeros(factors.NUM_RECON)
    bases = face_model.head()[2]
    for part, where in (('shape', factors.SHAPE), ('texture', factors.TEXTURE)):
        numbers = np.clip(random.standard_normal(len(bases[part])), -IDENTITY_LIMIT, IDENTITY_LIMIT)
        limits = [LOWEST.get(name, -IDENTITY_LIMIT) for name in bases[part]]
        value[where.start:where.start + len(numbers)] = np.maximum(numbers, limits)
    for i, (_, low, high) in enumerate(EXPRESSIONS):
        value[factors.EXPRESSION.start + i] = np.clip(random.standard_normal(), low, high)
    value[factors.ANGLES] = _limited(random, ANGLES)
    light = np.array(LIGHT_MEAN) + LIGHT_DEVIATION * random.standard_normal(9)
    value[factors.LIGHTING] = (light + LIGHT_COLOR * random.standard_normal([3, 9])).reshape(-1)
    translation = _limited(random, TRANSLATION)
    if free:
        value[factors.TRANSLATION] = translation
    return value.astype(np.float32)


def scene(random):
    """One Scene; independent of the coefficients."""
    color = HAIR_COLORS[random.choice(len(HAIR_COLORS), p=HAIR_SHARES / HAIR_SHARES.sum())]
    return Scene(
        length=float(np.clip(random.uniform(-0.35, 1.1), 0, 1)), volume=random.uniform(0.05, 0.22),
        fringe=float(np.clip(random.uniform(-0.8, 1), 0, 1)), parting=random.uniform(-0.7, 0.7),
        hairline=random.uniform(-1, 1), wave=random.uniform(0, 1),
        hair=np.clip(color * random.uniform(0.8, 1.2) + 2 * random.standard_normal(3), 8, 250),
        shirt=_muted(random, 20, 235, 0.6), sky=_muted(random, 40, 220, 0.35), slope=random.uniform(-70, 70),
        turn=random.uniform(-np.pi, np.pi), blotch=random.uniform(0, 28), strands=int(random.randint(1 << 30)))


def _muted(random, low, high, saturation):
    """RGB [3]: a random grey and a random colour mixed."""
    return (1 - saturation) * random.uniform(low, high) + saturation * random.uniform(low, high, 3)


def draw(seed, index, free=False):
    """Photo number `index` of `seed` -> (coefficients [257], Scene, RandomState for its noise)."""
    random = np.random.RandomState([seed, index])
    return coefficients(random, free), scene(random), random


def _limited(random, table):
    return [np.clip(deviation * random.standard_normal(), -limit, limit) for deviation, limit in table]
