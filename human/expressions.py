"""Expressions of the human world: 52 units under ARKit's names, how people combine them, and the 64 columns of the
face model's expression basis: principal components of what people do with their faces.
"""

import functools

import numpy as np

from human import head_mesh, people
from renderer.face_model import NUM_EXPRESSION

# Full expressions: amounts of units; a name without Left or Right stands for both sides.
FULL = {
    'smile': dict(mouthSmile=0.75, cheekSquint=0.45, eyeSquint=0.3, mouthDimple=0.2),
    'laugh': dict(mouthSmile=0.8, jawOpen=0.42, cheekSquint=0.65, eyeSquint=0.5, mouthUpperUp=0.25, mouthLowerDown=0.3,
                  browInnerUp=0.15),
    'grin': dict(mouthSmile=0.6, mouthUpperUp=0.45, mouthLowerDown=0.55, mouthStretch=0.25, jawOpen=0.06,
                 cheekSquint=0.4),
    'surprise': dict(jawOpen=0.5, browInnerUp=0.85, browOuterUp=0.85, eyeWide=0.8, mouthFunnel=0.2),
    'anger': dict(browDown=0.95, noseSneer=0.35, mouthPress=0.45, eyeSquint=0.35, mouthFrown=0.25, jawForward=0.2),
    'disgust': dict(noseSneer=0.85, browDown=0.5, mouthUpperUp=0.5, mouthFrown=0.35, cheekSquint=0.4, eyeSquint=0.3),
    'sadness': dict(browInnerUp=0.8, mouthFrown=0.65, mouthShrugLower=0.4, eyeBlink=0.2, mouthPress=0.15),
    'fear': dict(eyeWide=0.85, browInnerUp=0.8, browOuterUp=0.3, mouthStretch=0.55, jawOpen=0.22),
    'contempt': dict(mouthSmileLeft=0.55, mouthDimpleLeft=0.5, cheekSquintLeft=0.3, browDownRight=0.2),
    'smirk': dict(mouthSmileRight=0.6, mouthDimpleRight=0.4, cheekSquintRight=0.3, browOuterUpLeft=0.4),
    'kiss': dict(mouthPucker=0.85, eyeBlink=0.25),
    'oh': dict(mouthFunnel=0.75, jawOpen=0.28, browInnerUp=0.2),
    'pout': dict(mouthPucker=0.4, mouthShrugLower=0.7, mouthFrown=0.4, browDown=0.3),
    'doubt': dict(browDownLeft=0.6, browOuterUpRight=0.8, mouthPress=0.3, mouthLeft=0.3, eyeSquintLeft=0.4),
    'wink': dict(eyeBlinkLeft=1.0, cheekSquintLeft=0.6, mouthSmileLeft=0.5, mouthSmileRight=0.2),
    'sleepy': dict(eyeBlink=0.55, browInnerUp=0.2),
    'closed eyes': dict(eyeBlink=1.0),
    'puffed cheeks': dict(cheekPuff=0.75, mouthPress=0.3),
    'open mouth': dict(jawOpen=0.7),
    'raised brows': dict(browInnerUp=0.8, browOuterUp=0.9),
}
_SHARES = dict(smile=4, laugh=3, grin=1.5, surprise=2, anger=2, disgust=1, sadness=2, fear=1, contempt=0.6, smirk=0.6,
               kiss=0.6, oh=1, pout=0.8, doubt=0.8, wink=0.4, sleepy=0.8)
_SHARES.update({'closed eyes': 0.8, 'puffed cheeks': 0.3, 'open mouth': 1, 'raised brows': 1})
_NEUTRAL = 0.12                             # share of faces at rest
_SPEECH = ('jawOpen', 'mouthFunnel', 'mouthPucker', 'mouthUpperUp', 'mouthLowerDown', 'mouthStretch', 'mouthClose')
_LIDS_PRESSED = 0.010   # decimetres that closed lids overlap
_LID_STEP = 0.015       # half width over which the edge of a lid is looked for
_SMALLEST = 0.15        # of the largest component's deviation: weaker columns get less than unit deviation


