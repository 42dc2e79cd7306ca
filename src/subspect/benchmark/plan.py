"""The plan of a benchmark: its cells, how far each has come, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from subspect.benchmark.cells import Cell, check_cells, state
from subspect.benchmark.execution import draw_surfaces
from subspect.benchmark.timing import MEASURED_STEPS, estimate
from subspect.training.options import FitOptions, check_options


def make_plan(cells: Sequence[Cell], output: Path, options: FitOptions) -> str:
    """A line a cell and the sum; nothing is written but the built-in surfaces that cells need.

    Raises:
        ValueError: The folder holds other cells, or this machine cannot train so.
    """
    check_options(options)
    check_cells(cells, output)
    draw_surfaces(cells, output)
    seconds = estimate(cells, output, options)
    known = [time for time in seconds.values() if time is not None]
    width = max(len(cell.name) for cell in cells)
    lines = [f"{cell.name:{width}}  {state(cell, output):8}  {_spoken(seconds[cell.path])}" for cell in cells]
    unknown = len(seconds) - len(known)
    rest = f" ({unknown} of them could not be measured)" if unknown else ""
    lines.append(
        f"{len(cells)} cells{rest}, about {_spoken(sum(known))} to train and judge, from {MEASURED_STEPS} steps"
        " of every stage measured on this machine"
    )
    return "\n".join(lines)


def _spoken(seconds: float | None) -> str:
    """A time as people write it, e.g. ``1:05:00``; a dash where it is not known."""
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))
