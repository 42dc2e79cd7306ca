"""Execution on a Ray cluster: every cell a task, its folder on storage that all machines share.

A task whose worker or machine is lost is started anew elsewhere and goes on from the cell's last
checkpoint, as any call does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from subspect.benchmark.cells import FAILURE, Cell, State
from subspect.benchmark.execution import attempt, count_states, prepared, write_summary
from subspect.cluster import Resources, join_cluster, room_for
from subspect.files import write_text
from subspect.training.options import FitOptions

logger = logging.getLogger("subspect")
LOST_MACHINES = 5
"""How often a cell may lose its machine before it counts as failed."""


def run_grid_on_ray(
    cells: Sequence[Cell], output: Path, options: FitOptions, resources: Resources
) -> dict[State, int]:
    """As `subspect.benchmark.execution.run_grid`, the cells spread over a cluster.

    Args:
        cells: What to do.
        output: Folder of the benchmark; all machines see it, and the data, under the same paths.
        options: How to train.
        resources: What each cell needs.

    Raises:
        ValueError: Ray is not installed, no machine of the cluster has room for a cell, the folder holds other
            cells, or this machine cannot train so.
        ConnectionError: There is no cluster where ``RAY_ADDRESS`` says.
        BlockingIOError: Another call is at work in the folder.
    """
    ray = join_cluster()
    room_for(ray, resources)  # without any, Ray would wait for ever
    output = output.resolve()
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=LOST_MACHINES)(attempt)
    with prepared(cells, output, options) as left:
        running = {task.remote(cell, output, options): cell for cell in left}
        while running:
            (done,), _ = ray.wait(list(running))
            cell = running.pop(done)
            try:
                outcome = "finished" if ray.get(done) else "failed"
            except ray.exceptions.RayError as error:
                outcome = "lost"
                write_text(_folder(cell, output) / FAILURE, f"{error}\n")
            logger.info("%s %s, %d to go", cell.name, outcome, len(running))
            write_summary(cells, output)
    return count_states(cells, output)


def _folder(cell: Cell, output: Path) -> Path:
    folder = output / cell.path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
