"""â vs a: a straight line of the anomaly score over log size, and how often the score passes the threshold.

The model is that of MIL-HDBK-1823A without censoring: scores scatter normally, and equally at all sizes, about
a line fitted by least squares, so the probability of detection is ``Phi(z)``, with
``z(a) = (line(a) - threshold) / scatter``. Confidence bounds come from the delta method, as there, applied to
z, where the normal approximation is good (the handbook applies it to the curve's location and width). Its
variance is that of the line in units of the scatter, plus ``z**2 / (2 (N - 2))`` for the scatter's own error.
a90/95 is where the lower bound of z passes the 90 % quantile, the root of a quadratic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from subspect.probe.curves import (
    MAYBE_NOT_RISING,
    NORMAL_QUANTILE,
    TARGET,
    DetectableSize,
    DetectionCurve,
    FloatArray,
    checked_sizes,
    curve_sizes,
    no_curve,
    within_planted,
)

_TARGET_QUANTILE = float(stats.norm.ppf(TARGET))
_SUSPICIOUS = 0.01
"""A departure from the model is remarked on if chance alone gave it more rarely than this."""


class _Line(NamedTuple):
    """z over log size as ``height + slope * (log size - centre)``, and what its variance is made of."""

    height: float
    slope: float
    centre: float
    scatter: float
    number: int
    spread: float
    """Sum of squares of the log sizes about their centre."""

    def z(self, log_sizes: FloatArray) -> FloatArray:
        return np.asarray(self.height + self.slope * (log_sizes - self.centre))

    def deviation(self, log_sizes: FloatArray) -> FloatArray:
        """Standard deviation of z by the delta method."""
        of_line = 1.0 / self.number + (log_sizes - self.centre) ** 2 / self.spread
        return np.asarray(np.sqrt(of_line + self.z(log_sizes) ** 2 / (2.0 * (self.number - 2))))


def fit_scores(sizes: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> DetectionCurve:
    """Fits the probability that the score of a defect of a size exceeds the threshold.

    Args:
        sizes: ``(N,)``, positive, not all the same.
        scores: ``(N,)``.
        threshold: In units of the scores.

    Returns:
        The curve, with remarks where the data contradict the model; one without points, and the reason, where
        the scores do not scatter.

    Raises:
        ValueError: The arrays do not fit each other or have fewer than three entries.
    """
    a, response = checked_sizes(sizes, scores)
    log_sizes = np.log(a)
    fitted = stats.linregress(log_sizes, response)
    residuals = response - fitted.intercept - fitted.slope * log_sizes
    scatter = float(np.sqrt((residuals**2).sum() / (len(a) - 2)))
    # Rounding leaves residuals of about this size.
    if scatter <= 1e-9 * max(float(np.abs(response).max()), 1e-300):
        return no_curve("the scores do not scatter about a line over log size")
    centre = float(log_sizes.mean())
    line = _Line(
        (float(response.mean()) - threshold) / scatter,
        float(fitted.slope) / scatter,
        centre,
        scatter,
        len(a),
        float(((log_sizes - centre) ** 2).sum()),
    )
    points = curve_sizes(a)
    z, margin = line.z(np.log(points)), NORMAL_QUANTILE * line.deviation(np.log(points))
    a90, a90_95 = _detectable(line, a)
    return DetectionCurve(
        points,
        stats.norm.cdf(z),
        stats.norm.cdf(z - margin),
        stats.norm.cdf(z + margin),
        a90,
        a90_95,
        {
            "intercept": float(fitted.intercept),
            "slope": float(fitted.slope),
            "scatter": scatter,
            "threshold": threshold,
        },
        _departures(log_sizes, residuals),
    )


def _detectable(line: _Line, sizes: FloatArray) -> tuple[DetectableSize, DetectableSize]:
    """a90 and a90/95."""
    if line.slope <= 0:
        none = DetectableSize(None, "larger defects do not have higher scores than smaller ones")
        return none, none
    a90 = within_planted(line.centre + (_TARGET_QUANTILE - line.height) / line.slope, sizes)
    # (z - q)**2 = k**2 variance(z), a quadratic in the distance from the centre; negative at a90, so that the
    # greater root is the bound if the quadratic opens upwards, and there is no bound if it does not.
    k2, beyond = NORMAL_QUANTILE**2, line.height - _TARGET_QUANTILE
    share = k2 / (2.0 * (line.number - 2))
    square = line.slope**2 * (1.0 - share) - k2 / line.spread
    if square <= 0:
        return a90, DetectableSize(None, MAYBE_NOT_RISING)
    linear = 2.0 * line.slope * (beyond - share * line.height)
    constant = beyond**2 - k2 / line.number - share * line.height**2
    root = (-linear + np.sqrt(linear**2 - 4.0 * square * constant)) / (2.0 * square)
    return a90, within_planted(line.centre + float(root), sizes)


def _departures(log_sizes: FloatArray, residuals: FloatArray) -> tuple[str, ...]:
    """What of the model the data contradict: straightness, equal scatter, normality (all of them assumed)."""
    checks = {"the scores are no straight line over log size": _curvature(log_sizes, residuals)}
    checks["their scatter changes with size"] = float(stats.spearmanr(log_sizes, np.abs(residuals)).pvalue)
    checks["their scatter is not normal"] = float(stats.shapiro(residuals).pvalue)
    return tuple(f"{what} (p = {p:.1g})" for what, p in checks.items() if p < _SUSPICIOUS)


def _curvature(log_sizes: FloatArray, residuals: FloatArray) -> float:
    """p-value of a quadratic term (F test); 1 where there are too few sizes for one."""
    left = len(log_sizes) - 3
    if left < 1 or len(np.unique(log_sizes)) < 3:
        return 1.0
    centred = log_sizes - log_sizes.mean()
    design = np.stack([np.ones_like(centred), centred, centred**2], axis=1)
    rest = residuals - design @ np.linalg.lstsq(design, residuals, rcond=None)[0]
    gained, remaining = float((residuals**2).sum() - (rest**2).sum()), float((rest**2).sum())
    return float(stats.f.sf(gained * left / remaining, 1, left)) if remaining > 0 else 0.0
