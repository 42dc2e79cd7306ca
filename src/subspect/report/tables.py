"""The paper's Tables 1 to 6, our figures beside the published ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from subspect.benchmark.grid import FULL
from subspect.evaluation.results import HEADINGS
from subspect.report.entries import Entry, Estimate, Setting, by_setting, estimate, with_coverage
from subspect.report.published import AVERAGE, NAMES, Published, published

logger = logging.getLogger("subspect")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a table, in percent.

    Attributes:
        ours: Ours; None where there is no run.
        published: The published one; None where there is none.
    """

    ours: Estimate | None
    published: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus the published one, in percentage points."""
        if self.ours is None or self.published is None:
            return None
        return 100 * self.ours.mean - self.published


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table in the paper's shape.

    Attributes:
        number: Of the table in the paper.
        dataset: Whose figures it holds.
        protocol: How maps and masks were compared.
        title: What it shows.
        corner: What the rows are.
        rows: Names of the rows.
        columns: Names of the columns.
        figures: By row and column; not every place has one.
    """

    number: int
    dataset: str
    protocol: str
    title: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    figures: Mapping[tuple[str, str], Figure]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the figures of a table are laid out: what names a figure's row and its column."""

    title: str
    corner: str
    row: Callable[[Published], str]
    column: Callable[[Published], str]
    ablation: bool = False


def _metric(figure: Published) -> str:
    return HEADINGS[figure.metric]


def _method_and_metric(figure: Published) -> str:
    return f"{figure.method} {HEADINGS[figure.metric]}"


def _category(figure: Published) -> str:
    return figure.category


def _method(figure: Published) -> str:
    return figure.method


def _setting(figure: Published) -> str:
    return figure.setting


SHAPES = {
    1: _Shape("unsupervised", "method", _method, _metric),
    2: _Shape("supervised by N annotated anomalous images", "N", _setting, _method_and_metric),
    3: _Shape("image AUROC", "category", _category, _method),
    4: _Shape("pixel AP", "category", _category, _method),
    5: _Shape("λs, image AUROC", "metric", _metric, _setting, ablation=True),
    6: _Shape("ablations", "variant", _setting, _metric, ablation=True),
}


def paper_tables(entries: Sequence[Entry]) -> list[PaperTable]:
    """Tables 1 to 6 of the paper's data sets, and 2, 5 and 6 of others that have such runs.

    A table is made for each protocol; without any of our runs, its published figures stand alone.
    """
    _log_labels(entries)
    tables = []
    for number, shape in SHAPES.items():
        figures = [one for one in published() if one.table == number]
        dataset = figures[0].dataset
        for protocol in _protocols(entries, dataset) or ("",):
            tables.append(_fill(number, shape, figures, _of(entries, dataset, protocol), dataset, protocol))
        if number in (2, 5, 6):
            tables += _elsewhere(number, shape, figures, entries)
    return tables


def _elsewhere(
    number: int, shape: _Shape, figures: Sequence[Published], entries: Sequence[Entry]
) -> list[PaperTable]:
    """The same table of data sets that the paper does not have; at least two settings must be ours."""
    tables = []
    others = dict.fromkeys(entry.setting.dataset for entry in entries)
    for dataset in (name for name in others if name != figures[0].dataset):
        for protocol in _protocols(entries, dataset):
            chosen = _of(entries, dataset, protocol)
            asked = _with_our_numbers(figures, chosen)
            table = _fill(number, shape, asked, chosen, dataset, protocol)
            if len({one.setting for one in asked if (shape.row(one), shape.column(one)) in table.figures}) > 1:
                tables.append(table)
    return tables


def _with_our_numbers(figures: Sequence[Published], entries: Sequence[Entry]) -> list[Published]:
    """What is asked for, where it is numbers of annotated anomalies for those that our runs have."""
    asked = [one for one in figures if not one.setting.startswith("N=")]
    templates = {(one.method, one.metric): one for one in figures if one.setting.startswith("N=")}
    numbers = sorted({entry.setting.anomalies for entry in entries})
    return asked + [replace(one, setting=f"N={count}") for count in numbers for one in templates.values()]


