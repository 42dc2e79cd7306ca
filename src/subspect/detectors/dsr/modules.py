"""The paper's modules of stages 2 and 3: subspace restriction, object-specific decoder, the two U-Nets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.dsr.blocks import ResidualStack, double_conv, doubling, up_conv
from subspect.detectors.initialisation import normal_start


class SubspaceRestriction(nn.Module):
    """Projects quantised features onto what normal features look like (paper, section 3.3).

    Conv-InstanceNorm-ReLU twice on each of three levels, without skip connections; the caller quantises the
    result.

    Args:
        channels: Of the features.
        width: Channels of the first level; doubled with each of the two poolings.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder1 = double_conv(channels, width, width)
        self.encoder2 = double_conv(width, 2 * width, 2 * width)
        self.encoder3 = double_conv(2 * width, 4 * width, 4 * width)
        self.up2 = up_conv(4 * width, 2 * width)
        self.decoder2 = double_conv(2 * width, 2 * width, 2 * width)
        self.up1 = up_conv(2 * width, width)
        self.decoder1 = double_conv(width, width, width)
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, channels, H, W)``, H and W multiples of 4, to the same shape."""
        hidden = self.encoder2(F.max_pool2d(self.encoder1(features), 2))
        hidden = self.encoder3(F.max_pool2d(hidden, 2))
        hidden = self.decoder2(self.up2(hidden))
        return self.out(self.decoder1(self.up1(hidden)))


class ObjectDecoder(nn.Module):
    """Draws the object-specific reconstruction from restricted features (paper, section 3.3; reference).

    Args:
        width: Channels of one level of the latent space; the input has two.
        residual_width: Channels inside a residual block.
    """

    def __init__(self, width: int, residual_width: int) -> None:
        super().__init__()
        joined, middle = 2 * width, width // 2
        self.encoder1 = double_conv(joined, joined, 2 * joined)
        self.encoder2 = double_conv(2 * joined, 2 * joined, 4 * joined)
        self.projection = nn.Conv2d(4 * joined, middle, 1)
        self.up1 = doubling(middle, middle)
        self.up2 = doubling(middle, middle)
        self.conv = nn.Conv2d(middle, width, 3, padding=1)
        self.residual = ResidualStack(width, residual_width)
        self.up3 = doubling(width, width // 2)
        self.up4 = doubling(width // 2, 3)
        normal_start(self)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, 2·width, H/4, W/4)``, H and W multiples of 16, to images ``(N, 3, H, W)``."""
        hidden = F.max_pool2d(self.encoder1(features), 2)
        hidden = self.projection(F.max_pool2d(self.encoder2(hidden), 2))
        hidden = F.relu(self.up2(F.relu(self.up1(hidden))))
        hidden = self.residual(self.conv(hidden))
        return self.up4(F.relu(self.up3(hidden)))


class UNet(nn.Module):
    """The U-Net behind the detection and the upsampling module (paper, sections 3.4 and 3.6; reference).

    Args:
        channels_in: Channels of the pictures it compares.
        width: Channels of the first level; the others have 2, 4 and 4 times as many.
    """

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.encoder1 = double_conv(channels_in, width, width)
        self.encoder2 = double_conv(width, 2 * width, 2 * width)
        self.encoder3 = double_conv(2 * width, 4 * width, 4 * width)
        self.encoder4 = double_conv(4 * width, 4 * width, 4 * width)
        self.up3 = up_conv(4 * width, 4 * width)
        self.decoder3 = double_conv(8 * width, 4 * width, 4 * width)
        self.up2 = up_conv(4 * width, 2 * width)
        self.decoder2 = double_conv(4 * width, 2 * width, 2 * width)
        self.up1 = up_conv(2 * width, width)
        self.decoder1 = double_conv(2 * width, width, width)
        self.out = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps ``(N, channels_in, H, W)``, H and W multiples of 8, to logits ``(N, 2, H, W)``."""
        level1 = self.encoder1(pictures)
        level2 = self.encoder2(F.max_pool2d(level1, 2))
        level3 = self.encoder3(F.max_pool2d(level2, 2))
        level4 = self.encoder4(F.max_pool2d(level3, 2))
        hidden = self.decoder3(torch.cat((self.up3(level4), level3), 1))
        hidden = self.decoder2(torch.cat((self.up2(hidden), level2), 1))
        return self.out(self.decoder1(torch.cat((self.up1(hidden), level1), 1)))
