"""Who lives in the human world: the prior of heads, and its principal components, which become the face model's
identity. A head is the cage plus a weighted sum of named displacements; its weights are drawn here.
"""

import functools

import numpy as np

from human import head_mesh
from renderer.face_model import NUM_SHAPE

NUM_PEOPLE = 20000
PEOPLES = ('african', 'asian', 'caucasian')
_OPPOSITES = (('incr', 'decr'), ('up', 'down'), ('in', 'out'), ('forward', 'backward'), ('convex', 'concave'),
              ('compress', 'uncompress'))

# Deviation of the sliders: the first beginning that fits counts. A slider at 1 is a caricature.
_DEVIATION = (
    ('neck-scale-vert', 0.02), ('neck-double', 0.12), ('neck', 0.12), ('forehead-nubian', 0.02),
    ('forehead-scale-vert', 0.06), ('forehead-trans', 0.12), ('forehead-temple', 0.25), ('head-scale', 0.16),
    ('head-angle', 0.04), ('head-back', 0.10), ('head-fat', 0.26), ('head-age', 0.30), ('head', 0.18),
    ('ear-trans', 0.10), ('ear-shape-pointed', 0.0), ('ear-shape', 0.10), ('ear', 0.22), ('mouth-trans-in', 0.02),
    ('nose-trans-in', 0.02), ('mouth-trans', 0.21), ('mouth-scale-horiz', 0.42), ('mouth-scale', 0.30),
    ('mouth-angles', 0.24), ('nose-point', 0.13), ('nose-scale', 0.42), ('nose-trans', 0.25), ('nose-base', 0.25),
    ('nose-nostrils-angle', 0.2), ('nose-septum', 0.2), ('nose', 0.42), ('mouth', 0.36), ('chin-height', 0.20),
    ('chin-triangle', 0.15), ('chin', 0.30), ('cheek', 0.34), ('eyebrows-angle', 0.28), ('eyebrows', 0.40),
    ('eye-height', 0.34), ('eye-eyefold', 0.42), ('eye-epicanthus', 0.30), ('eye-bag', 0.28), ('eye-trans', 0.62),
    ('eye-scale', 0.60), ('eye', 0.44))
_WITH_WEIGHT = {'head-fat': 0.7, 'l-cheek-volume': 0.5, 'neck-double': 0.6, 'head-round': 0.15}
_WITH_AGE = {'head-age': 0.9, 'l-eye-bag': 0.5, 'mouth-laugh-lines-in': 0.4, 'neck-double': 0.2}
_ASYMMETRY = 0.12               # of a slider's deviation: how different the two sides of a face are
_AREA_WEIGHTS = (('face', 1.0), ('ears', 0.15))     # of squared displacements in the principal components
_ELSEWHERE = 0.12               # scalp and neck


def sliders():
    """{name: (displacement for +1, displacement for -1, deviation)}; names such as 'nose-hump', 'l-eye-scale'.

    Displacements are names of targets, None where a slider has one side only.
    """
    out = {}
    names = [name for name in head_mesh.cage().targets if '-' in name]
    names = [name for name in names if name.split('-')[0] not in PEOPLES + ('universal',)]
    for name in names:
        stem, _, end = name.rpartition('-')
        pair = [(plus, minus) for plus, minus in _OPPOSITES if end in (plus, minus)]
        if not pair:
            out[name] = (name, None)
            continue
        (plus, minus), = pair
        out[stem if plus == 'incr' else f'{stem}-{plus}'] = (f'{stem}-{plus}', f'{stem}-{minus}')
    return {name: pair + (_deviation(name),) for name, pair in out.items() if _deviation(name)}


def _deviation(name):
    plain = name[2:] if name.startswith('l-') else name
    return next(deviation for start, deviation in _DEVIATION if plain.startswith(start))


# ------------------------------------------------------------------------------------------------ weights

@functools.lru_cache(maxsize=None)
def features():
    """Names of all displacements that make people, in the order of the columns of `draw` and rows of `displacements`.

    'r-...' is the mirror image of 'l-...'.
    """
    macros = [name for name in head_mesh.cage().targets if name.split('-')[0] in PEOPLES + ('universal',)]
    out = list(macros)
    for plus, minus, _ in sliders().values():
        for name in (plus, minus):
            if name:
                out.append(name)
                if name.startswith('l-'):
                    out.append('r-' + name[2:])
    return tuple(out)


