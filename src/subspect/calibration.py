"""Thresholds from normal images: the score that calls an image anomalous, the map level that is outlined.

The image threshold is a split-conformal quantile (Vovk et al., "Algorithmic learning in a random world",
2005): of n scores of held-out normal images the ``ceil((n + 1)(1 - rate))``-th smallest. A new normal image
that is exchangeable with them (made the same way, not used in training) scores above it with a probability of
at most ``rate``. The probability is over the drawing of the calibration images as well: one particular
calibration may lie somewhat above or below, the less so the more images it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from subspect.tiling import Tiling

DEFAULT_RATE = 0.01
"""False-alarm rate aimed at unless asked otherwise; raised to the smallest rate the images support."""

OUTLINE_SHARE = 0.001
"""Share of the pixels of normal images that lie above the outline level."""

PIXELS_PER_IMAGE = 16_384
"""Map values kept of each calibration image to find the levels: 64 kB an image."""

LEVEL_SHARES = (0.5, 0.1, 0.01, OUTLINE_SHARE, 0.0001)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out normal images say about where normal ends.

    Attributes:
        scores: Their image scores, sorted, so that another rate can be chosen later.
        map_levels: Pairs (share, level): that share of the pixels of normal images exceeds the level.
        false_alarm_rate: Bound on the probability that a normal image is called anomalous.
        threshold: An image is anomalous when its score is strictly greater.
        map_threshold: Level of the anomaly map at which defects are outlined.
    """

    scores: tuple[float, ...]
    map_levels: tuple[tuple[float, float], ...]
    false_alarm_rate: float
    threshold: float
    map_threshold: float

    def with_rate(self, false_alarm_rate: float) -> Calibration:
        """The same calibration with the threshold for another rate.

        Raises:
            ValueError: The rate is smaller than the number of images supports, or not below 1.
        """
        threshold = conformal_threshold(self.scores, false_alarm_rate)
        return replace(self, false_alarm_rate=false_alarm_rate, threshold=threshold)

    def to_dict(self) -> dict[str, Any]:
        """The calibration as values JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_dict` wrote, also after a round trip through JSON."""
        return cls(
            scores=tuple(float(score) for score in values["scores"]),
            map_levels=tuple((float(share), float(level)) for share, level in values["map_levels"]),
            false_alarm_rate=float(values["false_alarm_rate"]),
            threshold=float(values["threshold"]),
            map_threshold=float(values["map_threshold"]),
        )


def calibrate(
    scores: Iterable[float],
    map_samples: Sequence[npt.NDArray[np.float32]],
    false_alarm_rate: float | None = None,
) -> Calibration:
    """Calibrates a detector from normal images that it was not trained on.

    Args:
        scores: Their image scores.
        map_samples: For each of them some values of its anomaly map, see `sample_map`.
        false_alarm_rate: In (0, 1); None takes 0.01, or the smallest rate that the images support.

    Raises:
        ValueError: There are no images, a value is not finite, or the rate cannot be supported.
    """
    ordered = tuple(sorted(float(score) for score in scores))
    pixels = np.concatenate([np.ravel(sample) for sample in map_samples] or [np.empty(0, np.float32)])
    if not ordered or not pixels.size:
        raise ValueError("no normal images to calibrate from; hold some of the training images out")
    if not (np.isfinite(ordered).all() and np.isfinite(pixels).all()):
        raise ValueError("the detector gave scores that are not finite numbers; it cannot be calibrated")
    rate = max(DEFAULT_RATE, smallest_rate(len(ordered))) if false_alarm_rate is None else false_alarm_rate
    levels = np.quantile(pixels, [1 - share for share in LEVEL_SHARES], method="higher")
    return Calibration(
        scores=ordered,
        map_levels=tuple(zip(LEVEL_SHARES, levels.tolist(), strict=True)),
        false_alarm_rate=rate,
        threshold=conformal_threshold(ordered, rate),
        map_threshold=float(levels[LEVEL_SHARES.index(OUTLINE_SHARE)]),
    )


