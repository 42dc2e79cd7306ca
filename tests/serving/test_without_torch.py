"""Inspecting with exports where there is no torch, nor anything else that only training needs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector
from subspect.prediction import DetectorInspector

_WITHOUT = """
import sys

class Absent:
    names = {
        "torch", "lightning", "pytorch_lightning", "torchvision", "timm", "safetensors", "scipy", "skimage",
        "matplotlib", "rich", "jinja2", "huggingface_hub", "onnx", "nncf", "tensorboard",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
_PYTHON = """
import numpy, subspect
inspector = subspect.load({export!r}, threshold=0.25)
found = inspector([{picture!r}, numpy.full((20, 30), 128, numpy.uint8)])
print(found[0].verdict, found[0].score, found[0].regions[0].box, found[1].verdict)
"""
_THREADS = """
import pathlib, subspect
inspector = subspect.load({export!r}, threshold=0.25)
inspector({picture!r})
print(len(list(pathlib.Path("/proc/self/task").iterdir())))
"""
_COMMAND = "import sys; from subspect.cli import main; sys.exit(main({words!r}))"


def process(code: str, **more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT + code], env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def export(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "export"
    export_detector(BrightnessDetector(), {}, folder, ExportOptions(request.param))
    return folder


@pytest.fixture
def picture(tmp_path):
    pixels = np.full((40, 50, 3), 128, np.uint8)
    pixels[8:16, 10:30, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "bright.png")
    return tmp_path / "bright.png"


def test_the_python_call_works(export, picture):
    ended = process(_PYTHON.format(export=str(export), picture=str(picture)))
    assert ended.returncode == 0, ended.stderr
    expected = DetectorInspector(BrightnessDetector(), threshold=0.25)(picture)
    verdict, score = ended.stdout.split()[:2]
    assert verdict == expected.verdict == "anomalous"
    assert float(score) == pytest.approx(expected.score, abs=1e-6)
    assert str(expected.regions[0].box) in ended.stdout
    assert ended.stdout.split()[-1] == "normal"


def test_large_pictures_are_looked_at_in_tiles(export, tmp_path):
    pixels = np.full((90, 200, 3), 128, np.uint8)
    pixels[50:52, 40:42, 1] = 255  # would fade if the picture were made smaller
    Image.fromarray(pixels).save(tmp_path / "large.png")
    words = [
        "inspect",
        str(export),
        str(tmp_path / "large.png"),
        f"--output={tmp_path / 'found'}",
        "--raw-maps",
    ]
    ended = process(_COMMAND.format(words=[*words, "--tile=32", "--overlap=9"]))
    assert ended.returncode == 1
    assert "calibrated on whole pictures" in ended.stderr
    ended = process(_COMMAND.format(words=[*words, "--tile=32", "--overlap=9", "--threshold=0.25"]))
    assert ended.returncode == 0, ended.stderr
    row = json.loads((tmp_path / "found/results.jsonl").read_text())
    assert row["score"] == pytest.approx(0.5)
    assert row["regions"][0]["box"] == [40, 50, 42, 52]
    expected = np.abs(pixels[..., 1] / 255 - 0.5)
    np.testing.assert_allclose(np.load(tmp_path / "found" / row["map"]), expected, atol=1e-6)


def test_the_command_works(export, picture, tmp_path):
    output = tmp_path / "found"
    words = ["inspect", str(export), str(picture), f"--output={output}", "--raw-maps", "--false-alarm-rate=0.5"]
    ended = process(_COMMAND.format(words=words))
    assert ended.returncode == 0, ended.stderr
    row = json.loads((output / "results.jsonl").read_text())
    expected = DetectorInspector(BrightnessDetector(), threshold=row["threshold"])(picture)
    assert row["threshold"] == BrightnessDetector().calibration.with_rate(0.5).threshold
    assert row["verdict"] == "anomalous"
    assert row["regions"][0]["box"] == list(expected.regions[0].box)
    np.testing.assert_allclose(np.load(output / row["map"]), expected.anomaly_map, atol=1e-6)
    assert (output / row["picture"]).is_file()


def test_threads_are_limited_as_pytorchs_are(export, picture):
    if not export.parent.name.startswith("onnx"):
        pytest.skip("counted for ONNX Runtime")
    code = _THREADS.format(export=str(export), picture=str(picture))
    # NumPy's own threads follow the same limit, as far as there are processors.
    threads = [
        int(process(code, OMP_NUM_THREADS=limit, OPENBLAS_NUM_THREADS="1").stdout) for limit in ("1", "4")
    ]
    assert threads[1] - threads[0] == 3


def test_commands_that_need_torch_say_how_to_get_it(tmp_path):
    (tmp_path / "good").mkdir()
    ended = process(_COMMAND.format(words=["train", str(tmp_path), f"--output={tmp_path / 'run'}"]))
    assert ended.returncode == 1
    assert "is not installed: pip install 'subspect[train]'" in ended.stderr
    assert "Traceback" not in ended.stderr
