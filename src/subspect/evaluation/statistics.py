"""Statistics: confidence intervals of every metric, and the comparison of two detectors on the same images.

Both rest on the bootstrap over images: test images are drawn again with replacement, normal and anomalous ones
apart, so that every resample has as many of each as the test set; all pixels of an image come and go together.
Images of one part, such as the shots of a tile, fail and succeed together, so whole parts are drawn where the
results tell them (``ImageRow.part``): single images would make the intervals far too narrow. An interval says
how far the metric would move with another test set of that size from the same source. It says nothing of
another training: for that, look at the spread over seeds.

Image metrics of a resample are exact. Pixel metrics are computed from counts in bins, see
`subspect.evaluation.histograms`, which says how exact that is; their interval is moved by the difference
between the exact metric and the one from counts, so that it lies around the metric that is reported.

Intervals are percentile intervals: they keep within [0, 1], and where every resample gives the same value, as
with two classes that a detector separates perfectly, they have no width, which understates what is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subspect.datasets.table import NORMAL
from subspect.evaluation.histograms import pixel_metrics_of
from subspect.evaluation.results import HEADINGS, Metrics, Results

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_ONCE = 250
"""Resamples computed together."""


class Interval(NamedTuple):
    """A confidence interval; nan where the metric is undefined."""

    low: float
    high: float


class Difference(NamedTuple):
    """How much better one detector is than another by one metric, on the same images.

    Attributes:
        value: The difference of the metrics, first minus second.
        interval: Its confidence interval.
        p_value: Two-sided: how often a resample is on the other side of zero, or on it, doubled.
    """

    value: float
    interval: Interval
    p_value: float


def drawn_together(anomalous: npt.ArrayLike, parts: Sequence[str] | None = None) -> tuple[IntArray, IntArray]:
    """What is drawn as one, normal and anomalous images apart: the images of a part, or single ones.

    Args:
        anomalous: ``(N,)``, True for images with a defect.
        parts: The part of each image, empty for one on its own; None if all are.

    Returns:
        For normal and anomalous images ``(N_kind,)``: the number of the part of each, from 0 in order of
        appearance.
    """
    truth = np.asarray(anomalous, dtype=bool)
    keys: Sequence[object] = [
        part or place for place, part in enumerate(parts if parts is not None else [""] * truth.size)
    ]
    return _numbered(keys, np.flatnonzero(~truth)), _numbered(keys, np.flatnonzero(truth))


def resample(anomalous: npt.ArrayLike, count: int, seed: int, parts: Sequence[str] | None = None) -> IntArray:
    """Draws images, or whole parts, with replacement, normal and anomalous ones apart.

    Args:
        anomalous: ``(N,)``, True for images with a defect.
        count: How many resamples.
        seed: Decides them.
        parts: The part of each image, empty for one on its own; None if all are.

    Returns:
        ``(count, N)``: how often each image is drawn.
    """
    truth = np.asarray(anomalous, dtype=bool)
    rng = np.random.default_rng(seed)
    times = np.zeros((count, truth.size), dtype=np.int64)
    for kind, numbers in zip((False, True), drawn_together(truth, parts), strict=True):
        if numbers.size:
            total = int(numbers.max()) + 1
            drawn = rng.multinomial(total, np.full(total, 1 / total), size=count)
            times[:, truth == kind] = drawn[:, numbers]
    return times


def _numbered(keys: Sequence[object], places: IntArray) -> IntArray:
    """The keys at these places as numbers, in order of appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(keys[place], len(numbers)) for place in places], dtype=np.int64)


