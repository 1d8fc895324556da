"""Kernel distance between the features of real and generated pictures (Binkowski et al. 2018). NumPy only."""

from typing import Any, Dict, Iterator, Tuple

import numpy as np

SUBSETS, SUBSET_SIZE = 100, 1000


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of x [n, D] and y [m, D], kernel (a.b / D + 1)^3; may be below 0."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y)) - 2 * _kernel(x, y).mean()


def _kernel(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_off_diagonal(matrix):
    n = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (n * (n - 1))


def kernel_distance(x: np.ndarray, y: np.ndarray, seed: int, subsets: int = SUBSETS,
                    size: int = SUBSET_SIZE) -> Tuple[float, float, int]:
    """(mean, standard deviation, subset size) of `squared_mmd` over random subsets, drawn without replacement."""
    size = min(size, len(x), len(y))
    rng = np.random.RandomState(seed)
    values = [squared_mmd(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
              for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values)), size


def kid(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `kid`: one Result."""
    reals, fakes = context.real_features(), context.fake_features()
    mean, deviation, size = kernel_distance(reals, fakes, context.options.seed)
    yield context.result('kid', mean, features=True, details=dict(deviation_of_subsets=deviation),
                         convention='unbiased squared MMD, kernel (a.b/D + 1)^3, mean over random subsets, not '
                         'multiplied by anything; ' + context.distribution_convention,
                         counts=dict(reals=len(reals), fakes=len(fakes), subsets=SUBSETS, subset_size=size))
