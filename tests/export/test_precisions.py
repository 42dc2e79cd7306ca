"""Formats and precisions other than ONNX in float32, on a small network."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from network import Network
from subspect.export.combinations import ExportOptions, existing
from subspect.export.exporting import export_detector
from subspect.inspection.prediction import DetectorInspector
from subspect.loading import load
from tiny import write_pictures

KINDS = [kind for kind in existing() if kind != ("onnx", "float32")]
# Of the highest map value, for three layers: 2^-24, 2^-11, 2^-8 and 1/256 a layer, and some room. In float32
# more of it: PyTorch's GroupNorm sums in another order in channels-last, as detectors infer (4e-6 here).
ERRORS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.5e-2, "int8": 2e-2}


@pytest.fixture(scope="module")
def detector():
    return Network().eval()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tuple(write_pictures(tmp_path_factory.mktemp("pictures"), 4, (70, 64)))


@pytest.fixture(scope="module")
def exported(detector, pictures, tmp_path_factory):
    """The folder of the export in a format and precision."""
    made = {}

    def export(format_, precision):
        if (format_, precision) not in made:
            folder = tmp_path_factory.mktemp("exports") / f"{format_}-{precision}"
            export_detector(detector, {}, folder, ExportOptions(format_, precision, None, pictures, pictures))
            made[format_, precision] = folder
        return made[format_, precision]

    return export


@pytest.mark.parametrize(("format_", "precision"), KINDS)
def test_an_export_is_as_exact_as_its_precision(detector, pictures, exported, format_, precision):
    folder = exported(format_, precision)
    inspector, export = DetectorInspector(detector), load(folder)
    for path in pictures:
        expected, got = inspector(path), export(path)
        error = np.abs(got.anomaly_map - expected.anomaly_map).mean() / expected.anomaly_map.max()
        assert error < ERRORS[precision]
    report = json.loads((folder / "check.json").read_text())
    assert report["pictures"] == 4
    assert report["origin"] == "4 files given"


def test_float16_and_int8_take_less_room(exported):
    def size(precision):
        return (exported("openvino", precision) / "model.bin").stat().st_size

    assert size("float16") < 0.6 * size("float32")
    assert size("int8") < 0.4 * size("float32")


def test_int8_is_int8(exported):
    import onnx

    model = onnx.load(exported("onnx", "int8") / "model.onnx")
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    assert len(convolutions) == 3
    assert all(made_by[name] == "DequantizeLinear" for node in convolutions for name in node.input[:2])


def test_float16_convolves_in_float16(exported):
    import onnx

    model = onnx.load(exported("onnx", "float16") / "model.onnx")
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    assert {kinds[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}


_SILENT = """
from pathlib import Path
import openvino_telemetry
from network import Network
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector

def reported(*arguments, **more):
    raise SystemExit(f"reported {arguments} {more}")

for name in ("send_event", "start_session", "send_error"):
    setattr(openvino_telemetry.Telemetry, name, reported)
pictures = tuple(Path(PICTURES).glob("*.png"))
export_detector(Network().eval(), {}, Path(OUTPUT), ExportOptions("openvino", "int8", None, pictures, pictures))
"""


def test_nothing_is_reported_to_anybody(pictures, tmp_path):
    names = f"PICTURES, OUTPUT = {str(pictures[0].parent)!r}, {str(tmp_path / 'export')!r}\n"
    ended = subprocess.run(  # in a process of its own, because NNCF keeps quiet under pytest
        [sys.executable, "-c", names + _SILENT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "export" / "export.json").is_file()
