"""Runs: splits that are disjoint, recorded and found again; what cannot work is said before training."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subspect.calibration import conformal_threshold
from subspect.detectors.base import Detector
from subspect.images import read_image
from subspect.inspection.prediction import predict
from subspect.runs.data import DataOptions, read_test_table
from subspect.runs.run import RunOptions, TrainingRun, calibrate_detector, train
from subspect.storage import load_detector, read_description
from tiny import DSR, QUIET, tiny_run, write_data_set, write_latent_model

OPTIONS = RunOptions(QUIET)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[TrainingRun, Path, Detector]:
    folder = tmp_path_factory.mktemp("runs")
    root = write_data_set(folder / "data", normal=20, defective=4)
    weights = write_latent_model(folder / "latent.safetensors")
    run = tiny_run(root, weights, anomalies=1, seed=5, calibration_fraction=0.25)
    return run, folder / "run", train(run, folder / "run", OPTIONS)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "split.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_splits_are_recorded_and_disjoint(trained):
    run, output, _ = trained
    by_split = {
        split: [row for row in rows(output) if row["split"] == split]
        for split in ("train", "calibration", "test")
    }
    # 4 of 20 normal ones are tested on with the defective ones; a quarter of the other 16 is held out.
    assert {split: len(found) for split, found in by_split.items()} == {
        "train": 13,
        "calibration": 4,
        "test": 7,
    }
    paths = [row["path"] for row in rows(output)]
    assert len(paths) == len(set(paths)) == 24
    assert all((Path(run.data.root) / path).is_file() for path in paths)
    assert all(row["defect"] == "good" for row in by_split["calibration"])
    assert [row["defect"] for row in by_split["train"]].count("defective") == 1
    images = read_description(output / "detector")["provenance"]["images"]
    assert images == {"train": 13, "calibration": 4, "test": 7}


def test_everything_of_the_run_is_recorded(trained):
    run, output, _ = trained
    recorded = json.loads((output / "run.json").read_text())
    assert recorded == run.to_dict()
    assert recorded["config"]["simulation"]["sampling"] == "table"
    provenance = read_description(output / "detector")["provenance"]
    assert provenance["run"] == recorded
    assert provenance["latent_model"] == {"source": run.weights, "report": {"psnr": 20.0}}
    assert {path.name for path in (output / "previews").iterdir()} == {
        "normal_codes",
        "detection",
        "upsampling",
    }
    Image.open(output / "previews/detection/000003.png").verify()


def test_the_test_split_is_found_again_wherever_the_data_are(trained, tmp_path):
    run, output, _ = trained
    moved = tmp_path / Path(run.data.root).name
    moved.symlink_to(run.data.root)
    provenance = read_description(output / "detector")["provenance"]
    table = read_test_table(provenance, moved, "folder")
    found = [(s.path.relative_to(table.root).as_posix(), s.defect) for s in table.select(split="test")]
    assert found == [(row["path"], row["defect"]) for row in rows(output) if row["split"] == "test"]
    assert len(table.select(split="unused")) == 1  # the anomalous image that was learnt from
    assert {sample.split for sample in table} == {"test", "unused"}


def test_imported_weights_take_the_default_split(trained):
    root = Path(trained[0].data.root)
    table = read_test_table({"latent_model": {}}, root, "folder")
    assert table == DataOptions(str(root), "folder").read().select(split="test")
    assert len(table) == 4 + 4


def test_the_threshold_is_that_of_the_held_out_images_of_the_detector_on_disk(trained):
    run, output, detector = trained
    held_out = [row["path"] for row in rows(output) if row["split"] == "calibration"]
    pictures = [read_image(Path(run.data.root) / path) for path in held_out]
    loaded = load_detector(output / "detector")
    scores = sorted(scored.score for scored in predict(loaded, pictures, "cpu"))
    assert loaded.calibration == detector.calibration
    assert scores == list(loaded.calibration.scores)
    assert loaded.calibration.false_alarm_rate == pytest.approx(1 / 5)
    assert loaded.calibration.threshold == conformal_threshold(scores, 1 / 5) == max(scores)


def test_without_held_out_images_there_is_no_threshold(trained, caplog):
    assert calibrate_detector(trained[2], [], None, "cpu") is None
    assert "the detector has no threshold" in caplog.text


def assert_refused(run: TrainingRun, output: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(run, output, OPTIONS)
    assert not output.exists(), "work began"


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0.1, r"0\.1 needs 9 normal images for calibration, but 4 are held out; ask for at least 0\.2"),
        (0.0, "between 0 and 1, got 0"),
        (-0.5, "between 0 and 1, got -0.5"),
        (1.0, "between 0 and 1, got 1"),
    ],
)
def test_a_rate_that_cannot_be_had_is_refused_before_training(trained, tmp_path, rate, message):
    assert_refused(replace(trained[0], false_alarm_rate=rate), tmp_path / "run", message)


def test_the_smallest_rate_can_be_had(trained, tmp_path):
    detector = train(replace(trained[0], false_alarm_rate=0.2), tmp_path / "run", OPTIONS)
    assert detector.calibration.threshold == max(detector.calibration.scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "missing.safetensors"}, "no file or folder missing.safetensors"),
        ({"weights": None}, "no latent model of .* ships with subspect"),
    ],
)
def test_what_cannot_be_had_is_refused_before_training(trained, tmp_path, changes, message):
    assert_refused(replace(trained[0], **changes), tmp_path / "run", message)


def test_a_run_of_no_method_cannot_be(trained):
    with pytest.raises(ValueError, match="no method 'unheard_of'; there are: dsr"):
        replace(trained[0], method="unheard_of")


def test_more_anomalies_than_there_are_are_refused(trained, tmp_path):
    run = replace(trained[0], data=replace(trained[0].data, anomalies=5))
    assert_refused(run, tmp_path / "run", "5 annotated anomalous images asked for, but .* has 4")


@pytest.mark.parametrize(
    "changes", [{"calibration_fraction": 1.0}, {"calibration_fraction": -0.1}, {"anomalies": -1}]
)
def test_shares_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError, match=f"got {next(iter(changes.values()))}"):
        DataOptions("data", "folder", **changes)


def test_several_categories_need_a_choice(tmp_path):
    for category in ("bolt", "nut"):
        folder = tmp_path / category / "train/good"
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "0.png")
    with pytest.raises(ValueError, match="choose --category from bolt, nut"):
        DataOptions(str(tmp_path), "mvtec_ad").read()
    assert DataOptions(str(tmp_path), "mvtec_ad", "nut", calibration_fraction=0.0).read().categories == ("nut",)


def test_broken_files_are_listed_before_training_or_left_out(trained, tmp_path, caplog):
    root = write_data_set(tmp_path / "data", normal=5, defective=0)
    (root / "normal/broken1.png").write_bytes(b"no image")
    (root / "normal/broken2.png").write_bytes(b"")
    run = tiny_run(root, trained[0].weights)
    with pytest.raises(ValueError, match=r"(?s)broken1\.png.*broken2\.png"):
        train(run, tmp_path / "run", OPTIONS)
    assert not (tmp_path / "run").exists()
    train(run, tmp_path / "run", replace(OPTIONS, skip_unreadable=True))
    assert "broken1.png" in caplog.text
    assert len(rows(tmp_path / "run")) == 5


def logged_losses(output: Path, stage: str) -> list[float]:
    (path,) = (output / "logs" / stage).rglob("metrics.csv")
    with path.open(newline="") as file:
        return [
            float(row[name])
            for row in csv.DictReader(file)
            for name in ("feature", "image", "focal")
            if row.get(name)
        ]


@pytest.mark.parametrize("size", [(70, 101), (65, 130)])
def test_both_stages_train_at_sizes_that_are_no_multiples(trained, tmp_path, size):
    config = replace(DSR, image_size=size).with_steps(40)  # 24 and 16; every tenth is logged
    run = tiny_run(Path(trained[0].data.root), trained[0].weights, config, anomalies=1)
    train(run, tmp_path / "run", OPTIONS)
    for stage, count in (("detection", 2 * 3), ("upsampling", 1)):
        losses = logged_losses(tmp_path / "run", stage)
        assert len(losses) == count
        assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    detector = load_detector(tmp_path / "run/detector")
    assert all(torch.isfinite(tensor).all() for tensor in detector.state_dict().values())
    picture = read_image(Path(run.data.root) / "normal/00.png")
    (scored,) = predict(detector, [picture], "cpu")
    assert scored.anomaly_map.shape == size
    assert 0 <= scored.anomaly_map.min() < scored.anomaly_map.max() <= 1
