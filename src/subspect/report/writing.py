"""Writing a report: runs to tables, intervals, comparisons and one page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from subspect.files import complete_folder, write_text
from subspect.pages import Section, write_page
from subspect.report.cases import case_sections
from subspect.report.comparison import (
    Comparison,
    RunIntervals,
    comparisons,
    comparisons_csv,
    intervals_csv,
    run_intervals,
)
from subspect.report.entries import Entry, read_entries
from subspect.report.formats import to_csv, to_latex, to_markdown
from subspect.report.page import category_section, overview, paper_section, representatives
from subspect.report.tables import paper_tables
from subspect.storage import DETECTOR

logger = logging.getLogger("subspect")
PAGE = "index.html"


def write_report(folders: Sequence[Path], output: Path, *, pictures: int = 1, device: str = "cpu") -> Path:
    """Writes ``tables.{md,tex,csv}``, ``intervals.csv``, ``comparisons.csv`` and ``index.html``.

    Args:
        folders: Hold judged runs, at any depth.
        output: Folder to make.
        pictures: How many of the best, median and worst images of each detector the page shows; 0 for none.
        device: Where detectors draw these pictures.

    Returns:
        The page, which needs nothing beside it. Whatever fails, nothing half-done is left.

    Raises:
        ValueError: There are no judged runs, one cannot be read, two cannot be told apart, or the number of
            pictures is negative.
        FileExistsError: The output folder has something in it.
    """
    if pictures < 0:
        raise ValueError(f"the number of pictures is at least 0, got {pictures}")
    entries = read_entries(folders)
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} has something in it and is not overwritten; choose another --output")
    with complete_folder(output) as folder:
        _write(entries, folder, pictures, device)
    return output / PAGE


def _write(entries: Sequence[Entry], output: Path, pictures: int, device: str) -> None:
    tables = paper_tables(entries)
    write_text(output / "tables.md", to_markdown(tables))
    write_text(output / "tables.tex", to_latex(tables))
    write_text(output / "tables.csv", to_csv(tables))
    sections = [overview(entries), paper_section(tables)]
    all_intervals: list[RunIntervals] = []
    all_comparisons: list[Comparison] = []
    for members in _by_category(entries):
        logger.info("%s, %s: %d runs", members[0].setting.dataset, members[0].category, len(members))
        found = run_intervals(members)
        compared = comparisons(found)
        sections.append(category_section(members, found, compared))
        all_intervals += found
        all_comparisons += compared
        sections += _pictures(members, pictures, device)
    write_text(output / "intervals.csv", intervals_csv(all_intervals))
    write_text(output / "comparisons.csv", comparisons_csv(all_comparisons))
    write_page(output / PAGE, "subspect: benchmark report", sections, light=True)


def _by_category(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The runs of each category of each data set, by each protocol."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        key = (entry.setting.dataset, entry.category, entry.setting.protocol)
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def _pictures(entries: Sequence[Entry], count: int, device: str) -> list[Section]:
    """Pictures by those detectors that are there; results can be reported without them."""
    drawing = [entry for entry in representatives(entries) if (entry.folder / DETECTOR).exists()]
    return case_sections(drawing, count, device) if count and drawing else []
