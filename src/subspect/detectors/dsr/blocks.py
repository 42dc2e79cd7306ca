"""Building blocks that DSR's modules share."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors import blocks


class ResidualBlock(nn.Module):
    """``relu(x) + conv1x1(relu(conv3x3(relu(x))))``, without biases.

    The paper's skip carries x; in the reference the first ReLU works in place, so the skip carries ReLU(x).
    """

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, inner_width, 3, padding=1, bias=False)
        self.pointwise = nn.Conv2d(inner_width, width, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, width, H, W)`` to the same shape."""
        activated = F.relu(features)
        return activated + self.pointwise(F.relu(self.spatial(activated)))


class ResidualStack(nn.Module):
    """Two residual blocks and a final ReLU."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ResidualBlock(width, inner_width), ResidualBlock(width, inner_width))

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, width, H, W)`` to the same shape, non-negative."""
        return F.relu(self.blocks(features))


def instance_norm(channels: int) -> nn.GroupNorm:
    """InstanceNorm without affine parameters or running statistics.

    One group a channel; on CPUs, unlike PyTorch's own, it stays in channels-last memory.
    """
    return nn.GroupNorm(channels, channels, affine=False)


conv_norm_relu = partial(blocks.conv_norm_relu, norm=instance_norm)
double_conv = partial(blocks.double_conv, norm=instance_norm)
up_conv = partial(blocks.up_conv, norm=instance_norm)


class PreActivationBlock(nn.Module):
    """``x + conv3x3(relu(norm(conv3x3(relu(norm(x))))))``; 1x1 first where channels change.

    The residual way round the convolutions is what makes short trainings work (docs/experiments.md).

    Args:
        channels_in: Of x.
        channels_out: Of what comes out.
        normalised: Whether norm is InstanceNorm or nothing. With it, the signal of a defect depends on how much
            of the picture it takes.
    """

    def __init__(self, channels_in: int, channels_out: int, *, normalised: bool) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.projection = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        self.conv1 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm1, self.norm2 = (
            instance_norm(channels_out) if normalised else nn.Identity() for _ in range(2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, channels_in, H, W)`` to ``(N, channels_out, H, W)``."""
        features = self.projection(features)
        hidden = self.conv1(F.relu(self.norm1(features)))
        return features + self.conv2(F.relu(self.norm2(hidden)))


def doubling(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """Transposed 4x4 convolution that doubles height and width."""
    return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)


def halving(channels_in: int, channels_out: int) -> nn.Conv2d:
    """4x4 convolution that halves height and width."""
    return nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1)


def doubled(features: Tensor) -> Tensor:
    """Features ``(N, C, H, W)`` bilinearly enlarged to ``(N, C, 2·H, 2·W)``."""
    features = features.contiguous(memory_format=torch.channels_last)  # far faster on CPUs, if C is large
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
