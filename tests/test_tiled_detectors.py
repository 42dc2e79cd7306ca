"""A detector that looks at tiles, wherever detectors are used; its maps depend on pixels alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.calibration import sample_map
from subspect.datasets.table import Sample, Table
from subspect.evaluation.evaluating import evaluate
from subspect.evaluation.gallery import examine_image
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector
from subspect.export.pictures import Part, list_parts, read_part
from subspect.inspection.inspecting import inspect_files
from subspect.inspection.prediction import DetectorInspector
from subspect.loading import load
from subspect.runs.run import calibrate_detector
from subspect.serving.description import ExportError
from subspect.tiling import TILES_AT_ONCE, Tiling

TILING = Tiling((32, 32), 9)
SIZE = (90, 141)
SPOTS = {"good": [(20, 0.02), (80, 0.1)], "spot": [(25, 0.3), (41, 0.25), (1, 0.05)]}
"""For each picture of a kind where a spot of 3x5 pixels lies, and how much brighter it is."""


def with_spot(left, contrast):
    picture = np.full((*SIZE, 3), 0.5, np.float32)
    picture[30:33, left : left + 5, 1] += contrast
    return picture


@pytest.fixture
def table(tmp_path):
    samples = []
    for kind, spots in SPOTS.items():
        for left, contrast in spots:
            path, mask = tmp_path / f"{kind}{left}.png", tmp_path / f"{kind}{left}_mask.png"
            picture = with_spot(left, contrast)
            Image.fromarray((picture * 255).round().astype(np.uint8)).save(path)
            Image.fromarray((picture[..., 1] > 0.5).astype(np.uint8) * 255).save(mask)
            samples.append(Sample(path, "test", "spots", kind, () if kind == "good" else (mask,)))
    return Table(tuple(samples), "folder", tmp_path)


def test_a_large_picture_is_inspected_at_its_own_scale_in_batches_of_tiles():
    detector = BrightnessDetector(tiling=TILING)
    inspection = DetectorInspector(detector)(with_spot(25, 0.3))  # a seam lies at column 27
    assert inspection.score == pytest.approx(0.3, abs=1e-6)
    expected = np.zeros(SIZE)
    expected[30:33, 25:30] = 0.3
    np.testing.assert_allclose(inspection.anomaly_map, expected, atol=1e-6)
    (region,) = inspection.regions
    assert (region.box, region.area) == ((25, 30, 30, 33), 15)
    assert sum(batch[0] for batch in detector.batches) == 4 * 6
    assert {batch[1:] for batch in detector.batches} == {(3, 32, 32)}
    assert max(batch[0] for batch in detector.batches) <= TILES_AT_ONCE


def test_a_whole_picture_would_have_been_made_smaller():
    assert DetectorInspector(BrightnessDetector())(with_spot(25, 0.3)).score < 0.2


def test_a_list_of_pictures_of_several_sizes():
    inspector = DetectorInspector(BrightnessDetector(tiling=TILING))
    pictures = [with_spot(25, 0.3), with_spot(60, 0.2)[:50], with_spot(3, 0.1)[:, :20]]
    found = inspector(pictures)
    assert [one.score for one in found] == pytest.approx([0.3, 0.2, 0.1], abs=1e-6)
    assert [one.anomaly_map.shape for one in found] == [picture.shape[:2] for picture in pictures]


def test_calibration_takes_whole_pictures_in_tiles(table):
    paths = [sample.path for sample in table]
    calibration = calibrate_detector(BrightnessDetector(tiling=TILING), paths, 0.5, "cpu")
    contrasts = sorted(contrast for spots in SPOTS.values() for _, contrast in spots)
    assert calibration.scores == pytest.approx(contrasts, abs=1 / 255)
    exact = BrightnessDetector(image_size=None)
    maps = [one.anomaly_map for one in DetectorInspector(exact)(paths)]
    pooled = np.concatenate([sample_map(anomaly_map) for anomaly_map in maps])
    level = np.quantile(pooled, 0.999, method="higher")
    assert calibration.map_threshold == pytest.approx(level, abs=1e-6)


def test_evaluation_compares_pixels_at_the_size_of_the_pictures(table):
    tiled = evaluate(BrightnessDetector(tiling=TILING), table)
    whole = evaluate(BrightnessDetector(image_size=None), table)
    assert [row.score for row in tiled.rows] == pytest.approx([row.score for row in whole.rows], abs=1e-6)
    assert tiled.overall.pixel_ap == pytest.approx(whole.overall.pixel_ap, abs=1e-3)
    assert tiled.overall.pixel_ap > 0.9 > evaluate(BrightnessDetector(), table).overall.pixel_ap
    with pytest.raises(ValueError, match=r"works at tiles of 32x32 pixels with an overlap of 9; use 'whole'"):
        evaluate(BrightnessDetector(tiling=TILING), table, protocol="paper")


def test_inner_pictures_are_blended(table):
    inspector = DetectorInspector(BrightnessDetector(tiling=TILING))
    (inner,) = examine_image(inspector, table.samples[2]).inner.values()
    np.testing.assert_array_equal(inner, 255 - np.asarray(Image.open(table.samples[2].path)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled") / "export"
    export_detector(BrightnessDetector(tiling=TILING), {}, folder, ExportOptions())  # takes the tiles' size
    return folder


def test_an_export_looks_at_tiles_as_its_detector_does(exported, table, tmp_path):
    inspector = load(exported)
    assert inspector.tiling == TILING
    expected = DetectorInspector(BrightnessDetector(tiling=TILING))
    for sample in table:
        ours, theirs = inspector(sample.path), expected(sample.path)
        np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-6)
        assert ours.score == pytest.approx(theirs.score, abs=1e-6)
    summary = inspect_files(inspector, [sample.path for sample in table], tmp_path / "out")
    assert (summary.normal, summary.anomalous, summary.errors) == (2, 3, 0)  # at 0.099, where 26/255 is above


def test_other_tiles_take_a_threshold_of_ones_own(exported):
    with pytest.raises(ValueError, match=r"calibrated on tiles of 32x32 .* nothing of tiles of 32x32 .* of 8"):
        load(exported, tile=32)
    inspector = load(exported, tile=32, threshold=0.2)
    assert inspector.tiling == Tiling((32, 32), 8)
    assert inspector.map_threshold == inspector.threshold == 0.2
    assert load(exported, tile=32, overlap=9).threshold == pytest.approx(0.099)
    with pytest.raises(ExportError, match=r"for 32x32 pixels only, so it cannot be given tiles of 64x64"):
        load(exported, tile=64, threshold=0.2)


def test_an_export_for_pictures_of_another_size_than_the_tiles_is_refused(tmp_path):
    options = ExportOptions(picture_size=(90, 141))
    with pytest.raises(ValueError, match=r"looks at tiles of 32x32 .* leave out --size, or give 32x32"):
        export_detector(BrightnessDetector(tiling=TILING), {}, tmp_path / "out", options)


def test_int8_takes_its_ranges_from_tiles(table):
    paths = [sample.path for sample in table]
    assert list_parts(paths, None) == [Part(path) for path in paths]
    parts = list_parts(paths, TILING)
    assert len(set(parts)) == len(parts) == 5 * 24
    first = next(part for part in parts if part.path == paths[0] and part.place == 0)
    expected = np.asarray(Image.open(paths[0]), np.float32)[:32, :32] / 255
    np.testing.assert_allclose(read_part(first), expected, atol=1e-7)
    assert len(list_parts(paths * 20, TILING)) == 300


def test_int8_takes_its_ranges_from_300_pictures_at_most(table):
    many = [Path(str(number)) for number in range(700)]
    parts = list_parts(many, None)
    assert len(set(parts)) == 300
    assert parts == list_parts(many, None)
    assert 250 < np.mean([int(part.path.name) for part in parts]) < 450  # from all over the list
    assert len(list_parts([table.samples[0].path] * 700, TILING)) == 300
