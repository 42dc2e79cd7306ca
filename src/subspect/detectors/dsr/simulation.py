"""A batch of normal images turned into a training batch: latents with anomalies, and where they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from subspect.detectors.dsr.config import SimulationConfig
from subspect.detectors.dsr.latent_model import DiscreteLatentModel, Latents
from subspect.detectors.dsr.quantizer import Codebook
from subspect.simulation.latent import (
    Ranks,
    draw_placement,
    draw_ranks,
    neighbour_table,
    sample_exactly,
    sample_from_table,
    sample_uniformly,
)
from subspect.simulation.overlay import smudge
from subspect.simulation.perlin import pool_mask

LOW_STRIDE = 8
HIGH_STRIDE = 4


class AnomalousLatents(NamedTuple):
    """Quantised features with simulated anomalies.

    Attributes:
        low: ``(N, D, H/8, W/8)``.
        high: ``(N, D, H/4, W/4)``.
        mask: Where they are, at image size, ``(N, 1, H, W)``.
    """

    low: Tensor
    high: Tensor
    mask: Tensor


class LatentSimulator:
    """Puts anomalies into the latents of normal images.

    Args:
        model: The frozen discrete latent model; the neighbour tables are made from its codebooks, on its
            device.
        config: Which anomalies.
    """

    def __init__(self, model: DiscreteLatentModel, config: SimulationConfig) -> None:
        self.model = model
        self.config = config
        needs_tables = config.anomalies == "latent" and config.sampling == "table"
        self._tables = {
            codebook: neighbour_table(codebook.codes)
            for codebook in (model.low_codebook, model.high_codebook)
            if needs_tables
        }

    def __call__(
        self, images: Tensor, latents: Latents, mask: Tensor, generator: torch.Generator
    ) -> AnomalousLatents:
        """Simulates anomalies under a mask.

        Args:
            images: ``(N, 3, H, W)``, as the model takes them.
            latents: Of these images.
            mask: Where anomalies are wanted, ``(N, 1, H, W)``; empty for images to be left normal.
            generator: Random source.
        """
        if self.config.anomalies == "image":
            return self._from_image(images, mask, generator)
        return self._from_codes(latents, mask, generator)

    def _from_image(self, images: Tensor, mask: Tensor, generator: torch.Generator) -> AnomalousLatents:
        latents = self.model.encode(smudge(images, mask, generator))
        return AnomalousLatents(latents.quantized_low.features, latents.quantized_high.features, mask)

    def _from_codes(self, latents: Latents, mask: Tensor, generator: torch.Generator) -> AnomalousLatents:
        model = self.model
        placement = draw_placement(len(mask), generator)
        mask_low = pool_mask(mask, LOW_STRIDE) * placement.low[:, None, None, None]
        low = self._exchange(
            model.low_codebook, latents.low, latents.quantized_low.indices, mask_low, generator
        )
        # Where both levels change, the high features follow from the changed low ones.
        both = (placement.low & placement.high)[:, None, None, None]
        high = torch.where(both, model.high_features(latents.encoded, low), latents.high)
        mask_high = pool_mask(mask, HIGH_STRIDE) * placement.high[:, None, None, None]
        indices = model.high_codebook(high).indices
        high = self._exchange(model.high_codebook, high, indices, mask_high, generator)
        marked = torch.maximum(
            F.interpolate(mask_low, scale_factor=LOW_STRIDE),
            F.interpolate(mask_high, scale_factor=HIGH_STRIDE),
        )
        return AnomalousLatents(low, high, marked)

    def _exchange(
        self, codebook: Codebook, features: Tensor, indices: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Quantised features ``(N, D, h, w)``, with other codes where ``mask`` (N, 1, h, w) is 1."""
        config, codes = self.config, codebook.codes
        ranks = draw_ranks(len(mask), len(codes), config.nearest_share, config.minimum_strength, generator)
        sampled = self._sample(codebook, features, indices, mask, ranks, generator)
        return codebook.lookup(torch.where(mask[:, 0] > 0, sampled, indices))

    def _sample(
        self,
        codebook: Codebook,
        features: Tensor,
        indices: Tensor,
        mask: Tensor,
        ranks: Ranks,
        generator: torch.Generator,
    ) -> Tensor:
        match self.config.sampling:
            case "table":
                return sample_from_table(indices, self._tables[codebook], ranks, generator)
            case "exact":
                return sample_exactly(features, codebook.codes, mask, ranks, generator)
            case "uniform":
                return sample_uniformly(indices.shape, len(codebook.codes), generator)
