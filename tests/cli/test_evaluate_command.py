"""The command ``evaluate``: where results go, and what of them is left when it fails half-way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from subspect.calibration import calibrate
from subspect.cli import main
from subspect.detectors.registry import find_method
from subspect.evaluation.results import read_results
from subspect.storage import save_detector
from tiny import RIAD, write_pictures


def save(folder: Path, category: str) -> Path:
    """An untrained detector of a category in layout ``mvtec_ad``."""
    torch.manual_seed(0)
    detector = find_method("riad").build(RIAD)
    levels = [index / 1000 for index in range(100)]
    detector.calibration = calibrate(levels, [np.array(levels, dtype=np.float32)], 0.01)
    data = {"layout": "mvtec_ad", "category": category, "seed": 0}
    save_detector(detector, folder, {"run": {"data": data}})
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    for seed, category in enumerate(("bolt", "nut")):
        for index, kind in enumerate(("train/good", "test/good", "test/dent")):
            write_pictures(tmp_path / "data" / category / kind, 2, seed=10 * seed + index)
    return tmp_path / "data"


def test_a_detector_without_a_run_keeps_its_results_to_itself(data, tmp_path):
    for words, place in (("alone", "alone"), ("run", "run"), ("other/detector", "other")):
        save(tmp_path / (words if words != "run" else "run/detector"), "bolt")
        assert main(["evaluate", str(tmp_path / words), str(data)]) == 0
        assert read_results(tmp_path / place / "evaluation-whole")[0].category == "bolt"


def test_two_detectors_of_one_category_are_refused_before_any_is_judged(data, tmp_path, capsys):
    for name in ("first", "second"):
        save(tmp_path / "runs" / name / "detector", "bolt")
    assert main(["evaluate", str(tmp_path / "runs"), str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'runs/first/detector'} and {tmp_path / 'runs/second/detector'} are of one" in said
    assert "bolt" in said
    save(tmp_path / "two/first/detector", "bolt")
    save(tmp_path / "two/second/detector", "nut")
    assert main(["evaluate", str(tmp_path / "two"), str(data), "--category=nut"]) == 1
    assert "are of one category, nut" in capsys.readouterr().err


def test_what_fails_half_way_leaves_nothing_that_refuses_the_next_call(data, tmp_path, capsys):
    for category in ("bolt", "nut"):
        save(tmp_path / "runs" / category / "detector", category)
    (data / "nut/test").rename(tmp_path / "away")
    words = ["evaluate", str(tmp_path / "runs"), str(data), "--pictures=1"]
    assert main(words) == 1
    assert "no normal test images" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"bolt", "nut"}
    (tmp_path / "away").rename(data / "nut/test")
    assert main(words) == 0
    output = tmp_path / "runs/evaluation-whole"
    assert [one.category for one in read_results(output)] == ["bolt", "nut"]
    said = capsys.readouterr().out
    for page in (output / "pictures" / category / "index.html" for category in ("bolt", "nut")):
        assert page.is_file()
        assert str(page) in said
    assert output.stat().st_mode & 0o777 == 0o755


def test_a_negative_number_of_pictures_is_refused(data, tmp_path, capsys):
    save(tmp_path / "alone", "bolt")
    assert main(["evaluate", str(tmp_path / "alone"), str(data), "--pictures=-1"]) == 1
    assert "--pictures is at least 0, got -1" in capsys.readouterr().err
