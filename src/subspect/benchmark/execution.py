"""Execution: cells one after the other, each trained, judged and recorded; stopped at any time, it goes on.

A cell's folder is a run (see `subspect.runs.run`) and, beside it, ``cell.json``, ``sessions.jsonl`` (when and
on what each call worked on it), ``log.txt``, the folder of its evaluation, and ``failure.txt`` if the last one
failed. Its results are written last and mark it as finished.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from subspect.benchmark.cells import CELL, DRAWN, FAILURE, Cell, State, check_cells, state
from subspect.benchmark.environment import environment
from subspect.datasets import read_table
from subspect.datasets.surfaces import generate
from subspect.datasets.table import Table, take_anomalies
from subspect.evaluation.evaluating import evaluate
from subspect.evaluation.results import HEADINGS, METRICS
from subspect.files import locked, remove_leftovers, write_json, write_text
from subspect.runs.data import read_test_table
from subspect.runs.records import RECORD
from subspect.runs.run import RunOptions, pick_device, train
from subspect.storage import DETECTOR, load_detector, read_description
from subspect.training.options import FitOptions, check_options

logger = logging.getLogger("subspect")
LOG, SESSIONS, SUMMARY = "log.txt", "sessions.jsonl", "cells.csv"


def run_grid(cells: Sequence[Cell], output: Path, options: FitOptions) -> dict[State, int]:
    """Does what is left of the cells, and writes ``cells.csv``, a row a cell with its metrics.

    Args:
        cells: What to do, in order; see `subspect.benchmark.cells.list_cells`.
        output: Folder of the benchmark.
        options: How to train.

    Returns:
        How many cells are in each state in the end.

    Raises:
        ValueError: The folder holds other cells, or this machine cannot train so; nothing is begun then.
        BlockingIOError: Another call is at work in the folder.
    """
    with prepared(cells, output, options) as left:
        for number, cell in enumerate(left, start=1):
            logger.info("cell %d of %d: %s", number, len(left), cell.name)
            attempt(cell, output, options)
            write_summary(cells, output)
    return count_states(cells, output)


@contextmanager
def prepared(cells: Sequence[Cell], output: Path, options: FitOptions) -> Iterator[list[Cell]]:
    """The cells that are left, everything checked and surfaces drawn, while no other call works on them."""
    check_options(options)
    check_cells(cells, output)
    output.mkdir(parents=True, exist_ok=True)
    with locked(output):
        for folder in (output, output / DRAWN):
            remove_leftovers(folder)
        draw_surfaces(cells, output)
        write_summary(cells, output)
        try:
            yield [cell for cell in cells if state(cell, output) != "finished"]
        finally:  # also when stopped by a signal
            write_summary(cells, output)


def count_states(cells: Sequence[Cell], output: Path) -> dict[State, int]:
    """How many cells are in each state that any is in."""
    states = [state(cell, output) for cell in cells]
    return {one: states.count(one) for one in dict.fromkeys(states)}


def attempt(cell: Cell, output: Path, options: FitOptions) -> bool:
    """Does a cell; should it fail, its traceback is recorded in ``failure.txt`` and ``log.txt``.

    Returns:
        Whether it is finished.
    """
    folder = output / cell.path
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CELL, cell.to_dict())
    started = time.monotonic()
    with _logged(folder / LOG):
        _note(folder, {"event": "started", **environment(options)})
        try:
            run_cell(cell, output, options)
        except Exception:
            logger.exception("%s failed; the rest goes on", cell.name)
            write_text(folder / FAILURE, traceback.format_exc())
            finished = False
        else:
            (folder / FAILURE).unlink(missing_ok=True)
            finished = True
        outcome = "finished" if finished else "failed"
        _note(folder, {"event": outcome, "seconds": round(time.monotonic() - started, 1)})
    return finished


def run_cell(cell: Cell, output: Path, options: FitOptions) -> None:
    """Trains a cell's detector, or goes on with it, and judges it."""
    folder = output / cell.path
    if not (folder / DETECTOR).exists():
        resume = (folder / RECORD).exists()
        train(cell.run, folder, RunOptions(options, resume=resume))
    results = evaluate(
        load_detector(folder / DETECTOR),
        judged_table(cell, folder),
        protocol=cell.protocol,
        device=pick_device(options),
    )
    shutil.rmtree(folder / cell.evaluation, ignore_errors=True)  # of a call that was stopped while writing it
    results.write(folder / cell.evaluation)


def judged_table(cell: Cell, folder: Path) -> Table:
    """The images a cell is judged on: the same for all cells of its category and seed."""
    data = cell.run.data
    provenance = read_description(folder / DETECTOR)["provenance"]
    table = read_test_table(provenance, Path(data.root), data.layout, data.category)
    pool = read_table(Path(data.root), data.layout, data.seed, data.category)
    judged = {
        sample.path for sample in take_anomalies(pool, cell.kept_out, data.seed) if sample.split == "test"
    }
    return table.with_samples(
        sample if sample.path in judged else replace(sample, split="unused") for sample in table
    )


def draw_surfaces(cells: Sequence[Cell], output: Path) -> None:
    """Draws the built-in surfaces that cells need and that are not there yet."""
    for root in dict.fromkeys(Path(cell.run.data.root) for cell in cells):
        if root.parent == (output / DRAWN).resolve() and not root.exists():
            surface, _, size = root.name.rpartition("-")
            logger.info("drawing %s", surface)
            generate(root, surfaces=[surface], size=int(size))


def write_summary(cells: Sequence[Cell], output: Path) -> None:
    """Writes ``cells.csv``: what each cell is, how far it has come, and its metrics."""
    text = io.StringIO()
    names = ("dataset", "category", "method", "variant")
    columns = [*names, "anomalies", "seed", "state", *HEADINGS, "folder"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row: dict[str, Any] = {name: getattr(cell, name) for name in names}
        row |= {"anomalies": cell.run.data.anomalies, "seed": cell.run.seed}
        row |= {"state": state(cell, output), "folder": cell.name}
        if row["state"] == "finished":
            metrics = output / cell.path / cell.evaluation / METRICS
            row |= json.loads(metrics.read_text(encoding="utf-8"))["mean"]
        writer.writerow(row)
    write_text(output / SUMMARY, text.getvalue())


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Adds what is logged to a file."""
    level = logger.level
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _note(folder: Path, values: Mapping[str, Any]) -> None:
    """Adds a row to ``sessions.jsonl``."""
    row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
    with (folder / SESSIONS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
