"""Statistics: against scikit-learn, SciPy's bootstrap, closed forms, and coverage in simulations."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from outcomes import results_of
from subspect.datasets.table import NORMAL
from subspect.evaluation.metrics import image_metrics, pixel_metrics
from subspect.evaluation.results import HEADINGS
from subspect.evaluation.statistics import (
    bootstrap,
    compare,
    image_metrics_of,
    in_order_of,
    intervals,
    metrics_of_kinds,
    resample,
)


def drawn(normal: int, anomalous: int, shift: float, seed: int):
    """Scores of two normal distributions of unit variance, ``shift`` apart."""
    rng = np.random.default_rng(seed)
    truth = np.arange(normal + anomalous) >= normal
    return rng.normal(size=truth.size) + shift * truth, truth


def test_weighted_metrics_are_those_of_repeated_images():
    rng = np.random.default_rng(0)
    scores, truth = np.round(rng.normal(size=40), 1), rng.random(40) < 0.4  # rounded: many ties
    times = rng.integers(0, 4, (20, 40))
    for counts, (auroc, ap, f1) in zip(times, image_metrics_of(scores, truth, times), strict=True):
        repeated, labels = np.repeat(scores, counts), np.repeat(truth, counts)
        assert auroc == pytest.approx(roc_auc_score(labels, repeated))
        assert ap == pytest.approx(average_precision_score(labels, repeated))
        assert f1 == pytest.approx(image_metrics(repeated, labels).image_f1_max)


def test_without_images_of_a_kind_weighted_metrics_are_undefined():
    scores, truth = np.arange(4.0), np.array([False, False, True, True])
    times = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1]]
    metrics = image_metrics_of(scores, truth, times)
    assert np.isnan(metrics[:3]).all()
    np.testing.assert_allclose(metrics[3], 1)


def test_resamples_keep_the_number_of_images_of_each_kind():
    truth = np.arange(30) < 12
    times = resample(truth, 4000, seed=1)
    assert (times[:, truth].sum(1) == 12).all()
    assert (times[:, ~truth].sum(1) == 18).all()
    # Each count is binomial (n, 1/n): mean 1, variance 1 - 1/n.
    np.testing.assert_allclose(times.mean(0), 1, atol=5 / math.sqrt(4000))
    np.testing.assert_allclose(times[:, truth].var(0).mean(), 1 - 1 / 12, atol=0.03)
    np.testing.assert_array_equal(times, resample(truth, 4000, seed=1))


def test_images_of_one_part_count_as_one():
    """Every image three times over is no news: the very same replicates, and no narrower intervals."""
    maps, masks = noisy_maps(16, 2.0, seed=0)
    truth = [mask.any() for mask in masks]
    scores = np.random.default_rng(1).normal(size=16) + truth
    once = results_of(scores, truth, maps, masks)
    lists = ([one for one in values for _ in range(3)] for values in (scores, truth, maps, masks))
    thrice = results_of(*lists, [f"{place}.png" for place in range(48)])
    in_parts = replace(
        thrice, rows=tuple(replace(row, part=f"tile {place // 3}") for place, row in enumerate(thrice.rows))
    )
    ours, expected = bootstrap(in_parts, 300), bootstrap(once, 300)
    np.testing.assert_allclose(ours[:, :3], expected[:, :3])
    np.testing.assert_allclose(
        ours[:, 3:], expected[:, 3:], atol=0.003
    )  # the bins' error, see subspect.evaluation.histograms
    apart = bootstrap(thrice, 300).std(0) / bootstrap(once, 300).std(0)
    assert apart[0] == pytest.approx(1 / math.sqrt(3), rel=0.15)  # 300 resamples know a spread to 4 %


def test_the_spread_over_parts_of_different_sizes_is_that_of_brute_force():
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 9, 40)
    part = np.repeat(np.arange(40), sizes)
    truth = part % 2 == 1
    scores = rng.normal(size=40)[part] + 0.3 * rng.normal(size=part.size) + 0.8 * truth
    found = results_of(scores, truth)
    rows = tuple(replace(row, part=f"tile {one}") for row, one in zip(found.rows, part, strict=True))
    members = [np.flatnonzero(part == one) for one in range(40)]
    brute = []
    for _ in range(1500):
        drawn_parts = [one for kind in (0, 1) for one in rng.choice(np.arange(kind, 40, 2), 20)]
        chosen = np.concatenate([members[one] for one in drawn_parts])
        brute.append(roc_auc_score(truth[chosen], scores[chosen]))
    ours = bootstrap(replace(found, rows=rows), 3000)[:, 0]
    assert ours.std() == pytest.approx(np.std(brute), rel=0.08)  # 1500 resamples know a spread to 2 %
    assert bootstrap(found, 1500)[:, 0].std() < 0.7 * np.std(brute)


def test_the_interval_is_that_of_scipy():
    scores, truth = drawn(60, 40, 1.0, seed=3)
    ours = intervals(bootstrap(results_of(scores, truth), 4000))[0]

    def auroc(normal, anomalous, axis):
        return (anomalous[..., :, None] > normal[..., None, :]).mean((-1, -2))

    theirs = stats.bootstrap(
        (scores[~truth], scores[truth]),
        auroc,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(5),
        batch=500,
    ).confidence_interval
    # 4000 resamples know a 2.5 % quantile to 0.0025 of probability, here about 0.003 of AUROC.
    np.testing.assert_allclose(ours, theirs, atol=0.006)


def test_the_spread_of_auroc_is_the_closed_form_of_delong():
    """Bootstrap variance of AUROC against DeLong's, which the stratified bootstrap estimates."""
    scores, truth = drawn(80, 50, 0.8, seed=4)
    wins = scores[truth][:, None] > scores[~truth][None]
    delong = wins.mean(1).var(ddof=0) / 50 + wins.mean(0).var(ddof=0) / 80
    spread = bootstrap(results_of(scores, truth), 5000)[:, 0].std()
    assert spread == pytest.approx(math.sqrt(delong), rel=0.04)  # 5000 resamples know it to 1 %


