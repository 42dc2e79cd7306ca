"""Timing: how long cells will take, from a few steps of each stage measured on this machine."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from subspect.benchmark.cells import Cell, state
from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.table import Table, take_anomalies
from subspect.datasets.textures import folder_textures
from subspect.datasets.tiles import load_training_images
from subspect.detectors.base import Detector
from subspect.detectors.registry import find_method
from subspect.runs.run import pick_device
from subspect.runs.starting import take_weights
from subspect.spans import wait_for
from subspect.training.checkpoints import newest_checkpoint
from subspect.training.fitting import run_briefly
from subspect.training.options import FitOptions
from subspect.training.stage import Stage

logger = logging.getLogger("subspect")
MEASURED_STEPS = 3
_IMAGES = 16


@dataclass(frozen=True)
class StageSpeed:
    """What a training stage takes on this machine.

    Attributes:
        name: Of the stage.
        seconds: A step; of a stage that passes over all images once, an image.
        steps: Its length; None for such a pass.
    """

    name: str
    seconds: float
    steps: int | None


@dataclass(frozen=True)
class Speed:
    """What a cell takes on this machine.

    Attributes:
        stages: Its training.
        image: Seconds to judge an image, or a tile.
        tiles: Tiles of a picture; 1 if they are looked at whole.
    """

    stages: tuple[StageSpeed, ...]
    image: float
    tiles: float = 1.0


def estimate(cells: Sequence[Cell], output: Path, options: FitOptions) -> dict[Path, float | None]:
    """Seconds that each cell still takes to train and to judge, by its path; None where measuring failed.

    What cells with one configuration on one data set take is measured once, and not counted are start-up,
    reading and the computation of metrics. Finished cells take nothing.
    """
    speeds: dict[object, Speed | None] = {}
    seconds: dict[Path, float | None] = {}
    for cell in cells:
        if state(cell, output) == "finished":
            seconds[cell.path] = 0.0
            continue
        key = (cell.dataset, cell.run.method, cell.run.config, cell.run.data.anomalies > 0)
        if key not in speeds:
            speeds[key] = _try_to_measure(cell, options)
        speed = speeds[key]
        seconds[cell.path] = None if speed is None else _left(cell, output, speed)
    return seconds


def measure(cell: Cell, options: FitOptions) -> Speed:
    """Trains a few steps of every stage of a cell, on a few of its images, and judges some of those."""
    table = _table(cell)
    chosen = [
        *itertools.islice(table.select(split="train", anomalous=False), _IMAGES),
        *itertools.islice(table.select(split="train", anomalous=True), _IMAGES),
    ]
    detector = find_method(cell.run.method).build(cell.run.config)
    take_weights(detector, cell.run.weights)
    detector.use_textures(None if cell.run.textures is None else folder_textures(Path(cell.run.textures)))
    config = cell.run.config
    images = load_training_images(chosen, detector.prepare, config.image_size, config.tiling)
    stages = [_measure_stage(stage, options) for stage in detector.stages(images, cell.run.seed)]
    return Speed(tuple(stages), _image_time(detector, images, pick_device(options)), len(images) / len(chosen))


def _try_to_measure(cell: Cell, options: FitOptions) -> Speed | None:
    try:
        return measure(cell, options)
    except (ValueError, RuntimeError, OSError) as error:
        logger.warning("%s cannot be measured: %s", cell.name, error)
        return None


def _table(cell: Cell) -> Table:
    data = cell.run.data
    table = read_table(Path(data.root), data.layout, data.seed, data.category)
    return take_anomalies(table, data.anomalies, data.seed)


def _left(cell: Cell, output: Path, speed: Speed) -> float:
    """Seconds for the steps that no checkpoint has yet, and for calibrating and judging."""
    table = _table(cell)
    normals = len(table.select(split="train", anomalous=False))
    held_out = round(cell.run.data.calibration_fraction * normals)
    judging = speed.image * speed.tiles * (held_out + len(table.select(split="test")))
    if state(cell, output) == "trained":
        return judging
    training = 0.0
    for stage in speed.stages:
        _, done = newest_checkpoint(output / cell.path / "checkpoints" / stage.name)
        images = (normals - held_out) * speed.tiles
        length = images if stage.steps is None else max(0, stage.steps - done)
        training += stage.seconds * length
    return training + judging


def _measure_stage(stage: Stage, options: FitOptions) -> StageSpeed:
    """Runs a few steps, of which the first is not counted where there are several."""
    timer = _Timer()
    run_briefly(stage, options, MEASURED_STEPS, callbacks=[timer])
    stage.to("cpu")
    seconds = median(timer.seconds[1:] or timer.seconds)
    if stage.gathers:
        return StageSpeed(stage.name, seconds / stage.config.batch_size, None)
    return StageSpeed(stage.name, seconds / options.devices, stage.config.steps)


def _image_time(detector: Detector, images: TrainingImages, device: torch.device) -> float:
    """Seconds an image, in the second of two batches."""
    batch = torch.stack([images[index][0] for index in range(min(8, len(images)))]).to(device)
    detector.to(device).eval()
    started = 0.0
    with torch.inference_mode():
        for _ in range(2):
            started = _now(device)
            detector(batch)
    return (_now(device) - started) / len(batch)


def _now(device: torch.device) -> float:
    """The time, once a device has done what it was given."""
    wait_for(device)
    return time.perf_counter()


class _Timer(Callback):
    """Takes the time of every step, from one's end to the next one's, so that loading is counted."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = _now(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now = _now(pl_module.device)
        self.seconds.append(now - self._last)
        self._last = now
