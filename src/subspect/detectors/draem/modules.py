"""DRAEM's two networks (paper, section 3; shapes of the reference): one draws, the other compares."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors import blocks
from subspect.detectors.initialisation import normal_start

double_conv = partial(blocks.double_conv, norm=nn.BatchNorm2d)
up_conv = partial(blocks.up_conv, norm=nn.BatchNorm2d)


class ReconstructiveNetwork(nn.Module):
    """An autoencoder without skip connections, which draws an image without its anomaly.

    Args:
        width: Channels of the first of five levels; the others have 2, 4, 8 and 8 times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder1 = double_conv(3, width, width)
        self.encoder2 = double_conv(width, 2 * width, 2 * width)
        self.encoder3 = double_conv(2 * width, 4 * width, 4 * width)
        self.encoder4 = double_conv(4 * width, 8 * width, 8 * width)
        self.encoder5 = double_conv(8 * width, 8 * width, 8 * width)
        self.up4 = up_conv(8 * width, 8 * width)
        self.decoder4 = double_conv(8 * width, 8 * width, 4 * width)
        self.up3 = up_conv(4 * width, 4 * width)
        self.decoder3 = double_conv(4 * width, 4 * width, 2 * width)
        self.up2 = up_conv(2 * width, 2 * width)
        self.decoder2 = double_conv(2 * width, 2 * width, width)
        self.up1 = up_conv(width, width)
        self.decoder1 = double_conv(width, width, width)
        self.out = nn.Conv2d(width, 3, 3, padding=1)
        normal_start(self)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``(N, 3, H, W)``, H and W multiples of 16, to reconstructions of the same shape."""
        hidden = F.max_pool2d(self.encoder1(images), 2)
        hidden = F.max_pool2d(self.encoder2(hidden), 2)
        hidden = F.max_pool2d(self.encoder3(hidden), 2)
        hidden = F.max_pool2d(self.encoder4(hidden), 2)
        hidden = self.decoder4(self.up4(self.encoder5(hidden)))
        hidden = self.decoder3(self.up3(hidden))
        hidden = self.decoder2(self.up2(hidden))
        return self.out(self.decoder1(self.up1(hidden)))


class DiscriminativeNetwork(nn.Module):
    """A U-Net that sees reconstruction and image and says where they differ by an anomaly.

    Args:
        width: Channels of the first of six levels; the others have 2, 4, 8, 8 and 8 times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder1 = double_conv(6, width, width)
        self.encoder2 = double_conv(width, 2 * width, 2 * width)
        self.encoder3 = double_conv(2 * width, 4 * width, 4 * width)
        self.encoder4 = double_conv(4 * width, 8 * width, 8 * width)
        self.encoder5 = double_conv(8 * width, 8 * width, 8 * width)
        self.encoder6 = double_conv(8 * width, 8 * width, 8 * width)
        self.up5 = up_conv(8 * width, 8 * width)
        self.decoder5 = double_conv(16 * width, 8 * width, 8 * width)
        self.up4 = up_conv(8 * width, 4 * width)
        self.decoder4 = double_conv(12 * width, 4 * width, 4 * width)
        self.up3 = up_conv(4 * width, 2 * width)
        self.decoder3 = double_conv(6 * width, 2 * width, 2 * width)
        self.up2 = up_conv(2 * width, width)
        self.decoder2 = double_conv(3 * width, width, width)
        self.up1 = up_conv(width, width)
        self.decoder1 = double_conv(2 * width, width, width)
        self.out = nn.Conv2d(width, 2, 3, padding=1)
        normal_start(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps ``(N, 6, H, W)``, H and W multiples of 32, to logits ``(N, 2, H, W)``: normal, anomalous."""
        level1 = self.encoder1(pictures)
        level2 = self.encoder2(F.max_pool2d(level1, 2))
        level3 = self.encoder3(F.max_pool2d(level2, 2))
        level4 = self.encoder4(F.max_pool2d(level3, 2))
        level5 = self.encoder5(F.max_pool2d(level4, 2))
        hidden = self.up5(self.encoder6(F.max_pool2d(level5, 2)))
        hidden = self.up4(self.decoder5(torch.cat((hidden, level5), 1)))
        hidden = self.up3(self.decoder4(torch.cat((hidden, level4), 1)))
        hidden = self.up2(self.decoder3(torch.cat((hidden, level3), 1)))
        hidden = self.up1(self.decoder2(torch.cat((hidden, level2), 1)))
        return self.out(self.decoder1(torch.cat((hidden, level1), 1)))
