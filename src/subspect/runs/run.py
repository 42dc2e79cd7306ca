"""Runs: from a table to a calibrated detector on disk, with everything recorded that a repetition needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from subspect.calibration import Calibration, calibrate, check_rate, far_above, sample_map
from subspect.datasets.reading import listed
from subspect.datasets.table import Table
from subspect.datasets.textures import Textures, check_foreign, folder_textures
from subspect.datasets.tiles import load_training_images
from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.configuration import configure
from subspect.detectors.registry import find_method
from subspect.files import json_text
from subspect.images import read_image
from subspect.inspection.prediction import predict
from subspect.runs.data import DataOptions, digests_held_out, digests_not_to_judge, split_text
from subspect.runs.records import Claim, check_output
from subspect.runs.starting import take_weights
from subspect.storage import DETECTOR, save_detector
from subspect.tiling import Tiling, pictures_at_once
from subspect.training.fitting import check_batches, fit
from subspect.training.options import FitOptions, check_options, conditions, on_gpu

logger = logging.getLogger("subspect")

ConfigT = TypeVar("ConfigT", bound=DetectorConfig)


def configured(
    preset: ConfigT,
    *,
    file: Path | None = None,
    settings: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    steps: int | None = None,
    tiling: Tiling | None = None,
) -> ConfigT:
    """A preset with everything a user said on top.

    Args:
        preset: Where to start from.
        file: YAML with any of the fields.
        settings: ``FIELD=VALUE``, dotted for nested fields.
        image_size: Height and width that pictures, or their tiles, are resized to.
        steps: Length of the training; stages keep their proportions.
        tiling: How pictures are cut up.

    Raises:
        ConfigurationError: A field does not exist or a value does not fit it.
        ValueError: An image size, tiling or number of steps does not fit the method.
    """
    config = configure(preset, file, settings)
    if image_size is not None:
        config = replace(config, image_size=image_size)
    if tiling is not None:
        config = replace(config, tiling=tiling)
    return config if steps is None else config.with_steps(steps)


@dataclass(frozen=True)
class TrainingRun:
    """Everything that decides what a training gives.

    Attributes:
        method: Name in the registry.
        config: The detector's configuration.
        data: Which images.
        seed: Of weights, order and simulation.
        weights: What to start from, see `subspect.runs.starting`; None for what suits the configuration.
        false_alarm_rate: For the threshold; None for 0.01 or the smallest rate that the images support.
        textures: Folder of pictures that simulated defects are made of; None for the method's own choice.

    Raises:
        ValueError: There is no such method, or there are anomalous images to learn from, but it learns from
            normal ones only.
    """

    method: str
    config: DetectorConfig
    data: DataOptions
    seed: int = 0
    weights: str | None = None
    false_alarm_rate: float | None = None
    textures: str | None = None

    def __post_init__(self) -> None:
        if self.data.anomalies and not find_method(self.method).build.learns_from_anomalies:
            raise ValueError(
                f"{self.method} learns from normal images only, but is to learn from {self.data.anomalies}"
                " anomalous ones; leave out --anomalies (in a grid: anomalies)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Values JSON can hold."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it; of all this devices and precision alone move its numbers, by rounding.

    What else several devices change says docs/scale.md.

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
        output: Receives ``run.json``, ``conditions.json``, ``split.csv``, ``logs``, ``previews``,
            ``checkpoints`` and ``detector``.
        options: How to go about it.

    Returns:
        The detector, in evaluation mode on the CPU.

    Raises:
        FileExistsError: The output folder holds a run and ``resume`` is not set, or a finished detector.
        BlockingIOError: Another process is at work in the output folder.
        ValueError: The data cannot be used, the run to resume was another one, or this machine cannot train so.
    """
    check_options(options.fit)
    for root in filter(None, (run.data.root, run.textures)):
        check_output(Path(root), output)
    claim = Claim(run.to_dict(), output, output / DETECTOR, options.resume)
    claim.check()
    table = run.data.read(skip_unreadable=options.skip_unreadable)
    check_rate(run.false_alarm_rate, len(table.select(split="calibration")))
    torch.manual_seed(run.seed)
    detector = find_method(run.method).build(run.config)
    origin = take_weights(detector, run.weights)
    textures = _textures(run, table)
    detector.use_textures(textures)
    images = load_training_images(
        table.select(split="train").samples, detector.prepare, run.config.image_size, run.config.tiling
    )
    stages = detector.stages(images, run.seed)
    check_batches(stages, options.fit)  # before there is a run that could only be resumed
    with claim.begun(_images(table, textures), conditions(options.fit)):
        fit(stages, output, options.fit, resume=options.resume)
        held_out = [sample.path for sample in table.select(split="calibration")]
        calibrated = calibrate_detector(detector, held_out, run.false_alarm_rate, pick_device(options.fit))
        detector.calibration = calibrated
        detector.to("cpu").eval()
        provenance = {
            "run": run.to_dict(),
            "images": _counts(table),
            "started_from": origin.source,
            "held_out": digests_held_out(table),
            "not_to_judge": sorted(origin.not_to_judge.union(digests_not_to_judge(table))),
        }
        save_detector(detector, output / DETECTOR, provenance)
    return detector


def calibrate_detector(
    detector: Detector, paths: Sequence[Path], false_alarm_rate: float | None, device: torch.device | str
) -> Calibration | None:
    """The calibration of a detector from held-out normal images; None, with a warning, if there are none.

    Other warnings name images that look anomalous to the detector, since they decide the threshold, and say
    where it tells none from another.
    """
    if not paths:
        logger.warning("no images were held out for calibration: the detector has no threshold")
        return None
    detector = detector.to(device).eval()
    scores, maps = [], []
    size = pictures_at_once(detector.config.tiling)
    for start in range(0, len(paths), size):
        pictures = [read_image(path) for path in paths[start : start + size]]
        for scored in predict(detector, pictures, device):
            scores.append(scored.score)
            maps.append(sample_map(scored.anomaly_map))
    if len(scores) > 1 and min(scores) == max(scores):
        logger.warning(
            "all %d held-out normal images have the score %.3g: unless they are one picture, training failed;"
            " train for more steps, or with another seed",
            len(scores),
            scores[0],
        )
    if odd := far_above(scores):
        logger.warning(
            "%d of %d held-out normal images score far above the others and decide the threshold: %s; if they"
            " show defects, take them out and calibrate anew (subspect calibrate)",
            len(odd),
            len(scores),
            listed(f"{paths[place]} ({scores[place]:.3g})" for place in sorted(odd, key=lambda i: -scores[i])),
        )
    return calibrate(scores, maps, false_alarm_rate)


def pick_device(options: FitOptions) -> torch.device:
    """The device to judge on: a GPU if one may be used and is there."""
    return torch.device("cuda" if on_gpu(options) else "cpu")


def _textures(run: TrainingRun, table: Table) -> Textures | None:
    """The textures of a run, every file checked, none of them an image of the data set."""
    if run.textures is None:
        return None
    textures = folder_textures(Path(run.textures))
    check_foreign(textures, table)
    return textures


def _images(table: Table, textures: Textures | None) -> dict[str, str]:
    """What a run records of its images, by the names of files."""
    images = {"split.csv": split_text(table)}
    if textures is not None:
        images["textures.json"] = json_text(textures.describe())
    return images


def _counts(table: Table) -> dict[str, int]:
    return {split: len(table.select(split=split)) for split in ("train", "calibration", "test")}
