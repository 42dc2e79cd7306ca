"""A discrete latent model that sees with a network pretrained on ImageNet (preset ``fast``).

The paper trains encoders, codes and decoder together to draw the image (section 3.1). Codes so made tell pixels
apart, but hardly what deviates from a surface; those of a network that has learnt to recognise things do that
untrained (docs/experiments.md). Here the low features are the second and third level of such a network, frozen,
and the high ones its first level beside channels that are trained to draw. Trained for long, these draw
whatever there is, and their codes no longer tell what is unusual: those of an early copy are counted instead.
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
from subspect.detectors.dsr.quantizer import ProductCodebook, make_codebook

_LEVELS = (1, 2, 3)
_PIXEL_WIDTH = 64


class PerceptualLatentModel(LatentModel):
    """Quantised features of a pretrained network and of pixels, and a decoder that draws the image from them.

    Args:
        config: With a backbone whose first level has a quarter of the image's resolution, the second an eighth.

    Raises:
        ValueError: There is no backbone, or the drawing groups are not those of the channels trained to draw.
    """

    high_follows_low = False

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        if config.backbone is None:
            raise ValueError(f"a perceptual latent model needs a backbone, got {config}")
        width = config.width
        self.config = config
        self.backbone = Backbone(config.backbone, _LEVELS)
        first, second, third = self.backbone.channels
        self.low_width, self.high_width = second + third, first + _PIXEL_WIDTH
        self.pixels = _pixel_channels()
        self.before_codes: tuple[str, ...] = ("backbone", "pixels")
        if config.drawing_groups:
            self.early_pixels = _pixel_channels()
            self.before_codes += ("early_pixels",)
            self.high_width += _PIXEL_WIDTH
            if self.high_width * config.drawing_groups != _PIXEL_WIDTH * config.high_groups:
                raise ValueError(
                    f"{_PIXEL_WIDTH} of {self.high_width} high channels draw only; drawing_groups is not that"
                    f" share of high_groups in {config}"
                )
        self.low_codebook = make_codebook(config.codes, self.low_width, config.low_groups)
        self.high_codebook = make_codebook(config.codes, self.high_width, config.high_groups)
        self.low_projection = nn.Conv2d(self.low_width, width, 1)
        self.high_projection = nn.Conv2d(first + _PIXEL_WIDTH, width, 1)
        self.decoder = GeneralDecoder(width, width, config.residual_width)

    def low_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The high features, and the unquantised low ones, of images ``(N, 3, H, W)``, RGB."""
        first, second, third = self.backbone(images)
        third = F.interpolate(third, second.shape[2:], mode="bilinear", align_corners=False)
        drawing = torch.cat((first, self.pixels(images)), 1)
        high = torch.cat((self.early_pixels(images), drawing), 1) if self.config.drawing_groups else drawing
        return high, torch.cat((second, third), 1)

    def high_features(self, encoded: Tensor, low: Tensor) -> Tensor:
        """The first of ``low_features``, whatever the low features are."""
        return encoded

    def join(self, low: Tensor, high: Tensor) -> Tensor:
        """Both levels as the decoders take them: ``(N, width, H/4, W/4)``; without the early copy."""
        return doubled(self.low_projection(low)) + self.high_projection(self._drawn(high))

    def join_nearest(self, low: Tensor, high: Tensor) -> Tensor:
        """The nearest codes of both levels' features, joined; of the early copy, none is looked for."""
        if not isinstance(self.high_codebook, ProductCodebook):
            return super().join_nearest(low, high)
        # The early copy has the first groups, as many as those it was copied from, which only draw.
        drawn = self.high_codebook.last(self._drawn(high), self.config.high_groups - self.config.drawing_groups)
        return self.join(self.low_codebook(low).features, drawn.features)

    def _drawn(self, high: Tensor) -> Tensor:
        """High features without the early copy."""
        return high[:, -self.high_projection.in_channels :]

    def learning(self) -> Sequence[nn.Module]:
        """All but the backbone and the early copy."""
        return [module for name, module in self.named_children() if name not in ("backbone", "early_pixels")]

    @torch.no_grad()
    def keep_early(self) -> None:
        """Makes the early copy what the channels that draw, and their codes, are now."""
        if not isinstance(self.high_codebook, ProductCodebook) or not self.config.drawing_groups:
            return
        self.early_pixels.load_state_dict(self.pixels.state_dict())
        books, count = self.high_codebook.parts, self.config.drawing_groups
        for early, drawing in zip(books[:count], books[-count:], strict=True):
            early.load_state_dict(drawing.state_dict())


def _pixel_channels() -> nn.Sequential:
    """From images to features of a quarter of their size."""
    return nn.Sequential(halving(3, _PIXEL_WIDTH // 2), nn.ReLU(), halving(_PIXEL_WIDTH // 2, _PIXEL_WIDTH))


def make_latent_model(config: LatentConfig) -> LatentModel:
    """A latent model with random weights: the paper's, or with a backbone the perceptual one."""
    return DiscreteLatentModel(config) if config.backbone is None else PerceptualLatentModel(config)
