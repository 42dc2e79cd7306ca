"""A training killed at any moment and resumed gives, bit for bit, what one left alone gives."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.pretraining import pretrain
from subspect.detectors.uninformed_students.pretraining import pretrain_teacher
from subspect.files import locked
from subspect.runs.run import RunOptions, train
from subspect.training.checkpoints import newest_checkpoint
from tiny import (
    LONG,
    QUIET,
    pretrain_long,
    pretraining_run,
    teacher_run,
    tiny_run,
    train_long,
    write_data_set,
    write_latent_model,
    write_pictures,
)

_LAST = 30
_PATIENCE = 120.0


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(call: str, log: Path) -> subprocess.Popen:
    """A process of its own that calls a function of ``tiny``."""
    code = f"import torch, tiny; torch.set_num_threads(1); tiny.{call}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with log.open("w") as file:
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=file, stderr=file)


def kill_on_the_way(processes: dict[str, subprocess.Popen], data: Path) -> dict[str, int]:
    """Kills (-9) each process once its stage has a checkpoint of more than 3 steps; returns their steps."""
    deadline, reached = time.monotonic() + _PATIENCE, {}
    while len(reached) < len(processes):
        for stage, process in processes.items():
            checkpoints = data / stage / "checkpoints" / stage
            if stage not in reached and newest_checkpoint(checkpoints)[1] > 3:
                process.send_signal(signal.SIGKILL)
                assert process.wait() == -signal.SIGKILL
                reached[stage] = newest_checkpoint(checkpoints)[1]
            elif stage not in reached and (process.poll() is not None or time.monotonic() > deadline):
                raise AssertionError(
                    f"{stage} came to no checkpoint:\n{(data / stage).with_suffix('.log').read_text()}"
                )
        time.sleep(0.002)
    return reached


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_data_set(folder / "data")
    write_latent_model(folder / "latent.safetensors")
    write_pictures(folder / "pictures", 6, seed=2)
    return folder


def train_here(data: Path, name: str, *, resume: bool = False) -> Path:
    train_long(str(data / "data"), str(data / "latent.safetensors"), str(data / name), resume=resume)
    return data / name


@pytest.fixture(scope="module")
def killed(data) -> dict[str, int]:
    """Three processes started together and killed: in stage 2, in stage 3, in stage 1 (pretraining)."""
    root, weights, pictures = (str(data / name) for name in ("data", "latent.safetensors", "pictures"))
    calls = {
        "detection": f"train_long({root!r}, {weights!r}, {str(data / 'detection')!r})",
        "upsampling": f"train_long({root!r}, {weights!r}, {str(data / 'upsampling')!r})",
        # Killed before the k-means of step 30 if all goes well, before the last revival in any case.
        "latent": f"pretrain_long({pictures!r}, {str(data / 'latent')!r})",
    }
    processes = {stage: start(call, data / f"{stage}.log") for stage, call in calls.items()}
    try:
        return kill_on_the_way(processes, data)
    finally:
        for process in processes.values():
            process.kill()


@pytest.fixture(scope="module")
def uninterrupted(data) -> Path:
    return train_here(data, "uninterrupted")


def assert_same_weights(left: Path, right: Path) -> None:
    before, after = load_file(left), load_file(right)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def learning_rates(run: Path, stage: str) -> dict[int, float]:
    rates = {}
    for path in sorted((run / "logs" / stage).rglob("metrics.csv")):
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("lr-Adam")]
        rates |= {int(row["step"]): float(row["lr-Adam"]) for row in rows}
    return rates


def assert_same_optimiser(left: Path, right: Path) -> None:
    """Learning rate, schedule and both moments of Adam at the end of a stage."""
    ends = [torch.load(path / f"step={_LAST}.ckpt", weights_only=True) for path in (left, right)]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]
    assert ends[0]["lr_schedulers"][0]["last_epoch"] == _LAST
    moments = [end["optimizer_states"][0]["state"] for end in ends]
    assert moments[0].keys() == moments[1].keys()
    for key, state in moments[0].items():
        assert all(torch.equal(state[name], moments[1][key][name]) for name in state)


@pytest.mark.parametrize("stage", ["detection", "upsampling"])
def test_a_training_killed_and_resumed_is_the_uninterrupted_one(data, killed, uninterrupted, stage):
    assert 3 < killed[stage] < _LAST
    assert not (data / stage / "detector").exists()
    split = (data / stage / "split.csv").read_bytes()
    resumed = train_here(data, stage, resume=True)
    assert_same_weights(
        resumed / "detector/weights.safetensors", uninterrupted / "detector/weights.safetensors"
    )
    descriptions = [
        json.loads((run / "detector/detector.json").read_text()) for run in (resumed, uninterrupted)
    ]
    assert descriptions[0]["calibration"] == descriptions[1]["calibration"]
    assert descriptions[0]["provenance"] == descriptions[1]["provenance"]
    assert (resumed / "split.csv").read_bytes() == split
    assert_same_optimiser(resumed / "checkpoints" / stage, uninterrupted / "checkpoints" / stage)
    expected, logged = learning_rates(uninterrupted, stage), learning_rates(resumed, stage)
    assert expected.keys() - logged.keys() <= set(range(killed[stage] + 2))
    assert logged.items() <= expected.items()
    assert any(step > killed[stage] for step in logged)


def test_a_pretraining_killed_and_resumed_is_the_uninterrupted_one(data, killed):
    assert 3 < killed["latent"] < 100, "killed after the last revival, which this test is to see resumed"
    pretrain_long(str(data / "pictures"), str(data / "latent"), resume=True)
    pretrain_long(str(data / "pictures"), str(data / "latent_uninterrupted"))
    runs = [data / "latent", data / "latent_uninterrupted"]
    assert_same_weights(*(run / "latent.safetensors" for run in runs))
    assert (runs[0] / "report.json").read_bytes() == (runs[1] / "report.json").read_bytes()
    ends = [
        torch.load(run / "checkpoints/latent/step=130.ckpt", weights_only=True)["state_dict"] for run in runs
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_damaged_leftover_of_a_kill_is_not_resumed_from(tmp_path):
    for name in ("step=4.ckpt", ".0123456789ab-step=6.ckpt"):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path) == (tmp_path / "step=4.ckpt", 4)


def folder_content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_training_is_never_overwritten(data, uninterrupted, resume):
    before = folder_content(uninterrupted)
    with pytest.raises(FileExistsError, match=r"detector exists already"):
        train_here(data, "uninterrupted", resume=resume)
    assert folder_content(uninterrupted) == before


@pytest.fixture
def stopped(data, tmp_path) -> Path:
    """A run that stopped before its first checkpoint."""
    train(stopped_run(data), tmp_path / "run", RunOptions(QUIET))
    (tmp_path / "run/detector").rename(tmp_path / "elsewhere")
    return tmp_path / "run"


def stopped_run(data: Path):
    short = replace(
        LONG, detection_stage=StageConfig(1, 2, warmup=0), upsampling_stage=StageConfig(1, 2, warmup=0)
    )
    return tiny_run(data / "data", str(data / "latent.safetensors"), short)


def test_an_existing_run_is_continued_only_when_asked(data, stopped):
    before = folder_content(stopped)
    with pytest.raises(FileExistsError, match=r"holds a run already: --resume continues it"):
        train(stopped_run(data), stopped, RunOptions(QUIET))
    assert folder_content(stopped) == before


def test_another_run_is_not_resumed_and_what_changed_is_named(data, stopped):
    run, before = stopped_run(data), folder_content(stopped)
    simulation = replace(run.config.simulation, nearest_share=0.25)
    others = {
        r"this one: seed was 0, now 7$": replace(run, seed=7),
        r"this one: config.simulation.nearest_share was 0.05, now 0.25$": replace(
            run, config=replace(run.config, simulation=simulation)
        ),
        r"this one: data.anomalies was 0, now 2; false_alarm_rate was None, now 0.5$": replace(
            run, data=replace(run.data, anomalies=2), false_alarm_rate=0.5
        ),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            train(other, stopped, RunOptions(QUIET, resume=True))
    assert folder_content(stopped) == before


def test_a_run_is_not_resumed_on_other_images(tmp_path, data):
    root = write_data_set(tmp_path / "data")
    run = replace(stopped_run(data), data=tiny_run(root, "").data)
    train(run, tmp_path / "run", RunOptions(QUIET))
    (tmp_path / "run/detector").rename(tmp_path / "elsewhere")
    write_pictures(root / "normal", 11, seed=5)
    before = folder_content(tmp_path / "run")
    with pytest.raises(ValueError, match=r"the images are no longer those of .*split.csv"):
        train(run, tmp_path / "run", RunOptions(QUIET, resume=True))
    assert folder_content(tmp_path / "run") == before


def test_a_run_that_is_still_at_work_is_not_resumed(data, stopped):
    with locked(stopped):
        before = folder_content(stopped)
        with pytest.raises(BlockingIOError, match=f"another process is at work in {stopped}"):
            train(stopped_run(data), stopped, RunOptions(QUIET, resume=True))
        assert folder_content(stopped) == before


def test_a_pretraining_does_not_begin_where_another_process_does(data, tmp_path):
    with locked(tmp_path):
        with pytest.raises(BlockingIOError, match=f"another process is at work in {tmp_path}"):
            pretrain(pretraining_run(str(data / "pictures")), tmp_path, QUIET)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_other_precision_is_said_and_recorded_when_a_run_is_resumed(data, stopped, caplog):
    float32 = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
    assert json.loads((stopped / "conditions.json").read_text()) == [float32]
    bfloat16 = RunOptions(replace(QUIET, precision="bf16-mixed"), resume=True)
    train(stopped_run(data), stopped, bfloat16)
    assert "precision 32-true before, now on accelerator cpu, devices 1, precision bf16-mixed" in caplog.text
    both = [float32, {**float32, "precision": "bf16-mixed"}]
    assert json.loads((stopped / "conditions.json").read_text()) == both
    caplog.clear()
    (stopped / "detector").rename(stopped / "again")
    train(stopped_run(data), stopped, bfloat16)
    (stopped / "detector").rename(stopped / "once more")
    (stopped / "conditions.json").unlink()  # as of a run of an earlier version
    train(stopped_run(data), stopped, bfloat16)
    assert "ran on" not in caplog.text


def test_no_run_writes_among_the_pictures_that_it_uses(data, tmp_path):
    write_pictures(tmp_path / "pictures", 4)
    output = tmp_path / "pictures/run"
    with pytest.raises(ValueError, match=f"--output {output} lies inside {tmp_path / 'pictures'}"):
        pretrain(pretraining_run(str(tmp_path / "pictures")), output, QUIET)
    with pytest.raises(ValueError, match=f"--output {output} lies inside {tmp_path / 'pictures'}"):
        pretrain_teacher(teacher_run(str(tmp_path / "pictures"), ""), output.with_suffix(".safetensors"), QUIET)
    textured = replace(stopped_run(data), textures=str(tmp_path / "pictures"))
    with pytest.raises(ValueError, match=f"--output {output} lies inside {tmp_path / 'pictures'}"):
        train(textured, output, RunOptions(QUIET))
    assert not output.exists()


def test_what_a_kill_left_half_written_is_removed(data, stopped):
    left = [
        stopped / ".0123456789ab-run.json",
        stopped / ".0123456789ab-detector/weights.safetensors",
        stopped / "checkpoints/detection/.0123456789ab-step=1.ckpt",
        stopped / "previews/upsampling/.0123456789ab-000001.png",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    train(stopped_run(data), stopped, RunOptions(QUIET, resume=True))
    assert not any(path.exists() for path in left)


def test_nothing_to_resume_is_said(data, tmp_path):
    with pytest.raises(ValueError, match=r"nothing to resume: .* holds no run.json"):
        train(stopped_run(data), tmp_path / "new", RunOptions(QUIET, resume=True))
    assert not (tmp_path / "new").exists()


def test_a_damaged_record_is_named(data, tmp_path):
    (tmp_path / "run.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        train(stopped_run(data), tmp_path, RunOptions(QUIET, resume=True))


def test_another_pretraining_is_not_resumed(data, tmp_path):
    run = pretraining_run(str(data / "pictures"))
    short = replace(run, pretraining=replace(run.pretraining, stage=StageConfig(2, 2), quantise_from=1))
    pretrain(short, tmp_path, QUIET)
    with pytest.raises(FileExistsError, match=r"latent.safetensors exists already"):
        pretrain(short, tmp_path, QUIET, resume=True)
    (tmp_path / "latent.safetensors").unlink()
    with pytest.raises(FileExistsError, match="--resume continues it"):
        pretrain(short, tmp_path, QUIET)
    with pytest.raises(ValueError, match=r"seed was 0, now 3$"):
        pretrain(replace(short, seed=3), tmp_path, QUIET, resume=True)


def test_a_pretraining_is_not_resumed_on_other_pictures(tmp_path):
    write_pictures(tmp_path / "pictures", 4)
    run = pretraining_run(str(tmp_path / "pictures"))
    run = replace(run, pretraining=replace(run.pretraining, stage=StageConfig(2, 2), quantise_from=1))
    pretrain(run, tmp_path / "run", QUIET)
    (tmp_path / "run/latent.safetensors").unlink()
    write_pictures(tmp_path / "pictures", 5)
    with pytest.raises(ValueError, match=r"the images are no longer those of .*split\.csv"):
        pretrain(run, tmp_path / "run", QUIET, resume=True)
