"""A discrete latent model that sees with a network pretrained on ImageNet (preset ``fast``).

The paper trains encoders, codes and decoder together to draw the image (section 3.1). Codes so made tell pixels
apart, but hardly what deviates from a surface; those of a network that has learnt to recognise things do that
untrained (docs/experiments.md). Here the low features are the second and third level of such a network, frozen,
and the high ones its first level beside channels that are trained to draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.backbones import Backbone
from subspect.detectors.dsr.blocks import doubled, halving
from subspect.detectors.dsr.config import LatentConfig
from subspect.detectors.dsr.latent_model import DiscreteLatentModel, GeneralDecoder, LatentModel
from subspect.detectors.dsr.quantizer import make_codebook

_LEVELS = (1, 2, 3)
_PIXEL_WIDTH = 64


class PerceptualLatentModel(LatentModel):
    """Quantised features of a pretrained network and of pixels, and a decoder that draws the image from them.

    Args:
        config: With a backbone whose first level has a quarter of the image's resolution, the second an eighth.
    """

    before_codes = ("backbone", "pixels")
    high_follows_low = False

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        if config.backbone is None:
            raise ValueError(f"a perceptual latent model needs a backbone, got {config}")
        width = config.width
        self.config = config
        self.backbone = Backbone(config.backbone, _LEVELS)
        self.pixels = nn.Sequential(
            halving(3, _PIXEL_WIDTH // 2), nn.ReLU(), halving(_PIXEL_WIDTH // 2, _PIXEL_WIDTH)
        )
        first, second, third = self.backbone.channels
        self.low_width, self.high_width = second + third, first + _PIXEL_WIDTH
        self.low_codebook = make_codebook(config.codes, self.low_width, config.low_groups)
        self.high_codebook = make_codebook(config.codes, self.high_width, config.high_groups)
        self.low_projection = nn.Conv2d(self.low_width, width, 1)
        self.high_projection = nn.Conv2d(self.high_width, width, 1)
        self.decoder = GeneralDecoder(width, width, config.residual_width)

    def low_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The high features, and the unquantised low ones, of images ``(N, 3, H, W)``, RGB."""
        first, second, third = self.backbone(images)
        third = F.interpolate(third, second.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat((first, self.pixels(images)), 1), torch.cat((second, third), 1)

    def high_features(self, encoded: Tensor, low: Tensor) -> Tensor:
        """The first of ``low_features``, whatever the low features are."""
        return encoded

    def join(self, low: Tensor, high: Tensor) -> Tensor:
        """Both levels as the decoders take them: ``(N, width, H/4, W/4)``."""
        return doubled(self.low_projection(low)) + self.high_projection(high)

    def learning(self) -> Sequence[nn.Module]:
        """All but the backbone."""
        return [module for name, module in self.named_children() if name != "backbone"]


def make_latent_model(config: LatentConfig) -> LatentModel:
    """A latent model with random weights: the paper's, or with a backbone the perceptual one."""
    return DiscreteLatentModel(config) if config.backbone is None else PerceptualLatentModel(config)
