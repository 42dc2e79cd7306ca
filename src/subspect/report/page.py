"""The page of a report: tables, breakdowns, curves, and pictures, as sections."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from subspect.datasets.table import NORMAL
from subspect.evaluation.results import HEADINGS
from subspect.evaluation.statistics import drawn_together
from subspect.pages import Cell, Chart, MetricsTable, Section
from subspect.report.charts import curves_chart, histograms_chart
from subspect.report.comparison import Comparison, RunIntervals
from subspect.report.entries import Entry, Estimate, by_setting, estimate, with_coverage
from subspect.report.formats import Marks, heading, mean_text, published_text
from subspect.report.tables import Figure, PaperTable

_COMPARED = ("image_auroc", "image_ap", "pixel_ap", "pixel_aupro")


def overview(entries: Sequence[Entry]) -> Section:
    """All metrics of every method and variant, a table a data set."""
    tables = []
    for dataset, members in _grouped(entries, "dataset").items():
        for protocol in dict.fromkeys(entry.setting.protocol for entry in members):
            chosen = [entry for entry in members if entry.setting.protocol == protocol]
            tables.append(_metrics_table(f"{dataset}, protocol {protocol}", chosen))
    text = (
        "In percent: mean over categories, then mean ± standard deviation over seeds. Letters mark what differs"
        " from the paper's budget, and means over fewer categories or seeds than the table has. A click on a"
        " column sorts by it."
    )
    return Section("All runs", text, tables, [])


def paper_section(tables: Sequence[PaperTable]) -> Section:
    """The paper's tables."""
    text = (
        "Ours ± standard deviation over seeds, and in small print the published figure and the difference; a"
        " published figure alone where we have no run."
    )
    return Section("The paper's tables", text, [_paper_table(table) for table in tables], [])


def category_section(
    entries: Sequence[Entry], intervals: Sequence[RunIntervals], comparisons: Sequence[Comparison]
) -> Section:
    """One category by one protocol: metrics, kinds of defect, intervals, comparisons, curves.

    Args:
        entries: Its runs.
        intervals: Confidence intervals of these runs.
        comparisons: Between these runs.
    """
    first = entries[0]
    tables = [_metrics_table("all defects", entries)]
    tables += [_defect_table(metric, entries) for metric in ("image_auroc", "pixel_ap") if _defects(entries)]
    tables.append(_interval_table(intervals))
    if comparisons:
        tables.append(_comparison_table(comparisons))
    drawn = representatives(entries)
    results = {entry.setting.name: entry.results for entry in drawn}
    charts = [
        Chart(f"Curves of {_seeds(drawn)}.", curves_chart(results)),
        Chart("Scores of the test images, and the calibrated threshold.", histograms_chart(results)),
    ]
    counts = first.results.counts
    text = f"Protocol {first.setting.protocol}. Test images of seed {first.seed}: " + ", ".join(
        f"{count} {kind}" for kind, count in counts.items()
    )
    return Section(f"{first.setting.dataset}, {first.category}", f"{text}.", tables, [], charts)


def _seeds(entries: Sequence[Entry]) -> str:
    """The seed of runs, or, where they differ, that of each."""
    if len({entry.seed for entry in entries}) == 1:
        return f"seed {entries[0].seed}"
    return ", ".join(f"{entry.setting.name} seed {entry.seed}" for entry in entries)


def representatives(entries: Sequence[Entry]) -> list[Entry]:
    """One run a method, of the lowest seed: the method itself, or what there is if there are only variants."""
    chosen = [entry for entry in entries if entry.setting.main] or list(entries)
    return [min(group, key=lambda entry: entry.seed) for group in by_setting(chosen).values()]


def _grouped(entries: Iterable[Entry], name: str) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(getattr(entry.setting, name), []).append(entry)
    return groups


def _metrics_table(caption: str, entries: Sequence[Entry]) -> MetricsTable:
    marks = Marks()
    categories, seeds = {entry.category for entry in entries}, {entry.seed for entry in entries}
    rows = {
        setting.name: [
            _estimate_cell(with_coverage(estimate(group, metric), len(categories), len(seeds)), marks)
            for metric in HEADINGS
        ]
        for setting, group in by_setting(entries).items()
    }
    return MetricsTable(caption, list(HEADINGS.values()), rows, _remarks(marks))


def _defects(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(kind for entry in entries for kind in entry.results.by_defect))


def _defect_table(metric: str, entries: Sequence[Entry]) -> MetricsTable:
    """A metric of each kind of defect, its images against all normal ones."""
    kinds, marks = _defects(entries), Marks()
    rows = {
        setting.name: [_estimate_cell(estimate(group, metric, kind), marks) for kind in kinds]
        for setting, group in by_setting(entries).items()
    }
    return MetricsTable(f"{HEADINGS[metric]} by kind of defect", kinds, rows, _remarks(marks))


def _estimate_cell(found: Estimate | None, marks: Marks) -> Cell:
    figure = Figure(found, None)
    return Cell(mean_text(figure), mark=marks.of(figure), value=None if found is None else found.mean)


def _paper_table(table: PaperTable) -> MetricsTable:
    marks = Marks()
    rows = {
        row: [_paper_cell(table.figures.get((row, column)), marks) for column in table.columns]
        for row in table.rows
    }
    return MetricsTable(heading(table), table.columns, rows, _remarks(marks))


def _paper_cell(figure: Figure | None, marks: Marks) -> Cell:
    if figure is None:
        return Cell("")
    known = published_text(figure)
    if figure.ours is None:
        return Cell("", known)
    return Cell(mean_text(figure), known, marks.of(figure), figure.ours.mean)


def _interval_table(intervals: Sequence[RunIntervals]) -> MetricsTable:
    rows = {}
    for run in intervals:
        overall = run.entry.results.overall
        rows[f"{run.entry.setting.name}, seed {run.entry.seed}"] = [
            Cell("–")
            if math.isnan(value := getattr(overall, name))
            else Cell(f"{100 * value:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", value=value)
            for name, (low, high) in zip(HEADINGS, run.intervals, strict=True)
        ]
    caption = f"95 % confidence intervals ({_resampled(intervals[0].entry)} resampled)"
    return MetricsTable(caption, list(HEADINGS.values()), rows)


def _resampled(entry: Entry) -> str:
    """What is drawn again: images, or whole parts, of which it says how many there are."""
    rows = entry.results.rows
    if not any(row.part for row in rows):
        return "images"
    normal, anomalous = drawn_together([row.defect != NORMAL for row in rows], [row.part for row in rows])
    return (
        f"whole parts, of seed {entry.seed} {len(set(normal.tolist()))} normal and"
        f" {len(set(anomalous.tolist()))} anomalous ones,"
    )


def _comparison_table(comparisons: Sequence[Comparison]) -> MetricsTable:
    rows = {}
    for one in comparisons:
        rows[f"{one.first.setting.name} − {one.second.setting.name}, seed {one.first.seed}"] = [
            Cell("–")
            if (found := one.differences.get(name)) is None
            else Cell(
                f"{100 * found.value:+.1f}",
                f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}, p {found.p_value:.3f}",
                value=found.value,
            )
            for name in _COMPARED
        ]
    columns = [HEADINGS[name] for name in _COMPARED]
    return MetricsTable(
        "Paired differences on the same images, with 95 % intervals", columns, rows, unit="percentage points"
    )


def _remarks(marks: Marks) -> dict[str, str]:
    return {letter: remark for remark, letter in marks.letters.items()}
