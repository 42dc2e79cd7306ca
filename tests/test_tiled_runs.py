"""Runs on tiles by the command line: trained, calibrated, judged, exported at one scale; calibrated anew."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import subspect
from commands import RUN, assert_fails, said
from subspect.cli import main
from subspect.detectors.configuration import to_yaml
from subspect.images import read_image
from subspect.inspection.prediction import predict
from subspect.runs.data import DataOptions
from subspect.storage import load_detector, read_description
from subspect.tiling import Tiling
from tiny import PADIM, write_backbone, write_pictures

TILES = ["--tile=64", "--overlap=16"]
CORNERS = [(top, left) for top in (0, 36) for left in (0, 43, 86)]
"""Of the tiles of a picture of 100x150 pixels."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Large pictures, normal and defective, and PaDiM trained on their tiles and on the whole of them."""
    folder = tmp_path_factory.mktemp("tiled")
    write_pictures(folder / "data/normal", 10, (100, 150))
    (folder / "data/masks").mkdir()
    for path in write_pictures(folder / "data/defective", 2, (100, 150), seed=1):
        pixels, mask = np.array(Image.open(path)), np.zeros((100, 150), np.uint8)
        pixels[40:52, 60:72], mask[40:52, 60:72] = 255, 255
        Image.fromarray(pixels).save(path)
        Image.fromarray(mask).save(folder / "data/masks" / path.name)
    (folder / "tiny.yaml").write_text(to_yaml(PADIM))
    weights = write_backbone(folder / "backbone.safetensors")
    words = ["train", str(folder / "data"), "--method=padim", f"--config={folder / 'tiny.yaml'}", *RUN]
    words += [f"--weights={weights}", "--calibration-fraction=0.3"]
    assert main([*words, f"--output={folder / 'tiled'}", *TILES]) == 0
    assert main([*words, f"--output={folder / 'whole'}"]) == 0
    return folder


def cut(path: Path) -> list[np.ndarray]:
    return [read_image(path)[y : y + 64, x : x + 64] for y, x in CORNERS]


def highest_of_tiles(detector_folder: Path, paths: list[Path]) -> list[float]:
    """The highest score of the tiles of each picture, cut out here."""
    detector = load_detector(detector_folder)
    detector.config = replace(detector.config, tiling=None)
    return [max(one.score for one in predict(detector, cut(path), "cpu")) for path in paths]


def test_a_detector_is_calibrated_as_it_inspects(place, capsys):
    folder = place / "tiled/detector"
    detector = load_detector(folder)
    assert detector.config.tiling == Tiling((64, 64), 16)
    options = read_description(folder)["provenance"]["run"]["data"]
    held_out = [sample.path for sample in DataOptions(**options).read().select(split="calibration")]
    assert len(held_out) == 2
    assert detector.calibration.scores == pytest.approx(sorted(highest_of_tiles(folder, held_out)), rel=1e-5)


@torch.no_grad()
def test_it_learns_from_tiles(place):
    folder = place / "tiled/detector"
    detector = load_detector(folder)
    options = read_description(folder)["provenance"]["run"]["data"]
    trained = [sample.path for sample in DataOptions(**options).read().select(split="train")]
    tiles = [tile for path in trained for tile in cut(path)]
    assert len(tiles) == 6 * 6
    features = detector.features(torch.stack([detector.prepare(tile) for tile in tiles]))
    expected = detector.distributions.kept(features).mean(0).mT
    # Tiles are kept in float16, with 11 bits.
    torch.testing.assert_close(detector.distributions.mean, expected, rtol=0, atol=2e-3 * expected.std().item())


def test_commands_follow_the_detector(place, tmp_path, capsys):
    data = place / "data"
    assert (
        said(["evaluate", str(place / "tiled"), str(data), f"--output={tmp_path / 'judged'}"], capsys)[0] == 0
    )
    with (tmp_path / "judged/images.csv").open(newline="") as file:
        judged = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    words = ["inspect", str(place / "tiled"), str(data / "defective"), f"--output={tmp_path / 'found'}"]
    assert said([*words, "--raw-maps"], capsys)[0] == 0
    found = [json.loads(line) for line in (tmp_path / "found/results.jsonl").open()]
    expected = highest_of_tiles(place / "tiled/detector", [Path(row["path"]) for row in found])
    assert [row["score"] for row in found] == pytest.approx(expected, rel=1e-5)
    assert [judged[row["path"]] for row in found] == pytest.approx(expected, rel=1e-5)
    assert np.load(tmp_path / "found" / found[0]["map"]).shape == (100, 150)
    inspector = subspect.load(place / "tiled")
    assert inspector(found[0]["path"]).score == found[0]["score"]


def test_tiles_that_the_threshold_was_not_made_for_are_refused(place, tmp_path, capsys):
    words = ["inspect", str(place / "whole"), str(place / "data/defective"), f"--output={tmp_path / 'out'}"]
    part = "calibrated on whole pictures and says nothing of tiles of 64x64 pixels with an overlap of 16"
    assert_fails([*words, *TILES], capsys, part, "subspect calibrate")
    assert_fails([*words, "--overlap=16"], capsys, "an overlap belongs to tiles")
    assert said([*words, *TILES, "--threshold=5"], capsys)[0] == 0


def test_a_detector_is_calibrated_anew(place, tmp_path, capsys, caplog):
    output, normal = tmp_path / "calibrated", write_pictures(tmp_path / "normal", 4, (100, 150), seed=7)
    words = ["calibrate", str(place / "whole"), str(tmp_path / "normal"), f"--output={output}"]
    assert_fails([*words, "--false-alarm-rate=0.1"], capsys, "needs 9 normal images", "but 4 are held")
    assert_fails([*words[:2], str(place / "tiny.yaml"), words[3]], capsys, "tiny.yaml")
    code, out, _ = said([*words, *TILES, "--false-alarm-rate=0.4"], capsys)
    assert code == 0
    assert f"written: {output}" in out
    made, before = load_detector(output), load_detector(place / "whole/detector")
    assert made.config.tiling == Tiling((64, 64), 16)
    scores = sorted(highest_of_tiles(output, normal))
    assert made.calibration.scores == pytest.approx(scores, rel=1e-5)
    assert made.calibration.threshold == pytest.approx(scores[2], rel=1e-5)  # the ceil(5 · 0.6) = 3rd
    assert all((made.state_dict()[name] == value).all() for name, value in before.state_dict().items())
    assert "used in" not in caplog.text
    assert_fails([*words, *TILES], capsys, "exists and is not overwritten")
    again = ["calibrate", str(output), str(tmp_path / "normal"), f"--output={tmp_path / 'again'}"]
    assert said(again, capsys)[0] == 0
    assert "4 of 4 pictures were used" in caplog.text
    assert load_detector(tmp_path / "again").config.tiling == Tiling((64, 64), 16)


def test_in_python(place, tmp_path):
    normal = write_pictures(tmp_path / "normal", 3, (100, 150), seed=8)
    inspector = subspect.calibrate(place / "whole", normal, tmp_path / "made", tile=64, overlap=16)
    assert inspector.threshold == pytest.approx(max(highest_of_tiles(tmp_path / "made", normal)), rel=1e-5)
    other = subspect.load(place / "whole", tile=(64, 64), overlap=16, threshold=inspector.threshold)
    np.testing.assert_array_equal(other(normal[0]).anomaly_map, inspector(normal[0]).anomaly_map)
