"""Regions: the connected parts of an anomaly map that reach a level, as boxes, areas and peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from subspect.metrics import EIGHT_CONNECTED


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


def find_regions(anomaly_map: npt.NDArray[np.float32], level: float) -> tuple[Region, ...]:
    """The 8-connected regions of a map ``(H, W)`` at or above a level, the highest peak first."""
    labels, count = ndimage.label(anomaly_map >= level, structure=EIGHT_CONNECTED)
    boxes = ndimage.find_objects(labels)
    regions = [
        _describe(anomaly_map[box], labels[box] == label, box)
        for label, box in zip(range(1, count + 1), boxes, strict=True)
    ]
    return tuple(sorted(regions, key=lambda region: (-region.peak, region.box)))


def outline_level(anomaly_map: npt.NDArray[np.float32], map_threshold: float) -> float:
    """The level at which an anomalous image is outlined.

    It is the map threshold, lowered to the map's peak where that is smaller: the image score may find an
    image anomalous whose map never reaches the threshold, and such an image must have an outline too.
    """
    return min(map_threshold, float(anomaly_map.max()))


def _describe(
    values: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_], box: tuple[slice, slice]
) -> Region:
    """The region whose pixels are ``inside`` the part of the map cut out by ``box``."""
    rows, columns = box
    peak_row, peak_column = np.unravel_index(np.argmax(np.where(inside, values, -np.inf)), values.shape)
    return Region(
        box=(columns.start, rows.start, columns.stop, rows.stop),
        area=int(inside.sum()),
        peak=float(values[peak_row, peak_column]),
        peak_position=(int(columns.start + peak_column), int(rows.start + peak_row)),
    )
