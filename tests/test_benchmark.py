"""Grids: which cells they have, that these run once, go on after a stop, fail alone, and share a test set."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import grids
from subspect.benchmark import execution
from subspect.benchmark.cells import Cell, list_cells, state
from subspect.benchmark.execution import attempt, run_grid
from subspect.benchmark.grid import read_grid
from subspect.benchmark.timing import Speed, StageSpeed, estimate, measure
from subspect.cli import main
from subspect.detectors.configuration import ConfigurationError
from subspect.evaluation.results import read_results
from subspect.training.checkpoints import newest_checkpoint
from terminated import terminated
from tiny import FREQUENT, QUIET

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def finished(place) -> tuple[list[Cell], Path]:
    """A grid of two variants and two seeds, done."""
    cells = list_cells(read_grid(grids.write_grid(place)), place / "out")
    assert run_grid(cells, place / "out", QUIET) == {"finished": 4}
    return cells, place / "out"


def stamps(output: Path) -> dict[str, int]:
    """When each file of the runs was written."""
    return {str(path): path.stat().st_mtime_ns for path in output.rglob("*/*") if path.is_file()}


def test_a_grid_has_a_cell_for_each_combination(place):
    changes = {"seeds": [0, 3]}
    grid = grids.tiny_grid(place, **changes)
    grid["methods"]["dsr"]["anomalies"] = [0, 2]
    (place / "more.yaml").write_text(yaml.safe_dump(grid))
    cells = list_cells(read_grid(place / "more.yaml"), place / "more")
    assert [cell.name for cell in cells] == [
        f"squares/data/dsr{variant}{number}-seed{seed}"
        for seed in (0, 3)
        for variant in ("", "-no_upsampling")
        for number in ("", "-n2")
    ]
    assert [cell.run.config.refine for cell in cells[:4]] == [True, True, False, False]
    assert {cell.kept_out for cell in cells} == {2}
    assert {cell.run.seed == cell.run.data.seed for cell in cells} == {True}
    assert cells[0].run.config.detection_width == 4


def test_settings_replace_single_values(place):
    path = grids.write_grid(place, "set.yaml")
    grid = read_grid(path, ["methods.dsr.steps=7", "seeds=[5]", "datasets.squares.categories=[data]"])
    assert (grid.methods["dsr"].steps, grid.seeds) == (7, (5,))
    assert grid.datasets["squares"].categories == ("data",)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("methods.drs.steps=7", "there is no methods.drs"),
        ("methods.dsr.step=7", r"there is no methods\.dsr\.step; there are: method, preset, .* variants"),
        ("methods.dsr=7", r"methods\.dsr takes values of method, preset, .*; got 7"),
        ("method={}", "there is no method; there are: datasets, methods"),
        ("datasets=squares", r"datasets takes data sets by name, e\.g\. \{surfaces: .*; got 'squares'"),
        ("datasets.squares.categories=data", r"categories takes a list of names, e\.g\. .*; got 'data'"),
        ("methods.dsr.steps=x", r"methods\.dsr\.steps takes a whole number, e\.g\. 2400; got 'x'"),
        ("methods.dsr.image_size=[64]", r"image_size takes S or \[H, W\] in pixels, .*; got \[64\]"),
        ("methods.dsr.variants=[a]", r"variants takes lists of FIELD=VALUE by name, .*; got \['a'\]"),
        ("seeds=0", r"wrong\.yaml: seeds takes a list of whole numbers, e\.g\. \[0, 1\]; got 0"),
        ("seeds=[0, -1]", "seeds are 0 or more, got -1"),
        ("methods.dsr.anomalies=[-1]", "numbers of anomalies are 0 or more, got -1"),
        ("seeds", "FIELD=VALUE"),
        ("seeds=[]", "needs seeds"),
        ("seeds=[1, 1]", "named twice"),
        ("methods.dsr.variants={a/b: []}", "'a/b' names a folder"),
        ("datasets={..: {}}", "'..' names a folder"),
        ("datasets={.: {}}", "'.' names a folder"),
        ("datasets={' ': {}}", "' ' names a folder"),
        ("protocol=papper", "protocol takes whole or paper; got 'papper'"),
    ],
)
def test_what_a_grid_cannot_be_is_named(place, setting, message):
    with pytest.raises(ConfigurationError, match=message):
        read_grid(grids.write_grid(place, "wrong.yaml"), [setting])


def test_a_file_that_is_no_grid_is_named(tmp_path):
    for content, message in ((b"\xff\xfa", "invalid start byte"), (b"- dsr", "no mapping of datasets")):
        (tmp_path / "wrong.yaml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=rf"wrong\.yaml: (.|\n)*{message}"):
            read_grid(tmp_path / "wrong.yaml")


def test_one_number_is_a_square_and_utf_16_is_yaml_too(place):
    path = grids.write_grid(place, "square.yaml")
    assert read_grid(path, ["methods.dsr.image_size=96"]).methods["dsr"].image_size == (96, 96)
    path.with_name("wide.yaml").write_text(path.read_text(), encoding="utf-16")
    assert read_grid(path.with_name("wide.yaml")) == read_grid(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("datasets.squares.root=missing", "missing"),
        ("datasets.squares.categories=[bolt]", "no category bolt in .*data"),
        ("methods.dsr.preset=slow", "no preset 'slow'"),
        ("methods.dsr.variants={odd: [refined=false]}", "refined"),
        ("methods.dsr.variants={a b: [], a_b: []}", "would share the folder"),
        ("methods.dsr.anomalies=[0, 5000]", "5000 annotated anomalous images asked for, but .* has 6"),
        ("methods.dsr.anomalies=[0, 6]", r"data in .*data \(seed 0\) has no anomalous test images .* once 6"),
        ("protocol=paper", "dsr-seed0: the protocol 'paper' .* whole images of 256x256, .* works at 64x64"),
    ],
)
def test_what_cells_cannot_be_is_said_before_any_work(place, setting, message):
    with pytest.raises(ValueError, match=message):
        list_cells(read_grid(grids.write_grid(place, "wrong.yaml"), [setting]), place / "none")
    assert not (place / "none").exists()


def test_surfaces_that_are_not_drawn_yet_must_leave_a_defect_to_judge_on(place):
    path = grids.write_grid(place, "surfaces.yaml", datasets={"surfaces": {"categories": ["grass"]}})
    # Grass has three kinds of defects, eight images of each.
    assert len(list_cells(read_grid(path, ["methods.dsr.anomalies=[23]"]), place / "none")) == 4
    with pytest.raises(ValueError, match=r"grass in the built-in surfaces .* once 24"):
        list_cells(read_grid(path, ["methods.dsr.anomalies=[24]"]), place / "none")


def test_each_cell_is_a_run_with_everything_recorded(finished):
    cells, output = finished
    for cell in cells:
        folder = output / cell.path
        assert {path.name for path in folder.iterdir()} == {
            ".lock", "run.json", "conditions.json", "split.csv", "logs", "previews", "checkpoints", "detector",
            "cell.json", "sessions.jsonl", "log.txt", "evaluation-whole",
        }  # fmt: skip
        assert json.loads((folder / "run.json").read_text()) == cell.run.to_dict()
        first, last = (json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines())
        assert first["event"] == "started"
        assert first["versions"]["torch"]
        assert first["processor"]
        assert last["event"] == "finished"
        assert "stage 1 of" in (folder / "log.txt").read_text()
    with (output / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for cell, row in zip(cells, rows, strict=True):
        (results,) = read_results(output / cell.path / "evaluation-whole")
        assert float(row["pixel_ap"]) == results.overall.pixel_ap
        assert (row["state"], row["seed"]) == ("finished", str(cell.run.seed))


def test_what_is_finished_is_not_repeated_and_more_seeds_are_added(finished, place):
    _, output = finished
    before = stamps(output)
    cells = list_cells(read_grid(grids.write_grid(place, seeds=[0, 1, 2])), output)
    assert run_grid(cells[:4], output, QUIET) == {"finished": 4}
    assert stamps(output) == before
    assert [state(cell, output) for cell in cells] == ["finished"] * 4 + ["new"] * 2


def test_other_values_in_the_same_folder_are_refused(finished, place):
    _, output = finished
    before = stamps(output)
    grid = read_grid(grids.write_grid(place), ["methods.dsr.variants.full=[image_loss_weight=3.0]"])
    with pytest.raises(ValueError, match=r"another cell.*image_loss_weight was 10\.0, now 3\.0"):
        run_grid(list_cells(grid, output), output, QUIET)
    assert stamps(output) == before


def test_a_failing_cell_is_recorded_and_the_rest_goes_on_and_it_is_tried_again(place):
    grid = grids.tiny_grid(place, seeds=[0])
    grid["methods"]["broken"] = {**grid["methods"]["dsr"], "method": "dsr", "weights": str(place / "late")}
    grid["methods"] = {"broken": grid["methods"]["broken"], "dsr": grid["methods"]["dsr"]}
    (place / "broken.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    words = ["benchmark", str(place / "broken.yaml"), f"--output={place / 'broken'}", "--accelerator=cpu"]
    assert main([*words, "--quiet"]) == 2
    folder = place / "broken/squares/data/broken-seed0"
    assert "Traceback" in (folder / "failure.txt").read_text()
    assert "late" in (folder / "failure.txt").read_text()
    cells = list_cells(read_grid(place / "broken.yaml"), place / "broken")
    assert [state(cell, place / "broken") for cell in cells] == ["failed", "failed", "finished", "finished"]
    (place / "late").symlink_to(place / "latent.safetensors")
    before = stamps(place / "broken/squares/data/dsr-seed0")
    assert main([*words, "--quiet"]) == 0
    assert not (folder / "failure.txt").exists()
    events = [json.loads(line)["event"] for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert events == ["started", "failed", "started", "finished"]
    assert stamps(place / "broken/squares/data/dsr-seed0") == before


def test_a_killed_benchmark_goes_on_where_it_was(place):
    grid = grids.tiny_grid(place, seeds=[0])
    grid["methods"]["dsr"]["settings"] += ["detection_stage.steps=60"]
    (place / "long.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    output = place / "killed"
    code = (
        "from pathlib import Path; from subspect.benchmark.cells import list_cells;"
        "from subspect.benchmark.execution import run_grid; from subspect.benchmark.grid import read_grid;"
        "from tiny import FREQUENT;"
        f"output = Path({str(output)!r});"
        f"run_grid(list_cells(read_grid(Path({str(place / 'long.yaml')!r})), output), output, FREQUENT)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    first = output / "squares/data/dsr-seed0"
    deadline = time.monotonic() + 120
    while newest_checkpoint(first / "checkpoints/detection")[1] < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = newest_checkpoint(first / "checkpoints/detection")[1]
    cells = list_cells(read_grid(place / "long.yaml"), output)
    assert [state(cell, output) for cell in cells] == ["begun", "new"]
    assert run_grid(cells, output, FREQUENT) == {"finished": 2}
    logged = [
        int(row["step"])
        for path in (first / "logs/detection").rglob("metrics.csv")
        for row in csv.DictReader(path.open(newline=""))
    ]
    assert reached < 60
    assert max(logged) == 59
    assert len(list((first / "logs/detection/csv").iterdir())) == 2  # before and after
    events = [json.loads(line)["event"] for line in (first / "sessions.jsonl").read_text().splitlines()]
    assert events == ["started", "started", "finished"]


def test_a_terminated_benchmark_says_so_in_message_code_and_summary(place, capsys):
    output = place / "terminated"
    words = ["benchmark", str(grids.write_grid(place, seeds=[0])), f"--output={output}", "--accelerator=cpu"]
    with terminated():
        assert main([*words, "--quiet", "--set=methods.dsr.steps=5000"]) == 143
    assert "subspect benchmark: stopped; the same command continues it\n" in capsys.readouterr().err
    with (output / "cells.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["begun", "new"]


def test_an_evaluation_that_was_stopped_is_done_again(finished):
    cells, output = finished
    folder = output / cells[3].path / "evaluation-whole"
    before = (folder / "images.csv").read_text()
    trained = stamps(output / cells[3].path / "detector")
    (folder / "results.json").unlink()
    assert state(cells[3], output) == "trained"
    assert attempt(cells[3], output, QUIET)
    assert (folder / "images.csv").read_text() == before
    assert stamps(output / cells[3].path / "detector") == trained


def test_two_calls_do_not_work_in_one_folder(finished):
    cells, output = finished
    with execution.prepared(cells, output, QUIET), pytest.raises(BlockingIOError, match="at work in"):
        run_grid(cells, output, QUIET)


def test_all_numbers_of_annotated_anomalies_are_judged_on_the_same_images(place):
    grid = grids.tiny_grid(place, seeds=[0])
    grid["methods"]["dsr"] |= {"anomalies": [0, 1, 3], "variants": {"full": []}}
    (place / "supervised.yaml").write_text(yaml.safe_dump(grid))
    cells = list_cells(read_grid(place / "supervised.yaml"), place / "supervised")
    assert run_grid(cells, place / "supervised", QUIET) == {"finished": 3}
    judged = [
        [row.path for row in read_results(place / "supervised" / cell.path / "evaluation-whole")[0].rows]
        for cell in cells
    ]
    assert judged[0] == judged[1] == judged[2]
    for cell in cells:
        with (place / "supervised" / cell.path / "split.csv").open(newline="") as file:
            used = {row["path"] for row in csv.DictReader(file) if row["split"] != "test"}
        assert not {Path(path).relative_to(place / "data").as_posix() for path in judged[0]} & used
    assert len(judged[0]) == 3 + 3  # three of six defective ones are kept out


def test_the_estimate_counts_what_is_left(place, finished, monkeypatch):
    cells, output = finished
    assert set(estimate(cells, output, QUIET).values()) == {0.0}
    speed = Speed((StageSpeed("detection", 2.0, 30), StageSpeed("pass", 0.5, None)), 0.25)
    monkeypatch.setattr("subspect.benchmark.timing.measure", lambda cell, options: speed)
    # 14 normal ones: 3 test, 2 of 11 calibrate, 9 train; 6 defective ones test.
    expected = 2.0 * 30 + 0.5 * 9 + 0.25 * (2 + 3 + 6)
    assert set(estimate(cells, place / "nothing", QUIET).values()) == {expected}


def test_measured_steps_are_those_of_every_stage(place, finished):
    speed = measure(finished[0][0], QUIET)
    steps = {stage.name: stage.steps for stage in speed.stages}
    assert steps == {"normal_codes": None, "detection": 3, "upsampling": 2}
    assert all(0 < stage.seconds < 60 for stage in speed.stages)
    assert 0 < speed.image < 60


def test_an_executor_that_is_none_is_named(place, finished, capsys):
    words = ["benchmark", str(grids.write_grid(place)), f"--output={finished[1]}", "--executor=rai"]
    assert main(words) == 1
    assert "no executor 'rai'; there are: local, ray" in capsys.readouterr().err


def test_the_plan_names_every_cell_and_writes_nothing(place, finished, capsys):
    before = stamps(finished[1])
    words = ["benchmark", str(grids.write_grid(place, seeds=[0, 1, 9])), f"--output={finished[1]}"]
    assert main([*words, "--dry-run", "--accelerator=cpu", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["squares/data/dsr-seed0", "finished", "0:00:00"]
    assert lines[4].split()[:2] == ["squares/data/dsr-seed9", "new"]
    assert lines[-1].startswith("6 cells, about ")
    assert stamps(finished[1]) == before


@pytest.fixture(scope="module")
def numerous(place) -> Path:
    """As many annotated defects as the largest recipe keeps out, and some more; names suffice."""
    names = [f"{number}.png" for number in range(300)]
    for folder, count in (("normal", 10), ("defective", 300), ("masks", 300)):
        (place / "numerous" / folder).mkdir(parents=True)
        for name in names[:count]:
            (place / "numerous" / folder / name).touch()
    return place / "numerous"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_gives_cells(path, numerous, tmp_path):
    settings = []
    for name, entry in yaml.safe_load(path.read_text())["datasets"].items():
        if entry.get("root"):  # whatever the data, only the configurations are at stake here
            settings += [f"datasets.{name}.root={numerous}", f"datasets.{name}.layout=folder"]
    cells = list_cells(read_grid(path, settings), tmp_path)
    assert len({cell.path for cell in cells}) == len(cells) > 0
