"""Inspecting with exports where there is no torch, nor anything else that only training needs."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from brightness import BrightnessDetector
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector
from subspect.inspection.prediction import DetectorInspector

_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Selective(PathFinder):
    absent = frozenset({names!r})

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Selective
"""
_PYTHON = """
import numpy, subspect
inspector = subspect.load({export!r}, threshold=0.25)
found = inspector([{picture!r}, numpy.full((20, 30), 128, numpy.uint8)])
print(found[0].verdict, found[0].score, found[0].regions[0].box, found[1].verdict)
"""
_START = """
import time
before = time.process_time()
import subspect
subspect.load({export!r}, threshold=0.25)
print(time.process_time() - before)
"""
_THREADS = """
import pathlib, subspect
inspector = subspect.load({export!r}, threshold=0.25)
inspector({picture!r})
print(len(list(pathlib.Path("/proc/self/task").iterdir())))
"""
_COMMAND = "import sys; from subspect.cli import main; sys.exit(main({words!r}))"


PROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = {"onnx": "runtime", "openvino": "openvino"}
"""What runs each format, as an extra of subspect."""


def required(lines: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements bring along, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    waiting = [(one, extra) for one in map(Requirement, lines) for extra in ("", *one.extras)]
    while waiting:
        one, extra = waiting.pop()
        if (key := (canonicalize_name(one.name), extra)) in found:
            continue
        found.add(key)
        further = [more for more in requirements_of(one.name) if applies(more, extra)]
        waiting += [(more, its_extra) for more in further for its_extra in ("", *more.extras)]
    return {name for name, _ in found}


def applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def requirements_of(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:  # it is for another system
        return []


@cache
def absent(extra: str) -> list[str]:
    """Modules that are installed here, but not where there is nothing but subspect with an extra."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    there = {"subspect"} | required([*project["dependencies"], *project["optional-dependencies"][extra]])
    modules = metadata.packages_distributions()
    return sorted(name for name, of in modules.items() if not there & set(map(canonicalize_name, of)))


def process(code: str, export: Path | None = None, **more: str) -> subprocess.CompletedProcess:
    """Runs code where nothing is installed but subspect and what runs an export (ONNX Runtime without one)."""
    format_ = json.loads((export / "export.json").read_text())["format"] if export else "onnx"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}
    code = _WITHOUT.format(names=absent(EXTRAS[format_])) + code
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def export(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "export"
    export_detector(BrightnessDetector(), {}, folder, ExportOptions(request.param))
    return folder


def test_what_is_not_required_is_not_there():
    names = set(absent("runtime"))
    installed = {name for name in ("torch", "scipy", "tqdm", "networkx", "openvino", "onnx") if find_spec(name)}
    assert installed <= names
    # PyYAML comes with jsonargparse.
    assert not names & {"subspect", "numpy", "PIL", "tifffile", "jsonargparse", "yaml", "onnxruntime"}
    assert "openvino" not in absent("openvino")
    assert "No module named 'torch'" in process("import torch").stderr


@pytest.fixture
def picture(tmp_path):
    pixels = np.full((40, 50, 3), 128, np.uint8)
    pixels[8:16, 10:30, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "bright.png")
    return tmp_path / "bright.png"


def test_the_python_call_works(export, picture):
    ended = process(_PYTHON.format(export=str(export), picture=str(picture)), export)
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
    ended = process(_COMMAND.format(words=[*words, "--tile=32", "--overlap=9"]), export)
    assert ended.returncode == 1
    assert "calibrated on whole pictures" in ended.stderr
    ended = process(_COMMAND.format(words=[*words, "--tile=32", "--overlap=9", "--threshold=0.25"]), export)
    assert ended.returncode == 0, ended.stderr
    row = json.loads((tmp_path / "found/results.jsonl").read_text())
    assert row["score"] == pytest.approx(0.5)
    assert row["regions"][0]["box"] == [40, 50, 42, 52]
    expected = np.abs(pixels[..., 1] / 255 - 0.5)
    np.testing.assert_allclose(np.load(tmp_path / "found" / row["map"]), expected, atol=1e-6)


def test_the_command_works(export, picture, tmp_path):
    output = tmp_path / "found"
    words = ["inspect", str(export), str(picture), f"--output={output}", "--raw-maps", "--false-alarm-rate=0.5"]
    ended = process(_COMMAND.format(words=words), export)
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
        int(process(code, export, OMP_NUM_THREADS=limit, OPENBLAS_NUM_THREADS="1").stdout)
        for limit in ("1", "4")
    ]
    assert threads[1] - threads[0] == 3


def test_starting_takes_less_than_a_second(export):
    ended = process(_START.format(export=str(export)), export, OMP_NUM_THREADS="1")
    assert ended.returncode == 0, ended.stderr
    # Of processor time, which work beside it hardly changes; ONNX Runtime takes 0.4 s alone.
    assert float(ended.stdout) < 1


def test_commands_that_need_torch_say_how_to_get_it(picture, tmp_path):
    (tmp_path / "good").mkdir()
    picture.rename(tmp_path / "good/bright.png")
    ended = process(_COMMAND.format(words=["train", str(tmp_path), f"--output={tmp_path / 'run'}"]))
    assert ended.returncode == 1
    assert "is not installed: pip install 'subspect[train]'" in ended.stderr
    assert "Traceback" not in ended.stderr
