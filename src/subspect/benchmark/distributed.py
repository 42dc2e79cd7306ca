"""Execution on a Ray cluster: every cell a task, its folder on storage that all machines share.

The cluster is the one that the environment variable ``RAY_ADDRESS`` names; without it Ray starts one on this
machine. A task whose worker or machine is lost is started anew elsewhere and goes on from the cell's last
checkpoint, as any call does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subspect.benchmark.cells import FAILURE, Cell, State
from subspect.benchmark.execution import attempt, count_states, prepared, write_summary
from subspect.files import write_text
from subspect.training import FitOptions

logger = logging.getLogger("subspect")
LOST_MACHINES = 5
"""How often a cell may lose its machine before it counts as failed."""


@dataclass(frozen=True)
class CellResources:
    """What a cell needs of a machine; Ray runs as many cells at once as fit.

    Attributes:
        cpus: Cores; a cell gets as many threads.
        gpus: Devices, or a share of one.
    """

    cpus: float = 1
    gpus: float = 0


def run_grid_on_ray(
    cells: Sequence[Cell], output: Path, options: FitOptions, resources: CellResources
) -> dict[State, int]:
    """As `subspect.benchmark.execution.run_grid`, the cells spread over a cluster.

    Args:
        cells: What to do.
        output: Folder of the benchmark; all machines see it, and the data, under the same paths.
        options: How to train.
        resources: What each cell needs.

    Raises:
        ValueError: Ray is not installed, the folder holds other cells, or this machine cannot train so.
        BlockingIOError: Another call is at work in the folder.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--executor ray needs Ray: pip install 'subspect[ray]'") from error
    output = output.resolve()
    ray.init(ignore_reinit_error=True, log_to_driver=False)
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
