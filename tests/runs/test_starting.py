"""What a training starts from: the weights are those asked for, and their history is not forgotten."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import subspect
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.pretrained import WeightsError
from subspect.detectors.riad.model import Riad
from subspect.files import write_json
from subspect.runs.data import read_test_table
from subspect.runs.records import differences
from subspect.runs.run import RunOptions, train
from subspect.runs.starting import absolute_weights, take_weights
from subspect.storage import load_detector, read_description
from tiny import DSR, QUIET, RIAD, tiny_run, write_backbone, write_data_set, write_latent_model

OPTIONS = RunOptions(QUIET)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> tuple[Path, Path]:
    """A data set, and the run of a training on it."""
    folder = tmp_path_factory.mktemp("earlier")
    root = write_data_set(folder / "data", normal=20, defective=4)
    weights = write_latent_model(folder / "latent.safetensors")
    train(tiny_run(root, weights, seed=1), folder / "run", OPTIONS)
    return root, folder / "run"


def test_a_detector_goes_on_from_an_earlier_one(earlier):
    _, run = earlier
    detector, loaded = Dsr(DSR), load_detector(run / "detector")
    origin = take_weights(detector, str(run))
    assert origin.source == str(run)
    for name, value in loaded.state_dict().items():
        assert torch.equal(detector.state_dict()[name], value), name
    assert detector.provenance() == loaded.provenance() != {}


def test_its_successor_is_not_judged_on_images_that_the_earlier_one_has_seen(earlier, tmp_path):
    root, run = earlier
    train(tiny_run(root, str(run), seed=2), tmp_path / "run", OPTIONS)
    provenance = read_description(tmp_path / "run" / "detector")["provenance"]
    assert provenance["started_from"] == str(run)
    assert read_description(run / "detector")["provenance"]["started_from"] is None
    table = read_test_table(provenance, root).select(split="test")
    judged = {sample.path.name for sample in table if not sample.anomalous}
    # The splits of the two seeds overlap in part.
    assert judged == judged_on(run) & judged_on(tmp_path / "run")
    assert 0 < len(judged) < len(judged_on(tmp_path / "run"))


def judged_on(run: Path) -> set[str]:
    """Names of the normal images in a run's test split."""
    with (run / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row["path"]).name for row in rows if row["split"] == "test" and row["defect"] == "good"}


def test_weights_of_other_sizes_are_refused(earlier):
    _, run = earlier
    with pytest.raises(WeightsError, match="other sizes"):
        take_weights(Dsr(replace(DSR, detection_width=8)), str(run))


def test_a_detector_of_another_method_is_refused(earlier):
    _, run = earlier
    with pytest.raises(WeightsError, match="detector of the method dsr, but riad is to be trained"):
        take_weights(Riad(RIAD), str(run))


def test_weights_are_recorded_as_they_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("latent.safetensors").touch()
    assert absolute_weights("latent.safetensors") == f"{tmp_path}/latent.safetensors"
    assert absolute_weights("./latent.safetensors#0af1") == f"{tmp_path}/latent.safetensors#0af1"
    assert absolute_weights("owner/latent#0af1") == "owner/latent#0af1"
    write_json(tmp_path / "run.json", {"weights": "latent.safetensors"})  # as earlier versions did
    assert differences({"weights": f"{tmp_path}/latent.safetensors"}, tmp_path / "run.json") == []
    assert len(differences({"weights": "/elsewhere/latent.safetensors"}, tmp_path / "run.json")) == 1


def test_a_backbone_on_disk_is_enough_to_train_padim_from_python(tmp_path):
    backbone = write_backbone(tmp_path / "backbone.safetensors")
    subspect.train(
        write_data_set(tmp_path / "data"),
        tmp_path / "run",
        method="padim",
        image_size=(64, 64),
        settings=["backbone=test_resnet", "channels=20"],
        weights=backbone,
    )
    assert read_description(tmp_path / "run/detector")["provenance"]["run"]["weights"] == backbone