@functools.lru_cache(maxsize=None)
def names():
    """The 52 units' names, in the order of the columns of `draw` and of `displacements`."""
    return tuple(name for name in head_mesh.cage().targets if '-' not in name)


def units(**amounts):
    """Amounts by name -> [52]. A name without Left or Right stands for both sides; also those of FULL."""
    out = np.zeros(len(names()))
    for name, amount in amounts.items():
        if name in FULL:
            out += amount * units(**FULL[name])
            continue
        sides = [name] if name in names() else [name + 'Left', name + 'Right']
        for side in sides:
            out[names().index(side)] += amount
    return out


@functools.lru_cache(maxsize=None)
def displacements():
    """Displacement [52, n, 3] of the cage for each unit at 1."""
    out = np.array([head_mesh.target(name) for name in names()])
    for side, eye in (('Left', 'l'), ('Right', 'r')):
        out[names().index('eyeBlink' + side)] *= _closing(eye)[:, None]
    return out


def _closing(eye):
    """Share [n] of the blink of an eye ('l', 'r') at which the upper lid meets the lower one and goes no further."""
    x, y, _ = head_mesh.cage().vertices.T
    down = head_mesh.target('eyeBlink' + ('Left' if eye == 'l' else 'Right'))[:, 1]
    lower, upper = (np.unique(head_mesh.lash_roots(f'{eye}-eyelashes-{which}')[1]) for which in '12')
    places, share = (1 if eye == 'l' else -1) * np.linspace(0.22, 0.41, 7), []
    for place in places:
        low = y[lower[np.abs(x[lower] - place) < _LID_STEP]].max()              # edges of the two lids at this x
        near = upper[np.abs(x[upper] - place) < _LID_STEP]
        high = near[np.argmin(y[near])]
        share.append((y[high] - low + _LIDS_PRESSED) / -down[high])
    smooth = np.polyval(np.polyfit(places, share, 1), x)
    return np.clip(smooth, min(share), max(share))


# ------------------------------------------------------------------------------------------------ what people do

@functools.lru_cache(maxsize=None)
def _table():
    """Full expressions [k, 52], their shares [k], units of speech [m, 52], looks and a blink [5, 52]."""
    full = np.array([units(**FULL[name]) for name in _SHARES])
    shares = np.array(list(_SHARES.values())) / sum(_SHARES.values())
    looks = np.array([units(eyeLookOutLeft=1.0, eyeLookInRight=1.0), units(eyeLookInLeft=1.0, eyeLookOutRight=1.0),
                      units(eyeLookUp=1.0), units(eyeLookDown=1.0), units(eyeBlink=1.0)])
    return full, shares, np.array([units(**{name: 1.0}) for name in _SPEECH]), looks


def draw(random, count):
    """Amounts of the units [count, 52] of random faces: full expressions, two mixed, speech, blinks, looks, units."""
    full, shares, speech, looks = _table()
    out = np.zeros([count, len(names())])
    for how_often, most in ((0.75, 1.0), (0.3, 0.6)):
        strength = most * random.beta(2.2, 1.6, count) * (random.uniform(size=count) < how_often)
        out += strength[:, None] * full[random.choice(len(full), count, p=shares)]
    talks = random.uniform(size=[count, 1]) < 0.3
    out += talks * (0.7 * random.beta(1.0, 2.5, [count, len(speech)])) @ speech
    for _ in range(2):
        chosen = random.randint(len(names()), size=count)
        out[np.arange(count), chosen] += 0.5 * random.beta(1.2, 2.0, count) * (random.uniform(size=count) < 0.5)
    out *= np.clip(1 + 0.10 * random.standard_normal(out.shape), 0.5, 1.5)
    out *= random.uniform(size=[count, 1]) >= _NEUTRAL
    # Both eyes look the same way; now and then they blink.
    aside = np.clip(0.28 * random.standard_normal(count), -0.8, 0.8)
    up = np.clip(0.22 * random.standard_normal(count), -0.7, 0.7)
    blink = random.beta(1.0, 1.5, count) * (random.uniform(size=count) < 0.12)
    amounts = [np.maximum(amount, 0) for amount in (aside, -aside, up, -up)] + [blink]
    out += np.stack(amounts, axis=1) @ looks
    return limited(out)