def macro_weights(sex, age, peoples, weight, muscle):
    """Weights of the macro displacements {name: [k]}; sex 0 female .. 1 male, age 0 young .. 1 old, peoples [k, 3] that
    sum to 1, weight and muscle -1 .. 1."""
    out = {}
    for which_sex, s in (('female', 1 - sex), ('male', sex)):
        for which_age, a in (('young', 1 - age), ('old', age)):
            for i, people in enumerate(PEOPLES):
                out[f'{people}-{which_sex}-{which_age}'] = s * a * peoples[:, i]
            stem = f'universal-{which_sex}-{which_age}-'
            for amount, name in ((weight, 'averagemuscle-{}weight'), (muscle, '{}muscle-averageweight')):
                out[stem + name.format('max')] = s * a * np.maximum(amount, 0)
                out[stem + name.format('min')] = s * a * np.maximum(-amount, 0)
    return out


def slider_weights(name, amount, amount_right=None):
    """Weights {name of a displacement: [k]} of a slider at `amount` [k], -1 .. 1 (right side: where it has sides)."""
    plus, minus, _ = sliders()[name]
    out = {plus: np.maximum(amount, 0)} if minus else {plus: np.abs(amount)}
    if minus:
        out[minus] = np.maximum(-amount, 0)
    if plus.startswith('l-'):
        right = amount if amount_right is None else amount_right
        for left in (plus, minus):
            if left:
                out['r-' + left[2:]] = np.maximum(right if left == plus else -right, 0)
    return out


def _follows(name, weight, age):
    """What weight and age do to a slider on average; the source's own targets for them hardly change the face."""
    return _WITH_WEIGHT.get(name, 0.0) * weight + _WITH_AGE.get(name, 0.0) * (age - 0.35)


def draw(random, count):
    """Weights of `features` [count, k] of random people."""
    sex = random.beta(0.35, 0.35, count)
    age = random.beta(0.8, 1.4, count)
    peoples = random.dirichlet([0.2, 0.2, 0.2], count)
    weight = np.clip(0.45 * random.standard_normal(count), -1, 1)
    muscle = np.clip(0.3 * random.standard_normal(count), -1, 1)
    weights = macro_weights(sex, age, peoples, weight, muscle)
    for name, (_, _, deviation) in sliders().items():
        both = deviation * random.standard_normal(count) + _follows(name, weight, age)
        left, right = (both + _ASYMMETRY * deviation * random.standard_normal(count) for _ in range(2))
        weights.update(slider_weights(name, np.clip(left, -1, 1), np.clip(right, -1, 1)))
    out = np.zeros([count, len(features())])
    for i, name in enumerate(features()):
        if name in weights:
            out[:, i] = weights[name]
    return out


# ------------------------------------------------------------------------------------------------ displacements

def vertex_weights():
    """How much a squared displacement of each cage vertex counts [n]: its area, less off the face; sum 1."""
    cage = head_mesh.cage()
    skin = cage.quads[cage.quad_part == 0]
    corner = cage.vertices[skin]
    area = np.linalg.norm(np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1]), axis=1) / 2
    out = np.bincount(skin.ravel(), np.repeat(area / 4, 4), len(cage.vertices))
    share = np.full(len(out), _ELSEWHERE)
    for name, weight in _AREA_WEIGHTS:
        share = np.where(cage.masks[name] > 0.5, weight, share)
    share = np.where(cage.masks['inside-mouth'] > 0.5, 0.05, share)
    return out * share / (out * share).sum()


@functools.lru_cache(maxsize=None)
def displacements():
    """Displacement [k, n, 3] of the cage for each of `features`: without what moves, turns or scales the face as a
    whole, turns the eyes, bends lashes or parts the lips."""
    out = []
    for name in features():
        mirrored = name.startswith('r-')
        out.append(head_mesh.target('l-' + name[2:] if mirrored else name, mirrored))
    out = np.array(out)
    out -= _similarity_part(out)
    for part in ('l-eye', 'r-eye'):
        _hold_eye(out, head_mesh.part_vertices(part))
    for part in ('l-eyelashes-2', 'r-eyelashes-2'):
        lashes, roots = head_mesh.lash_roots(part)
        out[:, lashes] = out[:, roots]
    _hold_lips(out)
    return out


