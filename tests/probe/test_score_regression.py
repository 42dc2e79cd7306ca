"""The line of scores over size against closed forms, SciPy, and a detector whose curve is known."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import linregress, norm

from subspect.probe.curves import MAYBE_NOT_RISING
from subspect.probe.score_regression import fit_scores

INTERCEPT, SLOPE, SCATTER, THRESHOLD = 1.0, 0.5, 0.4, 2.0
TRUE_A90 = np.exp((THRESHOLD + norm.ppf(0.9) * SCATTER - INTERCEPT) / SLOPE)


def experiment(rng, count, slope=SLOPE):
    sizes = np.geomspace(1, 64, count)
    return sizes, INTERCEPT + slope * np.log(sizes) + rng.normal(0, SCATTER, count)


def test_the_curve_is_that_of_the_least_squares_line():
    sizes, scores = experiment(np.random.default_rng(0), 60)
    curve = fit_scores(sizes, scores, THRESHOLD)
    line = linregress(np.log(sizes), scores)
    scatter = np.std(scores - line.intercept - line.slope * np.log(sizes), ddof=2)
    assert curve.parameters == pytest.approx(
        {"intercept": line.intercept, "slope": line.slope, "scatter": scatter, "threshold": 2.0}
    )
    passing = norm.sf(THRESHOLD, line.intercept + line.slope * np.log(curve.sizes), scatter)
    np.testing.assert_allclose(curve.probability, passing, atol=1e-12)
    a90 = np.exp((THRESHOLD + 1.2815515655446004 * scatter - line.intercept) / line.slope)
    assert curve.a90.value == pytest.approx(a90, rel=1e-12)
    assert curve.remarks == ()


def test_bounds_are_those_of_the_delta_method():
    sizes, scores = experiment(np.random.default_rng(0), 60)
    curve = fit_scores(sizes, scores, THRESHOLD)
    design = np.stack([np.ones(60), np.log(sizes)], axis=1)
    weights, (rest,), *_ = np.linalg.lstsq(design, scores, rcond=None)
    scatter = np.sqrt(rest / 58)
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = scatter**2 * np.linalg.inv(design.T @ design)
    covariance[2, 2] = scatter**2 / (2 * 58)
    for place in (10, 50, 90):
        log_size = np.log(curve.sizes[place])

        def z(parameters, log_size=log_size):
            return (parameters[0] + parameters[1] * log_size - THRESHOLD) / parameters[2]

        at = np.array([*weights, scatter])
        slope = approx_fprime(at, z, 1e-7)
        margin = 1.6448536269514722 * np.sqrt(slope @ covariance @ slope)
        # Differences of 1e-7 leave five digits.
        assert norm.ppf(curve.lower[place]) == pytest.approx(z(at) - margin, rel=1e-4, abs=1e-4)
        assert norm.ppf(curve.upper[place]) == pytest.approx(z(at) + margin, rel=1e-4, abs=1e-4)
    crossing = np.interp(np.log(curve.a90_95.value), np.log(curve.sizes), norm.ppf(curve.lower))
    assert crossing == pytest.approx(norm.ppf(0.9), abs=1e-3)


def test_bounds_hold_as_often_as_they_promise():
    rng, experiments, places = np.random.default_rng(0), 400, [20, 50, 80]
    bound, lower, upper = 0, np.zeros(3), np.zeros(3)
    for _ in range(experiments):
        curve = fit_scores(*experiment(rng, 60), THRESHOLD)
        bound += curve.a90_95.value is None or curve.a90_95.value >= TRUE_A90
        truth = norm.sf(THRESHOLD, INTERCEPT + SLOPE * np.log(curve.sizes[places]), SCATTER)
        lower += curve.lower[places] <= truth
        upper += curve.upper[places] >= truth
    # Three standard deviations of the count about 95 %: 91.7 to 98.3 %.
    for share in (bound / experiments, *(lower / experiments), *(upper / experiments)):
        assert 0.917 <= share <= 0.983


def test_scores_that_do_not_rise_have_no_a90():
    curve = fit_scores(*experiment(np.random.default_rng(0), 60, slope=-0.3), THRESHOLD)
    assert curve.fitted
    assert curve.a90.value is None
    assert "do not have higher scores" in curve.a90.reason


def test_scores_that_may_not_rise_have_no_a90_95():
    rng = np.random.default_rng(2)
    sizes = np.geomspace(1, 64, 60)
    scores = 2.5 + 0.01 * np.log(sizes) + rng.normal(0, 0.5, 60)
    scores += (0.05 - linregress(np.log(sizes), scores).slope) * np.log(sizes)  # a slope of 0.05, error 0.05
    curve = fit_scores(sizes, scores, 2.0)
    assert (curve.a90_95.value, curve.a90_95.reason) == (None, MAYBE_NOT_RISING)


@pytest.mark.parametrize("scores", [np.full(60, 0.7), np.log(np.geomspace(1, 64, 60))])
def test_without_scatter_there_is_no_curve(scores):
    curve = fit_scores(np.geomspace(1, 64, 60), scores, 1.0)
    assert not curve.fitted
    assert "do not scatter" in curve.a90.reason


def test_sizes_beyond_the_planted_ones_are_never_given():
    sizes, scores = experiment(np.random.default_rng(0), 60)
    assert "above the largest planted size, 64" in fit_scores(sizes, scores, 9.0).a90.reason
    assert "below the smallest planted size, 1" in fit_scores(sizes, scores, -9.0).a90.reason


def test_data_that_contradict_the_model_are_remarked_on():
    rng, sizes = np.random.default_rng(0), np.geomspace(1, 64, 60)
    x = np.log(sizes)
    for scores, remark in (
        (np.maximum(x, 2.5) + rng.normal(0, 0.1, 60), "no straight line"),
        (x + rng.normal(0, 0.02 + 0.2 * x), "scatter changes with size"),
        (x + rng.standard_t(1.5, 60), "scatter is not normal"),
    ):
        assert any(remark in one for one in fit_scores(sizes, scores, 2.0).remarks)
