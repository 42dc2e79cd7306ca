"""The discrete latent model: encoders, two codebooks and the general decoder (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.dsr.blocks import ResidualStack, doubling, halving
from subspect.detectors.dsr.config import LatentConfig
from subspect.detectors.dsr.quantizer import Codebook, Quantized


class Latents(NamedTuple):
    """An image in the discrete latent space.

    Attributes:
        encoded: Output of the high encoder, ``(N, D, H/4, W/4)``; the high features can be made anew from it.
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
    """Quantised features of both levels to the image; trained on natural images, it can draw any."""

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 3, padding=1)
        self.residual = ResidualStack(width, residual_width)
        self.up1 = doubling(width, width // 2)
        self.up2 = doubling(width // 2, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, 2·width, H/4, W/4)`` to images ``(N, 3, H, W)``, in [0, 1] but for small excursions."""
        return self.up2(F.relu(self.up1(self.residual(self.conv(features)))))


class DiscreteLatentModel(nn.Module):
    """The image in a quantised latent space of two levels, and back.

    Args:
        config: Widths and codebook size; the defaults have the reference's 4,021,379 parameters (its
            codebooks and their averages, buffers here, counted).
    """

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.high_encoder = HighEncoder(width, config.residual_width)
        self.low_encoder = LowEncoder(width, config.residual_width)
        self.low_projection = nn.Conv2d(width, width, 1)
        self.high_projection = nn.Conv2d(2 * width, width, 1)
        self.low_codebook = Codebook(config.codes, width)
        self.high_codebook = Codebook(config.codes, width)
        self.low_upsampler = doubling(width, width)
        self.decoder = GeneralDecoder(width, config.residual_width)

    def encode(self, images: Tensor) -> Latents:
        """Latents of images ``(N, 3, H, W)``, H and W multiples of 8."""
        encoded = self.high_encoder(images)
        low = self.low_projection(self.low_encoder(encoded))
        quantized_low = self.low_codebook(low)
        high = self.high_features(encoded, quantized_low.features)
        return Latents(encoded, low, high, quantized_low, self.high_codebook(high))

    def high_features(self, encoded: Tensor, low: Tensor) -> Tensor:
        """Unquantised high features, given the high encoder's output and low features."""
        return self.high_projection(torch.cat((encoded, self.low_upsampler(low)), 1))

    def join(self, low: Tensor, high: Tensor) -> Tensor:
        """Both levels as the decoders take them: ``(N, 2·width, H/4, W/4)``."""
        return torch.cat((self.low_upsampler(low), high), 1)

    def forward(self, images: Tensor) -> Tensor:
        """The general reconstruction of images ``(N, 3, H, W)``."""
        latents = self.encode(images)
        return self.decoder(self.join(latents.quantized_low.features, latents.quantized_high.features))