def _similarity_part(moves):
    """The part of moves [k, n, 3] that is a translation, a small rotation or a scaling of the face."""
    cage = head_mesh.cage()
    x = cage.vertices
    face = np.where(cage.masks['face'] > 0.5, vertex_weights(), 0)
    face /= face.sum()
    centre = face @ x
    y = x - centre
    zero = np.zeros(len(x))
    fields = [np.broadcast_to(axis, x.shape) for axis in np.eye(3)]
    fields += [np.stack([zero, -y[:, 2], y[:, 1]], 1), np.stack([y[:, 2], zero, -y[:, 0]], 1),
               np.stack([-y[:, 1], y[:, 0], zero], 1), y]
    fields = np.array(fields).reshape(7, -1)
    weighted = fields * np.repeat(face, 3)
    amounts = np.linalg.solve(weighted @ fields.T, weighted @ moves.reshape(len(moves), -1).T)      # [7, k]
    return (amounts.T @ fields).reshape(moves.shape)


def _hold_eye(moves, members):
    """Leave only translation and scaling of an eyeball, in place."""
    local = head_mesh.cage().vertices[members]
    local = local - local.mean(axis=0)
    mean = moves[:, members].mean(axis=1, keepdims=True)
    scale = np.einsum('kij,ij->k', moves[:, members] - mean, local) / (local ** 2).sum()
    moves[:, members] = mean + scale[:, None, None] * local


# Where the lips meet, on the cage's own face: places of the upper and the lower lip's edge at three x.
_LIP_PAIRS = (((-0.12, -0.372, 0.335), (-0.12, -0.397, 0.316)), ((0.0, -0.378, 0.350), (0.0, -0.401, 0.351)),
              ((0.12, -0.372, 0.335), (0.12, -0.397, 0.316)))
_LIP_CENTRE, _LIP_HEIGHT = -0.386, 0.075
_LIPS_HELD = (0.25, 0.5, 0.3)           # share of the gap's x, y, z that each lip makes good; 0.5 closes it


def _hold_lips(moves):
    """Take from moves [k, n, 3], in place, what parts the lips or pushes them through each other: half from each."""
    cage = head_mesh.cage()
    x, y, z = cage.vertices.T
    nearest = lambda place: int(np.argmin(((cage.vertices - place) ** 2).sum(axis=1)))
    at = [pair[0][0] for pair in _LIP_PAIRS]
    gaps = np.stack([moves[:, nearest(upper)] - moves[:, nearest(lower)] for upper, lower in _LIP_PAIRS], axis=1)
    share = np.stack([np.interp(x, at, np.eye(3)[i]) for i in range(3)])        # [3, n] of the gaps at each vertex
    fade = np.exp(-((y - _LIP_CENTRE) / _LIP_HEIGHT) ** 2) * np.exp(-(x / 0.24) ** 4) * (z > 0.15)
    both = np.einsum('kpc,pn->knc', gaps, share * fade * np.where(y > _LIP_CENTRE, 1, -1))
    moves -= both * _LIPS_HELD


# ------------------------------------------------------------------------------------------------ principal components

@functools.lru_cache(maxsize=None)
def components():
    """(mean [k], basis [80, k]), weights of `features`: a person is mean + N(0, 1) numbers @ basis. From the file."""
    return head_mesh.stored('people_mean'), head_mesh.stored('people_basis')


def compute_components(count=NUM_PEOPLE, columns=NUM_SHAPE, seed=0):
    """Principal components of random people -> (mean [k], basis [columns, k], share of the variance kept)."""
    weights = draw(np.random.RandomState(seed), count)
    mean = weights.mean(axis=0)
    centred = weights - mean
    covariance = centred.T @ centred / count
    flat = displacements().reshape(len(mean), -1)
    root = square_root((flat * np.repeat(vertex_weights(), 3)) @ flat.T)
    values, vectors = np.linalg.eigh(root @ covariance @ root)
    order = np.argsort(-values)[:columns]
    basis = (covariance @ root @ vectors[:, order] / np.sqrt(values[order])).T
    probe = np.random.RandomState(1).standard_normal(len(mean))
    basis *= np.sign(basis @ probe)[:, None]
    return mean, basis, values[order].sum() / values.sum()


