"""Fréchet distance between the features of real and generated pictures (Heusel et al. 2017). NumPy and SciPy only."""

from typing import Any, Dict, Iterator, Tuple

import numpy as np


def moments(features: np.ndarray, chunk: int = 4096) -> Tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] (divided by N - 1) of features [N, D], float64; N at least 2."""
    features = np.asarray(features)
    mean = features.mean(axis=0, dtype=np.float64)
    total = np.zeros([features.shape[1]] * 2)
    for start in range(0, len(features), chunk):        # float64 copies of all features at once would be large
        centred = features[start:start + chunk] - mean
        total += centred.T @ centred
    return mean, total / (len(features) - 1)


def frechet_distance(first: Tuple[np.ndarray, np.ndarray], second: Tuple[np.ndarray, np.ndarray]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of two (mean, covariance): float, not below 0.

    The eigenvalues of S1 S2 are those of sqrt(S1) S2 sqrt(S1), symmetric and never below 0 whatever the ranks are, so
    no matrix root has to exist; what rounding makes negative counts as 0.
    ValueError when something is not finite.
    """
    (mean1, cov1), (mean2, cov2) = first, second
    if not all(np.isfinite(x).all() for x in (mean1, cov1, mean2, cov2)):
        raise ValueError('features are not finite')
    root = _root(cov1)
    product = root @ cov2 @ root
    eigenvalues = np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)
    distance = np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * np.sum(np.sqrt(eigenvalues))
    return max(float(distance), 0.0)


def _root(covariance):
    """Symmetric square root of a symmetric matrix whose eigenvalues are not below 0 but for rounding."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def fid(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `fid`: one Result."""
    reals, fakes = context.real_features(), context.fake_features()
    value = frechet_distance(moments(reals), moments(fakes))
    short = min(len(reals), len(fakes)) <= reals.shape[1]
    details = {'rank_deficient': True} if short else {}
    if short:
        context.warn(f'fid: {min(len(reals), len(fakes))} pictures for {reals.shape[1]} features: the covariance has '
                     'not its full rank and the value is too high; compare only values of equal counts')
    yield context.result('fid', value, convention='Frechet distance of feature means and covariances; '
                         + context.distribution_convention, details=details, features=True,
                         counts=dict(reals=len(reals), fakes=len(fakes)))
