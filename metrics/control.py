"""Control and imitation: does the picture show what was asked for? Coefficients, landmarks, change of the picture."""

from typing import Any, Dict, Iterator, Optional

import numpy as np

from metrics.disentanglement import NAMES

_VARIES = 0.01          # of the largest spread: coefficients below count as constant


def explained(wanted: np.ndarray, estimate: np.ndarray) -> Dict[str, Optional[float]]:
    """How estimates [N, d] follow wanted values [N, d] -> {name: float or None}.

    r2: 1 - sum of squared errors / sum of squared deviations of the wanted values from their mean, over all
    coefficients together (so each counts by its spread); below 0 is worse than answering the mean. mean_r2: mean of
    the single coefficients' R2, over those that vary. slope: change of the estimate per wanted change (least squares,
    over all together). correlation: squared, over all together. None where nothing varies.
    """
    wanted, estimate = np.asarray(wanted, np.float64), np.asarray(estimate, np.float64)
    deviation, answer = wanted - wanted.mean(axis=0), estimate - estimate.mean(axis=0)
    power, error = np.sum(deviation ** 2, axis=0), np.sum((estimate - wanted) ** 2, axis=0)
    if not power.sum() > 0:
        return dict(r2=None, mean_r2=None, slope=None, correlation=None)
    common, answered = np.sum(deviation * answer), np.sum(answer ** 2)
    varies = np.sqrt(power) > _VARIES * np.sqrt(power.max())
    return dict(r2=float(1 - error.sum() / power.sum()), mean_r2=float(np.mean(1 - error[varies] / power[varies])),
                slope=float(common / power.sum()),
                correlation=float(common ** 2 / (power.sum() * answered)) if answered > 0 else 0.0)


def landmark_error(wanted: np.ndarray, seen: np.ndarray) -> float:
    """Mean distance of landmarks [..., 68, 2] in their unit."""
    return float(np.linalg.norm(np.asarray(seen, np.float64) - wanted, axis=-1).mean())


def slope_of(sums: np.ndarray) -> Optional[float]:
    """Slope over all groups of `image_slope`'s sums [S, 2]; None when renders do not change."""
    common, power = np.asarray(sums, np.float64).sum(axis=0)
    return float(common / power) if power > 0 else None


def distances(wanted: np.ndarray, estimate: np.ndarray) -> Dict[str, float]:
    """{error: root mean square length of estimate - wanted [N, k], spread: of wanted from its mean}."""
    length = lambda rows: float(np.sqrt(np.mean(np.sum(np.square(rows, dtype=np.float64), axis=-1))))
    return dict(error=length(estimate - wanted), spread=length(wanted - wanted.mean(axis=0)))


def control(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `control`: a Result for each quantity."""
    for quantity in context.quantities():
        seen = context.groups().of(quantity.factor)
        wanted, estimate = [seen[name].reshape(-1, seen[name].shape[-1]) for name in ('coeff', 'estimate')]
        single = explained(wanted[:, quantity.coeffs], estimate[:, quantity.coeffs])
        numbers = explained(quantity.of(wanted), quantity.of(estimate))
        value = numbers.pop('r2')
        numbers.update(distances(quantity.of(wanted), quantity.of(estimate)), unit=quantity.unit,
                       mean_r2=single['mean_r2'], coefficients_r2=single['r2'])
        if quantity.factor == 'rot':
            numbers.update(_angles(wanted[:, quantity.coeffs], estimate[:, quantity.coeffs]))
        yield context.group_result(
            'control', quantity.factor, value, details=numbers, word=quantity.name,
            convention='R2 of the requested against the re-estimated over all pictures of groups in which only this '
            'factor varies: 1 - squared error / variance of the requested. shape (of identity) and expression: '
            'displacement of the drawn surface in mm, weighted by area; albedo: levels of 255; lighting: its '
            'coefficients; pose: degrees. details: root mean square of error and of the requested from its mean, '
            'slope, squared correlation; R2 of all coefficients together, and mean over single coefficients')


def _angles(wanted, estimate):
    """{angle: R2} of each pose angle; [..., 3]."""
    return {f'r2_{name}': explained(wanted[..., k].reshape(-1, 1), estimate[..., k].reshape(-1, 1))['r2']
            for k, name in enumerate(('pitch', 'yaw', 'roll'))}


def imitation(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `landmarks`: a Result for each factor and one for all."""
    wanted, seen = [], []
    for i in NAMES:
        group = context.groups().of(i)
        wanted.append(group['wanted_landmarks'])
        seen.append(group['landmarks'])
        yield _imitation_result(context, i, wanted[-1:], seen[-1:])
    yield _imitation_result(context, None, wanted, seen)


def _imitation_result(context, factor, wanted, seen):
    wanted, seen = [np.concatenate(parts).reshape(-1, 68, 2) for parts in (wanted, seen)]
    still = np.broadcast_to(wanted.mean(axis=0, dtype=np.float64), wanted.shape)
    return context.group_result(
        'landmarks', factor, landmark_error(wanted, seen),
        details=dict(of_the_mean_face=landmark_error(wanted, still)),
        convention='mean distance of 68 landmarks, pixels of a 224 picture: those of the reconstruction of the picture '
        'against those of the render; details: the error of a picture that always shows the mean landmarks')


def slopes(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `slope`: a Result for each factor. Needs no expert, so it tells of the first resolutions too."""
    for i in NAMES:
        yield context.group_result(
            'slope', i, slope_of(context.groups().of(i)['slope']),
            convention='obtained against requested change of the picture: least squares over pixels inside both masks, '
            'changes from the first picture of each group in which only this factor varies, fakes against renders at '
            'the resolution the network has grown to; 1 is right, 0 no reaction')
