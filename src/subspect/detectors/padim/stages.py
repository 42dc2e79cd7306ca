"""PaDiM's only stage: one pass over the normal images (paper, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from subspect.datasets.loading import TrainingImages, as_loaded
from subspect.detectors.config import StageConfig
from subspect.detectors.padim.model import Padim, as_picture
from subspect.detectors.padim.statistics import MomentSums
from subspect.training.stage import Stage, seeded_generator

_PREVIEWED = 4


class StatisticsStage(Stage):
    """Gathers the distribution of the features at each position; every normal image counts once.

    The sums are on no checkpoint: a pass that was stopped begins anew, with the same channels.

    Args:
        detector: Its distributions are filled.
        images: Training images of one category; the normal ones are used.
        seed: Draws the channels that are kept.

    Raises:
        ValueError: There are fewer than two normal images.
    """

    _sums: MomentSums

    def __init__(self, detector: Padim, images: TrainingImages, seed: int) -> None:
        count, size = len(images.normal_indices), detector.config.batch_size
        if count < 2:
            raise ValueError(f"PaDiM learns from at least two normal training images, got {count}")
        super().__init__("statistics", StageConfig(steps=math.ceil(count / size), batch_size=size), seed)
        self.detector = detector
        self.images = images

    def trained(self) -> Sequence[nn.Module]:
        """The distributions, which are buffers."""
        return [self.detector.distributions]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """The normal images in their order, the last batch with what is left; always from the beginning."""
        normal = Subset(self.images, self.images.normal_indices)
        return DataLoader(normal, self.config.batch_size, collate_fn=as_loaded)

    def on_fit_start(self) -> None:
        """Draws the channels and begins with empty sums."""
        distributions = self.detector.distributions
        distributions.forget()
        distributions.draw_channels(seeded_generator(torch.device("cpu"), self.seed, self.name, "channels"))
        # Apple's GPUs know no float64.
        device = torch.device("cpu") if self.device.type == "mps" else self.device
        positions, channels = distributions.mean.shape
        self._sums = MomentSums(positions, channels, device)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Adds the features of images ``(N, 3, H, W)``, and concludes after the last."""
        detector, images = self.detector, batch[0].float().contiguous(memory_format=torch.channels_last)
        self._sums.add(detector.distributions.kept(detector.features(images)))
        if self.global_step + 1 == self.config.steps:
            detector.distributions.conclude(self._sums)
            del self._sums

    def preview(self) -> dict[str, Tensor]:
        """Normal images, their distances, their anomaly map."""
        images = torch.stack([self.images[index][0] for index in self.images.normal_indices[:_PREVIEWED]])
        images = images.to(self.device)
        anomaly_map = self.detector(images).anomaly_map
        return {
            "image": images,
            **self.detector.inner_pictures(images),
            "anomaly map": as_picture(anomaly_map),
        }
