"""Cells: the single trainings of a grid, each with its own folder and everything that decides its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from subspect.benchmark.grid import FULL, DataEntry, Grid, MethodEntry
from subspect.datasets import read_table
from subspect.datasets.surfaces import DEFECTS, PER_DEFECT, SURFACES
from subspect.datasets.table import Table, take_anomalies
from subspect.detectors.configuration import configure
from subspect.detectors.registry import find_preset
from subspect.evaluation.evaluating import check_protocol
from subspect.evaluation.results import METRICS, Protocol
from subspect.runs.data import DataOptions
from subspect.runs.records import RECORD, differences
from subspect.runs.run import TrainingRun, configured
from subspect.runs.starting import absolute_weights
from subspect.storage import DETECTOR

CELL, FAILURE, DRAWN = "cell.json", "failure.txt", "surfaces"

State = Literal["new", "begun", "failed", "trained", "finished"]


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        dataset: Name of the data set in the grid.
        category: Product or surface.
        method: Name of the method in the grid.
        variant: Name of the variant.
        preset: Configuration that it starts from.
        kept_out: Anomalous images it is not judged on, because another cell of the grid learns from them.
        protocol: How maps and masks are compared.
        run: What is trained on what.
    """

    dataset: str
    category: str
    method: str
    variant: str
    preset: str
    kept_out: int
    protocol: Protocol
    run: TrainingRun

    @property
    def path(self) -> Path:
        """Its folder within that of the benchmark."""
        parts = [self.method] if self.variant == FULL else [self.method, self.variant.replace(" ", "_")]
        if self.run.data.anomalies:
            parts.append(f"n{self.run.data.anomalies}")
        return Path(self.dataset, self.category, "-".join([*parts, f"seed{self.run.seed}"]))

    @property
    def name(self) -> str:
        """Its path, for people."""
        return self.path.as_posix()

    @property
    def evaluation(self) -> str:
        """Name of the folder of its results."""
        return f"evaluation-{self.protocol}"

    def to_dict(self) -> dict[str, Any]:
        """All but the run, as values JSON can hold."""
        return {name: value for name, value in vars(self).items() if name != "run"}


def list_cells(grid: Grid, output: Path) -> list[Cell]:
    """The cells of a grid: category by category, and within one seed by seed.

    Args:
        grid: What to combine.
        output: Folder of the benchmark, where built-in surfaces are drawn.

    Raises:
        ValueError: A configuration or a data set cannot be used, a cell could not be judged, or two cells would
            share a folder.
    """
    cells = [
        cell
        for dataset, entry in grid.datasets.items()
        for data in _splits(entry, grid, output)
        for name, method in grid.methods.items()
        for cell in _cells_of(grid, dataset, data, name, method)
    ]
    taken: dict[Path, Cell] = {}
    for cell in cells:
        try:
            check_protocol(cell.protocol, cell.run.config)
        except ValueError as error:
            raise ValueError(f"{cell.name}: {error}") from error
        if cell.path in taken:
            raise ValueError(f"two cells of the grid would share the folder {cell.path}; rename one of them")
        taken[cell.path] = cell
    return cells


def state(cell: Cell, output: Path) -> State:
    """How far a cell has come."""
    folder = output / cell.path
    if (folder / cell.evaluation / METRICS).exists():
        return "finished"
    if (folder / FAILURE).exists():
        return "failed"
    if (folder / DETECTOR).exists():
        return "trained"
    return "begun" if (folder / RECORD).exists() else "new"


def check_cells(cells: Sequence[Cell], output: Path) -> None:
    """Makes sure that what earlier calls left is of the same cells.

    Raises:
        ValueError: A cell was trained with other values; the message names all that differ.
    """
    for cell in cells:
        changed = differences(cell.run.to_dict(), output / cell.path / RECORD)
        changed += differences(cell.to_dict(), output / cell.path / CELL)
        if changed:
            raise ValueError(
                f"{output / cell.path} holds another cell, which is neither repeated nor overwritten:"
                f" {'; '.join(changed)}; choose another --output, or move it away"
            )


def _splits(entry: DataEntry, grid: Grid, output: Path) -> Iterator[DataOptions]:
    """The categories of a data set with every seed, each of which leaves something to judge on.

    The data set is read once a seed.
    """
    tables = {seed: _read(entry, seed) for seed in grid.seeds}
    for category in _categories(entry, tables[grid.seeds[0]]):
        for seed, table in tables.items():
            _check_rest(entry, category, table, grid.kept_out, seed)
            yield _data(entry, category, seed, output, grid)


def _read(entry: DataEntry, seed: int) -> Table | None:
    """The table of a data set; None for the built-in surfaces, which may not be drawn yet."""
    return None if entry.root is None else read_table(Path(entry.root), entry.layout, seed)


def _categories(entry: DataEntry, table: Table | None) -> Sequence[str]:
    """The categories of a data set, all of which exist."""
    present = SURFACES if table is None else table.categories
    unknown = [category for category in entry.categories or () if category not in present]
    if unknown:
        where = entry.root or "the built-in surfaces"
        raise ValueError(f"no category {', '.join(unknown)} in {where}; there are: {', '.join(present)}")
    return entry.categories or present


def _check_rest(entry: DataEntry, category: str, table: Table | None, kept_out: int, seed: int) -> None:
    """Makes sure that both normal and anomalous images are left to judge on once some are kept out.

    Raises:
        ValueError: There are not so many annotated anomalous images, or nothing is left.
    """
    if table is None:
        normal, anomalous = True, PER_DEFECT * len(DEFECTS[category]) > kept_out
    else:
        rest = take_anomalies(table.select(category=category), kept_out, seed).select(split="test")
        normal, anomalous = (any(one.anomalous == kind for one in rest) for kind in (False, True))
    if not (normal and anomalous):
        what = "anomalous" if normal else "normal"
        advice = (
            f" once {kept_out} anomalous ones are kept out to learn from; ask for fewer" if kept_out else ""
        )
        raise ValueError(
            f"{category} in {entry.root or 'the built-in surfaces'} (seed {seed}) has no {what} test images"
            f" left to judge on{advice}"
        )


def _data(entry: DataEntry, category: str, seed: int, output: Path, grid: Grid) -> DataOptions:
    drawn = output / DRAWN / f"{category}-{entry.size}"
    return DataOptions(
        root=str(drawn.resolve() if entry.root is None else Path(entry.root).resolve()),
        layout="mvtec_ad" if entry.root is None else entry.layout,
        category=category,
        seed=seed,
        calibration_fraction=grid.calibration_fraction,
    )


def _cells_of(grid: Grid, dataset: str, data: DataOptions, name: str, entry: MethodEntry) -> Iterator[Cell]:
    """The cells of one method on one category with one seed: a variant and a number of anomalies each."""
    method = entry.method or name
    config = configured(
        find_preset(method, entry.preset),
        settings=entry.settings,
        image_size=entry.image_size,
        steps=entry.steps,
    )
    for variant, settings in entry.variants.items():
        for anomalies in entry.anomalies:
            run = TrainingRun(
                method=method,
                config=configure(config, settings=settings),
                data=replace(data, anomalies=anomalies),
                seed=data.seed,
                weights=None if entry.weights is None else absolute_weights(entry.weights),
                textures=None if entry.textures is None else str(Path(entry.textures).resolve()),
            )
            yield Cell(
                dataset, str(data.category), name, variant, entry.preset, grid.kept_out, grid.protocol, run
            )
