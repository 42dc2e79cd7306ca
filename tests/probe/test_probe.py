"""The whole probe: with a detector whose every score can be foreseen, and as a command on a trained one."""

import csv
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.cli import main
from subspect.datasets import read_table
from subspect.files import content_digest
from subspect.inspection.prediction import DetectorInspector
from subspect.probe.families import make_families
from subspect.probe.measuring import find_hosts, plant_and_score
from subspect.probe.probing import Probed, ProbeOptions, probe
from subspect.runs.run import RunOptions, train
from subspect.storage import read_description, save_detector
from tiny import QUIET, settled_detector, tiny_run, write_data_set, write_latent_model, write_pictures

BRIGHTNESS = Probed(
    "brightness", DetectorInspector(BrightnessDetector(image_size=None), threshold=0.3), {"not_to_judge": []}
)
SAME_PICTURE = "Swapped patches come from the same picture"
FILES = {"probe.json", "probe.md", "findings.csv", "curves.png", "scores.png"}


def write_grey(folder, levels):
    folder.mkdir()
    for index, level in enumerate(levels):
        Image.fromarray(np.full((48, 64, 3), level, np.uint8)).save(folder / f"{index}.png")
    return folder


def rows_of(output):
    with (output / "findings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_detector_of_brightness_finds_what_its_threshold_says(tmp_path):
    # Mid-grey scores 0; the last two are false alarms as they are.
    folder = write_grey(tmp_path / "pictures", [127, 128, 127, 255, 0])
    options = ProbeOptions(count=12, contrasts=(0.2, 0.4))
    result = probe(BRIGHTNESS, read_table(folder, "folder"), tmp_path / "out", options)
    assert (result.pictures, result.false_alarms) == (3, 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 12 * 7
    assert {row["path"] for row in rows} == {str(folder / f"{index}.png") for index in range(3)}
    for row in rows:
        size, score = float(row["size"]), float(row["score"])
        assert int(row["found"]) == (score > 0.3)
        kind, _, contrast = row["family"].partition(", contrast ")
        if contrast and size > 3 and kind == "spot":  # from there on it covers whole pixels
            assert score == pytest.approx(float(contrast), abs=0.003)
        elif not contrast:
            assert score < 0.003  # a grey picture warped, displaced, or swapped with a grey one
    written = json.loads((tmp_path / "out/probe.json").read_text())
    names = ("detector", "root", "layout", "category", "pictures", "count", "seed")
    assert [written[name] for name in names] == ["brightness", str(folder), "folder", "pictures", 3, 12, 0]
    families = {one["name"]: one for one in written["families"]}
    faint, clear = families["spot, contrast 0.2"]["hit_miss"], families["spot, contrast 0.4"]
    assert faint["a90"] == {"value": None, "reason": "none of 12 was found, up to the largest size, 12"}
    assert clear["found"] == sum(int(row["found"]) for row in rows if row["family"] == "spot, contrast 0.4") > 6
    table = (tmp_path / "out/probe.md").read_text()
    assert table == result.render()
    assert SAME_PICTURE not in table
    assert "3 normal pictures planted into, 2 left out as false alarms" in table
    assert "- spot, contrast 0.2: hit/miss: no a90: none of 12 was found, up to the largest size, 12." in table
    for name in ("curves.png", "scores.png"):
        with Image.open(tmp_path / "out" / name) as drawn:
            assert np.ptp(np.asarray(drawn.convert("L"))) > 100


def test_sizes_are_graded_and_spread_over_the_pictures(tmp_path):
    folder = write_grey(tmp_path / "pictures", [127, 128, 127, 126])
    probe(BRIGHTNESS, read_table(folder, "folder"), tmp_path / "out", ProbeOptions(12, (0.4,)))
    rows = [row for row in rows_of(tmp_path / "out") if row["family"] == "spot, contrast 0.4"]
    np.testing.assert_allclose(sorted(float(row["size"]) for row in rows), np.geomspace(1, 12, 12))
    paths = [row["path"] for row in rows]
    assert {paths.count(path) for path in paths} == {3}


def test_a_single_picture_is_said_to_swap_patches_with_itself(tmp_path):
    folder = write_grey(tmp_path / "pictures", [127])
    result = probe(BRIGHTNESS, read_table(folder, "folder"), tmp_path / "out", ProbeOptions(10, (0.4,)))
    assert SAME_PICTURE in result.render()
    remarks = json.loads((tmp_path / "out/probe.json").read_text())["remarks"]
    assert "several of the 10 defects" in remarks[0]
    assert SAME_PICTURE in remarks[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, and a tiny DSR detector trained on it."""
    folder = tmp_path_factory.mktemp("probe")
    write_data_set(folder / "data", normal=12, defective=2)
    weights = write_latent_model(folder / "latent.safetensors")
    train(tiny_run(folder / "data", weights), folder / "run", RunOptions(QUIET))
    return folder


def words(place, output, *more):
    return ["probe", str(place / "run"), str(place / "data"), f"--output={output}", "--count=10", *more]


def test_the_command_leaves_out_what_the_detector_has_seen(place, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "subspect")
    assert main(words(place, tmp_path / "out", "--contrasts", "0.5", "--threshold=100")) == 0
    assert "10 of 12 images were used in training or calibration and are left out" in caplog.text
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    rows = rows_of(tmp_path / "out")
    with (place / "run/split.csv").open(newline="") as file:
        held_out = {
            str(place / "data" / row["path"])
            for row in csv.DictReader(file)
            if row["split"] == "test" and row["defect"] == "good"
        }
    assert {row["path"] for row in rows} == held_out
    out = capsys.readouterr().out
    assert "none of 10 was found" in out
    assert f"written: {tmp_path / 'out'}" in out
    families = json.loads((tmp_path / "out/probe.json").read_text())["families"]
    assert len(families) == 5
    assert all(one["found"] == 0 and one["hit_miss"]["a90"]["value"] is None for one in families)


def test_layout_and_category_are_those_of_the_training(tmp_path):
    for number, category in enumerate(("bolt", "nut")):
        for index, (kind, count) in enumerate((("train/good", 2), ("test/good", 2), ("test/dent", 2))):
            write_pictures(tmp_path / "data" / category / kind, count, seed=10 * number + index)
    data = {"layout": "mvtec_ad", "category": "nut"}
    provenance = {"run": {"data": data}, "not_to_judge": []}
    save_detector(settled_detector("riad", tmp_path), tmp_path / "run/detector", provenance)
    assert main(words(tmp_path, tmp_path / "out", "--contrasts=0.5", "--threshold=100")) == 0
    assert {row["path"] for row in rows_of(tmp_path / "out")} == {
        str(path) for path in (tmp_path / "data/nut").glob("*/good/*.png")
    }
    written = json.loads((tmp_path / "out/probe.json").read_text())
    assert written["detector"] == str(tmp_path / "run/detector")
    assert (written["root"], written["layout"], written["category"]) == (
        str(tmp_path / "data"), "mvtec_ad", "nut"
    )  # fmt: skip


def test_the_same_seed_gives_the_same_findings_and_another_seed_others(tmp_path):
    paths = write_pictures(tmp_path / "pictures", 3, size=(48, 64))
    inspector = DetectorInspector(BrightnessDetector(image_size=None), threshold=0.45)
    families = make_families([0.4])
    hosts = find_hosts(inspector, paths, 10)
    first, again, other = (plant_and_score(inspector, hosts, families, 10, seed) for seed in (0, 0, 1))
    assert first == again != other
    # Each family is random on its own: what is probed beside it has no influence.
    alone = plant_and_score(inspector, hosts, families[:1], 10, 0)
    assert alone == first[:10]


def refused(words, capsys):
    capsys.readouterr()
    assert main(words) == 1
    return capsys.readouterr().err


def test_what_cannot_be_probed_is_one_line_and_leaves_nothing(place, tmp_path, capsys):
    seen = set(read_description(place / "run/detector")["provenance"]["not_to_judge"])
    known = tmp_path / "known"
    known.mkdir()
    for path in (place / "data/normal").iterdir():
        if content_digest(path) in seen:
            shutil.copy(path, known)
    write_pictures(tmp_path / "small", 2, size=(20, 64), seed=9)
    output = tmp_path / "out"
    for more, part in (
        ([str(known)], "trained or calibrated on all 10 images"),
        ([str(tmp_path / "small")], "20 pixels at its shorter side; a probe needs 32"),
        ([str(tmp_path / "nowhere")], "nowhere: no such folder"),
        ([str(place / "data"), "--threshold=-1"], "all 2 pictures are called anomalous as they are"),
        ([str(place / "data"), "--count=5"], "10 defects at least"),
        ([str(place / "data"), "--contrasts=2"], "contrasts lie above 0"),
    ):
        assert part in refused(["probe", str(place / "run"), *more, f"--output={output}"], capsys)
        assert not output.exists()
    inside = place / "data/out"
    assert "lies inside" in refused(words(place, inside), capsys)
    (tmp_path / "mine").mkdir()
    assert "exists and is not overwritten" in refused(words(place, tmp_path / "mine"), capsys)