def test_intervals_cover_the_true_auroc_as_often_as_they_say():
    true = stats.norm.cdf(1.0 / math.sqrt(2))
    covered = [
        low <= true <= high
        for seed in range(300)
        for low, high in [
            intervals(bootstrap(results_of(*drawn(50, 50, 1.0, seed)), 500, seed), confidence=0.9)[0]
        ]
    ]
    # 300 simulations know a rate of 0.9 to 0.017; percentile intervals of 50 + 50 images fall a little short.
    assert 0.85 <= np.mean(covered) <= 0.94


def noisy_maps(count: int, quality: float, seed: int):
    """Maps with a brighter square in every second one, and scores."""
    rng = np.random.default_rng(seed)
    maps, masks = rng.normal(size=(count, 24, 24)).astype(np.float32), np.zeros((count, 24, 24), bool)
    for index in range(0, count, 2):
        top, left = rng.integers(0, 16, 2)
        masks[index, top : top + 6, left : left + 6] = True
    maps += masks * (quality + rng.normal(size=(count, 1, 1)).astype(np.float32))
    return list(maps), list(masks)


def test_pixel_replicates_are_the_exact_metrics_of_repeated_images():
    maps, masks = noisy_maps(16, 2.0, seed=0)
    truth = np.array([mask.any() for mask in masks])
    results = results_of([m.max() for m in maps], truth, maps, masks)
    replicates = bootstrap(results, 8, seed=9)
    for times, found in zip(resample(truth, 8, seed=9), replicates, strict=True):
        chosen = np.repeat(np.arange(16), times)
        exact = pixel_metrics([maps[i] for i in chosen], [masks[i] for i in chosen])
        # The bins' error, see subspect.evaluation.histograms.
        np.testing.assert_allclose(found[3:], exact, atol=0.003)
    for name, (low, high) in zip(HEADINGS, intervals(replicates), strict=True):
        assert 0 <= low <= high <= 1, name