def square_root(gram):
    """The symmetric square root of a matrix of inner products [k, k]."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


# Named directions: (slider, amount) pairs that are changed together by one deviation each.
NAMED = {
    'face width': (('head-scale-horiz', 1), ('head-round', 1)), 'face length': (('head-scale-vert', 1),),
    'full cheeks': (('head-fat', 1), ('l-cheek-volume', 1)), 'cheekbones': (('l-cheek-bones', 1),),
    'forehead': (('forehead-scale-vert', 1), ('forehead-temple', 1)),
    'jaw width': (('chin-bones', 1), ('head-square', 1)), 'chin width': (('chin-width', 1),),
    'chin length': (('chin-height', 1),), 'chin forward': (('chin-prominent', 1), ('chin-prognathism', 1)),
    'nose length': (('nose-scale-vert', 1), ('nose-point-up', -1)), 'nose depth': (('nose-scale-depth', 1),),
    'nose width': (('nose-scale-horiz', 1), ('nose-nostrils-width', 1), ('nose-width3', 1)),
    'nose hump': (('nose-hump', 1), ('nose-curve-convex', 1)),
    'nose tip up': (('nose-point-up', 1), ('nose-base-up', 1)),
    'mouth width': (('mouth-scale-horiz', 1),), 'mouth height': (('mouth-trans-up', 1),),
    'full lips': (('mouth-lowerlip-height', 1), ('mouth-lowerlip-volume', 1), ('mouth-upperlip-height', 1),
                  ('mouth-upperlip-volume', 1)),
    'eye size': (('l-eye-scale', 1), ('l-eye-height2', 1)), 'eye distance': (('l-eye-trans-in', -1),),
    'eye slant': (('l-eye-corner2-up', 1), ('l-eye-corner1-up', -1)), 'eye folds': (('l-eye-eyefold-up', -1),),
    'brow height': (('eyebrows-trans-up', 1),), 'brow angle': (('eyebrows-angle-up', 1),),
    'brow ridge': (('eyebrows-trans-forward', 1),), 'ear size': (('l-ear-scale', 1),),
    'ears apart': (('l-ear-wing', 1),),
}


def _vector(weights):
    """{name of a displacement: weight} -> weights of `features` [k]."""
    out = np.zeros(len(features()))
    for name, weight in weights.items():
        out[features().index(name)] += np.ravel(weight)[0]
    return out


def named_weights():
    """{name: change of the weights of `features` [k] for one unit}: age, sex (towards male), weight, peoples, NAMED."""
    def person(sex=0.5, age=0.35, peoples=(1 / 3, 1 / 3, 1 / 3), weight=0.0):
        out = _vector(macro_weights(sex, age, np.array([peoples]), np.array([weight]), np.zeros(1)))
        for slider in set(_WITH_WEIGHT) | set(_WITH_AGE):
            out += _vector(slider_weights(slider, np.array([_follows(slider, weight, age)])))
        return out
    middle = person()
    out = {'age': person(age=0.65) - middle, 'sex': person(sex=0.85) - middle, 'weight': person(weight=0.45) - middle}
    for i, people in enumerate(PEOPLES):
        more = np.where(np.arange(3) == i, 0.6, 0.2)
        out[people] = person(peoples=more) - middle
    for name, parts in NAMED.items():
        amounts = [(slider, sign * sliders()[slider][2]) for slider, sign in parts]
        out[name] = sum(_vector(slider_weights(slider, np.array([amount]))) for slider, amount in amounts)
    return out


def coefficients_of(weights):
    """Face-model coefficients [m, 80] nearest, in displacement, to changes of the weights of `features` [m, k]."""
    flat = displacements().reshape(len(features()), -1)
    basis = components()[1] @ flat                                              # [80, 3n]
    weighted = basis * np.repeat(vertex_weights(), 3)
    return np.linalg.solve(weighted @ basis.T, weighted @ (np.asarray(weights) @ flat).T).T
