"""Formats and precisions other than ONNX in float32, on the method whose export is quickest."""

import json

import numpy as np
import pytest

from subspect.calibration import calibrate
from subspect.export.combinations import ExportOptions, existing
from subspect.export.exporting import export_detector
from subspect.loading import load
from subspect.prediction import DetectorInspector
from tiny import settled_detector, write_pictures

KINDS = [kind for kind in existing() if kind != ("onnx", "float32")]
# Of the detector's highest map value; the bounds of export.combinations leave room for deeper networks.
ERRORS = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 2e-2, "int8": 3e-2}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    made = settled_detector("padim", tmp_path_factory.mktemp("padim"))
    made.calibration = calibrate([1.0, 2.0], [np.ones((4, 4), np.float32)], 0.5)
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tuple(write_pictures(tmp_path_factory.mktemp("pictures"), 4, (70, 64)))


@pytest.mark.parametrize(("format_", "precision"), KINDS)
def test_an_export_is_as_exact_as_its_precision(detector, pictures, format_, precision, tmp_path):
    options = ExportOptions(format_, precision, images=pictures, normal_images=pictures)
    export_detector(detector, {}, tmp_path / "export", options)
    inspector, exported = DetectorInspector(detector), load(tmp_path / "export")
    for path in pictures:
        expected, got = inspector(path), exported(path)
        error = np.abs(got.anomaly_map - expected.anomaly_map).mean() / expected.anomaly_map.max()
        assert error < ERRORS[precision]
    report = json.loads((tmp_path / "export" / "check.json").read_text())
    assert report["pictures"] == 4
    assert report["origin"] == "4 files given"


def test_int8_and_float16_take_less_room(detector, pictures, tmp_path):
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        folder = tmp_path / precision
        export_detector(detector, {}, folder, ExportOptions("openvino", precision, None, pictures, pictures))
        sizes[precision] = (folder / "model.bin").stat().st_size
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.95 * sizes["float32"]  # its distributions, most of the detector, stay in float32
