"""Counts of pixel scores: metrics from them against the exact ones, and against repeated images."""

import numpy as np
import pytest

from subspect.evaluation.histograms import LEVELS, count_pixels, pixel_curves, pixel_metrics_of
from subspect.evaluation.metrics import PixelScores, pixel_metrics

IMAGES = 24


def images(quality: float, seed: int = 0):
    """Maps of noise with squares of several sizes, brighter by ``quality`` on average; every third normal."""
    rng = np.random.default_rng(seed)
    for index in range(IMAGES):
        anomaly_map, mask = rng.gamma(2.0, 1.0, (64, 48)).astype(np.float32), np.zeros((64, 48), bool)
        if index % 3:
            for _ in range(index % 4 + 1):
                side, top, left = rng.integers(1, 12), *rng.integers(0, 36, 2)
                mask[top : top + side, left : left + side] = True
            anomaly_map[mask] += rng.normal(quality, 1.0) * rng.random(mask.sum(), dtype=np.float32)
        yield anomaly_map, mask


def gathered(cases) -> PixelScores:
    pixels = PixelScores()
    for anomaly_map, mask in cases:
        pixels.add(anomaly_map, mask)
    return pixels


@pytest.mark.parametrize("quality", [0.5, 3.0, 12.0])
def test_metrics_of_counts_are_the_exact_ones_within_the_promised_error(quality):
    exact = pixel_metrics(*zip(*images(quality), strict=True))
    counted = pixel_metrics_of(count_pixels(gathered(images(quality)), range(IMAGES)))[0]
    np.testing.assert_allclose(counted, exact, atol=0.002)


def test_no_bin_holds_more_than_its_share():
    counted = count_pixels(gathered(images(2.0)), range(IMAGES))
    for counts in (counted.normal, counted.defective, counted.regions):
        # An edge is one of the scores, so a bin may hold a pixel more, which can be a whole component.
        assert counts.sum(0).max() <= counts.sum() / LEVELS + 1
    assert counted.normal.sum() + counted.defective.sum() == IMAGES * 64 * 48
    np.testing.assert_allclose(counted.regions.sum(), round(float(counted.regions.sum())), rtol=1e-5)


def test_a_weighted_image_counts_as_often_as_if_it_were_there_so_often():
    cases = list(images(2.0))
    weights = np.random.default_rng(1).multinomial(IMAGES, [1 / IMAGES] * IMAGES, size=5)
    counted = pixel_metrics_of(count_pixels(gathered(cases), range(IMAGES)), weights)
    for times, metrics in zip(weights, counted, strict=True):
        repeated = [case for case, count in zip(cases, times, strict=True) for _ in range(count)]
        np.testing.assert_allclose(metrics, pixel_metrics(*zip(*repeated, strict=True)), atol=0.003)


def test_tied_scores_are_cut_diagonally():
    pixels = gathered([(np.ones((4, 4)), np.eye(4, dtype=bool))])
    counted = count_pixels(pixels, [0])
    auroc, _, aupro = pixel_metrics_of(counted)[0]
    assert auroc == pytest.approx(0.5)
    assert aupro == pytest.approx(0.15)  # the diagonal's area to 0.3, divided by 0.3
    assert pixel_curves(counted).recall[0, -1] == 1


@pytest.mark.parametrize("defective", [True, False])
def test_without_either_kind_of_pixel_metrics_are_undefined(defective):
    counted = count_pixels(gathered([(np.arange(16).reshape(4, 4), np.full((4, 4), defective))]), [0])
    assert np.isnan(pixel_metrics_of(counted)).all()
