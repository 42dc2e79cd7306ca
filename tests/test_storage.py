"""Saved detectors: exact, without pickles, complete or absent, and damage is named."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from subspect.calibration import calibrate
from subspect.detectors.dsr.model import Dsr
from subspect.storage import (
    StorageError,
    find_detector,
    find_detectors,
    load_detector,
    read_description,
    save_detector,
)
from tiny import DSR, latent_model, write_latent_model


@pytest.fixture(scope="module")
def detector() -> Dsr:
    torch.manual_seed(1)
    made = Dsr(DSR)
    made.adopt_latent_model(latent_model(), {"source": "here", "report": {"psnr": 20.0}})
    made.calibration = calibrate([0.3, 0.1, 0.2], [np.linspace(0, 1, 50, dtype=np.float32)], 0.25)
    return made.eval()


@pytest.fixture
def saved(detector, tmp_path) -> Path:
    save_detector(detector, tmp_path / "detector", {"seed": 3})
    return tmp_path / "detector"


def change(folder: Path, **values: object) -> None:
    path = folder / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_detector_comes_back_as_it_was(detector, saved):
    loaded = load_detector(saved)
    assert loaded.config == DSR
    assert loaded.calibration == detector.calibration
    assert loaded.calibration.threshold == 0.3
    assert loaded.provenance() == {"latent_model": {"source": "here", "report": {"psnr": 20.0}}}
    assert not loaded.training
    images = torch.rand(2, 3, 70, 101)
    with torch.no_grad():
        before, after = detector(images), loaded(images)
    assert torch.equal(before.anomaly_map, after.anomaly_map)
    assert torch.equal(before.score, after.score)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_have_the_permissions_of_the_users_other_files(detector, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_detector(detector, tmp_path / "detector", {})
        write_latent_model(tmp_path / "latent.safetensors")
    finally:
        os.umask(before)
    for name in ("detector/detector.json", "detector/weights.safetensors", "latent.safetensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode
    assert (tmp_path / "detector").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_detector_without_calibration_has_none_again(tmp_path):
    save_detector(Dsr(DSR), tmp_path / "detector", {})
    assert load_detector(tmp_path / "detector").calibration is None


def test_the_folder_holds_json_and_safetensors_and_no_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["detector.json", "weights.safetensors"]
    for path in saved.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            pickle.loads(path.read_bytes())
        assert not path.read_bytes().startswith((b"PK", b"\x80"))  # archives of torch.save, bare pickles
    description = read_description(saved)
    assert description["method"] == "dsr"
    assert description["provenance"]["seed"] == 3
    assert description["versions"]["torch"] == torch.__version__.split("+")[0]


def test_an_existing_folder_is_not_touched(detector, tmp_path):
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector/mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="detector exists and is not overwritten"):
        save_detector(detector, tmp_path / "detector", {})
    assert [path.name for path in (tmp_path / "detector").iterdir()] == ["mine.txt"]


def test_a_detector_that_cannot_be_written_leaves_nothing(detector, tmp_path):
    with pytest.raises(TypeError):
        save_detector(detector, tmp_path / "new/detector", {"data": object()})
    assert list((tmp_path / "new").iterdir()) == []


def test_a_detector_is_found_by_its_run(saved):
    assert find_detector(saved) == saved
    assert find_detector(saved.parent) == saved


def test_a_folder_without_a_detector_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StorageError, match=rf"{path} is no detector: it has no detector.json"):
            load_detector(find_detector(path))


def test_an_export_is_told_from_a_folder_without_a_detector(tmp_path):
    (tmp_path / "export.json").write_text("{}")
    for read in (load_detector, find_detectors):
        with pytest.raises(StorageError, match="is no detector, but an export: only `inspect` takes it"):
            read(find_detector(tmp_path))


@pytest.mark.parametrize("text", ["", '{"format": 1, ', "[]", "{}", '{"format": "new"}', '{"format": null}'])
def test_a_damaged_description_is_named(saved, text):
    (saved / "detector.json").write_text(text)
    with pytest.raises(StorageError, match=r"detector\.json is damaged"):
        load_detector(saved)


def test_bytes_that_are_no_text_are_named(saved):
    (saved / "detector.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match=r"detector\.json is damaged"):
        load_detector(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "unheard-of"},
        {"config": {"image_size": [64, 64], "unheard_of": 1}},
        {"config": {"image_size": "large"}},
        {"config": None},
        {"calibration": {"scores": [1]}},
        {"calibration": 5},
        {"provenance": None},
        {"provenance": {"latent_model": 5}},
    ],
)
def test_values_that_cannot_be_are_named(saved, values):
    change(saved, **values)
    with pytest.raises(StorageError, match=r"detector\.json is damaged"):
        load_detector(saved)


@pytest.mark.parametrize("name", ["method", "config", "calibration", "provenance"])
def test_a_missing_value_is_named(saved, name):
    description = read_description(saved)
    del description[name]
    (saved / "detector.json").write_text(json.dumps(description))
    with pytest.raises(StorageError, match=rf"detector\.json is damaged: .*{name}"):
        load_detector(saved)


def test_a_newer_format_is_refused(saved):
    change(saved, format=2)
    with pytest.raises(StorageError, match=r"detector\.json has format 2; .* reads up to 1"):
        load_detector(saved)


def test_missing_weights_are_named(saved):
    (saved / "weights.safetensors").unlink()
    with pytest.raises(StorageError, match=r"weights\.safetensors cannot be used"):
        load_detector(saved)


@pytest.mark.parametrize("length", [0, 5, 1000, -1])
def test_truncated_weights_are_named(saved, length):
    path = saved / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match=r"weights\.safetensors cannot be used"):
        load_detector(saved)


def test_weights_of_another_detector_are_named(saved):
    path = saved / "weights.safetensors"
    weights = load_file(path)
    weights.pop("detection.unet.out.bias")
    save_file(weights, path)
    with pytest.raises(
        StorageError, match=r"(?s)weights\.safetensors cannot be used.*detection\.unet\.out\.bias"
    ):
        load_detector(saved)
