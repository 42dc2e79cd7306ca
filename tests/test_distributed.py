"""Grids on a real Ray cluster of two nodes on this machine, one of which is lost half-way."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

import grids
from subspect.benchmark.cells import list_cells, state
from subspect.benchmark.grid import read_grid
from subspect.evaluation.results import read_results
from subspect.training.checkpoints import newest_checkpoint
from tiny import FREQUENT

ray = pytest.importorskip("ray")

from subspect.benchmark.distributed import run_grid_on_ray  # noqa: E402
from subspect.cluster import Resources  # noqa: E402


def events(folder: Path) -> Counter:
    return Counter(json.loads(line)["event"] for line in (folder / "sessions.jsonl").read_text().splitlines())


def test_cells_that_no_machine_has_room_for_are_refused(cluster, tmp_path):
    with pytest.raises(ValueError, match="no machine of the cluster has 1 cores and 2 GPUs"):
        run_grid_on_ray([], tmp_path / "out", FREQUENT, Resources(gpus=2))
    assert not (tmp_path / "out").exists()


def test_a_lost_node_costs_no_cell_and_repeats_none(cluster, tmp_path):
    grid = grids.tiny_grid(tmp_path, seeds=[0, 1])
    grid["methods"]["dsr"]["settings"] += ["detection_stage.steps=80"]
    changes = {"method": "dsr", "weights": "nowhere", "variants": {"full": []}}
    grid["methods"]["broken"] = {**grid["methods"]["dsr"], **changes}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    output = tmp_path / "out"
    cells = list_cells(read_grid(tmp_path / "grid.yaml"), output)
    lost = []

    def lose_a_node() -> None:
        """Once both nodes are at work on a cell."""
        training = [
            cell.name
            for cell in cells
            if newest_checkpoint(output / cell.path / "checkpoints/detection")[1]
            and state(cell, output) == "begun"
        ]
        if len(training) >= 2 and not lost:
            cluster.remove_node(cluster.workers[1], allow_graceful=False)
            lost.extend(training)

    waiting = ray.wait

    def wait(tasks):
        while True:
            done, rest = waiting(tasks, timeout=0.05)
            lose_a_node()
            if done:
                return done, rest
            time.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "wait", wait)
        counts = run_grid_on_ray(cells, output, FREQUENT, Resources(cpus=1))
    assert lost, "no node was lost while cells were at work"
    assert counts == {"finished": 4, "failed": 2}
    for cell in cells:
        happened = events(output / cell.path)
        if cell.method == "broken":
            assert happened == {"started": 1, "failed": 1}
            assert "nowhere" in (output / cell.path / "failure.txt").read_text()
        else:
            assert happened["finished"] == 1
            assert len(read_results(output / cell.path / cell.evaluation)) == 1
    assert sum(events(output / cell.path)["started"] for cell in cells) > len(cells), (
        "nothing was taken up anew"
    )
