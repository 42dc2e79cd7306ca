"""The discrete latent model: encoders, two codebooks and the general decoder (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.dsr.blocks import ResidualStack, doubling, halving
from subspect.detectors.dsr.config import LatentConfig
from subspect.detectors.dsr.quantizer import AnyCodebook, Quantized, make_codebook

LOW_STRIDE = 8
"""Pixels a low feature, to either side."""
HIGH_STRIDE = 4
"""Pixels a high feature, to either side."""


class Latents(NamedTuple):
    """An image in the discrete latent space.

    Attributes:
        encoded: What the high features can be made anew from, ``(N, D, H/4, W/4)``.
        low: Unquantised low features, ``(N, D, H/8, W/8)``.
        high: Unquantised high features, ``(N, D, H/4, W/4)``.
        quantized_low: Their nearest codes.
        quantized_high: Their nearest codes.
    """

    encoded: Tensor
    low: Tensor
    high: Tensor
    quantized_low: Quantized
    quantized_high: Quantized


class HighEncoder(nn.Module):
    """Image to features at a quarter of its size."""

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__()
        self.conv1 = halving(3, width // 2)
        self.conv2 = halving(width // 2, width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.residual = ResidualStack(width, residual_width)

    def forward(self, images: Tensor) -> Tensor:
        """Maps ``(N, 3, H, W)`` to ``(N, width, H/4, W/4)``."""
        features = F.relu(self.conv2(F.relu(self.conv1(images))))
        return self.residual(self.conv3(features))


class LowEncoder(nn.Module):
    """High features to features at half their size."""

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__()
        self.conv1 = halving(width, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.residual = ResidualStack(width, residual_width)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, width, H/4, W/4)`` to ``(N, width, H/8, W/8)``."""
        return self.residual(F.relu(self.conv2(F.relu(self.conv1(features)))))


class GeneralDecoder(nn.Module):
    """Quantised features of both levels to the image; trained on natural images, it can draw any.

    Args:
        channels: Of both levels together.
        width: Channels inside.
        residual_width: Channels inside a residual block.
    """

    def __init__(self, channels: int, width: int, residual_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.residual = ResidualStack(width, residual_width)
        self.up1 = doubling(width, width // 2)
        self.up2 = doubling(width // 2, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, channels, H/4, W/4)`` to images ``(N, 3, H, W)``, in [0, 1] but for small excursions."""
        return self.up2(F.relu(self.up1(self.residual(self.conv(features)))))


class LatentModel(nn.Module, ABC):
    """The image in a quantised latent space of two levels, and back.

    Attributes:
        before_codes: Names of the modules that the choice of codes hangs on.
        high_follows_low: Whether the high features depend on the low ones.
        config: What it is.
        low_width: Channels of the low features.
        high_width: Channels of the high features.
        low_codebook: Of the low features.
        high_codebook: Of the high features.
        decoder: The general decoder.
    """

    before_codes: tuple[str, ...]
    high_follows_low: ClassVar[bool] = True
    config: LatentConfig
    low_width: int
    high_width: int
    low_codebook: AnyCodebook
    high_codebook: AnyCodebook
    decoder: GeneralDecoder

    @abstractmethod
    def low_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the high features are made from, and the unquantised low features."""

    @abstractmethod
    def high_features(self, encoded: Tensor, low: Tensor) -> Tensor:
        """Unquantised high features, given what ``low_features`` says of the image and its low features."""

    @abstractmethod
    def join(self, low: Tensor, high: Tensor) -> Tensor:
        """Both levels as the decoders take them: ``(N, C, H/4, W/4)``."""

    def join_nearest(self, low: Tensor, high: Tensor) -> Tensor:
        """The nearest codes of both levels' features, joined."""
        return self.join(self.low_codebook(low).features, self.high_codebook(high).features)

    @abstractmethod
    def learning(self) -> Sequence[nn.Module]:
        """What stage 1 trains."""

    def keep_early(self) -> None:
        """Copies what is to stay as it is early in stage 1; the paper's model has nothing of the kind."""

    def encode(self, images: Tensor) -> Latents:
        """Latents of images ``(N, 3, H, W)``, H and W multiples of 8."""
        encoded, low = self.low_features(images)
        quantized_low = self.low_codebook(low)
        high = self.high_features(encoded, quantized_low.features)
        return Latents(encoded, low, high, quantized_low, self.high_codebook(high))

    def forward(self, images: Tensor) -> Tensor:
        """The general reconstruction of images ``(N, 3, H, W)``."""
        latents = self.encode(images)
        return self.decoder(self.join(latents.quantized_low.features, latents.quantized_high.features))


class DiscreteLatentModel(LatentModel):
    """The paper's: encoders, codebooks and decoder trained together.

    Args:
        config: Widths and codebook size; the defaults have the reference's 4,021,379 parameters (its
            codebooks and their averages, buffers here, counted).
    """

    before_codes = ("high_encoder", "low_encoder", "low_projection", "high_projection", "low_upsampler")

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.low_width = self.high_width = width
        self.high_encoder = HighEncoder(width, config.residual_width)
        self.low_encoder = LowEncoder(width, config.residual_width)
        self.low_projection = nn.Conv2d(width, width, 1)
        self.high_projection = nn.Conv2d(2 * width, width, 1)
        self.low_codebook = make_codebook(config.codes, width, config.low_groups)
        self.high_codebook = make_codebook(config.codes, width, config.high_groups)
        self.low_upsampler = doubling(width, width)
        self.decoder = GeneralDecoder(2 * width, width, config.residual_width)

    def low_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The high encoder's output and the unquantised low features of images ``(N, 3, H, W)``."""
        encoded = self.high_encoder(images)
        return encoded, self.low_projection(self.low_encoder(encoded))

    def high_features(self, encoded: Tensor, low: Tensor) -> Tensor:
        """Unquantised high features, given the high encoder's output and low features."""
        return self.high_projection(torch.cat((encoded, self.low_upsampler(low)), 1))

    def join(self, low: Tensor, high: Tensor) -> Tensor:
        """Both levels as the decoders take them: ``(N, 2·width, H/4, W/4)``."""
        return torch.cat((self.low_upsampler(low), high), 1)

    def learning(self) -> Sequence[nn.Module]:
        """All of it."""
        return [self]
