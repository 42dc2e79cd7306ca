"""Calibration: the threshold by hand, its guarantee by simulation, the outline level by closed form."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import subspect
from brightness import BrightnessDetector
from subspect.calibration import (
    Calibration,
    calibrate,
    conformal_threshold,
    far_above,
    sample_map,
    smallest_rate,
)
from subspect.detectors.dsr.model import Dsr
from subspect.images import ImageError
from subspect.runs.run import calibrate_detector
from subspect.storage import save_detector
from tiny import DSR, write_pictures

PIXELS = [np.linspace(0, 1, 1001, dtype=np.float32)]


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(99, 0.01, 99), (99, 0.02, 98), (19, 0.05, 19), (20, 0.05, 20), (40, 0.05, 39)],
)
def test_threshold_is_the_conformal_rank(count, rate, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_threshold(scores, rate) == rank


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 1 / 31])
def test_false_alarms_keep_the_guarantee(rate):
    count, draws, tests = 30, 4000, 50
    rng = np.random.default_rng(1)
    false_alarms = np.empty(draws)
    for draw in range(draws):
        threshold = conformal_threshold(rng.normal(size=count), rate)
        false_alarms[draw] = (rng.normal(size=tests) > threshold).mean()
    error = 4 * false_alarms.std() / math.sqrt(draws)
    assert false_alarms.mean() <= rate + error
    assert false_alarms.mean() >= rate - smallest_rate(count) - error


def test_ties_only_lower_the_false_alarm_rate():
    scores = [0.0] * 95 + [1.0] * 5
    assert conformal_threshold(scores, 0.05) == 1.0  # so that none of those is called anomalous


def test_a_rate_too_small_says_what_it_would_need():
    with pytest.raises(ValueError, match=r"0\.001 .* 30 calibration images.* 0\.03226; 0\.001 needs 999"):
        conformal_threshold(range(30), 0.001)
    assert conformal_threshold(range(999), 0.001) == 998
    with pytest.raises(ValueError, match="998 calibration images"):
        conformal_threshold(range(998), 0.001)


@pytest.mark.parametrize("count", [1, 2, 7, 30, 99, 100, 999, 12345])
def test_the_smallest_rate_is_supported_and_nothing_below_it(count):
    assert conformal_threshold(range(count), smallest_rate(count)) == count - 1
    with pytest.raises(ValueError, match="smallest rate"):
        conformal_threshold(range(count), 0.999 * smallest_rate(count))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_rates_outside_of_zero_to_one_are_refused(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal_threshold(range(10), rate)


def test_the_default_rate_is_one_per_cent_or_the_smallest_supported():
    few, many = calibrate(range(9), PIXELS), calibrate(range(400), PIXELS)
    assert (few.false_alarm_rate, few.threshold) == (0.1, 8.0)
    assert (many.false_alarm_rate, many.threshold) == (0.01, 396.0)  # ceil(401 * 0.99) = 397th smallest


def test_another_rate_chosen_later_is_the_same_as_chosen_at_once():
    rng = np.random.default_rng(4)
    scores = rng.random(200)
    later = calibrate(scores, PIXELS, 0.01).with_rate(0.1)
    assert later == calibrate(scores, PIXELS, 0.1)
    with pytest.raises(ValueError, match="200 calibration images"):
        later.with_rate(0.001)


def test_the_outline_level_leaves_one_pixel_in_a_thousand_above():
    rng = np.random.default_rng(5)
    maps = [rng.random((300, 300)).astype(np.float32) for _ in range(20)]
    calibration = calibrate(range(20), [sample_map(anomaly_map) for anomaly_map in maps])
    # 327,680 pixels drawn: the standard error of the share is 5.5e-5.
    for share, level in calibration.map_levels:
        assert level == pytest.approx(1 - share, abs=5 * math.sqrt(share / 327_680))
    assert calibration.map_threshold == dict(calibration.map_levels)[0.001]
    above = np.mean([(anomaly_map > calibration.map_threshold).mean() for anomaly_map in maps])
    assert above == pytest.approx(0.001, abs=2.5e-4)


def test_small_maps_are_kept_whole_and_large_ones_drawn_without_repetition():
    small, large = np.arange(100.0).reshape(10, 10), np.arange(40_000.0).reshape(200, 200)
    np.testing.assert_array_equal(sample_map(small), np.arange(100))
    drawn = sample_map(large)
    assert np.unique(drawn).size == drawn.size == 16_384
    assert drawn.mean() == pytest.approx(20_000, rel=0.02)
    np.testing.assert_array_equal(drawn, sample_map(large))


def test_a_calibration_survives_json():
    calibration = calibrate(np.random.default_rng(6).random(50), PIXELS, 0.05)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_nothing_to_calibrate_from_and_broken_scores_are_refused():
    with pytest.raises(ValueError, match="no normal images"):
        calibrate([], [])
    with pytest.raises(ValueError, match="not finite"):
        calibrate([0.1, math.nan], PIXELS)
    with pytest.raises(ValueError, match="not finite"):
        calibrate([0.1, 0.2], [np.array([np.inf], dtype=np.float32)])


def test_scores_far_above_the_others_are_told():
    even = [place / 100 for place in range(101)]  # median 0.5, upper decile 0.9: 0.4 apart and above 1.5
    assert far_above([*even[:50], 2.2, *even[50:], 2.0]) == [50, 102]
    assert far_above([*even, 1.45]) == far_above([*even, 1.3, 1.6, 1.7]) == []
    assert far_above([*even, 1.3, 1.8, 1.85]) == [102, 103]
    assert far_above(np.random.default_rng(0).normal(size=1000).tolist()) == []
    assert far_above([1.0] * 20) == far_above([1.0]) == far_above([]) == far_above([1.0] * 20 + [9.0]) == []


def test_normal_images_that_look_anomalous_are_named(tmp_path, caplog):
    paths = []
    for number in range(20):
        grey = 230 if number == 7 else 128 + number
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((32, 32, 3), grey, np.uint8)).save(paths[-1])
    calibrate_detector(BrightnessDetector(), paths, 0.1, "cpu")
    assert (
        f"1 of 20 held-out normal images score far above the others and decide the threshold: {paths[7]}"
        in (caplog.text)
    )
    caplog.clear()
    calibrate_detector(BrightnessDetector(), [*paths[:7], *paths[8:]], 0.1, "cpu")
    assert not caplog.text


def test_a_detector_that_tells_nothing_apart_is_told(tmp_path, caplog):
    paths = write_pictures(tmp_path / "photos", 3)
    calibrate_detector(BrightnessDetector(), paths, 0.3, "cpu")
    assert not caplog.text
    calibrate_detector(BrightnessDetector(), [paths[0]] * 3, 0.3, "cpu")
    assert "all 3 held-out normal images have the score" in caplog.text


@pytest.fixture
def uncalibrated(tmp_path) -> Path:
    save_detector(Dsr(DSR), tmp_path / "detector", {})
    return tmp_path / "detector"


def test_tiles_are_refused_of_a_detector_that_was_never_calibrated(uncalibrated):
    with pytest.raises(ValueError, match="has no calibration to take a threshold for tiles of 64x64"):
        subspect.load(uncalibrated, tile=64)


def test_what_a_detector_is_calibrated_with_may_be_a_folder_and_must_be_there(uncalibrated, tmp_path):
    pictures = write_pictures(tmp_path / "photos", 3)
    made = subspect.calibrate(uncalibrated, str(tmp_path / "photos"), tmp_path / "made")
    listed = subspect.calibrate(uncalibrated, pictures, tmp_path / "listed")
    assert made.threshold == listed.threshold
    for missing in ("lost.png", [*pictures, "lost.png"]):
        with pytest.raises(ImageError, match=r"lost\.png: no such file"):
            subspect.calibrate(uncalibrated, missing, tmp_path / "new")
    assert not (tmp_path / "new").exists()
