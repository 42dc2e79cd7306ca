"""What a probe found, and the files it leaves: findings as CSV, curves as JSON, a table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from subspect.files import csv_text
from subspect.probe.curves import CONFIDENCE, TARGET, DetectionCurve
from subspect.probe.families import Family
from subspect.probe.measuring import Finding

_HEADINGS = ("defects", "size", "planted", "found", "a90", "a90/95", "â: a90", "â: a90/95")


@dataclass(frozen=True, slots=True, eq=False)
class FamilyResult:
    """Findings of one family and the curves through them.

    Attributes:
        family: Which defects.
        findings: What came of each.
        hit_miss: Fitted to what was found and missed.
        scores: Fitted to the scores (â vs a).
    """

    family: Family
    findings: tuple[Finding, ...]
    hit_miss: DetectionCurve
    scores: DetectionCurve

    @property
    def found(self) -> int:
        """How many were found."""
        return sum(finding.found for finding in self.findings)

    @property
    def sizes(self) -> tuple[float, float]:
        """Smallest and largest size planted."""
        sizes = [finding.size for finding in self.findings]
        return min(sizes), max(sizes)

    def to_dict(self) -> dict[str, Any]:
        """The family as values JSON can hold."""
        return {
            "name": self.family.name,
            "quantity": self.family.quantity,
            "unit": "pixels",
            "planted": len(self.findings),
            "found": self.found,
            "smallest": self.sizes[0],
            "largest": self.sizes[1],
            "hit_miss": self.hit_miss.to_dict(),
            "scores": self.scores.to_dict(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class ProbeResult:
    """The outcome of probing a detector.

    Attributes:
        families: One after the other.
        source: Which detector was probed, and the data set's root, layout and category.
        threshold: Score above which a picture is anomalous.
        pictures: How many normal pictures defects were planted into.
        false_alarms: How many were called anomalous as they are, and left out.
        count: Defects planted of each family.
        seed: Of everything random.
    """

    families: tuple[FamilyResult, ...]
    source: dict[str, str]
    threshold: float
    pictures: int
    false_alarms: int
    count: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The outcome as values JSON can hold."""
        return {
            **self.source,
            "threshold": self.threshold,
            "pictures": self.pictures,
            "false_alarms": self.false_alarms,
            "count": self.count,
            "seed": self.seed,
            "target": TARGET,
            "confidence": CONFIDENCE,
            "remarks": list(self.remarks),
            "families": [one.to_dict() for one in self.families],
        }

    def render(self) -> str:
        """The outcome as a Markdown table, with a note for whatever is not there or not to be trusted."""
        rows = [_HEADINGS, *(_cells(one) for one in self.families)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = [_line(row, widths) for row in rows]
        lines.insert(1, _line(["-" * width for width in widths], widths))
        notes = [f"- {one.family.name}: {note}" for one in self.families for note in _notes(one)]
        return "\n".join([*lines, "", self._summary(), "", *notes]).rstrip() + "\n"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What too few pictures mean for the results."""
        remarks = []
        if self.count > self.pictures:
            remarks.append(
                f"Each picture bears several of the {self.count} defects of a family; the bounds take them for"
                " independent, which makes them too narrow if pictures differ much."
            )
        if self.pictures == 1:
            remarks.append("Swapped patches come from the same picture, for want of another one.")
        return tuple(remarks)

    def _summary(self) -> str:
        text = (
            f"Sizes in pixels. Threshold {self.threshold:.4g}; {self.pictures} normal pictures planted into,"
            f" {self.false_alarms} left out as false alarms."
        )
        return " ".join([text, *self.remarks])


def findings_text(findings: Sequence[Finding]) -> str:
    """Findings as CSV."""
    rows = [(one.family, one.path, repr(one.size), repr(one.score), int(one.found)) for one in findings]
    return csv_text(["family", "path", "size", "score", "found"], rows)


def _cells(one: FamilyResult) -> tuple[str, ...]:
    low, high = one.sizes
    flag = " (!)" if one.scores.remarks else ""
    return (
        one.family.name,
        f"{one.family.quantity} {low:.3g} to {high:.3g}",
        str(len(one.findings)),
        str(one.found),
        str(one.hit_miss.a90),
        str(one.hit_miss.a90_95),
        f"{one.scores.a90}{flag}",
        f"{one.scores.a90_95}{flag}",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _notes(one: FamilyResult) -> list[str]:
    """Why sizes are missing, and what the data say against the model; each reason once a curve."""
    notes = []
    for label, curve in (("hit/miss", one.hit_miss), ("â vs a", one.scores)):
        if curve.a90.reason and curve.a90.reason == curve.a90_95.reason:
            notes.append(f"{label}: no a90: {curve.a90.reason}.")
        else:
            sizes = (("a90", curve.a90), ("a90/95", curve.a90_95))
            notes += [f"{label}: no {name}: {size.reason}." for name, size in sizes if size.reason]
        notes += [f"{label} (!): {remark}." for remark in curve.remarks]
    return notes
