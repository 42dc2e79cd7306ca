"""RIAD's inpainting network."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class InpaintingUNet(nn.Module):
    """A U-Net with strided convolutions on the way down and transposed ones on the way up.

    Conv-BatchNorm-ReLU twice on each of five levels. Kernels, and that there are two convolutions a level, are
    those of the open implementation that has 28.8 M parameters; like that one, width 64 has 28.8 M. The biases
    that BatchNorm would take out again are left out (4,864 of them), and so is the tanh at the end, which suits
    images in [-1, 1]: the output is linear, as that of DRAEM by the same authors.

    Args:
        width: Channels of the first level; the others have 2, 4, 8 and 8 times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.first = _convolutions(nn.Conv2d(3, width, 3, padding=1, bias=False), width)
        self.down = nn.ModuleList(
            _convolutions(nn.Conv2d(above, below, 4, stride=2, padding=1, bias=False), below)
            for above, below in pairwise(widths)
        )
        upwards = list(pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(below, above, 4, stride=2, padding=1) for below, above in upwards
        )
        self.up = nn.ModuleList(
            _convolutions(nn.Conv2d(2 * above, above, 3, padding=1, bias=False), above) for _, above in upwards
        )
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images with erased cells ``(N, 3, H, W)``, H and W multiples of 16, to whole ones."""
        levels = [self.first(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        hidden = levels.pop()
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            hidden = up(torch.cat((enlarge(hidden), levels.pop()), 1))
        return self.last(hidden)


def _convolutions(entry: nn.Conv2d, width: int) -> nn.Sequential:
    """The given convolution and one of 3x3, each with BatchNorm and ReLU."""
    return nn.Sequential(
        entry,
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