def image_metrics_of(scores: npt.ArrayLike, anomalous: npt.ArrayLike, times: npt.ArrayLike) -> FloatArray:
    """Image AUROC, AP and F1-max ``(R, 3)`` where each image counts ``times`` ``(R, N)``; nan if undefined.

    Defined as in `subspect.evaluation.metrics`.
    """
    values = np.asarray(scores, dtype=np.float32)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.diff(values[order]) != 0, True)  # the last of each group of equal scores
    counts = np.asarray(times, dtype=np.float64)[:, order]
    truth = np.asarray(anomalous, dtype=bool)[order]
    hits = np.cumsum(counts * truth, axis=1)[:, ends]
    false = np.cumsum(counts * ~truth, axis=1)[:, ends]
    gained, lost = np.diff(hits, axis=1, prepend=0), np.diff(false, axis=1, prepend=0)
    positives, negatives = hits[:, -1:], false[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = np.sum(lost * (hits - gained / 2), axis=1) / (positives * negatives)[:, 0]
        precision = np.where(hits + false > 0, hits / (hits + false), 0)
        average_precision = np.sum(gained * precision, axis=1) / positives[:, 0]
        f1 = np.max(2 * hits / (hits + false + positives), axis=1)
    metrics = np.stack([auroc, average_precision, f1], axis=1)
    metrics[((positives == 0) | (negatives == 0))[:, 0]] = np.nan
    return metrics


def metrics_of_kinds(results: Results, kinds: Sequence[str]) -> Metrics:
    """The metrics of some kinds of defects together, against the normal images; pixel metrics from counts."""
    counted = np.array([[row.defect in (NORMAL, *kinds) for row in results.rows]], dtype=np.float64)
    anomalous = np.array([row.defect != NORMAL for row in results.rows])
    of_images = image_metrics_of(np.array([row.score for row in results.rows]), anomalous, counted)
    of_pixels = pixel_metrics_of(results.pixels, counted[:, results.pixels.rows])
    return Metrics(*of_images[0].tolist(), *of_pixels[0].tolist())


def bootstrap(results: Results, count: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """All metrics ``(count, 6)`` of resampled test images or parts, in the order of ``HEADINGS``.

    Results on the same images in the same order get the same resamples from the same seed.
    """
    anomalous = np.array([row.defect != NORMAL for row in results.rows])
    scores = np.array([row.score for row in results.rows])
    pixels = results.pixels
    replicates = []
    for times in _few_at_once(resample(anomalous, count, seed, [row.part for row in results.rows])):
        of_images = image_metrics_of(scores, anomalous, times)
        of_pixels = pixel_metrics_of(pixels, times[:, pixels.rows])
        replicates.append(np.concatenate([of_images, of_pixels], axis=1))
    shift = np.zeros(len(HEADINGS))
    exact = np.array([results.overall.pixel_auroc, results.overall.pixel_ap, results.overall.pixel_aupro])
    shift[3:] = exact - pixel_metrics_of(pixels)[0]
    return np.clip(np.concatenate(replicates) + shift, 0, 1)


def intervals(replicates: FloatArray, confidence: float = CONFIDENCE) -> tuple[Interval, ...]:
    """The percentile interval of each column of ``replicates`` ``(R, K)``, undefined values left out."""
    edges = [(1 - confidence) / 2, (1 + confidence) / 2]
    return tuple(
        Interval(*np.quantile(defined, edges).tolist()) if defined.size else Interval(np.nan, np.nan)
        for defined in (column[~np.isnan(column)] for column in replicates.T)
    )


def compare(first: Results, second: Results, count: int = RESAMPLES, seed: int = 0) -> dict[str, Difference]:
    """Compares two detectors on the same images, image by image, by every metric that is defined for both.

    Args:
        first: Results of one.
        second: Results of the other.
        count: How many resamples, the same ones for both.
        seed: Decides them.

    Raises:
        ValueError: They were not judged on the same images and parts, or not by the same protocol.
    """
    second = paired(first, second)
    return differences(first, second, bootstrap(first, count, seed), bootstrap(second, count, seed))


def differences(
    first: Results, second: Results, of_first: FloatArray, of_second: FloatArray
) -> dict[str, Difference]:
    """As `compare`, from replicates that are there already.

    Args:
        first: Results of one.
        second: Results of the other, see `paired`.
        of_first: Its replicates ``(R, 6)``, see `bootstrap`.
        of_second: Those of the other, from the same seed.
    """
    replicates = of_first - of_second
    bounds = intervals(replicates)
    compared = {}
    for place, name in enumerate(HEADINGS):
        value = getattr(first.overall, name) - getattr(second.overall, name)
        if not np.isnan(value):
            compared[name] = Difference(value, bounds[place], _p_value(replicates[:, place]))
    return compared


def paired(first: Results, second: Results) -> Results:
    """The second's results with the images in the first's order.

    Raises:
        ValueError: They were not judged on the same images and parts, or not by the same protocol.
    """
    if first.protocol != second.protocol:
        raise ValueError(f"compared by one protocol only, got {first.protocol} and {second.protocol}")
    second = in_order_of(second, names_of(first))
    if [row.part for row in first.rows] != [row.part for row in second.rows]:
        raise ValueError("two detectors are compared on the same parts; one was judged before these were told")
    return second


def names_of(results: Results) -> list[str]:
    """The images' paths within the folder that holds them all, the same for a copy of it elsewhere."""
    paths = [PurePath(row.path) for row in results.rows]
    folder = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths]


def in_order_of(results: Results, names: Sequence[str]) -> Results:
    """The same results with their images in another order.

    Args:
        results: To be put in order.
        names: Of their images, as `names_of` gives them.

    Raises:
        ValueError: The images are others; the message says how many.
    """
    places = {name: place for place, name in enumerate(names)}
    own = names_of(results)
    odd = set(own) ^ places.keys()
    if odd:
        raise ValueError(
            f"two detectors are compared on the same images, but {len(odd)} are of one only, e.g. {min(odd)}"
        )
    moved = np.array([places[name] for name in own], dtype=np.int64)
    rows = tuple(results.rows[place] for place in np.argsort(moved))
    return replace(results, rows=rows, pixels=replace(results.pixels, rows=moved[results.pixels.rows]))


def _few_at_once(times: IntArray) -> Iterator[IntArray]:
    """Resamples a few at a time, which bounds the memory."""
    return (times[start : start + _AT_ONCE] for start in range(0, len(times), _AT_ONCE))


def _p_value(differences: FloatArray) -> float:
    """Both tails; never zero, since that many resamples cannot tell."""
    defined = differences[~np.isnan(differences)]
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (defined.size + 1))
