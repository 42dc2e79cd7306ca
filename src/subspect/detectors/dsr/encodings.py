"""What training sees of whole images, and its latents, which are those that the whole images have there.

A network that sees as far as a ResNet's third level encodes a crop otherwise than the image around it: more
than half of the low codes of a crop of 128x128 are others, and unusual ones. What is learnt on such codes is of
little use where they are usual (docs/experiments.md). So whole images are encoded, and their latents cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from subspect.detectors.dsr.latent_model import HIGH_STRIDE, LOW_STRIDE, LatentModel, Latents
from subspect.detectors.dsr.quantizer import AnyCodebook, Quantized
from subspect.simulation.cropping import Windows

_MOST_KEPT = 10_000


class Seen(NamedTuple):
    """A batch of images, or of windows in them.

    Attributes:
        images: What is seen, ``(N, 3, h, w)``, as the latent model takes it.
        whole: What it is cut from, ``(N, 3, H, W)``.
        windows: Where; None if all is seen.
    """

    images: Tensor
    whole: Tensor
    windows: Windows | None = None

    @classmethod
    def all_of(cls, images: Tensor) -> Seen:
        """Whole images ``(N, 3, H, W)``."""
        return cls(images, images)

    @classmethod
    def part_of(cls, images: Tensor, windows: Windows) -> Seen:
        """Windows of whole images ``(N, 3, H, W)``."""
        return cls(windows.cut(images), images, windows)

    def at(self, places: Tensor) -> Seen:
        """Some of the batch, at ``places`` (n,) in it."""
        windows = None if self.windows is None else self.windows.of(places)
        return Seen(self.images[places], self.whole[places], windows)

    def with_images(self, images: Tensor) -> Seen:
        """The same with other pictures ``(N, 3, h, w)`` where it was seen."""
        if self.windows is None:
            return Seen.all_of(images)
        return Seen(images, self.windows.put_back(self.whole, images), self.windows)

    def encode(self, model: LatentModel) -> Latents:
        """The latents of what is seen."""
        latents = model.encode(self.whole.contiguous(memory_format=torch.channels_last))
        if self.windows is None:
            return latents
        low, high = self.windows.coarser(LOW_STRIDE), self.windows.coarser(HIGH_STRIDE)
        return Latents(
            high.cut(latents.encoded),
            low.cut(latents.low),
            high.cut(latents.high),
            Quantized(*map(low.cut, latents.quantized_low)),
            Quantized(*map(high.cut, latents.quantized_high)),
        )


class KeptCodes:
    """Codes of training images that are shown again and again as they are, so that each is encoded once.

    They take 90 kB an image of 256x256, and are kept of 10,000 images; batches with others are encoded anew.

    Args:
        model: The latent model; its high features must not follow from the low ones.
    """

    def __init__(self, model: LatentModel) -> None:
        self.model = model
        self._kept: dict[int, list[Tensor]] = {}

    def encode(self, seen: Seen, numbers: Sequence[int]) -> Latents:
        """As ``Seen.encode``, but that codes stand for unquantised features, which are not kept.

        Args:
            seen: Normal images.
            numbers: Which they are.
        """
        low, high = self._codes(seen.whole, numbers)
        if seen.windows is not None:
            low, high = seen.windows.coarser(LOW_STRIDE).cut(low), seen.windows.coarser(HIGH_STRIDE).cut(high)
        quantized_low = _looked_up(self.model.low_codebook, low)
        quantized_high = _looked_up(self.model.high_codebook, high)
        features = quantized_high.features
        return Latents(features, quantized_low.features, features, quantized_low, quantized_high)

    def _codes(self, images: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Of whole images, both levels."""
        if all(number in self._kept for number in numbers):
            kept_low, kept_high = zip(*(self._kept[number] for number in numbers), strict=True)
            return torch.stack(kept_low).long(), torch.stack(kept_high).long()
        # All of them, so that each is rounded as in any batch of this size: a training resumed finds the same.
        latents = self.model.encode(images.contiguous(memory_format=torch.channels_last))
        low, high = latents.quantized_low.indices, latents.quantized_high.indices
        for number, *codes in zip(numbers, low.short().unbind(), high.short().unbind(), strict=True):
            if len(self._kept) < _MOST_KEPT:
                self._kept.setdefault(number, codes)
        return low, high


def _looked_up(codebook: AnyCodebook, indices: Tensor) -> Quantized:
    return Quantized(codebook.lookup(indices), indices)
