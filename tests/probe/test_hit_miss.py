"""The logistic curve against scikit-learn, another profile likelihood, and a detector whose curve is known."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression

from subspect.probe.curves import MAYBE_NOT_RISING, NOT_RISING
from subspect.probe.hit_miss import fit_hit_miss

STEEPNESS, MIDDLE = 2.5, np.log(8)
TRUE_A90 = np.exp(MIDDLE + np.log(9) / STEEPNESS)


def experiment(rng, count):
    """What a detector with a logistic curve finds of sizes from 1 to 64."""
    sizes = np.geomspace(1, 64, count)
    return sizes, rng.random(count) < expit(STEEPNESS * (np.log(sizes) - MIDDLE))


def profile_deviance(sizes, found, log_size, level):
    """Least deviance of the curves that have the logit ``level`` at a size."""

    def deviance(slope):
        linear = level + slope * (np.log(sizes) - log_size)
        return 2 * float((np.logaddexp(0, linear) - found * linear).sum())

    return minimize_scalar(deviance, bracket=(0.0, 5.0), tol=1e-12).fun


def test_the_fit_is_that_of_scikit_learn():
    sizes, found = experiment(np.random.default_rng(3), 80)
    curve = fit_hit_miss(sizes, found)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(sizes)[:, None], found)
    assert curve.parameters["slope"] == pytest.approx(expected.coef_[0, 0], rel=1e-5)
    assert curve.parameters["intercept"] == pytest.approx(expected.intercept_[0], rel=1e-5)
    np.testing.assert_allclose(
        curve.probability, expected.predict_proba(np.log(curve.sizes)[:, None])[:, 1], atol=1e-6
    )
    a90 = np.exp((np.log(9) - expected.intercept_[0]) / expected.coef_[0, 0])
    assert curve.a90.value == pytest.approx(a90, rel=1e-5)


def test_bounds_are_those_of_the_profile_likelihood():
    sizes, found = experiment(np.random.default_rng(3), 80)
    curve = fit_hit_miss(sizes, found)
    linear = curve.parameters["intercept"] + curve.parameters["slope"] * np.log(sizes)
    limit = 2 * (np.logaddexp(0, linear) - found * linear).sum() + chi2.ppf(0.9, 1)
    for place in (20, 50, 80):
        log_size, best = np.log(curve.sizes[place]), logit(curve.probability[place])

        def excess(level, log_size=log_size):
            return profile_deviance(sizes, found, log_size, level) - limit

        # 360 points on the region's outline: see hit_miss.
        assert logit(curve.lower[place]) == pytest.approx(brentq(excess, best - 20, best), abs=1e-3)
        assert logit(curve.upper[place]) == pytest.approx(brentq(excess, best, best + 20), abs=1e-3)
    a90_95 = brentq(
        lambda log_size: profile_deviance(sizes, found, log_size, np.log(9)) - limit,
        np.log(curve.a90.value),
        np.log(sizes[-1]),
    )
    assert np.log(curve.a90_95.value) == pytest.approx(a90_95, abs=1e-4)
    # The same said twice: the lower bound of the curve passes 90 % at a90/95.
    assert np.interp(a90_95, np.log(curve.sizes), curve.lower) == pytest.approx(0.9, abs=1e-3)


def test_bounds_hold_as_often_as_they_promise():
    rng, experiments = np.random.default_rng(0), 250
    bound, lower, upper = 0, np.zeros(3), np.zeros(3)
    places = [35, 50, 65]
    for _ in range(experiments):
        curve = fit_hit_miss(*experiment(rng, 120))
        assert curve.fitted
        bound += curve.a90_95.value is None or curve.a90_95.value >= TRUE_A90
        truth = expit(STEEPNESS * (np.log(curve.sizes[places]) - MIDDLE))
        lower += curve.lower[places] <= truth
        upper += curve.upper[places] >= truth
    # 95 % less three standard deviations of the count is 90.9 %; likelihood-ratio bounds are a little short
    # with so few data (benchmarks/probe_coverage.py).
    for share in (bound / experiments, *(lower / experiments), *(upper / experiments)):
        assert 0.9 <= share <= 0.99


def test_estimates_gather_about_the_truth():
    rng = np.random.default_rng(1)
    estimates = [np.log(fit_hit_miss(*experiment(rng, 1000)).a90.value) for _ in range(20)]
    assert np.mean(estimates) == pytest.approx(np.log(TRUE_A90), abs=0.05)


SIZES = np.geomspace(1, 64, 20)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (np.ones(20, bool), "all 20 were found, down to the smallest size, 1"),
        (np.zeros(20, bool), "none of 20 was found, up to the largest size, 64"),
        (SIZES > 8.5, r"separated: all above 7.17 were found and all below 8.93 missed"),
        (SIZES < 8.5, "all above 7.17 were missed"),
    ],
)
def test_without_a_maximum_there_is_a_reason_and_no_number(found, reason):
    curve = fit_hit_miss(SIZES, found)
    assert not curve.fitted
    assert curve.a90.value is None
    assert curve.a90_95.value is None
    assert reason in curve.a90.reason
    assert reason in curve.a90_95.reason


def test_separation_is_seen_where_hits_and_misses_share_one_size():
    assert "separated" in fit_hit_miss([1, 2, 2, 3], [False, False, True, True]).a90.reason
    assert fit_hit_miss([1, 2, 2.1, 3], [False, True, False, True]).fitted


def test_what_is_found_less_often_when_larger_has_no_a90():
    found = np.random.default_rng(0).random(20) < expit(MIDDLE - np.log(SIZES))
    curve = fit_hit_miss(SIZES, found)
    assert curve.fitted
    assert curve.parameters["slope"] < 0
    assert (curve.a90.value, curve.a90.reason) == (None, NOT_RISING)
    assert (curve.a90_95.value, curve.a90_95.reason) == (None, NOT_RISING)


def test_a_curve_that_may_be_level_has_no_a90_95():
    found = np.arange(20) % 2 == 1
    found[-5:] = True
    found[-3] = False
    curve = fit_hit_miss(SIZES, found)
    assert curve.parameters["slope"] > 0
    assert (curve.a90_95.value, curve.a90_95.reason) == (None, MAYBE_NOT_RISING)


def test_sizes_beyond_the_planted_ones_are_never_given():
    sizes, found = experiment(np.random.default_rng(3), 80)
    small = fit_hit_miss(sizes[sizes < 12], found[sizes < 12])
    assert small.fitted
    assert small.a90.value is None
    assert small.a90.reason.startswith("it lies above the largest planted size, 1")
    found = np.r_[False, True, False, np.ones(37, bool)]
    large = fit_hit_miss(np.geomspace(100, 200, 40), found)
    assert large.a90.value == pytest.approx(105, abs=5)
    assert large.a90_95.value > large.a90.value


@pytest.mark.parametrize(
    ("sizes", "found", "message"),
    [
        ([1, 2], [True, False], "three sizes"),
        ([1, 2, 3], [True, False], "three sizes"),
        ([1, 0, 3], [True, False, True], "positive"),
        ([2, 2, 2], [True, False, True], "different sizes"),
    ],
)
def test_what_is_no_experiment_is_refused(sizes, found, message):
    with pytest.raises(ValueError, match=message):
        fit_hit_miss(sizes, found)