def _fill(
    number: int,
    shape: _Shape,
    figures: Sequence[Published],
    entries: Sequence[Entry],
    dataset: str,
    protocol: str,
) -> PaperTable:
    """The table of one data set by one protocol; published figures are shown for their own data set only."""
    own = dataset == figures[0].dataset
    chosen = _choose_labels(entries, ablation=shape.ablation)
    cells = {
        (shape.row(one), shape.column(one)): Figure(_ours(chosen, one), one.percent if own else None)
        for one in figures
    }
    if not own:
        cells = {place: figure for place, figure in cells.items() if figure.ours is not None}
    pooled = {(shape.row(one), shape.column(one)) for one in figures if one.category in ("", AVERAGE)}
    cells = _covered(cells, pooled, _category_count(dataset) if own else 0)
    return PaperTable(
        number,
        dataset,
        protocol,
        f"{dataset}, {shape.title}",
        shape.corner,
        list(dict.fromkeys(row for row, _ in cells)),
        list(dict.fromkeys(column for _, column in cells)),
        cells,
    )


def _ours(groups: Mapping[Setting, Sequence[Entry]], wanted: Published) -> Estimate | None:
    """Our counterpart of a published figure."""
    for setting, entries in groups.items():
        if NAMES.get(setting.method) == wanted.method and _fits(setting, entries[0], wanted.setting):
            if wanted.category not in ("", AVERAGE):
                entries = [entry for entry in entries if entry.category == wanted.category]
            found = estimate(entries, wanted.metric)
            if found is not None:
                return found
    return None


def _covered(
    cells: Mapping[tuple[str, str], Figure], pooled: Set[tuple[str, str]], categories: int
) -> dict[tuple[str, str], Figure]:
    """The figures, with remarks on means over fewer seeds or categories than others in the table.

    Args:
        cells: The table's.
        pooled: Which of them are means over categories.
        categories: How many the paper's data set has, where it is that.
    """
    ours = {place: figure.ours for place, figure in cells.items() if figure.ours is not None}
    seeds = max((one.seeds for one in ours.values()), default=0)
    most = max([categories, *(len(one.categories) for place, one in ours.items() if place in pooled)])
    return {
        place: replace(figure, ours=with_coverage(figure.ours, most if place in pooled else 0, seeds))
        for place, figure in cells.items()
    }


def _category_count(dataset: str) -> int:
    """How many categories a data set of the paper has."""
    return len({one.category for one in published() if one.dataset == dataset} - {"", AVERAGE})


def _fits(setting: Setting, entry: Entry, wanted: str) -> bool:
    """Whether a setting is what the paper calls ``wanted``."""
    if wanted == "unsupervised":
        return setting.main
    if wanted.startswith("N="):
        return setting.variant == FULL and setting.anomalies == int(wanted.removeprefix("N="))
    if wanted.startswith("lambda_s=") and setting.main:
        simulation = getattr(entry.config, "simulation", None)
        return getattr(simulation, "nearest_share", None) == float(wanted.removeprefix("lambda_s="))
    return setting.variant == wanted and setting.anomalies == 0


def _log_labels(entries: Sequence[Entry]) -> None:
    """Says which methods have several names in a data set, of which each table has room for one."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for setting in by_setting(entries):
        labels.setdefault((setting.dataset, setting.method), {})[setting.label] = None
    for (dataset, method), names in labels.items():
        if len(names) > 1:
            logger.warning(
                "%s: %s all are %s; the paper's tables show one of them each, the other tables all",
                dataset,
                ", ".join(names),
                method,
            )


def _choose_labels(entries: Sequence[Entry], *, ablation: bool) -> dict[Setting, list[Entry]]:
    """The runs by setting, where a method has several names those of the one with most (or fewest) variants."""
    groups = by_setting(entries)
    variants: dict[tuple[str, str], set[str]] = {}
    for setting in groups:
        variants.setdefault((setting.method, setting.label), set()).add(setting.variant)
    order = sorted(groups, key=lambda s: len(variants[s.method, s.label]), reverse=ablation)
    first = {setting.method: setting.label for setting in reversed(order)}
    return {setting: groups[setting] for setting in order if first[setting.method] == setting.label}


def _protocols(entries: Sequence[Entry], dataset: str) -> list[str]:
    return list(dict.fromkeys(e.setting.protocol for e in entries if e.setting.dataset == dataset))


def _of(entries: Sequence[Entry], dataset: str, protocol: str) -> list[Entry]:
    return [e for e in entries if (e.setting.dataset, e.setting.protocol) == (dataset, protocol)]
