"""Metrics of anomaly detection, as pure functions of numpy arrays; exact, without binning.

Everything rests on one ordering: a threshold ``t`` calls a score anomalous when it is at least ``t``. Ties
are treated as scikit-learn treats them: the curve of two classes that share a score is cut diagonally
(AUROC, AUPRO), and a threshold takes all its ties at once (AP, F1).

Every metric is ``nan`` when one of the two classes is absent (no anomalous or no normal image; for pixel
metrics no defective or no defect-free pixel): it is then undefined, not zero.

Scores are compared in single precision, which is what detectors put out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

AUPRO_LIMIT = 0.3
"""False positive rate to which the per-region-overlap curve is integrated (MVTec AD's convention)."""

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner belong to one defect."""


class ImageMetrics(NamedTuple):
    """Image-level metrics, each in [0, 1] or nan.

    Attributes:
        image_auroc: Area under the receiver operating characteristic: P(anomalous outscores normal), ties
            counted half.
        image_ap: Average precision: the sum over thresholds of (recall gained) x precision, not interpolated.
        image_f1_max: The highest F1 of any threshold; it uses the test labels, so it is an upper bound, not a
            promise.
    """

    image_auroc: float
    image_ap: float
    image_f1_max: float


class ImageCurves(NamedTuple):
    """Points of the curves over image scores, from above all scores downwards, each ``(T,)`` in [0, 1]."""

    false_rate: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]


class PixelMetrics(NamedTuple):
    """Pixel-level metrics, the pixels of all images pooled, each in [0, 1] or nan.

    Attributes:
        pixel_auroc: Area under the receiver operating characteristic.
        pixel_ap: Average precision.
        pixel_aupro: Normalised area under the per-region-overlap curve to 30 % false positives; never above 1.
            The overlap at a threshold is the mean, over the 8-connected components of all masks, of the share
            of a component that is detected, so small defects count as much as large ones (Bergmann et al.,
            "The MVTec anomaly detection dataset", IJCV 2021). Between thresholds the curve is linear, also
            where it is cut off at the limit.
    """

    pixel_auroc: float
    pixel_ap: float
    pixel_aupro: float


class _Steps(NamedTuple):
    """What each distinct anomalous score, taken as threshold, detects; from the highest score down.

    Only these thresholds matter: between two of them nothing but false positives is added.

    Attributes:
        false_above: ``(T,)`` normal scores strictly above the threshold.
        false_from: ``(T,)`` normal scores at or above it.
        detected: ``(T, K)`` weight of the anomalous scores at or above it, for K weightings.
        normals: How many normal scores there are.
    """

    false_above: npt.NDArray[np.int64]
    false_from: npt.NDArray[np.int64]
    detected: npt.NDArray[np.float64]
    normals: int


def image_metrics(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> ImageMetrics:
    """All image-level metrics at once.

    Args:
        scores: ``(N,)`` anomaly scores, higher = more anomalous.
        anomalous: ``(N,)`` truth, True for images with a defect.

    Raises:
        ValueError: The lengths differ, or a score is not a number.
    """
    steps = _image_steps(scores, anomalous)
    if steps is None:
        return ImageMetrics(np.nan, np.nan, np.nan)
    hits = steps.detected[:, 0]
    f1 = 2 * hits / (hits + steps.false_from + hits[-1])
    return ImageMetrics(_area(steps, 0), _average_precision(steps), float(f1.max()))


def image_curves(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> ImageCurves:
    """What each threshold detects, for drawing; empty where a class is absent.

    Arguments and errors as for `image_metrics`.
    """
    steps = _image_steps(scores, anomalous)
    if steps is None:
        return ImageCurves(np.empty(0), np.empty(0), np.empty(0))
    hits = steps.detected[:, 0]
    # Before and after each threshold's ties; the last point takes everything.
    false = np.stack([steps.false_above, steps.false_from], axis=1).ravel()
    found = np.stack([np.append(0.0, hits[:-1]), hits], axis=1).ravel()
    false, found = np.r_[0, false, steps.normals], np.r_[0.0, found, hits[-1]]
    precision = np.divide(found, found + false, out=np.ones_like(found), where=found + false > 0)
    return ImageCurves(false / steps.normals, found / hits[-1], precision)


def pixel_metrics(anomaly_maps: Iterable[npt.ArrayLike], masks: Iterable[npt.ArrayLike]) -> PixelMetrics:
    """All pixel-level metrics at once, the pixels of all images pooled.

    Args:
        anomaly_maps: Maps ``(H, W)``, higher = more anomalous; sizes may differ from image to image.
        masks: For each map its truth ``(H, W)``, True where defective.

    Raises:
        ValueError: A map and its mask differ in size, their numbers differ, or a value is not a number.
    """
    pixels = PixelScores()
    for anomaly_map, mask in zip(anomaly_maps, masks, strict=True):
        pixels.add(anomaly_map, mask)
    return pixels.compute()


class ImagePixels(NamedTuple):
    """The pixel scores of one image.

    Attributes:
        normal: Those of the defect-free pixels.
        defective: Those of the defective pixels.
        weights: For each defective pixel 1 / (area of its component).
    """

    normal: FloatArray
    defective: FloatArray
    weights: npt.NDArray[np.float64]


class PixelScores:
    """Gathers pixel scores one image at a time, keeping four bytes a normal pixel and no maps.

    The normal scores are sorted when metrics are first computed and kept so: the normal images of a test set
    serve every kind of defect.

    Attributes:
        images: What was added, in order.
    """

    def __init__(self, images: Sequence[ImagePixels] = ()) -> None:
        self.images = list(images)
        self._sorted: FloatArray | None = None

    def add(self, anomaly_map: npt.ArrayLike, mask: npt.ArrayLike) -> None:
        """Adds one image.

        Args:
            anomaly_map: ``(H, W)``, higher = more anomalous.
            mask: ``(H, W)``, True where defective; all False for a normal image.

        Raises:
            ValueError: The sizes differ, or the map holds a value that is not a number.
        """
        scores = np.asarray(anomaly_map, dtype=np.float32)
        defective = np.asarray(mask, dtype=bool)
        if scores.ndim != 2 or scores.shape != defective.shape:
            raise ValueError(f"anomaly map {scores.shape} and mask {defective.shape} must be (H, W) and equal")
        _refuse_nan(scores)
        weights = _component_weights(defective) if defective.any() else np.empty(0)
        self.images.append(ImagePixels(scores[~defective], scores[defective], weights))
        self._sorted = None

    def compute(self, *others: PixelScores) -> PixelMetrics:
        """The metrics of all pixels added so far, pooled with those of others."""
        collections = (self, *others)
        images = [image for one in collections for image in one.images]
        if not all(any(image[kind].size for image in images) for kind in (0, 1)):
            return PixelMetrics(np.nan, np.nan, np.nan)
        weights = np.concatenate([image.weights for image in images])
        steps = _steps(
            [one._sorted_normals() for one in collections],
            np.concatenate([image.defective for image in images]),
            np.stack([np.ones_like(weights), weights], axis=1),
        )
        return PixelMetrics(_area(steps, 0), _average_precision(steps), _area(steps, 1, limit=AUPRO_LIMIT))

    def _sorted_normals(self) -> FloatArray:
        if self._sorted is None:
            none = np.empty(0, dtype=np.float32)
            self._sorted = np.concatenate([none, *(image.normal for image in self.images)])
            self._sorted.sort()
        return self._sorted


def _component_weights(defective: BoolArray) -> npt.NDArray[np.float64]:
    """For each defective pixel 1 / (area of its component), in the order of ``array[defective]``."""
    labels, _ = ndimage.label(defective, structure=EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel())
    return np.asarray(1.0 / areas[labels[defective]])


def _image_steps(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> _Steps | None:
    """The steps of image scores; None when a class is absent."""
    values = np.asarray(scores, dtype=np.float32)
    truth = np.asarray(anomalous, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"scores {values.shape} and labels {truth.shape} must be (N,) and equally long")
    _refuse_nan(values)
    if truth.all() or not truth.any():
        return None
    positives = values[truth]
    return _steps([np.sort(values[~truth])], positives, np.ones((positives.size, 1)))


def _refuse_nan(scores: FloatArray) -> None:
    if np.isnan(scores).any():
        raise ValueError("an anomaly score is not a number (nan); scores without an order have no metrics")


def _steps(normals: Sequence[FloatArray], anomalous: FloatArray, weights: npt.NDArray[np.float64]) -> _Steps:
    """Counts what each threshold detects; ``normals`` are arrays each sorted in itself."""
    total = sum(one.size for one in normals)
    order = np.argsort(anomalous)[::-1]
    descending = anomalous[order]
    last_of_ties = np.append(descending[1:] != descending[:-1], True)
    thresholds = descending[last_of_ties]
    return _Steps(
        false_above=total - sum(np.searchsorted(one, thresholds, side="right") for one in normals),
        false_from=total - sum(np.searchsorted(one, thresholds, side="left") for one in normals),
        detected=np.cumsum(weights[order], axis=0)[last_of_ties],
        normals=total,
    )


def _area(steps: _Steps, weighting: int, limit: float = 1.0) -> float:
    """Area under detected share against false positive rate, from 0 to ``limit``, divided by ``limit``."""
    share = steps.detected[:, weighting] / steps.detected[-1, weighting]
    # Each threshold gives two points: before and after its ties are taken.
    rate = np.stack([steps.false_above, steps.false_from], axis=1).ravel() / steps.normals
    height = np.stack([np.append(0.0, share[:-1]), share], axis=1).ravel()
    rate, height = np.r_[0.0, rate, 1.0], np.r_[0.0, height, 1.0]
    inside = int(np.searchsorted(rate, limit, side="right"))
    if inside < rate.size:
        at_limit = np.interp(limit, rate[inside - 1 : inside + 1], height[inside - 1 : inside + 1])
        rate, height = np.append(rate[:inside], limit), np.append(height[:inside], at_limit)
    return min(float(np.trapezoid(height, rate)) / limit, 1.0)


def _average_precision(steps: _Steps) -> float:
    """Sum over thresholds of recall gained times precision."""
    hits = steps.detected[:, 0]
    precision = hits / (hits + steps.false_from)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])
