"""Building blocks of the methods whose networks differ by the normalisation only."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Norm = Callable[[int], nn.Module]
"""A normalisation of so many channels."""


def conv_norm_relu(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """Conv3x3, normalisation, ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return nn.Sequential(convolution, norm(channels_out), nn.ReLU(inplace=True))


def double_conv(channels_in: int, channels_middle: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """Twice Conv3x3, normalisation, ReLU."""
    first = conv_norm_relu(channels_in, channels_middle, norm)
    return nn.Sequential(*first, *conv_norm_relu(channels_middle, channels_out, norm))


def up_conv(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """Bilinear doubling (corners aligned, as the references), then Conv3x3, normalisation, ReLU."""
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(upsample, *conv_norm_relu(channels_in, channels_out, norm))
