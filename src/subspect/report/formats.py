"""The paper's tables as Markdown, LaTeX and CSV, in percent: ours ± spread (published, difference)."""

from __future__ import annotations

from collections.abc import Sequence

from subspect.files import csv_text
from subspect.report.tables import Figure, PaperTable

NONE = "–"
_LEGEND = (
    "Ours ± standard deviation over seeds (published, difference), in percent; a published figure alone stands"
    " in brackets. Letters mark what differs from the paper."
)


class Marks:
    """Letters for remarks, given in the order in which they are asked for."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def of(self, figure: Figure) -> str:
        """The letters of a figure's remarks."""
        remarks = figure.ours.budgets if figure.ours else ()
        return "".join(self.letters.setdefault(remark, _letter(len(self.letters))) for remark in remarks)


def mean_text(figure: Figure) -> str:
    """Our figure, e.g. ``97.5 ± 0.3``; a dash if there is none."""
    if figure.ours is None:
        return NONE
    spread = "" if figure.ours.spread is None else f" ± {100 * figure.ours.spread:.1f}"
    return f"{100 * figure.ours.mean:.1f}{spread}"


def published_text(figure: Figure) -> str:
    """The published figure and the difference, e.g. ``98.2, −0.7``; empty if there is none."""
    if figure.published is None:
        return ""
    difference = figure.difference
    # A minus sign, not a hyphen.
    shown = "" if difference is None else f", {difference:+.1f}".replace("-", "−")
    return f"{figure.published:.1f}{shown}"


def to_markdown(tables: Sequence[PaperTable]) -> str:
    """All tables, each with its remarks below it."""
    return "\n".join([f"{_LEGEND}\n", *(_markdown(table) for table in tables)])


def to_latex(tables: Sequence[PaperTable]) -> str:
    """All tables as ``table`` environments for the package booktabs."""
    return "\n".join(
        [f"% {_LEGEND}", "% Needs \\usepackage{booktabs}.\n", *(_latex(table) for table in tables)]
    )


def to_csv(tables: Sequence[PaperTable]) -> str:
    """All figures, one a line."""
    rows = [
        [table.number, table.dataset, table.protocol, row, column, *_values(figure)]
        for table in tables
        for (row, column), figure in table.figures.items()
    ]
    of_figure = ("ours", "spread", "seeds", "published", "difference", "remarks")
    return csv_text(["table", "dataset", "protocol", "row", "column", *of_figure], rows)


def _values(figure: Figure) -> list[object]:
    """In per cent but for the number of seeds; empty where there is none."""
    ours = figure.ours
    return [
        _number(None if ours is None else 100 * ours.mean),
        _number(None if ours is None or ours.spread is None else 100 * ours.spread),
        0 if ours is None else ours.seeds,
        _number(figure.published),
        _number(figure.difference),
        "; ".join(ours.budgets) if ours else "",
    ]


def heading(table: PaperTable) -> str:
    """The table's caption."""
    protocol = f", protocol {table.protocol}" if table.protocol else ""
    return f"Table {table.number}: {table.title}{protocol}"


def _markdown(table: PaperTable) -> str:
    marks = Marks()
    lines = [
        f"### {heading(table)}\n",
        f"| {table.corner} | {' | '.join(table.columns)} |",
        f"|---|{'---:|' * len(table.columns)}",
    ]
    for row in table.rows:
        cells = [_plain(table.figures.get((row, column)), marks) for column in table.columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += [f"\n{letter}: {remark}" for remark, letter in marks.letters.items()]
    return "\n".join(lines) + "\n"


def _plain(figure: Figure | None, marks: Marks) -> str:
    if figure is None:
        return ""
    known = published_text(figure)
    if figure.ours is None:
        return f"({known})" if known else NONE
    mark = marks.of(figure)
    return mean_text(figure) + (f" ^{mark}^" if mark else "") + (f" ({known})" if known else "")


def _latex(table: PaperTable) -> str:
    marks = Marks()
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escaped(heading(table))}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(_escaped, (table.corner, *table.columns))) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [_typeset(table.figures.get((row, column)), marks) for column in table.columns]
        lines.append(" & ".join([_escaped(row), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\\ {letter}: {_escaped(remark)}" for remark, letter in marks.letters.items()]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _typeset(figure: Figure | None, marks: Marks) -> str:
    if figure is None:
        return ""
    known = published_text(figure).replace("−", "$-$")
    if figure.ours is None:
        return f"({known})" if known else "--"
    mark = marks.of(figure)
    ours = mean_text(figure).replace(" ± ", r"\,$\pm$\,") + (f"$^{{{mark}}}$" if mark else "")
    return ours + (rf" {{\scriptsize({known})}}" if known else "")


def _escaped(text: str) -> str:
    """Text with LaTeX's own characters taken literally."""
    for character, replacement in {
        "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "λ": r"$\lambda$",
    }.items():  # fmt: skip
        text = text.replace(character, replacement)
    return text


def _letter(place: int) -> str:
    """A to z, then aa, ab, …."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