def limited(amounts):
    """Amounts [count, 52] within what faces can do: 0-1, no lips or lids through each other."""
    out = np.clip(amounts, 0, 1)
    at = {name: out[:, i] for i, name in enumerate(names())}
    for side in ('Left', 'Right'):
        blink = at['eyeBlink' + side]
        at['eyeWide' + side] *= 1 - blink
        at['eyeSquint' + side] *= 1 - blink
        at['cheekSquint' + side] *= 1 - 0.5 * blink
        at['eyeLookDown' + side] *= 1 - blink
        at['eyeLookUp' + side] *= 1 - blink
        at['browOuterUp' + side] *= 1 - at['browDown' + side]
        at['mouthFrown' + side] *= 1 - at['mouthSmile' + side]
    for one, other in (('jawLeft', 'jawRight'), ('mouthLeft', 'mouthRight')):
        both = np.minimum(at[one], at[other])
        at[one] -= both
        at[other] -= both
    at['mouthClose'][:] = np.minimum(at['mouthClose'], 0.9 * at['jawOpen'])
    opened = at['jawOpen'] - at['mouthClose']
    for name in ('mouthPressLeft', 'mouthPressRight', 'mouthRollLower', 'mouthRollUpper', 'mouthShrugLower'):
        at[name] *= np.clip(1 - 2 * opened, 0, 1)
    at['mouthRollLower'] *= 0.6
    at['mouthShrugUpper'][:] = np.maximum(at['mouthShrugUpper'], 0.9 * at['mouthShrugLower'])
    at['tongueOut'][:] = np.minimum(at['tongueOut'], np.clip(3 * (opened - 0.25), 0, 1))
    return out


# ------------------------------------------------------------------------------------------------ the basis

@functools.lru_cache(maxsize=None)
def columns():
    """Matrix [52, 64]: coefficients of the face model per unit; zero is the face at rest. From the data file."""
    out = np.zeros([len(names()), NUM_EXPRESSION])
    out[:, :len(names())] = head_mesh.stored('expression_columns')
    return out


def compute_columns(count=20000, seed=0):
    """Matrix [52, 52] of `columns`.

    Columns are principal components of drawn faces, strongest first; a coefficient's deviation over drawn faces is 1,
    for the weakest less.
    """
    values, vectors, root = _components(count, seed)
    deviation = np.maximum(np.sqrt(values), _SMALLEST * np.sqrt(values[0]))
    return root @ vectors / deviation


@functools.lru_cache(maxsize=None)
def basis():
    """Displacement [64, n, 3] of the cage for each of the 64 columns at 1."""
    matrix = columns()[:, :len(names())]                                # units -> coefficients, square
    flat = displacements().reshape(len(names()), -1)
    out = np.zeros([NUM_EXPRESSION, flat.shape[1]])
    out[:len(names())] = np.linalg.solve(matrix, flat)
    return out.reshape(NUM_EXPRESSION, -1, 3)


def _vertex_weights():
    """As of people, and the eyes, teeth and tongue, which people look at."""
    out = people.vertex_weights().copy()
    for part, weight in (('l-eye', 0.03), ('r-eye', 0.03), ('lower-teeth', 0.01), ('tongue', 0.01)):
        members = head_mesh.part_vertices(part)
        out[members] = weight / len(members)
    return out


def _components(count, seed):
    amounts = draw(np.random.RandomState(seed), count)
    flat = displacements().reshape(len(names()), -1)
    gram = (flat * np.repeat(_vertex_weights(), 3)) @ flat.T
    root = people.square_root(gram)
    centred = amounts - amounts.mean(axis=0)
    values, vectors = np.linalg.eigh(root @ (centred.T @ centred / count) @ root)
    vectors = vectors[:, ::-1]
    vectors = vectors * np.sign(amounts.mean(axis=0) @ root @ vectors + 1e-12)
    return np.maximum(values[::-1], 0), vectors, root
