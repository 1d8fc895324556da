"""Groups of pictures in which one factor alone varies (paper section 4.2), and what experts see in them.

A group is a subject: all numbers are drawn once, then V pictures differ in the latents of that factor only, so the
requested coefficients of the other factors and the noise vector are exactly equal within a group.
"""

import zlib
from typing import Any, Callable, Dict, Tuple

import numpy as np

from renderer import factors

ROWS = 4            # groups computed and saved together
LEAST = 0.005       # of a picture: mean colours of less are not compared
FACES = ('mean_shape', 'mean_texture', 'shape_basis', 'texture_basis', 'region', 'region_triangles', 'landmarks')


def draw_group(seed: int, factor: str, index: int, variations: int,
               noise_dim: int) -> Tuple[np.ndarray, np.ndarray]:
    """Group number `index` of a factor ('id', 'exp', 'gamma', 'rot') -> latents [V, 179] and noise [noise_dim].

    The same for the same seed, whatever the other numbers are.
    """
    number = [f.name for f in factors.FACTORS].index(factor)
    rng = np.random.RandomState([seed, number, index])
    own, noise = rng.standard_normal(factors.NUM_LATENTS), rng.standard_normal(noise_dim)
    latents = np.tile(own, [variations, 1])
    where = factors.BY_NAME[factor].latents
    latents[:, where] = rng.standard_normal([variations, where.stop - where.start])
    return latents, noise


def group_coeffs(decode: Callable[[np.ndarray], np.ndarray], seed: int, factor: str, index: int,
                 variations: int, noise_dim: int) -> np.ndarray:
    """Generator inputs [V, 254 + noise_dim] float32 of a group; what does not vary is exactly the same number."""
    latents, noise = draw_group(seed, factor, index, variations, noise_dim)
    decoded = decode(latents)
    coeffs = np.tile(np.concatenate([decoded[0], noise]).astype(np.float32), [variations, 1])
    where = factors.BY_NAME[factor].coeffs
    coeffs[:, where] = decoded[:, where]
    return coeffs


class Groups:
    """The groups of every factor, made when asked for and kept in a Store.

    source: of metrics.sources; judge: of metrics.judges; model: the judge's FaceModel. rate: of truncation.
    """

    def __init__(self, store: Any, source: Any, judge: Any, model: Any, seed: int, subjects: int,
                 variations: int, rate: float, batch: int) -> None:
        self._store, self._source, self._judge = store, source, judge
        self.seed, self.subjects, self.variations, self.rate, self._batch = seed, subjects, variations, rate, batch
        self._facts = dict(source=source.facts, experts=judge.facts, face_model=_checksum(model), seed=seed,
                           variations=variations, rate=rate)
        self._made = {}

    def of(self, factor: str) -> Dict[str, np.ndarray]:
        """What was asked for and what is seen in the groups of a factor, {name: array [subjects, ...]}.

        coeff [S, V, 254]: asked for. estimate [S, V, 257], landmarks [S, V, 68, 2] (224 pixels, y UP), embedding
        [S, V, E] (unit length, whole picture): seen. wanted_landmarks: those of the renders. face, wanted_face
        [S, V, E]: embeddings of the face alone and of its render. slope [S, 2]: see `image_slope`. With the parser
        hair [S, V, V]: intersection over union (NaN: no hair), first_hair [S, bytes]: the first picture's, in bits;
        hair_spread, background_spread [S]: see `color_spread`.
        """
        if factor not in self._made:
            word = factors.BY_NAME[factor].word
            self._made[factor] = self._store.collect(
                f'{word}-groups', dict(self._facts, factor=factor), self.subjects, ROWS,
                lambda start, count: self._block(factor, start, count), scale=self.variations)
        return self._made[factor]

    def _block(self, factor, start, count):
        rows = [self._row(factor, index) for index in range(start, start + count)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, factor, index):
        coeffs = group_coeffs(self._source.decode, self.seed, factor, index, self.variations, self._source.noise_dim)
        pictures = self._source.pictures(coeffs, self.rate, batch=self._batch)
        row = self._judge.look(pictures, self._batch)
        row['coeff'] = coeffs[:, :factors.NUM_COEFFS]
        resolution = self._source.active_resolution
        image, mask, row['wanted_landmarks'] = self._judge.renders(row['coeff'], resolution, self._batch)
        small = shrunk(pictures, resolution)
        row['slope'] = image_slope(small, image, mask)
        row['face'], row['wanted_face'] = [self._judge.faces(x, mask, self._batch) for x in (small, image)]
        if 'hair' in row:
            parsed = row.pop('parsed')
            row['hair_spread'] = color_spread(parsed, row['hair'], common=False)
            row['background_spread'] = color_spread(parsed, row.pop('background'), common=True)
            maps = row['hair'].reshape(self.variations, -1)
            row['hair'], row['first_hair'] = intersection_over_union(maps), np.packbits(maps[0])
        return row


