"""What must stay within a subject: identity by the embedding's cosine, hair by its overlap, colours by their spread."""

from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np

from metrics.groups import intersection_over_union
from renderer import factors

PARTS = ('hair', 'background')        # of a picture, whose colours stay
MOVING = tuple(factor.name for factor in factors.FACTORS if factor.name != 'id')


def identity_cosines(embedding: np.ndarray) -> Tuple[float, float]:
    """(within, between): mean cosine of two pictures of one group, and of two groups; [S, V, E] of unit length."""
    x = np.asarray(embedding, np.float64)
    subjects, variations = x.shape[:2]
    if subjects < 2 or variations < 2:
        raise ValueError(f'{subjects} groups of {variations}: at least 2 of each')
    sums = x.sum(axis=1)                                                        # [S, E]
    inside = np.sum(sums ** 2, axis=1)                                          # [S] all ordered pairs, itself included
    own = np.sum(x ** 2, axis=(1, 2))                                           # [S] each with itself
    within = np.mean((inside - own) / (variations * (variations - 1)))
    everything = np.sum(sums.sum(axis=0) ** 2)
    between = (everything - inside.sum()) / (subjects * (subjects - 1) * variations ** 2)
    return float(within), float(between)


def likeness_cosines(face: np.ndarray, wanted: np.ndarray) -> Tuple[float, float]:
    """(own, others): mean cosine of a face with its own render, and with renders of other groups; [S, V, E]."""
    face, wanted = np.asarray(face, np.float64), np.asarray(wanted, np.float64)
    own = np.mean(np.sum(face * wanted, axis=-1))
    sums, wanted_sums = face.sum(axis=1), wanted.sum(axis=1)                    # [S, E]
    everything = sums.sum(axis=0) @ wanted_sums.sum(axis=0) - np.sum(sums * wanted_sums)
    subjects, variations = face.shape[:2]
    return float(own), float(everything / (subjects * (subjects - 1) * variations ** 2))


def mean_of_pairs(matrices: np.ndarray) -> Optional[float]:
    """Mean over pairs i != j of matrices [..., V, V], NaN left out; None when nothing is left."""
    size = matrices.shape[-1]
    pairs = matrices[..., ~np.eye(size, dtype=bool)]
    known = pairs[np.isfinite(pairs)]
    return float(known.mean(dtype=np.float64)) if known.size else None


def identity(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `identity`: a Result for each factor that may vary within a subject."""
    for i in MOVING:
        within, between = identity_cosines(context.groups().of(i)['embedding'])
        yield context.group_result(
            'identity', i, within - between, details=dict(within=within, between=between),
            convention='mean cosine of identity embeddings of two pictures of a subject, only this factor varying, '
            'less that of pictures of two subjects; whole pictures; 1 is best, 0 no identity')


def likeness(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `likeness`: a Result for each factor."""
    for factor in factors.FACTORS:
        seen = context.groups().of(factor.name)
        own, others = likeness_cosines(seen['face'], seen['wanted_face'])
        yield context.group_result(
            'likeness', factor.name, own - others, details=dict(own=own, others=others),
            convention='mean cosine of the identity embedding of the face, cut out by the mask of its render, with '
            'that of the render, less that with the renders of other subjects')


def hair(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `hair`: a Result for each factor that may vary within a subject."""
    for i in MOVING:
        seen = context.groups().of(i)
        maps = np.unpackbits(seen['first_hair'], axis=1).astype(bool)
        bald = np.isnan(seen['hair']).all(axis=(1, 2))
        note = '; hair moves with the head, so pose alone lowers it' if i == 'rot' else ''
        yield context.group_result(
            'hair', i, mean_of_pairs(seen['hair']), counts=dict(subjects_without_hair=int(bald.sum())),
            details=dict(between=mean_of_pairs(intersection_over_union(maps)),
                         share_of_picture=float(maps.mean())),
            convention='mean intersection over union of hair (probability above 0.5) of two pictures of a subject, '
            'only this factor varying; pairs without any hair left out; details: the same between subjects' + note)


def constancy(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `constancy`: a Result for each factor that may vary within a subject, its value the larger part's."""
    for i in MOVING:
        seen = context.groups().of(i)
        spreads = {part: _mean(seen[part + '_spread']) for part in PARTS}
        known = [spread for spread in spreads.values() if spread is not None]
        left_out = {f'subjects_without_{part}': int(np.isnan(seen[part + '_spread']).sum()) for part in PARTS}
        yield context.group_result(
            'constancy', i, max(known) if known else None, details=spreads, counts=left_out,
            convention='standard deviation over the pictures of a subject, only this factor varying, of the mean '
            'colour of hair and of the background, of 255; root mean square of red, green, blue; mean over subjects; '
            'masks by the parser, of the background by pairs of pictures where it is seen in both; background: '
            + context.judge().background)


def _mean(values: np.ndarray) -> Optional[float]:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if known.size else None
