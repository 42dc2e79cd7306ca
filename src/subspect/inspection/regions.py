"""Regions: the connected parts of an anomaly map that reach a level, as boxes, areas and peaks.

With NumPy alone, because inspecting with an exported detector should take no more: the runs of pixels in each
row, joined where those of neighbouring rows touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Region:
    """One connected part of an anomaly map.

    Attributes:
        box: ``(left, top, right, bottom)`` in pixels; right and bottom lie just outside.
        area: Pixels in the region.
        peak: The highest value of the map in it.
        peak_position: ``(x, y)`` of the peak, in pixels.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    peak_position: tuple[int, int]


class _Runs(NamedTuple):
    """Horizontal runs of pixels, row by row: row, first column, column just behind the last; each ``(n,)``."""

    rows: Indices
    starts: Indices
    ends: Indices


def find_regions(anomaly_map: FloatArray, level: float) -> tuple[Region, ...]:
    """The 8-connected regions of a map ``(H, W)`` at or above a level, the highest peak first."""
    inside = anomaly_map >= level
    runs = _find_runs(inside)
    if not len(runs.rows):
        return ()
    lengths = runs.ends - runs.starts
    peaks = np.maximum.reduceat(anomaly_map[inside], np.cumsum(lengths) - lengths)
    roots = _connect(len(runs.rows), _touching(runs, inside.shape[1]))
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    regions = [_describe(anomaly_map, _Runs(*(part[group] for part in runs)), peaks[group]) for group in groups]
    return tuple(sorted(regions, key=lambda region: (-region.peak, region.box)))


def outline_level(anomaly_map: FloatArray, map_threshold: float) -> float:
    """The level at which an anomalous image is outlined.

    It is the map threshold, lowered to the map's peak where that is smaller: the image score may find an
    image anomalous whose map never reaches the threshold, and such an image must have an outline too.
    """
    return min(map_threshold, float(anomaly_map.max()))


def _find_runs(inside: npt.NDArray[np.bool_]) -> _Runs:
    edges = np.diff(np.pad(inside, ((0, 0), (1, 1))).view(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return _Runs(rows, starts, ends)


def _touching(runs: _Runs, width: int) -> tuple[Indices, Indices]:
    """Pairs of runs of neighbouring rows that touch, corners included."""
    stride = width + 2  # numbers the places of all rows in one ascending order
    above = (runs.rows - 1) * stride
    first = np.searchsorted(runs.rows * stride + runs.ends, above + runs.starts, "left")
    behind = np.searchsorted(runs.rows * stride + runs.starts, above + runs.ends, "right")
    counts = np.maximum(behind - first, 0)
    lower = np.repeat(np.arange(len(first)), counts)
    upper = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return lower, upper


def _connect(count: int, pairs: tuple[Indices, Indices]) -> Indices:
    """For each of ``count`` things the smallest that it is connected with by pairs, directly or not."""
    roots = np.arange(count)
    while True:
        one, other = roots[pairs[0]], roots[pairs[1]]
        if np.array_equal(one, other):
            return roots
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]


def _describe(anomaly_map: FloatArray, runs: _Runs, peaks: FloatArray) -> Region:
    """The region that consists of runs with the given peaks."""
    best = int(np.argmax(peaks))
    row, start, end = (int(part[best]) for part in runs)
    return Region(
        box=(int(runs.starts.min()), int(runs.rows[0]), int(runs.ends.max()), int(runs.rows[-1]) + 1),
        area=int((runs.ends - runs.starts).sum()),
        peak=float(peaks[best]),
        peak_position=(start + int(np.argmax(anomaly_map[row, start:end])), row),
    )
