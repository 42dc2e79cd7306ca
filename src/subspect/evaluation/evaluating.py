"""Evaluation: a detector on the test split of a table, to metrics, verdicts and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch

from subspect.datasets.table import NORMAL, Sample, Table
from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.evaluation.histograms import count_pixels
from subspect.evaluation.metrics import PixelScores, image_metrics
from subspect.evaluation.results import ImageRow, Metrics, Protocol, Results
from subspect.images import read_image, read_mask, resize_mask
from subspect.inspection.prediction import predict
from subspect.sizes import resize
from subspect.tiling import pictures_at_once

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

PAPER_SIZE, PAPER_CROP = (256, 256), 224


def evaluate(
    detector: Detector,
    table: Table,
    *,
    protocol: Protocol = "whole",
    device: torch.device | str = "cpu",
) -> Results:
    """Evaluates a detector on the test split of one category.

    Args:
        detector: Moved to the device and put in evaluation mode; its image score is taken as it is.
        table: Samples of one category; those of other splits are left out.
        protocol: How maps and masks are compared, see `Protocol`.
        device: For example ``cpu`` or ``cuda``.

    Raises:
        ValueError: There are no test images, several categories, an unknown protocol, or one that the
            detector's image size does not allow.
        ImageError: A file cannot be read.
    """
    _check(detector, table, protocol)
    samples = table.select(split="test").samples
    detector = detector.to(device).eval()
    pixels: dict[str, PixelScores] = {defect: PixelScores() for defect in _kinds(samples)}
    rows: dict[str, list[int]] = {defect: [] for defect in pixels}
    scores: list[float] = []
    at_once = pictures_at_once(detector.config.tiling)
    for start in range(0, len(samples), at_once):
        batch = samples[start : start + at_once]
        pictures = [read_image(sample.path) for sample in batch]
        for sample, picture, scored in zip(batch, pictures, predict(detector, pictures, device), strict=True):
            anomaly_map, mask = align(scored.anomaly_map, read_truth(sample, picture.shape[:2]), protocol)
            if _is_truth(mask, sample, protocol):
                pixels[sample.defect].add(anomaly_map, mask)
                rows[sample.defect].append(len(scores))
            scores.append(scored.score)
    return _gather(samples, scores, pixels, rows, detector, protocol)


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


def read_truth(sample: Sample, size: tuple[int, ...]) -> BoolArray:
    """Where a sample is defective ``(H, W)``; nowhere, at the size given, without a mask."""
    if not sample.mask_paths:
        return np.zeros(size, dtype=bool)
    return read_mask(sample.mask_paths, sample.mask_level)


def check_protocol(protocol: str, config: DetectorConfig) -> None:
    """Makes sure that a detector can be judged by a protocol.

    Raises:
        ValueError: There is no such protocol, or it is not defined for what the detector looks at.
    """
    if protocol not in get_args(Protocol):
        raise ValueError(f"unknown protocol {protocol!r}; there are: {', '.join(get_args(Protocol))}")
    looked_at = config.tiling or config.image_size
    if protocol == "paper" and looked_at != PAPER_SIZE:
        words = "x".join(map(str, looked_at)) if isinstance(looked_at, tuple) else looked_at
        raise ValueError(
            "the protocol 'paper' is defined for detectors that look at whole images of 256x256, this one works"
            f" at {words}; use 'whole'"
        )


def _check(detector: Detector, table: Table, protocol: str) -> None:
    check_protocol(protocol, detector.config)
    if len(table.categories) > 1:
        raise ValueError(
            f"a detector is evaluated on one category, select one; the table has: {', '.join(table.categories)}"
        )
    if not len(table.select(split="test")):
        raise ValueError(f"{table.root} has no test images to evaluate on")


def _kinds(samples: Iterable[Sample]) -> list[str]:
    """The kinds in the test split: normal first, then the defects by name."""
    return sorted({sample.defect for sample in samples} | {NORMAL}, key=lambda kind: (kind != NORMAL, kind))


def _is_truth(mask: BoolArray, sample: Sample, protocol: Protocol) -> bool:
    """Whether a mask at the map's size says of each pixel if it is defective.

    Not of a defect without a mask, nor of one that is too small for the map: an answer there would count as
    wrong. The paper's protocol takes the latter for normal, as its reference does.
    """
    if protocol == "paper":
        return bool(sample.mask_paths) or not sample.anomalous
    return bool(mask.any()) or not sample.anomalous


def _gather(
    samples: Sequence[Sample],
    scores: Sequence[float],
    pixels: Mapping[str, PixelScores],
    rows: Mapping[str, Sequence[int]],
    detector: Detector,
    protocol: Protocol,
) -> Results:
    """The results, from the scores of all images, and of each kind the pixels and the images they are of."""
    kinds = [kind for kind in pixels if kind != NORMAL]
    defects = [sample.defect for sample in samples]
    threshold = detector.calibration.threshold if detector.calibration else None
    counted = [row for kind in pixels for row in rows[kind]]
    return Results(
        category=samples[0].category,
        protocol=protocol,
        overall=_metrics(scores, [defect != NORMAL for defect in defects], *pixels.values()),
        by_defect={
            kind: _metrics(
                [score for score, defect in zip(scores, defects, strict=True) if defect in (kind, NORMAL)],
                [defect == kind for defect in defects if defect in (kind, NORMAL)],
                pixels[NORMAL],
                pixels[kind],
            )
            for kind in kinds
        },
        counts={kind: defects.count(kind) for kind in pixels},
        without_mask=len(samples) - len(counted),
        threshold=threshold,
        rows=tuple(
            ImageRow(
                str(sample.path),
                sample.defect,
                score,
                _verdict(score, threshold),
                sample.part or sample.group,
            )
            for sample, score in zip(samples, scores, strict=True)
        ),
        pixels=count_pixels(PixelScores([one for kind in pixels.values() for one in kind.images]), counted),
    )


def _metrics(scores: Sequence[float], anomalous: Sequence[bool], *pixels: PixelScores) -> Metrics:
    return Metrics(*image_metrics(scores, anomalous), *pixels[0].compute(*pixels[1:]))


def _verdict(score: float, threshold: float | None) -> str:
    if threshold is None:
        return ""
    return "anomalous" if score > threshold else "normal"
