"""Which images a run uses, how they are split, and which of them may judge it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subspect.datasets import read_table
from subspect.datasets.checks import usable
from subspect.datasets.table import Table, hold_out_calibration, take_anomalies
from subspect.files import content_digest, csv_text

logger = logging.getLogger("subspect")


@dataclass(frozen=True)
class DataOptions:
    """Which images a run uses, and how they are split; recorded with the detector.

    Attributes:
        root: The data set's folder.
        layout: How it is laid out.
        category: Which product or surface; None if there is only one.
        seed: Draws every split.
        calibration_fraction: Share of the training normals held out to set thresholds.
        anomalies: Annotated anomalous images that training may use.
    """

    root: str
    layout: str
    category: str | None = None
    seed: int = 0
    calibration_fraction: float = 0.2
    anomalies: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.calibration_fraction < 1:
            raise ValueError(f"the calibration fraction lies in [0, 1), got {self.calibration_fraction}")
        if self.anomalies < 0:
            raise ValueError(f"the number of anomalies to learn from is at least 0, got {self.anomalies}")

    def read(self, *, skip_unreadable: bool = False) -> Table:
        """The table of one category, split, every file checked.

        Raises:
            ValueError: The data cannot be used; the message lists what is wrong.
        """
        table = read_table(Path(self.root), self.layout, self.seed, self.category)
        if len(table.categories) > 1:
            raise ValueError(
                f"{self.root} has several categories, one detector is for one: choose --category from"
                f" {', '.join(table.categories)}"
            )
        table = take_anomalies(usable(table, skip_unreadable=skip_unreadable), self.anomalies, self.seed)
        table = hold_out_calibration(table, self.calibration_fraction, self.seed)
        if self.calibration_fraction and not table.select(split="calibration"):
            raise ValueError(
                f"no image of {self.root} can be held out to set the threshold: its normal training images are"
                " one, or all of one group; add some, or train without a threshold (--calibration-fraction 0)"
            )
        return table


def digests_not_to_judge(table: Table) -> list[str]:
    """Hashes of the images that a detector must not be judged on: all but those of the test split."""
    return sorted(content_digest(sample.path) for sample in table if sample.split != "test")


def digests_held_out(table: Table) -> list[str]:
    """Hashes of the images that set a detector's threshold."""
    return sorted(content_digest(sample.path) for sample in table.select(split="calibration"))


def recorded_data(
    provenance: Mapping[str, Any], root: Path, layout: str | None = None, category: str | None = None
) -> DataOptions:
    """The data set to take a detector to, read as its training read its own, nothing held out of it.

    Args:
        provenance: Of ``detector.json``.
        root: The data set's folder, wherever it is now.
        layout: Its layout; None takes that of the training.
        category: Which product or surface; None takes the one that the detector was trained for.
    """
    recorded = provenance.get("run", {}).get("data", {})
    layout = layout or recorded.get("layout", "folder")
    if category is None and layout == recorded.get("layout"):
        category = recorded.get("category")
    return DataOptions(str(root.resolve()), layout, category, recorded.get("seed", 0), calibration_fraction=0.0)


def read_test_table(
    provenance: Mapping[str, Any],
    root: Path,
    layout: str | None = None,
    category: str | None = None,
    *,
    skip_unreadable: bool = False,
) -> Table:
    """The images a detector can be judged on: the test split, without anything its training has seen.

    Images are told by content, so it matters neither where they lie nor what was added since.

    Args:
        provenance: Of ``detector.json``.
        root: The data set's folder, wherever it is now.
        layout: Its layout; None takes that of the training.
        category: Which product or surface; None takes the one that the detector was trained for.
        skip_unreadable: Go on without files that cannot be used.

    Raises:
        ValueError: The data cannot be used, or nothing is left to judge by; the message says why.
    """
    data = recorded_data(provenance, root, layout, category)
    table = data.read(skip_unreadable=skip_unreadable)
    seen = set(provenance.get("not_to_judge", ()))
    judged = table.with_samples(
        replace(sample, split="unused") if content_digest(sample.path) in seen else sample
        for sample in table.select(split="test")
    )
    _check_rest(table, judged)
    return judged


def _check_rest(table: Table, judged: Table) -> None:
    """Says what was left out, and that there is something left of either kind."""
    before, after = table.select(split="test"), judged.select(split="test")
    if len(after) < len(before):
        logger.warning(
            "%d of %d test images were used in training or calibration and are left out",
            len(before) - len(after),
            len(before),
        )
    for anomalous, what in ((False, "normal"), (True, "defective")):
        if not any(sample.anomalous == anomalous for sample in after):
            raise ValueError(
                f"{table.root} has no {what} test images that the detector has not seen, so it cannot be"
                " judged; docs/data.md says where each layout keeps them"
            )


def held_out_images(provenance: Mapping[str, Any]) -> list[Path]:
    """Normal images that a run held out to set its threshold, as far as they are still in its data set.

    They are told by content; nothing is decoded.

    Args:
        provenance: Of ``detector.json``.
    """
    recorded, held_out = provenance.get("run", {}).get("data"), set(provenance.get("held_out", ()))
    if not recorded or not held_out:
        return []
    data = DataOptions(**recorded)
    try:
        table = read_table(Path(data.root), data.layout, data.seed, data.category)
    except ValueError:  # it is gone, or a data set no more
        return []
    normal = table.select(anomalous=False)
    return [sample.path for sample in normal if content_digest(sample.path) in held_out]


def split_text(table: Table) -> str:
    """The split as CSV, paths relative to the data set."""
    rows = []
    for sample in table:
        inside = sample.path.is_relative_to(table.root)
        path = sample.path.relative_to(table.root) if inside else sample.path
        rows.append((path.as_posix(), sample.split, sample.category, sample.defect))
    return csv_text(["path", "split", "category", "defect"], rows)
