"""Results made of given scores and maps."""

import math

from subspect.evaluation.histograms import count_pixels
from subspect.evaluation.metrics import PixelScores, image_metrics, pixel_metrics
from subspect.evaluation.results import ImageRow, Metrics, Results


def results_of(scores, anomalous, maps=None, masks=None, names=None) -> Results:
    """Results of given image scores, and of maps if there are any."""
    pixels = PixelScores()
    for anomaly_map, mask in zip(maps or [], masks or [], strict=True):
        pixels.add(anomaly_map, mask)
    pooled = pixel_metrics(maps, masks) if maps else (math.nan,) * 3
    names = names or [f"{index}.png" for index in range(len(scores))]
    rows = [
        ImageRow(name, "hole" if truth else "good", float(score), "")
        for name, score, truth in zip(names, scores, anomalous, strict=True)
    ]
    overall = Metrics(*image_metrics(scores, anomalous), *pooled)
    counted = count_pixels(pixels, range(len(pixels.images)))
    return Results("bolt", "whole", overall, {}, {}, 0, None, tuple(rows), counted)
