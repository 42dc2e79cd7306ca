"""How long the bootstrap takes, and how exact metrics from counts are: python benchmarks/bootstrap.py.

589 maps of 160x160, the size of the magnetic-tile test set; two thirds have a defect of 30 to 3,000 pixels.
"""

import time

import numpy as np

from subspect.evaluation.histograms import count_pixels, pixel_metrics_of
from subspect.evaluation.metrics import PixelScores, image_metrics
from subspect.evaluation.results import ImageRow, Metrics, Results
from subspect.evaluation.statistics import bootstrap, resample

IMAGES, SIDE, CHECKED = 589, 160, 5


def make_maps(rng: np.random.Generator) -> PixelScores:
    """Skewed noise, and defects that stand out by different amounts."""
    pixels = PixelScores()
    for index in range(IMAGES):
        anomaly_map = rng.gamma(0.5, 0.1, (SIDE, SIDE)).astype(np.float32)
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        if index % 3:
            height, width = rng.integers(5, 55, 2)
            top, left = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
            mask[top : top + height, left : left + width] = True
            anomaly_map += mask * rng.gamma(1.0, 0.1) * rng.random((SIDE, SIDE)).astype(np.float32)
        pixels.add(anomaly_map, mask)
    return pixels


def main() -> None:
    """Prints seconds and the largest deviations of a few resamples."""
    rng = np.random.default_rng(0)
    pixels = make_maps(rng)
    started = time.perf_counter()
    counted = count_pixels(pixels, range(IMAGES))
    print(f"counting {IMAGES} maps into {len(counted.edges) + 1} bins: {time.perf_counter() - started:.2f} s")
    anomalous = np.arange(IMAGES) % 3 > 0
    scores = [float(np.r_[one.normal, one.defective].max()) for one in pixels.images]
    rows = [ImageRow(str(i), "hole" if bad else "good", scores[i], "") for i, bad in enumerate(anomalous)]
    overall = Metrics(*image_metrics(scores, anomalous), *pixels.compute())
    results = Results("tile", "whole", overall, {}, {}, 0, None, tuple(rows), counted)
    started = time.perf_counter()
    bootstrap(results)
    print(f"2,000 resamples, all metrics: {time.perf_counter() - started:.2f} s")
    deviations = []
    for times in resample(anomalous, CHECKED, seed=1):
        exact = PixelScores([pixels.images[i] for i in np.repeat(np.arange(IMAGES), times)]).compute()
        deviations.append(np.abs(pixel_metrics_of(counted, times[None])[0] - exact))
    worst = ", ".join(f"{deviation:.1e}" for deviation in np.max(deviations, axis=0))
    print(f"largest deviation of {CHECKED} resamples (pixel AUROC, AP, AUPRO): {worst}")


if __name__ == "__main__":
    main()
