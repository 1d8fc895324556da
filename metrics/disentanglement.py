"""Disentanglement score (paper section 4.2) and leakage: how much of the other factors moves when one alone should."""

from typing import Any, Dict, Iterator, Optional

import numpy as np

from renderer import factors

NAMES = tuple(factor.name for factor in factors.FACTORS)
_TINY = 1e-12           # variances below count as this: a quotient of two nothings is 0, not NaN


def seen_factor(name: str, estimate: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """What experts tell of a factor: reconstructed coefficients, for identity the embedding; [..., d]."""
    return embedding if name == 'id' else estimate[..., factors.BY_NAME[name].coeffs]


def within_variance(values: np.ndarray) -> float:
    """Mean over groups of the variance within a group, summed over components: [S, V, d] -> float; V - 1 below."""
    return float(values.var(axis=1, ddof=1, dtype=np.float64).sum(axis=-1).mean())


def total_variance(values: np.ndarray) -> float:
    """Variance of all rows, summed over components: [..., d] -> float; divided by their number less one."""
    rows = values.reshape(-1, values.shape[-1])
    return float(rows.var(axis=0, ddof=1, dtype=np.float64).sum())


def leakage(values: np.ndarray) -> Optional[float]:
    """Variance within groups [S, V, d] over total variance: 0 when groups are constant, about 1 when they do not
    matter, None when nothing varies at all.
    """
    total = total_variance(values)
    return within_variance(values) / total if total > _TINY else None


def scores(within: Dict[str, Dict[str, float]]) -> Dict[str, float]:
    """{factor: DS} of one system: DS_i is the product over j != i of sigma_i / sigma_j.

    within: {i: {k: sigma_k in groups in which only i varies}}, sigma already divided by the variance over real data.
    """
    result = {}
    for i, sigma in within.items():
        own = sigma[i] if sigma[i] > _TINY else 0.0
        result[i] = float(np.prod([own / max(sigma[j], _TINY) for j in sigma if j != i]))
    return result


def disentanglement_score(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `ds`: a Result for each factor."""
    reals = context.real_estimates()
    spread = {k: max(total_variance(seen_factor(k, reals['estimate'], reals['embedding'])), _TINY) for k in NAMES}
    within = {}
    for i in NAMES:
        seen = context.groups().of(i)
        within[i] = {k: within_variance(seen_factor(k, seen['estimate'], seen['embedding'])) / spread[k] for k in NAMES}
    for i, value in scores(within).items():
        sigma = {factors.BY_NAME[k].word: within[i][k] for k in NAMES}
        yield context.group_result(
            'ds', i, value, details=dict(sigma=sigma), counts=dict(reals=len(reals['estimate'])),
            convention='groups in which only this factor varies; sigma_k = mean within-group variance (trace) of '
            'estimate k / its variance over real pictures; DS = product over the others of sigma_own / sigma_other; '
            'identity by its unit-length embedding, the rest by reconstruction')


def leakages(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `leakage`: a Result for each factor that varies, its value the largest share of the others."""
    for i in NAMES:
        seen = context.groups().of(i)
        shares = {quantity.name: leakage(quantity.of(seen['estimate']))
                  for quantity in context.quantities() if quantity.factor != i}
        coefficients = {factors.BY_NAME[k].word: leakage(seen_factor(k, seen['estimate'], seen['embedding']))
                        for k in NAMES if k != i}
        known = [share for share in shares.values() if share is not None]
        yield context.group_result(
            'leakage', i, max(known) if known else None, details=dict(into=shares, coefficients=coefficients),
            convention='groups in which only this factor varies; within-group variance (trace) of the estimate of '
            'something else / its total variance over the same pictures; value: the largest; in the units of control; '
            'details: coefficients, the same of plain coefficients, of identity by its unit-length embedding; read it '
            'with control: what does not react does not leak')
