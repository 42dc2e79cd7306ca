"""Confidence intervals of every run, and paired comparisons of methods, from the outcomes of single images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subspect.report.entries import Entry
from subspect.results import HEADINGS
from subspect.statistics import Difference, Interval, bootstrap, compare, intervals

REFERENCE = "dsr"
"""The method that the others are compared with, where there are runs of it."""


@dataclass(frozen=True, slots=True)
class RunIntervals:
    """A run and the intervals of its metrics, in the order of ``HEADINGS``."""

    entry: Entry
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of one category and seed, and their differences by metric, first minus second."""

    first: Entry
    second: Entry
    differences: Mapping[str, Difference]


def run_intervals(entries: Sequence[Entry]) -> list[RunIntervals]:
    """The intervals of each run."""
    return [RunIntervals(entry, intervals(bootstrap(entry.results))) for entry in entries]


def comparisons(entries: Sequence[Entry]) -> list[Comparison]:
    """For each seed the reference against every other method and variant judged on the same images.

    Args:
        entries: Runs of one category by one protocol.
    """
    found = []
    for first in entries:
        if first.setting.method != REFERENCE or not first.setting.main:
            continue
        images = {row.path for row in first.results.rows}
        for second in entries:
            same_images = {row.path for row in second.results.rows} == images
            if second is not first and second.seed == first.seed and same_images:
                found.append(Comparison(first, second, compare(first.results, second.results)))
    return found


def intervals_csv(runs: Sequence[RunIntervals]) -> str:
    """A row a run and metric, as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "metric", "value", "low", "high"])
    for run in runs:
        for name, interval in zip(HEADINGS, run.intervals, strict=True):
            writer.writerow(
                [
                    *_names(run.entry),
                    name,
                    getattr(run.entry.results.overall, name),
                    interval.low,
                    interval.high,
                ]
            )
    return text.getvalue()


def comparisons_csv(found: Sequence[Comparison]) -> str:
    """A row a comparison and metric, as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "compared_with", "metric", "difference", "low", "high", "p_value"])
    for one in found:
        for name, difference in one.differences.items():
            row = [*_names(one.first), one.second.setting.name, name, difference.value, *difference.interval]
            writer.writerow([*row, difference.p_value])
    return text.getvalue()


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
