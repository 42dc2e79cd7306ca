"""Textures from the command line to the record of a run, and what is said without them."""

import json
import logging
from pathlib import Path

import pytest

from subspect.cli import main
from subspect.detectors.configuration import to_yaml
from subspect.storage import load_detector, read_description
from tiny import DRAEM, write_data_set, write_pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("draem-runs")
    write_data_set(folder / "data", normal=12)
    write_pictures(folder / "textures", 5, seed=3)
    (folder / "tiny.yaml").write_text(to_yaml(DRAEM))
    return folder


def train(place: Path, output: Path, *more: str) -> int:
    options = ["--method=draem", f"--config={place / 'tiny.yaml'}", f"--output={output}"]
    run = ["--accelerator", "cpu", "--precision", "32-true", "--quiet"]
    return main(["train", str(place / "data"), *options, *run, *more])


def test_a_folder_of_textures_is_recorded_and_the_detector_judges(place, tmp_path, caplog):
    run = tmp_path / "run"
    with caplog.at_level(logging.WARNING, "subspect"):
        assert train(place, run, "--textures", str(place / "textures")) == 0
    assert "textures" not in caplog.text
    recorded = json.loads((run / "textures.json").read_text())
    assert recorded["origin"] == str(place / "textures")
    assert recorded["pictures"] == 5
    assert json.loads((run / "run.json").read_text())["textures"] == str(place / "textures")
    assert read_description(run / "detector")["provenance"]["textures"] == recorded
    assert load_detector(run / "detector").provenance() == {"textures": recorded}
    assert main(["evaluate", str(run), str(place / "data")]) == 0


def test_without_textures_a_warning_says_what_that_costs(place, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "subspect"):
        assert train(place, tmp_path / "run") == 0
    assert all(part in caplog.text for part in ("--textures", "built-in surfaces", "68.4", "56.5"))
    provenance = read_description(tmp_path / "run/detector")["provenance"]
    assert provenance["textures"] == {"origin": "built-in surfaces", "pictures": 96}


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("missing", "no folder of textures"),
        ("data", "are textures, too"),
        ("broken", "2 textures cannot be read"),
    ],
)
def test_textures_that_cannot_be_used_are_refused_before_work(place, tmp_path, capsys, folder, said):
    (place / "broken").mkdir(exist_ok=True)
    for name in ("a.png", "b.jpg"):
        (place / "broken" / name).write_bytes(b"nothing")
    assert train(place, tmp_path / "run", "--textures", str(place / folder)) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_on_the_same_textures_only(place, tmp_path, capsys):
    write_pictures(tmp_path / "textures", 3, seed=5)
    words = ["--textures", str(tmp_path / "textures")]
    assert train(place, tmp_path / "run", *words) == 0
    (tmp_path / "run/detector").rename(tmp_path / "elsewhere")
    write_pictures(tmp_path / "textures", 3, seed=6)
    assert train(place, tmp_path / "run", *words, "--resume") == 1
    assert "textures.json: a run is resumed on the same images only" in capsys.readouterr().err


def test_a_method_without_textures_refuses_them(place, tmp_path, capsys):
    words = ["train", str(place / "data"), f"--output={tmp_path / 'run'}", "--accelerator=cpu", "--quiet"]
    assert main([*words, f"--textures={place / 'textures'}"]) == 1
    assert "dsr uses no textures" in capsys.readouterr().err
