"""Lighter modules for stages 2 and 3, which begin where they are of use already (preset ``fast``)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.dsr.blocks import PreActivationBlock, doubled
from subspect.detectors.initialisation import zero_start

_TRUST = 0.5  # in what the detection module has learnt


class LightSubspaceRestriction(nn.Module):
    """Corrects quantised features towards normal ones; at the start the correction is zero.

    Args:
        channels: Of the features.
        width: Channels of the first of three levels; doubled with each of the two poolings.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder1 = PreActivationBlock(channels, width, normalised=True)
        self.encoder2 = PreActivationBlock(width, 2 * width, normalised=True)
        self.encoder3 = PreActivationBlock(2 * width, 4 * width, normalised=True)
        self.decoder2 = PreActivationBlock(4 * width, 2 * width, normalised=True)
        self.decoder1 = PreActivationBlock(2 * width, width, normalised=True)
        self.out = nn.Conv2d(width, channels, 1)
        zero_start(self.out)

    def forward(self, features: Tensor) -> Tensor:
        """Maps ``(N, channels, H, W)``, H and W multiples of 4, to the same shape."""
        hidden = self.encoder2(F.max_pool2d(self.encoder1(features), 2))
        hidden = self.encoder3(F.max_pool2d(hidden, 2))
        hidden = self.decoder1(doubled(self.decoder2(doubled(hidden))))
        return features + self.out(F.relu(hidden))


class LightUNet(nn.Module):
    """A U-Net of residual blocks, without normalisation.

    A small defect gives the same signal in a crop that it fills and in a large picture; with InstanceNorm,
    training on crops unlearnt small ones (docs/experiments.md).

    Args:
        channels_in: Channels of what it looks at.
        width: Channels of the first level; the others have 2, 4 and 4 times as many.
    """

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.encoder1 = PreActivationBlock(channels_in, width, normalised=False)
        self.encoder2 = PreActivationBlock(width, 2 * width, normalised=False)
        self.encoder3 = PreActivationBlock(2 * width, 4 * width, normalised=False)
        self.encoder4 = PreActivationBlock(4 * width, 4 * width, normalised=False)
        self.decoder3 = PreActivationBlock(8 * width, 4 * width, normalised=False)
        self.decoder2 = PreActivationBlock(6 * width, 2 * width, normalised=False)
        self.decoder1 = PreActivationBlock(3 * width, width, normalised=False)
        self.out = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, evidence: Tensor) -> Tensor:
        """Maps ``(N, channels_in, H, W)``, H and W multiples of 8, to logits ``(N, 2, H, W)``."""
        level1 = self.encoder1(evidence)
        level2 = self.encoder2(F.max_pool2d(level1, 2))
        level3 = self.encoder3(F.max_pool2d(level2, 2))
        level4 = self.encoder4(F.max_pool2d(level3, 2))
        hidden = self.decoder3(torch.cat((doubled(level4), level3), 1))
        hidden = self.decoder2(torch.cat((doubled(hidden), level2), 1))
        hidden = self.decoder1(torch.cat((doubled(hidden), level1), 1))
        return self.out(F.relu(hidden))


class LightDetection(nn.Module):
    """A U-Net that corrects what the rarity of the codes says by itself; at the start by nothing.

    Once trained the correction counts half: short trainings overdo it, and the mean of both opinions tells
    images apart better than either (docs/experiments.md).

    Args:
        channels_in: Channels of the evidence.
        width: Channels of the U-Net's first level.
    """

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.unet = LightUNet(channels_in + 2, width)
        zero_start(self.unet.out)
        self.first_guess = nn.Conv2d(2, 2, 1)
        # Even odds at 6.4 for the low and half the high together, which one position in a thousand of held-out
        # normal tiles reaches.
        towards_anomalous = torch.tensor([0.25, 0.125])
        self.first_guess.weight = nn.Parameter(
            torch.stack((-towards_anomalous, towards_anomalous))[..., None, None]
        )
        self.first_guess.bias = nn.Parameter(torch.tensor([1.6, -1.6]))

    def forward(self, evidence: Tensor, rarity: Tensor) -> Tensor:
        """Logits ``(N, 2, H, W)``, H and W multiples of 8.

        Args:
            evidence: ``(N, channels_in, H, W)``.
            rarity: Of the low and the high codes, standardised; see `subspect.detectors.dsr.normal_codes`,
                ``(N, 2, H, W)``.
        """
        trust = 1.0 if self.training else _TRUST
        return self.first_guess(rarity) + trust * self.unet(torch.cat((evidence, rarity), 1))
