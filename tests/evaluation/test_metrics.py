"""Metrics against scikit-learn and, for AUPRO, against brute force over all thresholds."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from subspect.evaluation.metrics import (
    PixelScores,
    image_curves,
    image_metrics,
    pixel_metrics,
)


def brute_force_aupro(maps, masks, limit=0.3):
    """Every distinct score as a threshold, one component after the other, nothing sorted or cumulated."""
    components, normal = [], []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        components += [anomaly_map[labels == index] for index in range(1, count + 1)]
        normal.append(anomaly_map[~mask])
    normal = np.concatenate(normal)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        overlap = np.mean([(component >= threshold).mean() for component in components])
        points.append(((normal >= threshold).mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def random_maps(seed, *, levels=None, shift=0.5, images=5, size=(12, 17)):
    """Maps with blocks of defects; ``levels`` rounds scores so that many of them tie."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(images):
        mask = np.zeros(size, dtype=bool)
        for _ in range(index):  # the first image is normal
            top, left = rng.integers(0, size[0] - 3), rng.integers(0, size[1] - 3)
            mask[top : top + rng.integers(1, 4), left : left + rng.integers(1, 4)] = True
        scores = rng.normal(size=size) + shift * mask
        if levels:
            scores = np.round(scores * levels) / levels
        maps.append(scores.astype(np.float32))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("levels", [None, 1, 4])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 9.0])
def test_image_metrics_equal_scikit_learn(levels, shift):
    rng = np.random.default_rng(3)
    truth = rng.random(200) < 0.3
    scores = rng.normal(size=200) + shift * truth
    scores = (np.round(scores * levels) / levels if levels else scores).astype(np.float32)
    metrics = image_metrics(scores, truth)
    assert metrics.image_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.image_ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
    assert metrics.image_f1_max == pytest.approx(f1.max(), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 1, 4])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 9.0])
def test_pixel_metrics_equal_scikit_learn_and_brute_force(levels, shift):
    maps, masks = random_maps(7, levels=levels, shift=shift)
    truth = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    metrics = pixel_metrics(maps, masks)
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.pixel_ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert metrics.pixel_aupro == pytest.approx(brute_force_aupro(maps, masks), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_aupro_equals_brute_force_on_random_maps(seed):
    maps, masks = random_maps(seed, levels=[None, 2][seed % 2], shift=0.4 * seed, images=4, size=(9, 11))
    assert pixel_metrics(maps, masks).pixel_aupro == pytest.approx(brute_force_aupro(maps, masks), abs=1e-12)


def test_a_perfect_map_has_metrics_of_exactly_one():
    rng = np.random.default_rng(0)
    masks = [ndimage.binary_dilation(rng.random((40, 40)) < 0.01, iterations=2) for _ in range(7)]
    maps = [mask + 0.1 * rng.random(mask.shape) for mask in masks]
    assert pixel_metrics(maps, masks) == (1.0, 1.0, 1.0)


def test_a_constant_map_has_the_metrics_of_chance():
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:4, 2:7] = True
    metrics = pixel_metrics([np.full((10, 10), 0.5)], [mask])
    assert metrics.pixel_auroc == pytest.approx(0.5)
    assert metrics.pixel_ap == pytest.approx(0.1)
    assert metrics.pixel_aupro == pytest.approx(0.15)  # a diagonal, cut off at 0.3: mean height 0.15


def test_aupro_weighs_small_and_large_components_alike_and_joins_corners():
    mask = np.zeros((20, 20), dtype=bool)
    mask[1:11, 1:11] = True  # large, found
    mask[15, 15] = mask[16, 16] = True  # two pixels touching at a corner: one component, half found
    scores = np.zeros((20, 20))
    scores[1:11, 1:11] = scores[15, 15] = 1.0
    scores[18, 0] = 0.5  # a false positive between the two levels leaves the overlap at 0.75
    false_rate = 1 / (400 - 102)
    end = 0.75 + 0.25 * (0.3 - false_rate) / (1 - false_rate)
    expected = (0.75 * false_rate + (0.75 + end) / 2 * (0.3 - false_rate)) / 0.3
    assert pixel_metrics([scores], [mask]).pixel_aupro == pytest.approx(expected, abs=1e-12)


def test_aupro_is_zero_when_defects_come_only_after_the_limit():
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, :3] = True
    assert pixel_metrics([np.where(mask, 0.0, 1.0)], [mask]).pixel_aupro == 0.0


def test_pixel_scores_of_two_collections_are_pooled_without_changing_either():
    maps, masks = random_maps(11)
    first, second = PixelScores(), PixelScores()
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        (first if index < 2 else second).add(anomaly_map, mask)
    alone = second.compute()
    assert first.compute(second) == pixel_metrics(maps, masks)
    assert second.compute() == alone == pixel_metrics(maps[2:], masks[2:])
    first.add(maps[0], masks[0])  # after its scores were sorted
    order = [0, 1, 0, 2, 3, 4]
    assert first.compute(second) == pixel_metrics([maps[i] for i in order], [masks[i] for i in order])


def test_maps_are_left_as_they_were():
    maps, masks = random_maps(2)
    before = [anomaly_map.copy() for anomaly_map in maps]
    pixel_metrics(maps, masks)
    for anomaly_map, copy in zip(maps, before, strict=True):
        np.testing.assert_array_equal(anomaly_map, copy)


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_image_metrics_without_one_of_the_classes_are_undefined(truth):
    assert np.isnan(image_metrics([0.1, 0.7][: len(truth)], truth)).all()


@pytest.mark.parametrize("mask", [np.zeros((3, 3), bool), np.ones((3, 3), bool)])
def test_pixel_metrics_without_one_of_the_classes_are_undefined(mask):
    assert np.isnan(pixel_metrics([np.random.default_rng(0).random((3, 3))], [mask])).all()
    assert np.isnan(PixelScores().compute()).all()


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"\(4, 4\) and mask \(4, 5\)"):
        PixelScores().add(np.zeros((4, 4)), np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match="nan"):
        PixelScores().add(np.full((4, 4), np.nan), np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="nan"):
        image_metrics([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="equally long"):
        image_metrics([0.1, 0.2], [True])


def ends(x, y):
    """Lowest and highest y of every x above 0."""
    x, y = np.round(x, 9), np.round(y, 9)
    return {place: (y[x == place].min(), y[x == place].max()) for place in set(x[x > 0])}


@pytest.mark.parametrize("decimals", [1, 6])
def test_curves_are_those_of_scikit_learn(decimals):
    rng = np.random.default_rng(3)
    scores, anomalous = np.round(rng.normal(size=80), decimals), rng.random(80) < 0.4  # many ties, or none
    curves = image_curves(scores, anomalous)
    false_rate, recall, _ = roc_curve(anomalous, scores.astype(np.float32), drop_intermediate=False)
    points = set(zip(curves.false_rate.round(9), curves.recall.round(9), strict=True))
    assert points <= set(zip(false_rate.round(9), recall.round(9), strict=True))
    assert auc(curves.false_rate, curves.recall) == pytest.approx(roc_auc_score(anomalous, scores))
    precision, recall, _ = precision_recall_curve(anomalous, scores.astype(np.float32))
    assert ends(curves.recall, curves.precision) == ends(recall, precision)
    assert image_curves(scores, np.ones(80, bool)).recall.size == 0
