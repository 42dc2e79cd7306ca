"""Evaluation: a detector on the test split of a table, to metrics, verdicts and tables of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from subspect.datasets.table import NORMAL, Sample, Table
from subspect.detectors.base import Detector
from subspect.files import write_text
from subspect.images import read_image, read_mask, resize_mask
from subspect.metrics import PixelScores, image_metrics
from subspect.prediction import predict
from subspect.sizes import resize

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

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

PAPER_SIZE, PAPER_CROP = (256, 256), 224


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one group of images, each in [0, 1] or nan where a class is absent.

    See `subspect.metrics` for their definitions.
    """

    image_auroc: float
    image_ap: float
    image_f1_max: float
    pixel_auroc: float
    pixel_ap: float
    pixel_aupro: float


@dataclass(frozen=True, slots=True)
class ImageRow:
    """The outcome for one image; the verdict is empty where the detector has no calibration."""

    path: str
    defect: str
    score: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Results:
    """The outcome of evaluating a detector on one category.

    Attributes:
        category: The product or surface.
        protocol: How maps and masks were compared.
        overall: Metrics over all test images.
        by_defect: Metrics of each kind of defect: its images against all normal ones.
        counts: Test images of each kind, ``good`` among them.
        without_mask: Anomalous images that no mask says more of; they count for image metrics only.
        threshold: The calibrated threshold, or None without a calibration.
        rows: One an image, in the order of the table.
    """

    category: str
    protocol: Protocol
    overall: Metrics
    by_defect: Mapping[str, Metrics]
    counts: Mapping[str, int]
    without_mask: int
    threshold: float | None
    rows: tuple[ImageRow, ...]

    @property
    def false_alarm_rate(self) -> float:
        """Share of the normal images above the threshold; nan without any, or without a threshold."""
        return self._share_above(row.score for row in self.rows if row.defect == NORMAL)

    @property
    def detection_rate(self) -> float:
        """Share of the anomalous images above the threshold; nan without any, or without a threshold."""
        return self._share_above(row.score for row in self.rows if row.defect != NORMAL)

    def _share_above(self, scores: Iterable[float]) -> float:
        above = [score > self.threshold for score in scores] if self.threshold is not None else []
        return float(np.mean(above)) if above else math.nan

    def to_dict(self) -> dict[str, Any]:
        """All but the rows, as values JSON can hold; what is undefined is None."""
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
            notes.append(f"{self.without_mask} anomalous images have no mask: image metrics only.")
        if self.threshold is not None:
            notes.append(
                f"At the calibrated threshold {self.threshold:.4g}: {_percent(self.false_alarm_rate)} false"
                f" alarms, {_percent(self.detection_rate)} of the anomalous images found."
            )
        return table + "\n".join(notes) + "\n"

    def write(self, folder: Path) -> None:
        """Writes ``results.json`` and ``images.csv`` into a folder, made if need be.

        Raises:
            FileExistsError: One of them is there already.
        """
        write_results([self], folder)


def evaluate(
    detector: Detector,
    table: Table,
    *,
    protocol: Protocol = "whole",
    device: torch.device | str = "cpu",
    batch_size: int = 8,
) -> Results:
    """Evaluates a detector on the test split of one category.

    Args:
        detector: Moved to the device and put in evaluation mode; its image score is taken as it is.
        table: Samples of one category; those of other splits are left out.
        protocol: How maps and masks are compared, see `Protocol`.
        device: For example ``cpu`` or ``cuda``.
        batch_size: Images a batch; it has no influence on the results.

    Raises:
        ValueError: There are no test images, several categories, an unknown protocol, or one that the
            detector's image size does not allow.
        ImageError: A file cannot be read.
    """
    _check(detector, table, protocol)
    samples = table.select(split="test").samples
    detector = detector.to(device).eval()
    pixels: dict[str, PixelScores] = {defect: PixelScores() for defect in _kinds(samples)}
    scores: list[float] = []
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        pictures = [read_image(sample.path) for sample in batch]
        for sample, picture, scored in zip(batch, pictures, predict(detector, pictures, device), strict=True):
            scores.append(scored.score)
            if sample.mask_paths or not sample.anomalous:
                anomaly_map, mask = align(scored.anomaly_map, _mask(sample, picture.shape[:2]), protocol)
                pixels[sample.defect].add(anomaly_map, mask)
    return _gather(samples, scores, pixels, detector, protocol)


