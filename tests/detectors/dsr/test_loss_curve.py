"""What makes DSR's training fast changes no loss curve: against a plain training, written out here."""

import copy
from dataclasses import replace
from typing import NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector
from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.folds import FoldedImages
from subspect.detectors.dsr.stages import DetectionStage
from subspect.training.fitting import run_briefly
from subspect.training.stage import learning_rate_factor
from tiny import QUIET, settled_detector, write_data_set

CONFIG = StageConfig(20, 4, learning_rate=2e-3, schedule="cosine", warmup=3)
TOLERANCE = 1e-3
"""Of a loss, relative: rounding errors made 2e-5, and more where they turn a near tie between codes."""


class OneByOne(Dataset):
    """Images in float32, put together by PyTorch."""

    def __init__(self, images: FoldedImages) -> None:
        self.images = images

    def __getitem__(self, index: int):
        return self.images[index]


class PlainStage(DetectionStage):
    """Without batches in one piece, channels-last memory, neighbour tables and fused optimiser."""

    def loader(self, start_step, rank, world_size):
        quick = super().loader(start_step, rank, world_size)
        return DataLoader(OneByOne(quick.dataset), batch_sampler=quick.batch_sampler)

    def setup(self, stage):
        super().setup(stage)
        self.to(memory_format=torch.contiguous_format)

    def varied(self, batch, rotated, step=None):
        varied = super().varied(batch, rotated, step)
        return varied._replace(images=varied.images.contiguous())

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.config.learning_rate, foreach=False)
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


class Losses(L.Callback):
    def __init__(self) -> None:
        self.curve: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.curve.append(float(outputs["loss"]))


class Start(NamedTuple):
    """An untrained detector, and training images."""

    detector: Detector
    images: TrainingImages


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Start:
    folder = tmp_path_factory.mktemp("curve")
    table = read_table(write_data_set(folder / "data"), "folder")
    detector = settled_detector("dsr", folder)
    samples = table.select(split="train").samples
    return Start(detector, TrainingImages(samples, detector.prepare, detector.config.image_size))


def losses(
    kind: type[DetectionStage], start: Start, sampling: str, seed: int = 0, config: StageConfig = CONFIG
) -> np.ndarray:
    stage = kind(copy.deepcopy(start.detector), start.images, seed)
    stage.config, stage.simulation = config, replace(stage.simulation, sampling=sampling)
    recorded = Losses()
    run_briefly(stage, QUIET, config.steps, callbacks=[recorded])
    assert len(recorded.curve) == config.steps
    return np.array(recorded.curve)


def test_the_quick_training_has_the_losses_of_the_plain_one(start):
    quick, plain = (losses(kind, start, "table") for kind in (DetectionStage, PlainStage))
    np.testing.assert_allclose(quick, plain, rtol=TOLERANCE)
    faster = losses(DetectionStage, start, "table", config=replace(CONFIG, learning_rate=3e-3))
    assert abs(faster / plain - 1).max() > 100 * TOLERANCE, "the tolerance would hide a wrong optimiser"


def test_neighbour_tables_give_the_losses_of_exact_sampling_within_noise(start):
    seeds = range(4)
    quick = np.stack([losses(DetectionStage, start, "table", seed) for seed in seeds]).mean(1)
    plain = np.stack([losses(PlainStage, start, "exact", seed) for seed in seeds]).mean(1)
    assert (abs(quick - plain) < plain.std(ddof=1)).all(), "the noise is that of other seeds"
