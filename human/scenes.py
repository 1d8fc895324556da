"""What photos show beside the 257 coefficients: hair, clothes, glasses, background, skin's finish, camera; their
distributions. Everything is drawn independently of the coefficients.
"""

from collections import namedtuple

import numpy as np

# style: one of HAIR_STYLES. Lengths in decimetres, shares 0..1, colours RGB 0-255.
#   length    of the longest strands                   cut      height of the lower edge below the eyes, of long styles
#   volume    how far hair stands off the head         fringe   0 none .. 1 to the brows
#   parting   -1..1 of half a head's width             recede   0 a full hairline .. 1 far back at the temples
#   hairline  height added to the forehead's           curl     0 straight .. 1 tight curls
#   tucked    whether hair runs behind the ears        thin     share of strands left out
#   gloss     of the strands                           grey     share of strands without colour
#   color, tips: at roots and ends                     seed     of the single strands
Hair = namedtuple('Hair', 'style length cut volume fringe parting recede hairline curl tucked thin gloss grey color '
                          'tips seed')
# cut: one of CUTS; height: of the neckline; pattern: number of one in the atlas; loose: distance from the skin.
Clothes = namedtuple('Clothes', 'cut height loose color second pattern')
# shape: 0 round .. 1 square; size: half width in decimetres; rim: thickness. None in a Scene: no glasses.
Glasses = namedtuple('Glasses', 'shape size rim color')
# kind: one of BACKDROPS; colors [4, 3]; blur: share of the width.
Backdrop = namedtuple('Backdrop', 'kind colors blur seed')
# gloss: of skin; pores, freckles, blotches: strength 0..1; place: [2] where in the atlas the skin is taken from.
Skin = namedtuple('Skin', 'gloss pores blotches freckles place')
# gain: [3] of the channels; noise: of 255; vignette, blur (pixels of 256), contrast.
Film = namedtuple('Film', 'gain noise vignette blur contrast')
Scene = namedtuple('Scene', 'hair clothes glasses backdrop skin film')

HAIR_STYLES = {'bald': 0.05, 'buzz': 0.08, 'crop': 0.17, 'side': 0.15, 'back': 0.06, 'balding': 0.06, 'bob': 0.12,
               'long': 0.17, 'tied': 0.07, 'afro': 0.07}
LONG = ('bob', 'long')
#   natural colours at the roots: RGB and share
HAIR_COLORS = (((18, 15, 14), 0.26), ((36, 25, 19), 0.20), ((62, 42, 28), 0.16), ((92, 64, 40), 0.11),
               ((132, 98, 62), 0.08), ((176, 140, 92), 0.06), ((112, 52, 26), 0.05), ((120, 116, 112), 0.05),
               ((178, 174, 168), 0.03))
CUTS = {'crew': 0.34, 'v': 0.18, 'scoop': 0.14, 'turtle': 0.10, 'shirt': 0.24}
BACKDROPS = {'studio': 0.22, 'wall': 0.18, 'bokeh': 0.2, 'room': 0.2, 'foliage': 0.2}
PATTERNS = 6                # of cloth, in the atlas


def _choose(random, table):
    names, shares = zip(*(table.items() if isinstance(table, dict) else table))
    return names[random.choice(len(names), p=np.array(shares) / np.sum(shares))]


def draw(random):
    """One Scene. random: RandomState."""
    return Scene(_hair(random), _clothes(random), _glasses(random), _backdrop(random), _skin(random), _film(random))


def _hair(random):
    style = _choose(random, HAIR_STYLES)
    low, high = {'buzz': (0.025, 0.05), 'crop': (0.18, 0.5), 'side': (0.5, 0.9), 'back': (0.6, 1.1),
                 'balding': (0.08, 0.35), 'bob': (2.4, 3.0), 'long': (3.2, 4.2), 'tied': (1.3, 1.5),
                 'afro': (0.25, 0.85), 'bald': (0.0, 0.0)}[style]
    color = np.array(_choose(random, HAIR_COLORS), np.float64) * random.uniform(0.85, 1.2)
    color = np.clip(color + 3 * random.standard_normal(3), 8, 235)
    is_dyed = style in LONG and random.uniform() < 0.25
    curl = {'afro': 1.0, 'buzz': 0.0, 'balding': 0.1}.get(style, float(np.clip(random.uniform(-0.9, 1.0), 0, 1)))
    return Hair(
        style=style, length=random.uniform(low, high),
        cut=random.uniform(0.55, 1.15) if style == 'bob' else random.uniform(1.3, 2.4),
        volume=random.uniform(0.03, 0.22) if style not in ('buzz', 'balding') else 0.02,
        fringe=float(np.clip(random.uniform(-1.2, 1), 0, 1)), parting=random.uniform(-0.6, 0.6),
        recede=float(np.clip(random.uniform(-1.0, 1), 0, 1)), hairline=0.06 * random.standard_normal(),
        curl=curl, tucked=bool(random.uniform() < 0.35), thin=random.uniform(0, 0.25), gloss=random.uniform(0.3, 1.0),
        grey=float(np.clip(random.uniform(-4.0, 0.8), 0, 1)), color=color,
        tips=np.clip(color * random.uniform(1.3, 1.9) + 12, 8, 235) if is_dyed else color * random.uniform(1.0, 1.2),
        seed=int(random.randint(1 << 30)))


def _clothes(random):
    return Clothes(cut=_choose(random, CUTS), height=random.uniform(-1, 1), loose=random.uniform(0.03, 0.12),
                   color=_muted(random, 24, 225, 0.4), second=_muted(random, 24, 225, 0.45),
                   pattern=int(random.randint(PATTERNS)))


def _glasses(random):
    if random.uniform() > 0.16:
        return None
    dark = random.uniform() < 0.7
    color = random.uniform(8, 50) * np.array([1.0, 0.9, 0.85]) if dark else _muted(random, 25, 105, 0.3)
    return Glasses(shape=random.uniform(0, 1), size=random.uniform(0.20, 0.26), rim=random.uniform(0.007, 0.02),
                   color=color)


def _backdrop(random):
    base = _muted(random, 35, 225, 0.25)
    colors = np.stack([np.clip(0.6 * base + 0.4 * _muted(random, 20, 235, 0.4), 0, 245) for _ in range(4)])
    return Backdrop(kind=_choose(random, BACKDROPS), colors=colors, blur=random.uniform(0.01, 0.045),
                    seed=int(random.randint(1 << 30)))


def _skin(random):
    return Skin(gloss=random.uniform(0.25, 1.0), pores=random.uniform(0.4, 1.0),
                blotches=random.uniform(0.3, 1.0),
                freckles=float(np.clip(random.uniform(-2.5, 1), 0, 1)), place=random.uniform(0, 1, 2))


def _film(random):
    warmth = 0.03 * random.standard_normal()
    return Film(gain=np.array([1 + warmth, 1.0, 1 - warmth]) * random.uniform(0.93, 1.09),
                noise=random.uniform(1.0, 3.0), vignette=random.uniform(0, 0.16), blur=random.uniform(0.4, 0.7),
                contrast=random.uniform(0.95, 1.1))


def _muted(random, low, high, saturation):
    """RGB [3]: a random grey and a random colour mixed."""
    return (1 - saturation) * random.uniform(low, high) + saturation * random.uniform(low, high, 3)
