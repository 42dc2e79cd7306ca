"""Runs: from a table to a calibrated detector on disk, with everything recorded that a repetition needs."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from subspect.calibration import Calibration, calibrate, sample_map
from subspect.datasets import read_table
from subspect.datasets.checks import usable
from subspect.datasets.loading import TrainingImages
from subspect.datasets.table import Sample, Table, hold_out_calibration, take_anomalies
from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.configuration import ConfigT, configure
from subspect.detectors.registry import find_method
from subspect.images import read_image
from subspect.inspection import predict
from subspect.records import claim, record, write_text
from subspect.storage import save_detector
from subspect.training import FitOptions, check_options, fit

logger = logging.getLogger("subspect")
DETECTOR = "detector"
_BATCH = 8


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
        return hold_out_calibration(table, self.calibration_fraction, self.seed)


def configured(
    preset: ConfigT,
    *,
    file: Path | None = None,
    settings: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    steps: int | None = None,
) -> ConfigT:
    """A preset with everything a user said on top.

    Args:
        preset: Where to start from.
        file: YAML with any of the fields.
        settings: ``FIELD=VALUE``, dotted for nested fields.
        image_size: Height and width that pictures are resized to.
        steps: Length of the training; stages keep their proportions.

    Raises:
        ConfigurationError: A field does not exist or a value does not fit it.
    """
    config = configure(preset, file, settings)
    if image_size is not None:
        config = replace(config, image_size=image_size)
    return config if steps is None else config.with_steps(steps)


@dataclass(frozen=True)
class TrainingRun:
    """Everything that decides what a training gives.

    Attributes:
        method: Name in the registry.
        config: The detector's configuration.
        data: Which images.
        seed: Of weights, order and simulation.
        weights: Pretrained weights to start from; None for the method's own choice.
        false_alarm_rate: For the threshold; None for 0.01 or the smallest rate that the images support.
    """

    method: str
    config: DetectorConfig
    data: DataOptions
    seed: int = 0
    weights: str | None = None
    false_alarm_rate: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Values JSON can hold."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it, without influence on what it gives.

    Attributes:
        fit: Devices, precision, checkpoints.
        resume: Continue a run that was stopped.
        skip_unreadable: Go on without files that cannot be used.
    """

    fit: FitOptions = field(default_factory=FitOptions)
    resume: bool = False
    skip_unreadable: bool = False


def train(run: TrainingRun, output: Path, options: RunOptions) -> Detector:
    """Trains, calibrates and saves a detector.

    Args:
        run: What to train on what.
        output: Receives ``run.json``, ``split.csv``, ``logs``, ``previews``, ``checkpoints`` and ``detector``.
        options: How to go about it.

    Returns:
        The detector, in evaluation mode on the CPU.

    Raises:
        FileExistsError: The output folder holds a run and ``resume`` is not set, or a finished detector.
        ValueError: The data cannot be used, the run to resume was another one, or this machine cannot train so.
    """
    check_options(options.fit)
    claim(run.to_dict(), output, DETECTOR, resume=options.resume)
    table = run.data.read(skip_unreadable=options.skip_unreadable)
    _check_rate(run, table)
    torch.manual_seed(run.seed)
    detector = find_method(run.method).build(run.config)
    detector.start(run.weights)
    images = TrainingImages(table.select(split="train").samples, detector.prepare, run.config.image_size)
    output.mkdir(parents=True, exist_ok=True)
    _record(run, table, output)
    fit(detector.stages(images, run.seed), output, options.fit, resume=options.resume)
    calibrated = calibrate_detector(
        detector, table.select(split="calibration").samples, run.false_alarm_rate, pick_device(options.fit)
    )
    detector.calibration = calibrated
    detector.to("cpu")
    save_detector(detector, output / DETECTOR, {"run": run.to_dict(), "images": _counts(table)})
    return detector


def calibrate_detector(
    detector: Detector, samples: Sequence[Sample], false_alarm_rate: float | None, device: torch.device | str
) -> Calibration | None:
    """The calibration of a detector from held-out normal images; None, with a warning, if there are none."""
    if not samples:
        logger.warning("no images were held out for calibration: the detector has no threshold")
        return None
    detector = detector.to(device).eval()
    scores, maps = [], []
    for start in range(0, len(samples), _BATCH):
        pictures = [read_image(sample.path) for sample in samples[start : start + _BATCH]]
        for scored in predict(detector, pictures, device):
            scores.append(scored.score)
            maps.append(sample_map(scored.anomaly_map))
    return calibrate(scores, maps, false_alarm_rate)


def pick_device(options: FitOptions) -> torch.device:
    """The device to judge on: a GPU if one may be used and is there."""
    use_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def read_test_table(
    provenance: Mapping[str, Any], root: Path, layout: str, category: str | None = None
) -> Table:
    """The data set a detector is judged on, split as for its training, so that nothing learnt is judged.

    Args:
        provenance: Of ``detector.json``; without a record of a run (imported weights) the default split.
        root: The data set's folder, wherever it is now.
        layout: Its layout.
        category: Which product or surface; None takes the one that the detector was trained for.
    """
    recorded = provenance.get("run", {}).get("data", {})
    data = {**recorded, "root": str(root), "layout": layout}
    return DataOptions(**(data | ({"category": category} if category else {}))).read()


def _check_rate(run: TrainingRun, table: Table) -> None:
    """A false-alarm rate that cannot be had is found before training, not after."""
    count = len(table.select(split="calibration"))
    rate = run.false_alarm_rate
    if rate is None:
        return
    if not 0 < rate < 1:
        raise ValueError(f"a false alarm rate lies between 0 and 1, got {rate:g}")
    if rate * (count + 1) < 1 - 1e-9:
        needed = math.ceil(1 / rate - 1e-9) - 1
        raise ValueError(
            f"a false alarm rate of {rate:g} needs {needed} normal images for calibration, but {count} are held"
            f" out; ask for at least {1 / (count + 1):.4g}, add images, or hold out a larger share"
        )


def _record(run: TrainingRun, table: Table, output: Path) -> None:
    """Writes what is trained on what; of a resumed run the record stands, and the images must be the same."""
    split = output / "split.csv"
    text = _split_text(table)
    if split.exists() and split.read_text(encoding="utf-8") != text:
        raise ValueError(f"the images are no longer those of {split}: a run is resumed on the same images only")
    record(run.to_dict(), output)
    write_text(split, text)


def _split_text(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "split", "category", "defect"])
    for sample in table:
        inside = sample.path.is_relative_to(table.root)
        path = sample.path.relative_to(table.root) if inside else sample.path
        writer.writerow([path.as_posix(), sample.split, sample.category, sample.defect])
    return text.getvalue()


def _counts(table: Table) -> dict[str, int]:
    return {split: len(table.select(split=split)) for split in ("train", "calibration", "test")}