def test_metrics_of_some_kinds_leave_the_other_defects_out():
    maps, masks = noisy_maps(30, 1.0, seed=3)
    truth = np.array([mask.any() for mask in masks])
    results = results_of([m.max() for m in maps], truth, maps, masks)
    kinds = np.where(truth, np.array(["hole", "warp", "stain"])[np.arange(30) % 3], NORMAL)
    results = replace(
        results, rows=tuple(replace(row, defect=kind) for row, kind in zip(results.rows, kinds, strict=True))
    )
    found = astuple(metrics_of_kinds(results, ["hole", "stain"]))
    kept = np.flatnonzero(kinds != "warp")
    exact = image_metrics([maps[i].max() for i in kept], truth[kept])
    np.testing.assert_allclose(found[:3], exact, rtol=1e-12)
    exact = pixel_metrics([maps[i] for i in kept], [masks[i] for i in kept])
    np.testing.assert_allclose(found[3:], exact, atol=0.003)  # the bins' error, as above


def test_comparing_a_detector_with_itself_finds_nothing_in_any_order():
    maps, masks = noisy_maps(16, 2.0, seed=0)
    truth = [mask.any() for mask in masks]
    names = [f"{index}.png" for index in range(16)]
    scores = [m.max() for m in maps]
    first = results_of(scores, truth, maps, masks, names)
    order = np.random.default_rng(0).permutation(16)
    shuffled = results_of(*([values[i] for i in order] for values in (scores, truth, maps, masks, names)))
    again = in_order_of(shuffled, names)
    assert again.rows == first.rows
    for found in compare(first, shuffled, 200).values():
        assert found.value == pytest.approx(0)
        assert found.interval == pytest.approx((0, 0), abs=1e-12)
        assert found.p_value == 1


def test_a_copy_of_the_data_set_elsewhere_holds_the_same_images():
    scores, truth = drawn(20, 20, 1.0, seed=2)
    names = [f"{kind}/{index}.png" for kind in ("good", "hole") for index in range(20)]
    here, there = (
        results_of(scores, truth, names=[f"{root}/{name}" for name in names]) for root in ("/a/data", "b")
    )
    assert compare(here, there, 50)["image_auroc"].value == 0


def test_a_pairing_sees_what_two_intervals_do_not():
    """Scores that differ by a small constant gain on anomalous images: the difference is never below zero."""
    scores, truth = drawn(100, 100, 1.0, seed=6)
    better = results_of(scores + 0.15 * truth, truth)
    worse = results_of(scores, truth)
    separate = [intervals(bootstrap(one, 1000))[0] for one in (better, worse)]
    assert separate[0].low < separate[1].high  # the intervals overlap
    found = compare(better, worse, 1000)["image_auroc"]
    assert found.interval.low > 0
    assert found.p_value < 0.01
    assert found.value == pytest.approx(better.overall.image_auroc - worse.overall.image_auroc)
    assert "pixel_ap" not in compare(better, worse, 10)


def test_equal_detectors_differ_significantly_as_rarely_as_they_should():
    wrong = 0
    for seed in range(200):
        first, truth = drawn(40, 40, 1.0, seed)
        second, _ = drawn(40, 40, 1.0, seed + 1000)
        wrong += compare(results_of(first, truth), results_of(second, truth), 400)["image_auroc"].p_value < 0.1
    assert 0.05 <= wrong / 200 <= 0.16  # 0.1 ± 3 standard deviations of 200 simulations, 0.021 each


def test_other_images_are_not_compared():
    scores, truth = drawn(5, 5, 1.0, seed=0)
    first = results_of(scores, truth)
    other = results_of(scores, truth, names=[f"{index}.png" for index in range(1, 11)])
    with pytest.raises(ValueError, match=r"2 are of one only, e\.g\. 0\.png"):
        compare(first, other)
    with pytest.raises(ValueError, match="same parts"):
        compare(first, replace(first, rows=tuple(replace(row, part="tile") for row in first.rows)))
    with pytest.raises(ValueError, match="one protocol only, got whole and paper"):
        compare(first, replace(first, protocol="paper"))
