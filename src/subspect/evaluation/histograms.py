"""Pixel scores counted image by image, in bins that all images share: what remains when the maps are gone.

From such counts curves can be drawn, and pixel metrics computed again for any weighting of the images, which
is what a bootstrap asks for a thousand times, in milliseconds instead of a sort of 10⁸ pixels.

The bins are chosen by the scores themselves: none holds more than about 1 / 256 of the defective pixels, of
the weight of all components, or of the normal pixels, whose highest scores are cut still finer. Within a bin
the order of the pixels is lost. AUROC and AUPRO, taken diagonally through each bin, are therefore off by at
most half the sum over bins of (share of the normal) x (share of the defective), below 0.002, and AUPRO, which
ends within a bin, by another half of a bin: below 0.004. Usually it is far less, since most of that sum is over
bins of which one share is tiny. AP takes its precision from the middle of each bin; the error is of second
order in the width of the bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subspect.evaluation.metrics import AUPRO_LIMIT, PixelScores

FloatArray = npt.NDArray[np.float64]

LEVELS = 256
_SAMPLED = 1_000_000
"""Normal pixels that the bins are chosen from; all are counted."""


@dataclass(frozen=True, slots=True)
class PixelHistograms:
    """Counts of pixel scores for M images and B bins, the lowest scores first.

    Attributes:
        rows: ``(M,)`` which row of the results each image is.
        edges: ``(B - 1,)`` where a new bin begins; a score that equals an edge lies above it.
        normal: ``(M, B)`` defect-free pixels.
        defective: ``(M, B)`` defective pixels.
        regions: ``(M, B)`` components, each spread over its pixels: sums to the number of components.
    """

    rows: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float32]
    normal: npt.NDArray[np.uint32]
    defective: npt.NDArray[np.uint32]
    regions: npt.NDArray[np.float32]


class PixelCurves(NamedTuple):
    """What each threshold detects, for R weightings of the images, from above all scores downwards.

    Attributes:
        false_rate: ``(R, B + 1)`` share of the normal pixels at or above the threshold.
        recall: ``(R, B + 1)`` share of the defective pixels.
        overlap: ``(R, B + 1)`` mean share of a component.
        precision: ``(R, B)`` in the middle of each bin.
    """

    false_rate: FloatArray
    recall: FloatArray
    overlap: FloatArray
    precision: FloatArray


def count_pixels(pixels: PixelScores, rows: Sequence[int]) -> PixelHistograms:
    """Counts the pixels of every image.

    Args:
        pixels: The images, in the order of ``rows``.
        rows: Which row of the results each image is.
    """
    edges = choose_edges(pixels)
    shape = (len(rows), len(edges) + 1)
    counted = PixelHistograms(
        np.asarray(rows, dtype=np.int64),
        edges,
        np.zeros(shape, np.uint32),
        np.zeros(shape, np.uint32),
        np.zeros(shape, np.float32),
    )
    bins = shape[1]
    for place, image in enumerate(pixels.images):
        counted.normal[place] = np.bincount(_bins(image.normal, edges), minlength=bins)
        inside = _bins(image.defective, edges)
        counted.defective[place] = np.bincount(inside, minlength=bins)
        counted.regions[place] = np.bincount(inside, image.weights, minlength=bins)
    return counted


def choose_edges(pixels: PixelScores) -> npt.NDArray[np.float32]:
    """Edges at quantiles of the defective pixels, of their weight, and of the normal pixels."""
    defective = np.concatenate([image.defective for image in pixels.images] or [np.empty(0, np.float32)])
    weights = np.concatenate([image.weights for image in pixels.images] or [np.empty(0)])
    total = sum(image.normal.size for image in pixels.images)
    every = max(1, total // _SAMPLED)
    normal = np.concatenate([image.normal[::every] for image in pixels.images] or [np.empty(0, np.float32)])
    even = np.arange(1, LEVELS) / LEVELS
    tail = 1 - np.geomspace(1 / max(normal.size, 2), 1 / LEVELS, LEVELS // 2)
    chosen = [
        _quantiles(defective, np.ones_like(weights), even),
        _quantiles(defective, weights, even),
        _quantiles(normal, np.ones(normal.size), np.concatenate([even, tail])),
    ]
    return np.unique(np.concatenate(chosen)).astype(np.float32)


def pixel_curves(histograms: PixelHistograms, weights: npt.ArrayLike | None = None) -> PixelCurves:
    """The curves of the images pooled, each counting ``weights`` ``(R, M)`` times; once if left out."""
    times = np.ones((1, len(histograms.rows))) if weights is None else np.asarray(weights, dtype=np.float64)
    normal, defective, regions = (
        (times @ counts.astype(np.float64))[:, ::-1]
        for counts in (histograms.normal, histograms.defective, histograms.regions)
    )
    false_after, hits_after = np.cumsum(normal, axis=1), np.cumsum(defective, axis=1)
    # In the middle of a bin of p defective pixels (p + 1) / 2 of them are found on average.
    hits = hits_after - defective + (defective + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return PixelCurves(
            _from_zero(false_after),
            _from_zero(hits_after),
            _from_zero(np.cumsum(regions, axis=1)),
            hits / (hits + false_after - normal / 2),
        )


def pixel_metrics_of(histograms: PixelHistograms, weights: npt.ArrayLike | None = None) -> FloatArray:
    """Pixel AUROC, AP and AUPRO ``(R, 3)``, each image counting ``weights`` ``(R, M)`` times.

    The module's docstring says how exact they are. Undefined ones, without any normal or any defective pixel,
    are nan.
    """
    curves = pixel_curves(histograms, weights)
    average_precision = np.sum(np.diff(curves.recall, axis=1) * curves.precision, axis=1)
    undefined = np.isnan(curves.false_rate[:, -1]) | np.isnan(curves.recall[:, -1])
    metrics = np.stack(
        [
            area(curves.false_rate, curves.recall),
            average_precision,
            area(curves.false_rate, curves.overlap, AUPRO_LIMIT),
        ],
        axis=1,
    )
    metrics[undefined] = np.nan
    return metrics


def area(rate: FloatArray, height: FloatArray, limit: float = 1.0) -> FloatArray:
    """Area under R curves ``(R, T)`` from 0 to ``limit``, divided by ``limit``; linear between their points."""
    left, right = rate[:, :-1], np.minimum(rate[:, 1:], limit)
    width, full = np.maximum(right - left, 0), np.diff(rate, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(full > 0, width / full, 0)
    low = height[:, :-1]
    return np.sum(width * (low + share * (height[:, 1:] - low) / 2), axis=1) / limit


def _bins(scores: npt.NDArray[np.float32], edges: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.searchsorted(edges, scores, side="right").astype(np.int64)


def _quantiles(scores: npt.NDArray[np.float32], weights: FloatArray, shares: FloatArray) -> FloatArray:
    """The scores below which lie the given shares of the weight."""
    if not scores.size:
        return np.empty(0)
    order = np.argsort(scores)
    passed = np.cumsum(weights[order])
    places = np.searchsorted(passed, shares * passed[-1])
    return scores[order][np.minimum(places, scores.size - 1)].astype(np.float64)


def _from_zero(sums: FloatArray) -> FloatArray:
    """Running sums as shares of their last, a zero before them."""
    return np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))
