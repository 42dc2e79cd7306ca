"""The check of an export: its file, run by its runtime, against the detector in PyTorch, on pictures."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from subspect.devices import processor_name
from subspect.export.combinations import Tolerance
from subspect.inspection.inspecting import FloatArray, Inspection, Inspector
from subspect.serving.engines import Engine, Outcome
from subspect.serving.exported import ExportInspector

_ROUNDING = 1e-5  # of a score, by sums in another order
_LIBRARIES = ("subspect", "torch", "numpy", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


class ChangedVerdict(NamedTuple):
    """A picture whose verdict is another.

    Attributes:
        name: Of the picture.
        score: The detector's.
        export_score: The export's.
    """

    name: str
    score: float
    export_score: float


class VerdictCheck:
    """An engine whose verdicts, which ``ExportInspector`` has no use for, are compared with its scores.

    Attributes:
        contradictions: How many pictures, or tiles, had a verdict that their score and the threshold deny.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.contradictions = 0

    def __call__(self, pictures: FloatArray, threshold: float) -> Outcome:
        """As the engine."""
        outcome = self._engine(pictures, threshold)
        expected = np.asarray(outcome.scores, np.float64) > threshold
        self.contradictions += int((outcome.anomalous != expected).sum())
        return outcome


@dataclass
class Comparison:
    """Differences between a detector and its export, gathered picture by picture.

    Attributes:
        pictures: How many.
        map_scale: The detector's highest map value; differences of maps are relative to it.
        map_maximum: The largest difference of a pixel.
        map_mean: The mean over pictures of the mean difference.
        score_scale: The detector's highest score; differences of scores are relative to it.
        score_differences: Of each picture's score.
        changed: The pictures with another verdict, but for those that have the threshold for a score.
        contradictions: How many of the graph's own verdicts did not fit its scores.
    """

    pictures: int = 0
    map_scale: float = 0.0
    map_maximum: float = 0.0
    map_mean: float = 0.0
    score_scale: float = 0.0
    score_differences: list[float] = field(default_factory=list)
    changed: list[ChangedVerdict] = field(default_factory=list)
    contradictions: int = 0

    def add(self, name: str, expected: Inspection, got: Inspection) -> None:
        """Takes one picture in."""
        difference = np.abs(got.anomaly_map - expected.anomaly_map)
        self.map_mean = (self.map_mean * self.pictures + float(difference.mean())) / (self.pictures + 1)
        self.pictures += 1
        self.map_scale = max(self.map_scale, float(np.abs(expected.anomaly_map).max()))
        self.map_maximum = max(self.map_maximum, float(difference.max()))
        self.score_scale = max(self.score_scale, abs(expected.score))
        self.score_differences.append(abs(got.score - expected.score))
        if got.anomalous != expected.anomalous and not _is_tie(expected):
            self.changed.append(ChangedVerdict(name, expected.score, got.score))

    @property
    def score_maximum(self) -> float:
        """The largest difference of a score."""
        return max(self.score_differences, default=0.0)

    @property
    def score_usual(self) -> float:
        """The difference that all scores but a tenth of them, rounded down, stay within."""
        return float(np.quantile(self.score_differences or [0.0], 0.9, method="higher"))

    def violations(self, tolerance: Tolerance) -> list[str]:
        """What is out of tolerance, in words."""
        found = []
        for what, value, scale, bound in (
            ("mean difference of the maps", self.map_mean, self.map_scale, tolerance.mean_map),
            (
                "difference that nine in ten scores keep within",
                self.score_usual,
                self.score_scale,
                tolerance.score,
            ),
            ("largest difference of a score", self.score_maximum, self.score_scale, tolerance.any_score),
        ):
            if value > bound * scale:
                found.append(f"the {what} is {value:.3g}, more than {bound:g} of {scale:.3g}")
        if self.contradictions:
            found.append(f"{self.contradictions} verdicts of the graph are not what its scores say")
        return found


def _is_tie(inspection: Inspection) -> bool:
    """Whether rounding alone decides, as of the held-out image whose score became the threshold."""
    return math.isclose(inspection.score, inspection.threshold, rel_tol=_ROUNDING)


def compare(
    detector: Inspector, export: ExportInspector, pictures: Iterable[tuple[str, FloatArray]]
) -> Comparison:
    """Inspects pictures with both."""
    comparison = Comparison()
    for name, picture in pictures:
        comparison.add(name, detector(picture), export(picture))
    return comparison


def report(comparison: Comparison, tolerance: Tolerance, origin: str, threshold: float) -> dict[str, Any]:
    """The content of ``check.json``."""
    return {
        "pictures": comparison.pictures,
        "origin": origin,
        "map_difference": {
            "maximum": comparison.map_maximum,
            "mean": comparison.map_mean,
            "relative_to": comparison.map_scale,
        },
        "score_difference": {
            "maximum": comparison.score_maximum,
            "nine_in_ten": comparison.score_usual,
            "relative_to": comparison.score_scale,
        },
        "threshold": threshold,
        "verdicts_changed": [one._asdict() for one in comparison.changed],
        "tolerance": tolerance._asdict(),
        "machine": {
            "processor": processor_name(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the libraries that take part."""
    return {name: version(name) for name in _LIBRARIES if find_spec(name)}
