"""Hit/miss: a logistic curve over the logarithm of size, fitted to what was found and what was missed.

The model and its maximum-likelihood fit are those of MIL-HDBK-1823A. Confidence bounds are likelihood-ratio
bounds, as there: the parameters whose deviance exceeds the smallest by at most the 90 % quantile of chi-squared
with one degree of freedom form a convex region, and a bound is the extreme, over that region, of what it
bounds, which is the bound of the profile likelihood (Venzon and Moolgavkar, "A method for computing
profile-likelihood-based confidence intervals", Applied Statistics 37, 1988). With 90 % between two bounds each
holds with 95 %.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from subspect.probe.curves import (
    MAYBE_NOT_RISING,
    NORMAL_QUANTILE,
    NOT_RISING,
    TARGET,
    DetectableSize,
    DetectionCurve,
    FloatArray,
    checked_sizes,
    curve_sizes,
    no_curve,
    within_planted,
)

_DIRECTIONS = 360
"""Points on the outline of the region; extremes over them are off by 4e-5 of its width."""

_TARGET_LOGIT = float(logit(TARGET))


def fit_hit_miss(sizes: npt.ArrayLike, found: npt.ArrayLike) -> DetectionCurve:
    """Fits the probability that a defect of a size is found.

    Args:
        sizes: ``(N,)``, positive.
        found: ``(N,)``, whether each was found.

    Returns:
        The curve; one without points, and the reason, where the likelihood has no maximum: all found, none
        found, or found and missed ones separated by size.

    Raises:
        ValueError: The arrays do not fit each other or have fewer than three entries.
    """
    a, hits = checked_sizes(sizes, found)
    if (reason := _without_maximum(a, hits > 0.5)) is not None:
        return no_curve(reason)
    centre, scale = float(np.log(a).mean()), float(np.log(a).std())
    design = np.stack([np.ones_like(a), (np.log(a) - centre) / scale], axis=1)
    best = _maximise(design, hits)
    outline = _confidence_outline(design, hits, best)

    points = curve_sizes(a)
    at_points = np.stack([np.ones_like(points), (np.log(points) - centre) / scale], axis=1)
    extremes = outline @ at_points.T
    a90, a90_95 = (
        size if isinstance(size, DetectableSize) else within_planted(centre + scale * size, a)
        for size in _detectable(best, outline)
    )
    slope = best[1] / scale
    return DetectionCurve(
        points,
        expit(at_points @ best),
        expit(extremes.min(axis=0)),
        expit(extremes.max(axis=0)),
        a90,
        a90_95,
        {"intercept": float(best[0] - slope * centre), "slope": float(slope)},
    )


def _without_maximum(a: FloatArray, hits: npt.NDArray[np.bool_]) -> str | None:
    """Why the likelihood has no maximum (Albert and Anderson, Biometrika 71, 1984); None if it has one."""
    count = len(a)
    if hits.all():
        return f"all {count} were found, down to the smallest size, {a.min():.3g}; smaller ones would tell"
    if not hits.any():
        return f"none of {count} was found, up to the largest size, {a.max():.3g}"
    if a[~hits].max() <= a[hits].min():
        return (
            f"separated: all above {a[~hits].max():.3g} were found and all below {a[hits].min():.3g} missed,"
            " so the steepness is unknown; more defects between them would tell"
        )
    if a[hits].max() <= a[~hits].min():
        return f"{NOT_RISING}: all above {a[hits].max():.3g} were missed"
    return None


def _deviance(design: FloatArray, hits: FloatArray, weights: FloatArray) -> FloatArray:
    """-2 log likelihood of weights ``(..., 2)``."""
    linear = weights @ design.T
    return 2.0 * np.asarray((np.logaddexp(0.0, linear) - hits * linear).sum(axis=-1))


def _maximise(design: FloatArray, hits: FloatArray) -> FloatArray:
    """Intercept and slope of the greatest likelihood."""

    def gradient(weights: FloatArray) -> FloatArray:
        return 2.0 * np.asarray(design.T @ (expit(design @ weights) - hits))

    fitted = minimize(
        lambda weights: float(_deviance(design, hits, weights)),
        np.zeros(2),
        jac=gradient,
        hess=lambda weights: 2.0 * _information(design, weights),
        method="trust-exact",
        options={"gtol": 1e-8},
    )
    return np.asarray(fitted.x)


def _information(design: FloatArray, weights: FloatArray) -> FloatArray:
    """Fisher information ``(2, 2)``."""
    probability = expit(design @ weights)
    return np.asarray((design.T * (probability * (1.0 - probability))) @ design)


def _confidence_outline(design: FloatArray, hits: FloatArray, best: FloatArray) -> FloatArray:
    """Points ``(directions, 2)`` on the outline of the confidence region, by Newton's method along rays.

    Along a ray the deviance is convex, so that from the second step on Newton's method comes from outside and
    cannot overshoot. Rays are spread so that they would meet a quadratic deviance at one distance.
    """
    angles = np.linspace(0.0, 2.0 * np.pi, _DIRECTIONS, endpoint=False)
    factor = np.linalg.cholesky(_information(design, best))
    rays = np.linalg.solve(factor.T, np.stack([np.cos(angles), np.sin(angles)])).T
    limit = float(_deviance(design, hits, best)) + NORMAL_QUANTILE**2
    reach = np.full(_DIRECTIONS, NORMAL_QUANTILE)
    along = rays @ design.T
    for _ in range(100):
        weights = best + reach[:, None] * rays
        excess = _deviance(design, hits, weights) - limit
        slope = 2.0 * ((expit(weights @ design.T) - hits) * along).sum(axis=1)
        reach = reach - excess / slope
        if np.abs(excess).max() < 1e-9:
            break
    return np.asarray(best + reach[:, None] * rays)


def _detectable(best: FloatArray, outline: FloatArray) -> tuple[float | DetectableSize, float | DetectableSize]:
    """a90 and a90/95 in standardised log size.

    The region is convex. If it holds no slope of 0, the a90 of its members form an interval; otherwise they
    reach to infinity.
    """
    if best[1] <= 0:
        none = DetectableSize(None, NOT_RISING)
        return none, none
    a90 = float((_TARGET_LOGIT - best[0]) / best[1])
    if outline[:, 1].min() <= 0:
        return a90, DetectableSize(None, MAYBE_NOT_RISING)
    return a90, float(((_TARGET_LOGIT - outline[:, 0]) / outline[:, 1]).max())
