"""Confidence intervals of every run, and paired comparisons of methods, from the outcomes of single images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from subspect.evaluation.results import HEADINGS, Results
from subspect.evaluation.statistics import (
    Difference,
    FloatArray,
    Interval,
    bootstrap,
    differences,
    in_order_of,
    intervals,
    names_of,
    paired,
)
from subspect.files import csv_text
from subspect.report.entries import Entry, Setting

logger = logging.getLogger("subspect")

FIRST = "dsr"
"""The method that the others are taken off, where there are runs of it."""


@dataclass(frozen=True, slots=True)
class RunIntervals:
    """A run and the intervals of its metrics.

    Attributes:
        entry: The run.
        results: Its results, the images by name, so that runs on the same images share their resamples.
        replicates: Of the metrics ``(R, 6)``.
        intervals: Of the metrics, in the order of ``HEADINGS``.
    """

    entry: Entry
    results: Results = field(repr=False)
    replicates: FloatArray = field(repr=False)
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of one category and seed, and their differences by metric, first minus second."""

    first: Entry
    second: Entry
    differences: Mapping[str, Difference]


def run_intervals(entries: Sequence[Entry]) -> list[RunIntervals]:
    """The intervals of each run."""
    return [_with_intervals(entry) for entry in entries]


def _with_intervals(entry: Entry) -> RunIntervals:
    results = in_order_of(entry.results, sorted(names_of(entry.results)))
    replicates = bootstrap(results)
    return RunIntervals(entry, results, replicates, intervals(replicates))


def comparisons(runs: Sequence[RunIntervals]) -> list[Comparison]:
    """For each seed every two methods, and every two variants of one, judged on the same images.

    Args:
        runs: Those of one category by one protocol; DSR's come first in a pair, else the order is kept.
    """
    found = []
    ordered = sorted(runs, key=lambda run: not (run.entry.setting.main and run.entry.setting.method == FIRST))
    for one, other in combinations(ordered, 2):
        first, second = one.entry, other.entry
        if first.seed != second.seed or not _comparable(first.setting, second.setting):
            continue
        try:
            paired(one.results, other.results)
        except ValueError as error:
            names = f"{first.setting.name} − {second.setting.name}"
            logger.warning("%s: no comparison %s, seed %d: %s", first.category, names, first.seed, error)
            continue
        compared = differences(one.results, other.results, one.replicates, other.replicates)
        found.append(Comparison(first, second, compared))
    return found


def _comparable(first: Setting, second: Setting) -> bool:
    return first.label == second.label or (first.main and second.main)


def intervals_csv(runs: Sequence[RunIntervals]) -> str:
    """A row a run and metric, as shares."""
    rows = [
        [*_names(run.entry), name, getattr(run.entry.results.overall, name), *interval]
        for run in runs
        for name, interval in zip(HEADINGS, run.intervals, strict=True)
    ]
    return csv_text([*_COLUMNS, "metric", "value", "low", "high"], rows)


def comparisons_csv(found: Sequence[Comparison]) -> str:
    """A row a comparison and metric, as shares."""
    rows = [
        [*_names(one.first), one.second.setting.name, name, each.value, *each.interval, each.p_value]
        for one in found
        for name, each in one.differences.items()
    ]
    return csv_text([*_COLUMNS, "compared_with", "metric", "difference", "low", "high", "p_value"], rows)


_COLUMNS = ("dataset", "category", "method", "variant", "anomalies", "seed", "protocol")


def _names(entry: Entry) -> list[object]:
    setting = entry.setting
    return [
        setting.dataset,
        entry.category,
        setting.label,
        setting.variant,
        setting.anomalies,
        entry.seed,
        setting.protocol,
    ]
