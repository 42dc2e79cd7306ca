"""Anomaly maps for timing metrics, the same for both."""

import numpy as np
from numpy.typing import NDArray

_DEFECT = 36


def make_maps(count: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps of noise and masks, each ``(count, size, size)``: in every second a square of higher scores."""
    rng = np.random.default_rng(0)
    maps = rng.random((count, size, size), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for index in range(1, count, 2):
        top, left = rng.integers(0, size - _DEFECT, size=2)
        masks[index, top : top + _DEFECT, left : left + _DEFECT] = True
    return (maps + 0.5 * masks).astype(np.float32), masks
