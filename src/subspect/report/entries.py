"""Entries: judged runs as a report sees them, and their metrics over seeds and categories."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from subspect.benchmark.cells import CELL
from subspect.benchmark.grid import FULL
from subspect.detectors.config import DetectorConfig
from subspect.detectors.configuration import from_dict
from subspect.detectors.registry import find_method
from subspect.evaluation.results import METRICS, Results, read_results
from subspect.report.budget import budget
from subspect.runs.records import RECORD

logger = logging.getLogger("subspect")


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs share that differ by seed and category only.

    Attributes:
        dataset: Name of the data set.
        label: Name of the method in its grid.
        method: Name in the registry.
        variant: Name of the variant.
        anomalies: Annotated anomalous images that were learnt from.
        protocol: How maps and masks were compared.
    """

    dataset: str
    label: str
    method: str
    variant: str
    anomalies: int
    protocol: str

    @property
    def main(self) -> bool:
        """Whether it is the method itself, neither an ablation nor supervised."""
        return self.variant == FULL and self.anomalies == 0

    @property
    def name(self) -> str:
        """Method, variant and number of anomalies, for people."""
        parts = [self.label]
        if self.variant != FULL:
            parts.append(self.variant)
        if self.anomalies:
            parts.append(f"N={self.anomalies}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """A judged run.

    Attributes:
        folder: Of the run.
        setting: What it is.
        seed: Its seed.
        budget: How its budget differs from the paper's; empty if it does not.
        config: The detector's configuration.
        data: Which images, as recorded.
        results: What it was judged by.
    """

    folder: Path
    setting: Setting
    seed: int
    budget: str
    config: DetectorConfig = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    results: Results = field(repr=False)

    @property
    def category(self) -> str:
        """Product or surface."""
        return self.results.category


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric over seeds, in [0, 1].

    Attributes:
        mean: Over the seeds.
        spread: Standard deviation over the seeds (n - 1); None for a single seed.
        seeds: How many.
        budgets: How the budgets of the runs differ from the paper's; empty if none does.
        categories: What each seed's value is the mean over.
    """

    mean: float
    spread: float | None
    seeds: int
    budgets: tuple[str, ...] = ()
    categories: frozenset[str] = frozenset()


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """All judged runs in folders, at any depth: each with its results beside it, or those of several together.

    Raises:
        ValueError: There are none, one cannot be read, or two cannot be told apart.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ValueError(f"no such folder: {', '.join(missing)}")
    found = sorted({path.parent for folder in folders for path in folder.rglob(METRICS)})
    runs = [judged for place in found for judged in _judged(place)]
    if not runs:
        raise ValueError(
            f"no judged runs in {', '.join(map(str, folders))}: a run has a {RECORD} and, in a folder beside"
            f" it, a {METRICS}; `subspect evaluate` or `subspect benchmark` makes them"
        )
    entries: dict[tuple[object, ...], Entry] = {}
    places: dict[tuple[object, ...], Path] = {}
    for place, folder, results in runs:
        entry = _read(folder, results)
        key = _order(entry)
        if key in entries:
            one = entry.setting
            raise ValueError(
                f"{places[key]} and {place} hold the same of {one.dataset}, {entry.category}: {one.name}, seed"
                f" {entry.seed}, protocol {one.protocol}; no report can tell them apart, so report them apart,"
                " or name method or data set otherwise in a grid"
            )
        entries[key], places[key] = entry, place
    return [entries[key] for key in sorted(entries)]


def estimate(entries: Sequence[Entry], metric: str, defect: str | None = None) -> Estimate | None:
    """A metric of one setting: for each seed the mean over the categories, of that mean and spread over seeds.

    All seeds that count have the same categories: the most that any has, and of as many those of most seeds.

    Args:
        entries: Runs of one setting.
        metric: One of `subspect.evaluation.results.HEADINGS`.
        defect: A kind of defect; None takes all.

    Returns:
        None where there is no run with that metric.
    """
    values: dict[int, dict[str, float]] = {}
    for entry in entries:
        metrics = entry.results.overall if defect is None else entry.results.by_defect.get(defect)
        if metrics is not None and not math.isnan(value := getattr(metrics, metric)):
            values.setdefault(entry.seed, {})[entry.category] = value
    if not values:
        return None
    sets = Counter(frozenset(one) for one in values.values())
    categories = max(sets, key=lambda one: (len(one), sets[one]))
    seeds = {seed: one for seed, one in values.items() if one.keys() == categories}
    means = [float(np.mean(list(one.values()))) for one in seeds.values()]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
    counted = [entry for entry in entries if entry.seed in seeds and entry.category in categories]
    budgets = tuple(dict.fromkeys(entry.budget for entry in counted if entry.budget))
    return Estimate(float(np.mean(means)), spread, len(means), budgets, categories)


def with_coverage(found: Estimate | None, categories: int, seeds: int) -> Estimate | None:
    """The same with a remark for each of categories and seeds of which it has fewer than its table."""
    if found is None:
        return None
    remarks = []
    if len(found.categories) < categories:
        remarks.append(f"mean of {len(found.categories)} of {categories} categories")
    if found.seeds < seeds:
        remarks.append(f"{found.seeds} of {seeds} seeds")
    return replace(found, budgets=(*found.budgets, *remarks))


def by_setting(entries: Iterable[Entry]) -> dict[Setting, list[Entry]]:
    """The runs of each setting."""
    groups: dict[Setting, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.setting, []).append(entry)
    return groups


def _order(entry: Entry) -> tuple[object, ...]:
    """Methods by name, each before its variants, and few annotated anomalies before many."""
    one = entry.setting
    return (
        one.dataset,
        entry.category,
        one.protocol,
        one.label,
        one.variant != FULL,
        one.variant,
        one.anomalies,
        entry.seed,
    )


def _judged(place: Path) -> list[tuple[Path, Path, Results]]:
    """A folder of results, the run that they are of, and they; several runs lie in folders by category."""
    beside = place.parent
    if (beside / RECORD).exists():
        results = read_results(place)
        if len(results) != 1:
            raise ValueError(
                f"{place} holds results of {len(results)} categories, a run has one; evaluate it alone"
            )
        return [(place, beside, results[0])]
    if not any(beside.glob(f"*/{RECORD}")):
        logger.warning("%s is left out: there is no run beside it", place)
        return []
    runs = {one.category: one for one in read_results(place)}
    return [(place, beside / name, one) for name, one in runs.items() if (beside / name / RECORD).exists()]


def _read(folder: Path, results: Results) -> Entry:
    try:
        run = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        cell = json.loads((folder / CELL).read_text(encoding="utf-8")) if (folder / CELL).exists() else {}
        config = from_dict(find_method(run["method"]).config, run["config"])
        data, method, seed = run["data"], run["method"], run["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / RECORD} cannot be read: {error}") from error
    setting = Setting(
        dataset=cell.get("dataset", Path(data["root"]).name),
        label=cell.get("method", method),
        method=method,
        variant=cell.get("variant", FULL),
        anomalies=data["anomalies"],
        protocol=results.protocol,
    )
    differs = budget(method, config, cell.get("preset", ""), variant=setting.variant != FULL)
    return Entry(folder, setting, seed, differs, config, data, results)
