"""Inspection with a detector whose every number can be foreseen."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brightness import BrightnessDetector
from subspect.images import ImageError
from subspect.inspection.inspecting import DetectorError, inspect_files, unique_names
from subspect.inspection.prediction import DetectorInspector, predict
from subspect.inspection.regions import Region


def grey(level, size=(32, 32), dtype=np.float32):
    return np.full(size, level, dtype=dtype)


def with_spot(level=1.0, size=(32, 32)):
    picture = grey(0.5, size)
    picture[4:8, 10:20] = level
    return picture


@pytest.fixture
def inspector():
    return DetectorInspector(BrightnessDetector())


def test_a_defect_is_scored_judged_and_located(inspector):
    inspection = inspector(with_spot(1.0))
    assert inspection.score == 0.5
    assert inspection.threshold == pytest.approx(0.099)
    assert inspection.anomalous
    assert inspection.regions == (Region(box=(10, 4, 20, 8), area=40, peak=0.5, peak_position=(10, 4)),)
    expected = np.zeros((32, 32), np.float32)
    expected[4:8, 10:20] = 0.5
    np.testing.assert_array_equal(inspection.anomaly_map, expected)


def test_a_normal_picture_has_no_regions(inspector):
    inspection = inspector(with_spot(0.55))
    assert inspection.score == pytest.approx(0.05)
    assert not inspection.anomalous
    assert inspection.verdict == "normal"
    assert inspection.regions == ()


def test_a_score_at_the_threshold_is_normal():
    detector = BrightnessDetector()
    assert not DetectorInspector(detector, threshold=0.25)(grey(0.75)).anomalous
    assert DetectorInspector(detector, threshold=np.nextafter(0.25, 0))(grey(0.75)).anomalous


@pytest.mark.parametrize(
    ("picture", "score"),
    [
        (grey(255, dtype=np.uint8), 0.5),
        (grey(51, dtype=np.uint8), 0.3),
        (grey(65535, dtype=np.uint16), 0.5),
        (grey(13107, dtype=np.uint16), 0.3),
        (grey(0.25, dtype=np.float64), 0.25),
        (np.stack([grey(1.0), grey(0.5), grey(0.0)], axis=2), 0.0),
        (np.stack([grey(1.0), grey(0.25), grey(0.0), grey(0.9)], axis=2), 0.25),  # alpha is dropped
        (grey(51, dtype=np.uint8)[..., None], 0.3),
    ],
)
def test_every_kind_of_array_is_understood(inspector, picture, score):
    assert inspector(picture).score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (grey(128.0), r"lies in \[0, 1\], got 128"),
        (grey(-0.1), "got -0.1"),
        (grey(np.nan), "got nan"),
        (grey(1, dtype=np.int64), "int64"),
        (np.zeros((4, 8, 8, 3)), "several as a list"),
        (np.zeros((8, 8, 2)), r"\(8, 8, 2\)"),
        (np.zeros((8, 8, 5)), r"\(8, 8, 5\)"),
        (np.zeros((0, 8)), r"\(0, 8\)"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(inspector, picture, message):
    with pytest.raises(ValueError, match=message):
        inspector(picture)


def test_the_map_has_the_pictures_own_size(inspector):
    picture = grey(0.5, (96, 64))
    picture[48:, :] = 1.0
    anomaly_map = inspector(picture).anomaly_map
    assert anomaly_map.shape == (96, 64)
    assert anomaly_map.dtype == np.float32
    np.testing.assert_allclose(anomaly_map[:44], 0.0, atol=1e-6)
    np.testing.assert_allclose(anomaly_map[52:], 0.5, atol=1e-6)


def test_an_anomalous_picture_is_outlined_even_where_its_map_is_low():
    detector = BrightnessDetector()
    inspection = DetectorInspector(detector, threshold=0.01)(with_spot(0.53125))
    assert inspection.anomaly_map.max() < detector.calibration.map_threshold
    assert [region.box for region in inspection.regions] == [(10, 4, 20, 8)]


def test_lists_give_the_same_as_one_at_a_time_in_order_and_in_batches():
    detector = BrightnessDetector(image_size=None)
    sizes = [(16, 16), (16, 24), (16, 16)] * 4
    pictures = [grey(0.5 + index / 40, size) for index, size in enumerate(sizes)]
    together = DetectorInspector(detector)(pictures)
    assert [one.score for one in DetectorInspector(BrightnessDetector(image_size=None))(tuple(pictures))] == [
        one.score for one in together
    ]
    assert detector.batches == [(5, 3, 16, 16), (3, 3, 16, 24), (3, 3, 16, 16), (1, 3, 16, 24)]
    alone = [DetectorInspector(detector)(picture) for picture in pictures]
    assert [one.score for one in together] == [one.score for one in alone]
    assert [one.score for one in together] == pytest.approx([index / 40 for index in range(12)], abs=1e-6)
    assert [one.anomaly_map.shape for one in together] == sizes
    assert DetectorInspector(detector)([]) == []


def test_paths_are_read(inspector, tmp_path):
    Image.fromarray(grey(255, dtype=np.uint8)).save(tmp_path / "white.png")
    (tmp_path / "broken.png").write_text("no picture")
    first, second = inspector([str(tmp_path / "white.png"), tmp_path / "white.png"])
    assert first.score == second.score == 0.5
    with pytest.raises(ImageError, match="broken"):
        inspector(tmp_path / "broken.png")


def test_a_detector_without_calibration_needs_a_threshold():
    with pytest.raises(ValueError, match="no calibration"):
        DetectorInspector(BrightnessDetector(calibrated=False))
    inspection = DetectorInspector(BrightnessDetector(calibrated=False), threshold=0.2)(with_spot())
    assert inspection.anomalous
    assert inspection.threshold == 0.2
    assert inspection.regions[0].area == 40


def test_a_threshold_that_is_no_number_is_refused():
    for value in (float("nan"), np.float32("nan")):
        with pytest.raises(ValueError, match="the threshold is not a number"):
            DetectorInspector(BrightnessDetector(), threshold=value)


def test_the_detector_is_used_in_evaluation_mode(inspector):
    assert not inspector.detector.training


def test_values_that_are_not_numbers_are_never_called_normal():
    class Broken(BrightnessDetector):
        def forward(self, images):
            return super().forward(images * torch.nan)

    with pytest.raises(DetectorError, match="not finite"):
        predict(Broken(), [np.zeros((8, 8, 3), np.float32)], "cpu")


def save(path, picture):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def files(tmp_path):
    paths = [
        save(tmp_path / "a" / "part.png", with_spot(1.0, (40, 60))),
        tmp_path / "a" / "broken.png",
        save(tmp_path / "b" / "part.png", grey(0.5, (32, 48))),
        tmp_path / "missing.png",
        save(tmp_path / "b" / "PART.bmp", with_spot(0.0)),
    ]
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return paths


def test_files_stream_into_results_and_pictures(inspector, files, tmp_path):
    output = tmp_path / "out"
    summary = inspect_files(inspector, files, output, raw_maps=True)
    assert (summary.normal, summary.anomalous, summary.errors) == (1, 2, 2)
    rows = [json.loads(line) for line in summary.results.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert [row.get("verdict") for row in rows] == ["anomalous", None, "normal", None, "anomalous"]
    assert "broken.png" in rows[1]["error"]
    assert "missing.png" in rows[3]["error"]
    assert rows[4]["score"] == 0.5
    assert rows[4]["threshold"] == inspector.threshold
    assert rows[4]["regions"] == [{"box": [10, 4, 20, 8], "area": 40, "peak": 0.5}]
    assert rows[2]["regions"] == []
    assert len({row["picture"].casefold() for row in rows if "picture" in row}) == 3
    for row in (rows[0], rows[2], rows[4]):
        source = Image.open(row["path"])
        drawn = Image.open(output / row["picture"])
        assert drawn.width >= 2 * source.width
        assert drawn.height > source.height
        expected = inspector(row["path"]).anomaly_map
        np.testing.assert_array_equal(np.load(output / row["map"]), expected)


def test_maps_are_written_only_when_asked_for(inspector, files, tmp_path):
    inspect_files(inspector, files, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pictures", "results.jsonl"]


def test_earlier_results_are_not_touched(inspector, files, tmp_path):
    output = tmp_path / "out"
    inspect_files(inspector, files[:1], output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"results\.jsonl"):
        inspect_files(inspector, files, output)
    (output / "results.jsonl").rename(tmp_path / "kept.jsonl")
    with pytest.raises(FileExistsError, match="pictures"):
        inspect_files(inspector, files, output)
    del before[output / "results.jsonl"]
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_results_stand_in_the_file_while_the_work_goes_on(inspector, files, tmp_path):
    seen = []

    class Watching(type(inspector.detector)):
        def forward(self, images):
            seen.append(len((tmp_path / "out" / "results.jsonl").read_text().splitlines()))
            return super().forward(images)

    inspect_files(DetectorInspector(Watching()), files, tmp_path / "out")
    assert seen == [0, 2, 4]


def test_no_files_are_an_error_before_a_folder_is_made(inspector, tmp_path):
    with pytest.raises(ValueError, match="no image files"):
        inspect_files(inspector, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_old_or_long_files_stop_nothing(inspector, files, tmp_path):
    names = [b"caf\xe9.png", b"\xe9.png", b"p" * 250 + b".png", b"p" * 249 + b"q.png"]
    paths = [tmp_path / "a" / os.fsdecode(name) for name in names]
    for path in paths:
        path.write_bytes(files[0].read_bytes())
    rows = (
        inspect_files(inspector, paths, tmp_path / "out", raw_maps=True).results.read_text("utf-8").splitlines()
    )
    assert [json.loads(row)["path"] for row in rows] == [str(path) for path in paths]
    drawn = {path.name for path in (tmp_path / "out/pictures").iterdir()}
    assert drawn == {"caf.png", "picture.png", f"{'p' * 200}.png", f"{'p' * 200}_2.png"}


def test_names_are_stems_where_those_differ():
    assert unique_names([Path("one/a.png"), Path("two/b.png")]) == ["a", "b"]


def test_same_stems_get_their_folders_name():
    paths = [Path("good/000.png"), Path("hole/000.png"), Path("hole/001.png")]
    assert unique_names(paths) == ["good_000", "hole_000", "001"]


def test_names_are_unique_whatever_the_stems():
    paths = [Path("f") / name for name in ("a.png", "a.jpg", "A.bmp", "f_a.png", "b.png")]
    assert unique_names(paths) == ["f_a", "f_a_2", "f_A_3", "f_a_4", "b"]
