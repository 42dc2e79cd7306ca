"""Time and memory of the pixel metrics on as many maps as a large test set has.

The budget for 1,700 maps of 256x256 (1.1e8 pixels) is 2 minutes and 6 GB.
Run ``python benchmarks/metrics.py``.
"""

from __future__ import annotations

import resource
import time

import numpy as np

from subspect.evaluation.metrics import PixelScores

IMAGES, SIZE = 1700, 256


def main() -> None:
    """Scores noise with a square defect (1 % of all pixels) in half of the images."""
    rng = np.random.default_rng(0)
    pixels = PixelScores()
    adding = 0.0
    for index in range(IMAGES):
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        if index % 2:
            top, left = rng.integers(0, SIZE - 36, size=2)
            mask[top : top + 36, left : left + 36] = True
        anomaly_map = rng.random((SIZE, SIZE), dtype=np.float32) + 0.5 * mask
        start = time.perf_counter()
        pixels.add(anomaly_map, mask)
        adding += time.perf_counter() - start
    start = time.perf_counter()
    metrics = pixels.compute()
    computing = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{IMAGES} maps of {SIZE}x{SIZE}: gathered in {adding:.1f} s, computed in {computing:.1f} s,")
    print(f"peak memory {peak:.1f} GB; {metrics}")


if __name__ == "__main__":
    main()