def far_above(scores: Sequence[float]) -> list[int]:
    """Which of normal images' scores lie so far above the others that a defect may have been overlooked.

    In units of the way from the median to the upper decile: more than one above the next lower score and one
    and a half above the decile, and whatever lies above such a score. A tail that thins out is none of that.
    """
    if not scores:
        return []
    ordered = np.sort(scores)
    median, decile = np.quantile(ordered, [0.5, 0.9])
    way = decile - median
    apart = (np.diff(ordered) > way) & (ordered[1:] > decile + 1.5 * way)
    if way == 0 or not apart.any():
        return []
    lowest = ordered[1:][apart][0]
    return [place for place, score in enumerate(scores) if score >= lowest]


def check_rate(rate: float | None, count: int) -> None:
    """Finds a false-alarm rate that cannot be had before any work is done, not after.

    Args:
        rate: What is asked for; None for whatever can be had.
        count: Images to calibrate with.

    Raises:
        ValueError: The images do not support it.
    """
    if rate is None:
        return
    if not 0 < rate < 1:
        raise ValueError(f"a false alarm rate lies between 0 and 1, got {rate:g}")
    if rate * (count + 1) < 1 - 1e-9:
        needed = math.ceil(1 / rate - 1e-9) - 1
        raise ValueError(
            f"a false alarm rate of {rate:g} needs {needed} normal images for calibration, but {count} are held"
            f" out; ask for at least {smallest_rate(count):.4g}, add images, or hold out a larger share"
        )


def check_retiling(
    calibration: Calibration | None, calibrated: Tiling | None, asked: Tiling, threshold: float | None
) -> None:
    """Makes sure that a calibration is not taken for pictures that are looked at in another way.

    Args:
        calibration: The detector's; None if it was never calibrated.
        calibrated: How the calibration images were cut up; None if they were looked at whole.
        asked: How pictures are to be cut up, otherwise than these.
        threshold: The user's own, which needs no calibration.

    Raises:
        ValueError: There is none.
    """
    if threshold is not None:
        return
    if calibration is None:
        raise ValueError(
            f"the detector has no calibration to take a threshold for {asked} from: calibrate it for them"
            " (subspect calibrate), or give a threshold"
        )
    raise ValueError(
        f"the threshold was calibrated on {calibrated or 'whole pictures'} and says nothing of {asked},"
        " which show the surface at another scale, and of which each may exceed it: calibrate the detector"
        " for them (subspect calibrate), or give a threshold"
    )


def smallest_rate(count: int) -> float:
    """The smallest false-alarm rate that ``count`` calibration images support: 1 / (count + 1)."""
    return 1 / (count + 1)


def conformal_threshold(scores: Sequence[float], false_alarm_rate: float) -> float:
    """The ``ceil((n + 1)(1 - rate))``-th smallest of n scores of normal images.

    Raises:
        ValueError: The rate is not below 1, or smaller than 1 / (n + 1): no score is high enough for it.
    """
    count = len(scores)
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false alarm rate {false_alarm_rate} must lie between 0 and 1")
    # The slack keeps rates like 1 / (n + 1) or 0.05 from failing by a rounding error of one bit.
    rank = math.ceil((count + 1) * (1 - false_alarm_rate) - 1e-9)
    if rank > count:
        needed = math.ceil(1 / false_alarm_rate - 1e-9) - 1
        raise ValueError(
            f"a false alarm rate of {false_alarm_rate:g} cannot be had from {count} calibration images: the"
            f" smallest rate they support is {smallest_rate(count):.4g}; {false_alarm_rate:g} needs {needed}"
        )
    return float(np.sort(np.asarray(scores, dtype=np.float64))[max(rank, 1) - 1])


def sample_map(anomaly_map: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Up to 16,384 values of a map, drawn at the same seeded places for every map of that size.

    Random places rather than a grid, since a grid can fall in step with a regular texture.
    """
    values = np.ravel(anomaly_map)
    if values.size <= PIXELS_PER_IMAGE:
        return values.astype(np.float32)
    places = np.random.default_rng(0).choice(values.size, PIXELS_PER_IMAGE, replace=False)
    return values[places].astype(np.float32)