def align(anomaly_map: FloatArray, mask: BoolArray, protocol: Protocol) -> tuple[FloatArray, BoolArray]:
    """Brings a map ``(h, w)`` and a mask ``(H, W)`` to one size, the way the protocol says.

    The reference of the paper resizes masks with OpenCV in 8 bits and then truncates them, so that a pixel
    counts where the interpolated value rounds to 255.
    """
    size = (anomaly_map.shape[0], anomaly_map.shape[1])
    if protocol == "whole":
        return anomaly_map, resize_mask(mask, size)
    share = resize(torch.from_numpy(mask).double()[None], size, antialias=False)[0].numpy()
    top, left = (size[0] - PAPER_CROP) // 2, (size[1] - PAPER_CROP) // 2
    centre = slice(top, top + PAPER_CROP), slice(left, left + PAPER_CROP)
    return anomaly_map[centre], (share >= 254.5 / 255)[centre]


def average(results: Sequence[Results]) -> Metrics:
    """The mean of each metric over categories, each counting once; undefined ones are left out."""
    return Metrics(**{name: _mean(getattr(one.overall, name) for one in results) for name in HEADINGS})


def render_categories(results: Sequence[Results]) -> str:
    """Several categories as one table for a terminal, a row each and their mean."""
    lines = {one.category: one.overall for one in results} | {"mean": average(results)}
    return _render(f"protocol {results[0].protocol}", "category", lines)


def write_results(results: Sequence[Results], folder: Path) -> None:
    """Writes ``results.json`` (metrics of each category and their mean) and ``images.csv`` (a row an image).

    Raises:
        FileExistsError: One of them is there already; nothing is written then.
    """
    existing = [name for name in ("results.json", "images.csv") if (folder / name).exists()]
    if existing:
        raise FileExistsError(f"{folder} already holds {', '.join(existing)}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"categories": [one.to_dict() for one in results], "mean": _without_nan(average(results))}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / "results.json", text)
    write_text(folder / "images.csv", _csv(results))


def _check(detector: Detector, table: Table, protocol: str) -> None:
    if protocol not in get_args(Protocol):
        raise ValueError(f"unknown protocol {protocol!r}; there are: {', '.join(get_args(Protocol))}")
    if protocol == "paper" and detector.config.image_size != PAPER_SIZE:
        raise ValueError(
            "the protocol 'paper' is defined for detectors of 256x256, this one works at"
            f" {detector.config.image_size}; use 'whole'"
        )
    if len(table.categories) > 1:
        raise ValueError(
            f"a detector is evaluated on one category, select one; the table has: {', '.join(table.categories)}"
        )
    if not len(table.select(split="test")):
        raise ValueError(f"{table.root} has no test images to evaluate on")


def _kinds(samples: Iterable[Sample]) -> list[str]:
    """The kinds in the test split: normal first, then the defects by name."""
    return sorted({sample.defect for sample in samples} | {NORMAL}, key=lambda kind: (kind != NORMAL, kind))


def _mask(sample: Sample, size: tuple[int, ...]) -> BoolArray:
    """The truth of a sample; all False, at the size of the image, for a normal one."""
    if not sample.anomalous:
        return np.zeros(size, dtype=bool)
    return read_mask(sample.mask_paths, sample.mask_level)


def _gather(
    samples: Sequence[Sample],
    scores: Sequence[float],
    pixels: Mapping[str, PixelScores],
    detector: Detector,
    protocol: Protocol,
) -> Results:
    """The results, from the scores of all images and the pixels of each kind."""
    kinds = [kind for kind in pixels if kind != NORMAL]
    everything = sum((pixels[kind] for kind in kinds), pixels[NORMAL])
    defects = [sample.defect for sample in samples]
    threshold = detector.calibration.threshold if detector.calibration else None
    return Results(
        category=samples[0].category,
        protocol=protocol,
        overall=_metrics(scores, [defect != NORMAL for defect in defects], everything),
        by_defect={
            kind: _metrics(
                [score for score, defect in zip(scores, defects, strict=True) if defect in (kind, NORMAL)],
                [defect == kind for defect in defects if defect in (kind, NORMAL)],
                pixels[NORMAL] + pixels[kind],
            )
            for kind in kinds
        },
        counts={kind: defects.count(kind) for kind in pixels},
        without_mask=sum(sample.anomalous and not sample.mask_paths for sample in samples),
        threshold=threshold,
        rows=tuple(
            ImageRow(str(sample.path), sample.defect, score, _verdict(score, threshold))
            for sample, score in zip(samples, scores, strict=True)
        ),
    )


def _metrics(scores: Sequence[float], anomalous: Sequence[bool], pixels: PixelScores) -> Metrics:
    return Metrics(*image_metrics(scores, anomalous), *pixels.compute())


def _verdict(score: float, threshold: float | None) -> str:
    if threshold is None:
        return ""
    return "anomalous" if score > threshold else "normal"


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _without_nan(metrics: Metrics) -> dict[str, float | None]:
    return {name: _none_for_nan(value) for name, value in asdict(metrics).items()}


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["category", "path", "defect", "score", "verdict"])
    writer.writerows(
        [one.category, row.path, row.defect, row.score, row.verdict] for one in results for row in one.rows
    )
    return text.getvalue()
