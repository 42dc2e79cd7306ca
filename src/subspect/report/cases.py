"""Cases: pictures of the best, median and worst, chosen by score, in the shape of the paper's figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from subspect.datasets import read_table
from subspect.datasets.table import NORMAL, Sample
from subspect.evaluation.gallery import Case, examine_image
from subspect.evaluation.results import ImageRow
from subspect.inspection.prediction import DetectorInspector
from subspect.pages import Row, Section
from subspect.report.entries import Entry
from subspect.report.published import NAMES
from subspect.storage import DETECTOR, load_detector

logger = logging.getLogger("subspect")

RESTORED = {"dsr": "object-specific reconstruction", "draem": "reconstruction"}
"""The picture of a method in which a defect is to be gone."""


def telling_images(rows: Sequence[ImageRow], count: int) -> list[tuple[str, ImageRow]]:
    """Images chosen by score alone, each with the reason.

    Args:
        rows: Outcomes of one detector.
        count: How many of each kind.

    Returns:
        Of the anomalous images the highest scores (best), the middle ones (median) and the lowest (worst); of
        the normal images the highest (worst).
    """
    ordered = sorted((row for row in rows if row.defect != NORMAL), key=lambda row: row.score)
    alarms = sorted((row for row in rows if row.defect == NORMAL), key=lambda row: -row.score)
    middle = max(0, (len(ordered) - count) // 2)
    return [
        *(("best", row) for row in ordered[::-1][:count]),
        *(("median", row) for row in ordered[middle : middle + count]),
        *(("worst", row) for row in ordered[:count]),
        *(("worst normal", row) for row in alarms[:count]),
    ]


def case_sections(entries: Sequence[Entry], count: int, device: str) -> list[Section]:
    """Sections like the paper's Figures 5, 7 and 8, and 9, of one category.

    Args:
        entries: One run for each detector; those without a threshold, or without images that are there, are
            left out.
        count: How many images of each kind.
        device: Where detectors run.
    """
    samples = _samples(entries[0])
    if not samples:
        return []
    _warn_of_others(entries, samples)
    sections: list[Section] = []
    restoring: dict[str, _View] = {}
    for entry in entries:
        chosen = [
            (why, row.path)
            for why, row in telling_images(entry.results.rows, count)
            if row.path in samples and samples[row.path].path.exists()
        ]
        detector = load_detector(entry.folder / DETECTOR) if chosen else None
        if detector is None or detector.calibration is None:
            continue
        inspector = DetectorInspector(detector, device)
        view = _View(chosen, _looking(inspector, samples))
        sections += _sections_of(entry, [(why, view.look(path)) for why, path in chosen])
        if entry.setting.method in RESTORED:
            restoring.setdefault(entry.setting.method, view)
    place = f"{entries[0].setting.dataset}, {entries[0].category}"
    return sections + _side_by_side(place, restoring)


class _View(NamedTuple):
    """A detector at work: the images that say most of it, each with the reason, and what it makes of any."""

    chosen: Sequence[tuple[str, str]]
    look: Callable[[str], Case]


def _looking(inspector: DetectorInspector, samples: Mapping[str, Sample]) -> Callable[[str], Case]:
    """What a detector makes of an image, given its path; every image is examined once."""
    return cache(lambda path: examine_image(inspector, samples[path]))


def _sections_of(entry: Entry, cases: Sequence[tuple[str, Case]]) -> list[Section]:
    """What one detector saw, and, where it restores the normal appearance, that beside the image."""
    name, place = entry.setting.name, f"{entry.setting.dataset}, {entry.category}"
    rows = [
        Row(
            f"{why}: {case.caption}",
            {
                "input": case.picture,
                **case.inner,
                "overlay": case.overlay,
                "anomaly map": case.heat,
                "ground truth": case.truth,
            },
        )
        for why, case in cases
    ]
    text = f"As Figures 7 and 8 of the paper; seed {entry.seed}; images chosen by score alone."
    sections = [Section(f"{place}: what {name} saw", text, [], rows)]
    if entry.setting.method == "dsr":
        restored = [
            Row(why, {"input": case.picture, "restored": case.inner[RESTORED["dsr"]]}) for why, case in cases
        ]
        text = "As Figure 5: the image, and the normal appearance that the object-specific decoder restores."
        sections.append(Section(f"{place}: normal appearance restored by {name}", text, [], restored))
    return sections


def _side_by_side(place: str, restoring: Mapping[str, _View]) -> list[Section]:
    """Reconstructions of all methods that make one, on the images that say most of the first of them."""
    methods = [method for method in RESTORED if method in restoring]
    if len(methods) < 2:
        return []
    rows = []
    for why, path in restoring[methods[0]].chosen:
        cases = {method: restoring[method].look(path) for method in methods}
        first = cases[methods[0]]
        drawn = {
            f"{NAMES[method]} reconstruction": case.inner[RESTORED[method]] for method, case in cases.items()
        }
        rows.append(
            Row(f"{why}: {first.caption}", {"input": first.picture, **drawn, "ground truth": first.truth})
        )
    text = f"As Figure 9; images chosen by the scores of {NAMES[methods[0]]}."
    return [Section(f"{place}: reconstructions side by side", text, [], rows)]


def _warn_of_others(entries: Sequence[Entry], samples: Mapping[str, Sample]) -> None:
    """Names runs that were judged on images elsewhere than those they were trained on."""
    for entry in entries:
        if not any(row.path in samples for row in entry.results.rows):
            logger.warning(
                "no pictures of %s: it was judged on images elsewhere than in %s (%s); judge it there",
                entry.folder,
                entry.data["root"],
                entry.results.rows[0].path,
            )


def _samples(entry: Entry) -> dict[str, Sample]:
    """The images of a run's data set by path; none where the data set is no longer there."""
    data = entry.data
    try:
        table = read_table(Path(data["root"]), data["layout"], data["seed"], data["category"])
    except (ValueError, OSError) as error:
        logger.warning("no pictures of %s: %s", entry.category, error)
        return {}
    return {str(sample.path): sample for sample in table}
