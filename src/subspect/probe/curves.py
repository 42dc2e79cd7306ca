"""What a probability-of-detection curve is, whatever fits it, and when a size can be read off it.

Terms are those of MIL-HDBK-1823A (US Department of Defense, 2009): *a* is a defect's size, *â* the
detector's response to it, a90 the size that is found with a probability of 90 %, and a90/95 the upper 95 %
confidence bound of a90. Bounds are one-sided, each with 95 % on its own: the lower bound of the curve passes
90 % at a90/95.

A size outside the range of the planted ones is never given as a number, since nothing was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

FloatArray = npt.NDArray[np.float64]

TARGET = 0.9
CONFIDENCE = 0.95
NORMAL_QUANTILE = float(norm.ppf(CONFIDENCE))
NOT_RISING = "larger defects are not found more often than smaller ones"
MAYBE_NOT_RISING = f"at {CONFIDENCE:.0%} confidence the curve might as well not rise with size"
_POINTS = 101


@dataclass(frozen=True, slots=True)
class DetectableSize:
    """A size read off a curve.

    Attributes:
        value: The size; None where there is none to be had.
        reason: Why there is none; empty if there is one.
    """

    value: float | None
    reason: str = ""

    def __str__(self) -> str:
        return "none" if self.value is None else f"{self.value:.3g}"


@dataclass(frozen=True, slots=True, eq=False)
class DetectionCurve:
    """A fitted curve.

    Attributes:
        sizes: ``(K,)`` sizes from the smallest planted to the largest; no points if no curve could be fitted.
        probability: ``(K,)`` probability of detection in [0, 1].
        lower: ``(K,)`` its lower 95 % confidence bound.
        upper: ``(K,)`` its upper 95 % confidence bound.
        a90: Size that is found with a probability of 90 %.
        a90_95: Upper 95 % confidence bound of a90.
        parameters: What was fitted, by name; sizes enter as natural logarithms.
        remarks: What the data say against the model.
    """

    sizes: FloatArray
    probability: FloatArray
    lower: FloatArray
    upper: FloatArray
    a90: DetectableSize
    a90_95: DetectableSize
    parameters: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there is a curve."""
        return bool(len(self.sizes))

    def to_dict(self) -> dict[str, Any]:
        """The curve as values JSON can hold."""
        return {
            "a90": {"value": self.a90.value, "reason": self.a90.reason},
            "a90_95": {"value": self.a90_95.value, "reason": self.a90_95.reason},
            "parameters": dict(self.parameters),
            "remarks": list(self.remarks),
            "sizes": self.sizes.tolist(),
            "probability": self.probability.tolist(),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
        }


def no_curve(reason: str) -> DetectionCurve:
    """What is left where nothing can be fitted."""
    none, empty = DetectableSize(None, reason), np.empty(0)
    return DetectionCurve(empty, empty, empty, empty, none, none)


def curve_sizes(sizes: FloatArray) -> FloatArray:
    """The sizes at which a curve is given: evenly spaced in their logarithm over the planted range."""
    return np.geomspace(sizes.min(), sizes.max(), _POINTS)


def within_planted(log_size: float, sizes: FloatArray) -> DetectableSize:
    """A size given by its logarithm, if it lies among the planted ones ``(N,)``."""
    if log_size > np.log(sizes.max()) + 1e-9:
        return DetectableSize(None, f"it lies above the largest planted size, {sizes.max():.3g}")
    if log_size < np.log(sizes.min()) - 1e-9:
        return DetectableSize(None, f"it lies below the smallest planted size, {sizes.min():.3g}")
    return DetectableSize(float(np.exp(log_size)))


def checked_sizes(sizes: npt.ArrayLike, responses: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Sizes and the responses to them as arrays ``(N,)``.

    Raises:
        ValueError: They differ in number, are fewer than three, all sizes are the same, or one is not positive.
    """
    a, response = np.asarray(sizes, dtype=np.float64), np.asarray(responses, dtype=np.float64)
    if a.ndim != 1 or a.shape != response.shape or len(a) < 3:
        raise ValueError(
            f"a curve needs three sizes or more and a response to each, got {a.shape}, {response.shape}"
        )
    if not (np.isfinite(a).all() and (a > 0).all() and np.isfinite(response).all()):
        raise ValueError("sizes must be positive numbers and responses finite")
    if a.min() == a.max():
        raise ValueError(f"a curve needs different sizes, all are {a[0]:g}")
    return a, response
