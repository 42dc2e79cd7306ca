"""Results: the metrics of a detector, overall and for each kind of defect, and the outcome for each image."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from subspect.datasets.table import NORMAL
from subspect.evaluation.histograms import PixelHistograms
from subspect.files import csv_text, write_atomically, write_json, write_text

Protocol = Literal["whole", "paper"]
"""How maps and masks are compared.

``whole``: the whole map, the mask resized to it by nearest neighbour. ``paper``: the one of the DSR paper's
reference, for numbers comparable with the published ones; a map of 256x256 is cropped to its central 224x224,
and the mask, resized bilinearly in 8 bits, counts only where it is fully defective.
"""

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "pixel AUPRO",
}
"""The metrics, in their order, as people write them."""

METRICS, IMAGES, PIXELS = FILES = ("results.json", "images.csv", "pixels.npz")


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one group of images, each in [0, 1] or nan where a class is absent.

    See `subspect.evaluation.metrics` for their definitions.
    """

    image_auroc: float
    image_ap: float
    image_f1_max: float
    pixel_auroc: float
    pixel_ap: float
    pixel_aupro: float


@dataclass(frozen=True, slots=True)
class ImageRow:
    """The outcome for one image.

    Attributes:
        path: The image file.
        defect: ``good`` for a normal image, otherwise the kind of defect.
        score: Its anomaly score.
        verdict: ``anomalous`` or ``normal``; empty where the detector has no calibration.
        part: What images of the same part share; they are no independent outcomes. Empty: on its own.
    """

    path: str
    defect: str
    score: float
    verdict: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """The outcome of evaluating a detector on one category.

    Attributes:
        category: The product or surface.
        protocol: How maps and masks were compared.
        overall: Metrics over all test images.
        by_defect: Metrics of each kind of defect: its images against all normal ones.
        counts: Test images of each kind, ``good`` among them.
        without_mask: Anomalous images that no mask says more of, or none at the map's size; they count for
            image metrics only.
        threshold: The calibrated threshold, or None without a calibration.
        rows: One an image, in the order of the table.
        pixels: Counts of the pixel scores of each image whose truth is known.
    """

    category: str
    protocol: Protocol
    overall: Metrics
    by_defect: Mapping[str, Metrics]
    counts: Mapping[str, int]
    without_mask: int
    threshold: float | None
    rows: tuple[ImageRow, ...]
    pixels: PixelHistograms = field(compare=False, repr=False)

    @property
    def false_alarm_rate(self) -> float:
        """Share of the normal images above the threshold; nan without any, or without a threshold."""
        return _share_called_anomalous(row for row in self.rows if row.defect == NORMAL)

    @property
    def detection_rate(self) -> float:
        """Share of the anomalous images above the threshold; nan without any, or without a threshold."""
        return _share_called_anomalous(row for row in self.rows if row.defect != NORMAL)

    def to_dict(self) -> dict[str, Any]:
        """All but rows and pixels, as values JSON can hold; what is undefined is None."""
        return {
            "category": self.category,
            "protocol": self.protocol,
            "metrics": _without_nan(self.overall),
            "by_defect": {defect: _without_nan(metrics) for defect, metrics in self.by_defect.items()},
            "counts": dict(self.counts),
            "anomalous_images_without_mask": self.without_mask,
            "threshold": self.threshold,
            "false_alarm_rate": _none_for_nan(self.false_alarm_rate),
            "detection_rate": _none_for_nan(self.detection_rate),
        }

    def render(self) -> str:
        """The metrics as a table for a terminal: all images, then each kind of defect."""
        anomalous = sum(self.counts.values()) - self.counts.get(NORMAL, 0)
        lines = {f"all ({anomalous})": self.overall}
        lines |= {f"{defect} ({self.counts[defect]})": one for defect, one in self.by_defect.items()}
        table = _render(f"{self.category}, protocol {self.protocol}", "defect (images)", lines)
        notes = [f"{self.counts.get(NORMAL, 0)} normal images."]
        if self.without_mask:
            notes.append(
                f"{self.without_mask} anomalous images have no mask, or a defect smaller than the map's pixels:"
                " image metrics only."
            )
        if self.threshold is not None:
            notes.append(
                f"At the calibrated threshold {self.threshold:.4g}: {_percent(self.false_alarm_rate)} false"
                f" alarms, {_percent(self.detection_rate)} of the anomalous images found."
            )
        return table + "\n".join(notes) + "\n"

    def write(self, folder: Path) -> None:
        """Writes ``results.json``, ``images.csv`` and ``pixels.npz`` into a folder, made if need be.

        Raises:
            FileExistsError: One of them is there already.
        """
        write_results([self], folder)


