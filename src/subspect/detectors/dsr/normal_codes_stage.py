"""The pass over normal images before stage 2 that counts which codes are usual where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from subspect.datasets.loading import TrainingImages, as_loaded
from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.folds import Batch, FoldedImages
from subspect.detectors.dsr.model import SIZE_MULTIPLE, Dsr
from subspect.detectors.dsr.normal_codes import NormalCodes
from subspect.sizes import pad_to_multiple
from subspect.training.stage import Stage

_BATCH = 8
_MOST_IMAGES = 1000
_PREVIEWED = 4


class NormalCodesStage(Stage):
    """Fills `NormalCodes` of both levels from whole normal images, at most 1,000 spread evenly over all.

    Their codes are kept until the end of the pass: at 256x256 some 125 kB an image.

    Args:
        detector: With light modules.
        images: Training images of one category; the normal ones are used.
        seed: Of the training.
    """

    def __init__(self, detector: Dsr, images: TrainingImages, seed: int) -> None:
        every = math.ceil(len(images.normal_indices) / _MOST_IMAGES)
        self.chosen = Subset(FoldedImages(images), images.normal_indices[::every])
        steps = math.ceil(len(self.chosen) / _BATCH)
        super().__init__("normal_codes", StageConfig(steps=steps, batch_size=_BATCH), seed)
        self.detector = detector
        self._low: list[Tensor] = []
        self._high: list[Tensor] = []
        self._folds: list[Tensor] = []

    def trained(self) -> Sequence[NormalCodes]:
        """The probabilities of both levels' codes."""
        return [self.detector.low_normal, self.detector.high_normal]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """The chosen images in their order; always from the beginning."""
        return DataLoader(self.chosen, _BATCH, collate_fn=as_loaded)

    def training_step(self, batch: Batch, _: int) -> None:
        """Keeps the codes of a batch, and concludes after the last."""
        images, _no_mask, folds = batch
        model = self.detector.latent_model
        with torch.no_grad():
            latents = model.encode(self._as_detected(images.float()))
        self._low.append(latents.quantized_low.indices.short().cpu())
        self._high.append(latents.quantized_high.indices.short().cpu())
        self._folds.append(folds.cpu())
        if self.global_step + 1 == self.config.steps:
            self.detector.low_normal.fit(self._low, self._folds)
            self.detector.high_normal.fit(self._high, self._folds)
            self._low, self._high, self._folds = [], [], []

    def preview(self) -> dict[str, Tensor]:
        """Normal images, and how rare their codes are at both levels."""
        count = min(_PREVIEWED, len(self.chosen))
        images = torch.stack([self.chosen[place][0] for place in range(count)]).to(self.device)
        latents = self.detector.latent_model.encode(self._as_detected(images))
        low = self.detector.low_normal(latents.quantized_low.indices, None).together
        high = self.detector.high_normal(latents.quantized_high.indices, None).together
        pictures = {"low codes": low, "high codes": high}
        return {"image": images, **{name: _drawn(rarity) for name, rarity in pictures.items()}}

    def _as_detected(self, images: Tensor) -> Tensor:
        padded, _ = pad_to_multiple(images, SIZE_MULTIPLE)
        return self.detector.reorder(padded).contiguous(memory_format=torch.channels_last)


def _drawn(rarity: Tensor) -> Tensor:
    """A standardised rarity as a grey picture: black at the mean, white five standard deviations above it."""
    return (rarity / 5).clamp(0, 1).expand(-1, 3, -1, -1)
