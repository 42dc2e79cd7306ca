"""Bulk inspection on a real Ray cluster of two nodes on this machine, one of which is lost half-way."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.cli import main
from subspect.cluster import Resources, room_for
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector
from subspect.inspection import distributed as distributed_inspection
from subspect.inspection.distributed import Job, inspect_on_ray
from subspect.inspection.inspecting import inspect_files
from subspect.loading import load

ray = pytest.importorskip("ray")

from noting import LOSES_WORKERS, NotingWorker  # noqa: E402


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bulk") / "export"
    export_detector(BrightnessDetector(), {}, folder, ExportOptions("onnx"))
    return folder


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Forty pictures, each with a spot of its own brightness, and one that cannot be read."""
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{index:02d}.png" for index in range(40)]
    for index, path in enumerate(paths):
        pixels = np.full((40, 48, 3), 128, np.uint8)
        pixels[8 : 12 + index // 4, 10:20] = 128 + 3 * index
        Image.fromarray(pixels).save(path)
    paths[17].write_bytes(b"no picture")
    return paths


def rows_of(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]


def notes_of(folder: Path) -> list[dict]:
    found = [path.read_text().splitlines() for path in (folder / "notes").glob("*.jsonl")]
    return [json.loads(line) for lines in found for line in lines]


def assert_same_content(found: Path, expected: Path) -> None:
    """The same files with the same bytes, down to the order of the rows."""
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (found, expected)
    ]
    assert contents[0].keys() == contents[1].keys()
    assert contents[0] == contents[1]


def test_the_command_writes_what_the_local_one_writes(cluster, export, pictures, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in pictures))
    words = ["inspect", str(export), str(tmp_path / "list.txt"), "--raw-maps", "--false-alarm-rate=0.2"]
    assert main([*words, f"--output={tmp_path / 'here'}"]) == 2  # a picture could not be read
    here = capsys.readouterr().out
    assert main([*words, f"--output={tmp_path / 'there'}", "--executor=ray"]) == 2
    assert capsys.readouterr().out.splitlines()[0] == here.splitlines()[0]
    assert len(rows_of(tmp_path / "there")) == 40
    assert_same_content(tmp_path / "there", tmp_path / "here")


def test_what_is_wrong_is_said_before_a_folder_is_made(cluster, export, pictures, tmp_path):
    with pytest.raises(ValueError, match="no image files"):
        inspect_on_ray(Job(export, tmp_path / "out"), [], Resources())
    with pytest.raises(ValueError, match="cannot be had from 100"):
        inspect_on_ray(Job(export, tmp_path / "out", false_alarm_rate=0.001), pictures, Resources())
    with pytest.raises(ValueError, match="no machine of the cluster has 2 cores and 0 GPUs"):
        inspect_on_ray(Job(export, tmp_path / "out"), pictures, Resources(cpus=2))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out/pictures").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="already holds pictures"):
        inspect_on_ray(Job(export, tmp_path / "out"), pictures, Resources())


def test_what_another_command_writes_meanwhile_is_left_alone(cluster, export, pictures, tmp_path, monkeypatch):
    begun = tmp_path / "out/pictures/.0123456789ab-00.png"  # as `subspect.files.write_atomically` names it
    make_folders = distributed_inspection.make_folders

    def come_second(output: Path, raw_maps: bool) -> None:
        begun.parent.mkdir(parents=True)
        begun.touch()
        make_folders(output, raw_maps)

    monkeypatch.setattr(distributed_inspection, "make_folders", come_second)
    with pytest.raises(FileExistsError):
        inspect_on_ray(Job(export, tmp_path / "out"), pictures, Resources())
    assert begun.exists()


def test_a_file_that_loses_its_workers_is_recorded_and_the_rest_goes_on(
    cluster, export, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(distributed_inspection, "_Worker", NotingWorker)
    monkeypatch.chdir(tmp_path)
    given = [path.relative_to(tmp_path) for path in pictures[:8]]
    given[3] = given[3].rename(given[3].with_name(LOSES_WORKERS))
    summary = inspect_on_ray(Job(export, tmp_path / "out"), given, Resources())
    assert (summary.normal + summary.anomalous, summary.errors) == (7, 1)
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == [str(path) for path in given]  # as they were given
    assert "3 workers were lost" in rows[3]["error"]
    tried = Counter(name for note in notes_of(tmp_path) for name in note["files"])
    assert tried[LOSES_WORKERS] == 3
    inspect_files(load(export), [path for path in given if path.name != LOSES_WORKERS], tmp_path / "here")
    assert rows[:3] + rows[4:] == rows_of(tmp_path / "here")


def test_a_lost_node_costs_no_file_and_repeats_none(cluster, export, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed_inspection, "_Worker", NotingWorker)
    monkeypatch.setattr(distributed_inspection, "CHUNK", 2)
    lost = {}

    def lose_a_node() -> None:
        """Once both nodes have done something and are at work again."""
        given = Counter(note["node"] for note in notes_of(tmp_path))
        if not lost and len(given) == 2 and min(given.values()) >= 3:
            cluster.remove_node(cluster.workers[1], allow_graceful=False)
            lost.update(given)

    waiting = ray.wait

    def wait(tasks):
        while True:
            done, rest = waiting(tasks, timeout=0.02)
            lose_a_node()
            if done:
                return done, rest

    monkeypatch.setattr(ray, "wait", wait)
    job = Job(export, tmp_path / "there", raw_maps=True)
    summary = inspect_on_ray(job, pictures, Resources())
    assert lost, "no node was lost while both were at work"
    assert sum(lost.values()) * 2 < len(pictures), "that was not half-way"
    assert (summary.normal + summary.anomalous, summary.errors) == (39, 1)
    inspect_files(load(export), pictures, tmp_path / "here", raw_maps=True)
    assert_same_content(tmp_path / "there", tmp_path / "here")  # every file once, and nothing half-written
    notes = notes_of(tmp_path)
    begun = Counter(name for note in notes for name in note["files"])
    assert begun.keys() == {path.name for path in pictures}
    assert max(begun.values()) == 2, "nothing was begun anew"
    assert not any(note["torch"] for note in notes)
    detectors = {(note["process"], note["detector"]) for note in notes}
    assert len(detectors) == len({note["process"] for note in notes}), "a worker loaded its detector twice"


def test_rows_come_in_order_whatever_gets_done_first():
    found = [(place, {"path": str(place)}) for place in range(50)]
    random.Random(0).shuffle(found)
    assert [place for place, _ in distributed_inspection._in_order(iter(found))] == list(range(50))


@pytest.mark.parametrize(
    ("resources", "room"),
    [
        (Resources(), 12),
        (Resources(cpus=3), 3),  # 2 on the first, 1 on the second
        (Resources(cpus=0.1), 120),
        (Resources(cpus=1, gpus=0.25), 8),
        (Resources(cpus=4, gpus=1), 2),
    ],
)
def test_as_many_workers_as_the_machines_hold(resources, room):
    class Machines:
        @staticmethod
        def nodes():
            return [
                {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
                {"Alive": True, "Resources": {"CPU": 4.0}},
                {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
                {"Alive": True, "Resources": {"memory": 1e9}},
            ]

    assert room_for(Machines, resources) == room


def test_workers_need_cores():
    with pytest.raises(ValueError, match="got 0 and 0"):
        Resources(cpus=0)