def average(results: Sequence[Results]) -> Metrics:
    """The mean of each metric over categories, each counting once; undefined ones are left out."""
    return Metrics(**{name: _mean(getattr(one.overall, name) for one in results) for name in HEADINGS})


def render_categories(results: Sequence[Results]) -> str:
    """Several categories as one table for a terminal, a row each and their mean."""
    lines = {one.category: one.overall for one in results} | {"mean": average(results)}
    return _render(f"protocol {results[0].protocol}", "category", lines)


def write_results(results: Sequence[Results], folder: Path) -> None:
    """Writes what was found, so that `read_results` gives it back.

    ``images.csv`` gets a row an image, ``pixels.npz`` counts of the pixel scores
    (`subspect.evaluation.histograms`), and ``results.json``, written last, the metrics of each category and
    their mean.

    Raises:
        ValueError: Two are of the same category; nothing is written then.
        FileExistsError: One of them is there already; nothing is written then.
    """
    counts_of = Counter(one.category for one in results)
    twice = [category for category, count in counts_of.items() if count > 1]
    if twice:
        raise ValueError(f"several results of {', '.join(twice)}; a folder holds one a category")
    existing = [name for name in FILES if (folder / name).exists()]
    if existing:
        raise FileExistsError(f"{folder} already holds {', '.join(existing)}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"categories": [one.to_dict() for one in results], "mean": _without_nan(average(results))}
    write_text(folder / IMAGES, _csv(results))
    counts = {
        f"{one.category}/{name}": values for one in results for name, values in _arrays(one.pixels).items()
    }
    write_atomically(folder / PIXELS, lambda path: np.savez_compressed(path, allow_pickle=False, **counts))
    write_json(folder / METRICS, content)


def read_results(folder: Path) -> list[Results]:
    """Reads what `write_results` wrote.

    Raises:
        ValueError: A file is missing or damaged; the message names the folder.
    """
    try:
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        with (folder / IMAGES).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with np.load(folder / PIXELS) as counts:
            return [_from_dict(values, rows, counts) for values in content["categories"]]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder} holds no results that can be read: {error}; evaluate again") from error


def _from_dict(values: Mapping[str, Any], rows: Iterable[Mapping[str, str]], counts: Any) -> Results:
    category = values["category"]
    return Results(
        category=category,
        protocol=values["protocol"],
        overall=_with_nan(values["metrics"]),
        by_defect={defect: _with_nan(metrics) for defect, metrics in values["by_defect"].items()},
        counts=values["counts"],
        without_mask=values["anomalous_images_without_mask"],
        threshold=values["threshold"],
        rows=tuple(
            # Results of before parts were written lack the column.
            ImageRow(row["path"], row["defect"], float(row["score"]), row["verdict"], row.get("part", ""))
            for row in rows
            if row["category"] == category
        ),
        pixels=PixelHistograms(*(counts[f"{category}/{one.name}"] for one in fields(PixelHistograms))),
    )


def _share_called_anomalous(rows: Iterable[ImageRow]) -> float:
    called = [row.verdict == "anomalous" for row in rows if row.verdict]
    return float(np.mean(called)) if called else math.nan


def _arrays(pixels: PixelHistograms) -> dict[str, Any]:
    return {one.name: getattr(pixels, one.name) for one in fields(pixels)}


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _without_nan(metrics: Metrics) -> dict[str, float | None]:
    return {name: _none_for_nan(value) for name, value in asdict(metrics).items()}


def _with_nan(metrics: Mapping[str, float | None]) -> Metrics:
    return Metrics(**{name: math.nan if value is None else value for name, value in metrics.items()})


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _render(title: str, first_column: str, lines: Mapping[str, Metrics]) -> str:
    """A table of metrics in per cent."""
    table = ScreenTable(title=Text(title), title_justify="left")
    table.add_column(first_column)
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    for label, metrics in lines.items():
        table.add_row(Text(label), *(_percent(value) for value in asdict(metrics).values()))
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _csv(results: Sequence[Results]) -> str:
    rows = [
        [one.category, row.path, row.defect, row.score, row.verdict, row.part]
        for one in results
        for row in one.rows
    ]
    return csv_text(["category", "path", "defect", "score", "verdict", "part"], rows)
