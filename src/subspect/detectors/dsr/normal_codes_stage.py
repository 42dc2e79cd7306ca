"""The pass over normal images before stage 2 that tells the light modules what is normal where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from subspect.datasets.loading import TrainingImages
from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.model import SIZE_MULTIPLE, Dsr
from subspect.detectors.dsr.normal_codes import NormalCodes
from subspect.detectors.dsr.quantizer import AnyCodebook
from subspect.sizes import pad_to_multiple
from subspect.training.stage import Stage

_BATCH = 8
_MOST_IMAGES = 1000
_PREVIEWED = 4


class NormalCodesStage(Stage):
    """Fills `NormalCodes` of both levels from whole normal images, at most 1,000 spread evenly over all.

    Only their codes are kept until the end of the pass: at 256x256 some 90 kB an image.

    Args:
        detector: With light modules.
        images: Training images of one category; the normal ones are used.
        seed: Of the training.
    """

    def __init__(self, detector: Dsr, images: TrainingImages, seed: int) -> None:
        every = math.ceil(len(images.normal_indices) / _MOST_IMAGES)
        self.chosen = Subset(images, images.normal_indices[::every])
        steps = math.ceil(len(self.chosen) / _BATCH)
        super().__init__("normal_codes", StageConfig(steps=steps, batch_size=_BATCH), seed)
        self.detector = detector
        self._low: list[Tensor] = []
        self._high: list[Tensor] = []

    def trained(self) -> Sequence[NormalCodes]:
        """The statistics of both levels."""
        return [self.detector.low_normal, self.detector.high_normal]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """The chosen images in their order; always from the beginning."""
        return DataLoader(self.chosen, _BATCH)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Keeps the codes of images ``(N, 3, H, W)``, and concludes after the last."""
        model = self.detector.latent_model
        with torch.no_grad():
            latents = model.encode(self._as_detected(batch[0]))
        self._low.append(latents.quantized_low.indices.short().cpu())
        self._high.append(latents.quantized_high.indices.short().cpu())
        if self.global_step + 1 == self.config.steps:
            self.detector.low_normal.fit(lambda: self._features(model.low_codebook, self._low))
            self.detector.high_normal.fit(lambda: self._features(model.high_codebook, self._high))
            self._low, self._high = [], []

    def preview(self) -> dict[str, Tensor]:
        """Normal images, and how far their codes deviate at both levels: bright where ten times as usual."""
        count = min(_PREVIEWED, len(self.chosen))
        images = torch.stack([self.chosen[place][0] for place in range(count)]).to(self.device)
        latents = self.detector.latent_model.encode(self._as_detected(images))
        low = self.detector.low_normal(latents.quantized_low.features, None).distance
        high = self.detector.high_normal(latents.quantized_high.features, None).distance
        pictures = {"low codes": low, "high codes": high}
        return {"image": images, **{name: _drawn(distance) for name, distance in pictures.items()}}

    def _as_detected(self, images: Tensor) -> Tensor:
        padded, _ = pad_to_multiple(images, SIZE_MULTIPLE)
        return self.detector.reorder(padded).contiguous(memory_format=torch.channels_last)

    def _features(self, codebook: AnyCodebook, indices: list[Tensor]) -> Iterator[Tensor]:
        for chunk in indices:
            yield codebook.lookup(chunk.to(self.device).long())


def _drawn(distance: Tensor) -> Tensor:
    """A logarithm of squares as a grey picture: black at 1, white at 100."""
    return (distance / math.log(100.0)).clamp(0, 1).expand(-1, 3, -1, -1)
