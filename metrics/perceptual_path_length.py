"""Perceptual path length (Karras et al. 2019, section 4.1) for a generator that is steered by coefficients.

z here is what is drawn at random: the 179 latents, which the VAE decoders turn into lambda, and the noise vector. So
a step in z goes z -> lambda -> w -> picture, and w belongs to a lambda that the VAEs can give.
"""

from typing import Callable, Tuple

import numpy as np

from renderer import factors

EPSILON = 1e-4
PERCENTILES = 1, 99                         # what lies outside is left out of the mean
CROP_ROWS, CROP_COLUMNS = (3, 7), (2, 6)    # eighths of the picture: the face without background
SPACES, SAMPLINGS = ('z', 'w'), ('full', 'end')
_BLOCK = 64                                 # pairs computed and saved together


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From a to b [N, D] along the sphere, t [N, 1] in 0..1: the direction turns evenly, the length changes evenly.

    The paper's mapping divides z by its length; VAE decoders do not, so the length is kept.
    """
    length_a, length_b = [np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    a, b = a / length_a, b / length_b
    cosine = np.clip(np.sum(a * b, axis=1, keepdims=True), -1, 1)
    side = b - cosine * a
    side = side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    angle = t * np.arccos(cosine)
    return (a * np.cos(angle) + side * np.sin(angle)) * (length_a + (length_b - length_a) * t)


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From a to b along the straight line; t broadcasts."""
    return a + (b - a) * t


def distances(features_a: np.ndarray, features_b: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Squared distance of unit-length features [N, D] divided by epsilon squared: float64 [N]."""
    a, b = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
            for x in (np.asarray(features_a, np.float64), np.asarray(features_b, np.float64))]
    return np.sum(np.square(a - b), axis=1) / epsilon ** 2


def mean_within(values: np.ndarray, low: float = PERCENTILES[0], high: float = PERCENTILES[1]) -> float:
    """Mean of the values from the `low`-th to the `high`-th percentile, both included."""
    values = np.sort(np.asarray(values, np.float64))
    last = len(values) - 1
    return float(values[int(np.floor(last * low / 100)):int(np.ceil(last * high / 100)) + 1].mean())


def crop(pictures: np.ndarray) -> np.ndarray:
    """The face of pictures [N, R, R, 3]: rows 3/8 to 7/8, columns 2/8 to 6/8."""
    size = pictures.shape[1]
    rows, columns = [slice(size * first // 8, size * last // 8) for first, last in (CROP_ROWS, CROP_COLUMNS)]
    return pictures[:, rows, columns]


def ends(space: str, sampling: str, normals: np.ndarray, t: np.ndarray,
         decode: Callable[[np.ndarray], np.ndarray],
         dlatents: Callable[[np.ndarray], np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """w of both ends of short steps, [N, num_layers, dlatent_size] each.

    normals: [2, N, 179 + noise_dim], the two points to go between; t: [N, 1], where the steps begin; decode:
    z -> lambda; dlatents: lambda and noise -> w.
    """
    def to_w(z):
        coeffs = np.concatenate([decode(z[:, :factors.NUM_LATENTS]), z[:, factors.NUM_LATENTS:]], axis=1)
        return dlatents(coeffs.astype(np.float32))

    t = np.zeros_like(t) if sampling == 'end' else t
    if space == 'z':
        return to_w(slerp(normals[0], normals[1], t)), to_w(slerp(normals[0], normals[1], t + EPSILON))
    a, b = [to_w(z).astype(np.float64) for z in normals]
    return [lerp(a, b, at[:, :, np.newaxis]).astype(np.float32) for at in (t, t + EPSILON)]


def path_length(context, space, sampling):
    """The metric `ppl_<space>_<sampling>`: one Result."""
    source, features, options = context.generator(), context.features(), context.options
    pairs_at_once = max(options.batch // 2, 1)

    def compute(start, count):
        rng = np.random.RandomState([options.seed, start])
        normals = rng.standard_normal([2, count, factors.NUM_LATENTS + source.noise_dim])
        t = rng.uniform(size=[count, 1])
        found = []
        for i in range(0, count, pairs_at_once):
            some = slice(i, i + pairs_at_once)
            first, second = ends(space, sampling, normals[:, some], t[some], source.decode, source.dlatents)
            pictures = crop(source.float_pictures(np.concatenate([first, second])))
            seen = features(pictures, len(pictures))
            found.append(distances(seen[:len(first)], seen[len(first):]))
        return {'distance': np.concatenate(found)}

    name = f'ppl_{space}_{sampling}'
    facts = dict(source=source.facts, features=features.facts, seed=options.seed)
    values = context.store.collect(name, facts, options.pairs, _BLOCK, compute, unit='pair')['distance']
    way = 'slerp of the 179 latents and the noise vector, lengths kept' if space == 'z' else \
        'lerp in w of random lambda (w from z through VAEs and mapping)'
    where = 't uniform in 0..1' if sampling == 'full' else 't = 0'
    yield context.result(
        name, mean_within(values), features=True, counts=dict(pairs=len(values)),
        convention=f'{way}, {where}, epsilon {EPSILON:g}; squared distance of unit-length features / epsilon^2; rows '
        '3/8..7/8, columns 2/8..6/8; stored noise maps, no truncation; mean from the 1st to the 99th percentile; not '
        'the VGG16 distance of the paper, so not comparable with published values')