def shrunk(pictures: np.ndarray, size: int) -> np.ndarray:
    """[N, R, R, 3] -> float32 [N, size, size, 3] by means: what a growing network's blocks hold."""
    n, resolution, factor = len(pictures), pictures.shape[1], pictures.shape[1] // size
    assert factor * size == resolution
    return pictures.reshape(n, size, factor, size, factor, 3).mean(axis=(2, 4), dtype=np.float32)


def image_slope(pictures: np.ndarray, renders: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How far pictures change where and as their renders do, against the first of the group: float64 [2].

    pictures, renders: [V, r, r, 3], 0-255; masks: [V, r, r, 1]. Returns the sums of (change of the picture) x (change
    of the render) and of (change of the render) squared over the pixels inside both masks; their quotient is 1 when
    pictures change exactly like renders, 0 when they do not care.
    """
    both = masks[1:] * masks[:1]
    change = (renders[1:] - renders[:1]) * both
    seen = (pictures[1:] - pictures[:1]) * both
    return np.array([np.sum(change * seen, dtype=np.float64), np.sum(change * change, dtype=np.float64)])


def intersection_over_union(maps: np.ndarray) -> np.ndarray:
    """Of each pair of bool maps [V, P]: float32 [V, V]; NaN where both are empty."""
    counts = maps.astype(np.float32)
    common = counts @ counts.T
    size = counts.sum(axis=1)
    union = size[:, None] + size[None] - common
    return np.where(union > 0, common / np.maximum(union, 1), np.nan).astype(np.float32)


def color_spread(pictures: np.ndarray, masks: np.ndarray, common: bool) -> float:
    """Standard deviation of a mean colour over the pictures of a row, root mean square of the channels; 0-255.

    pictures [V, H, W, 3], 0-255; masks [V, H, W] bool: what counts. common: two pictures are compared where both masks
    hold, so that it does not count what a moving head hides; over all pairs the differences' mean square is twice the
    variance, as it is without. NaN when no pair shows enough.
    """
    shown = masks.reshape(len(masks), -1).astype(np.float64)                            # [V, P]
    colors = pictures.reshape(shown.shape + (3,)).transpose(2, 0, 1)                    # [3, V, P]
    others = shown if common else np.ones_like(shown)
    counts = shown @ others.T                                                           # [V, V]
    means = (colors * shown) @ others.T / np.maximum(counts, 1)
    variances = np.mean((means - means.transpose(0, 2, 1)) ** 2, axis=0) / 2
    known = np.minimum(counts, counts.T) >= LEAST * shown.shape[1]
    known &= ~np.eye(len(shown), dtype=bool)
    return float(np.sqrt(variances[known].mean())) if known.any() else np.nan


def _checksum(model):
    value = 0
    for name in FACES:
        value = zlib.crc32(np.ascontiguousarray(getattr(model, name)).tobytes(), value)
    return value
