"""A batch of normal images turned into a training batch: latents with anomalies, and where they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from subspect.detectors.dsr.config import SimulationConfig
from subspect.detectors.dsr.latent_model import HIGH_STRIDE, LOW_STRIDE, LatentModel, Latents
from subspect.detectors.dsr.quantizer import AnyCodebook, Quantized
from subspect.simulation.latent import (
    Placement,
    Ranks,
    draw_placement,
    draw_ranks,
    neighbour_table,
    sample_exactly,
    sample_from_table,
    sample_uniformly,
)
from subspect.simulation.overlay import paint
from subspect.simulation.perlin import pool_mask


class AnomalousLatents(NamedTuple):
    """Quantised features with simulated anomalies.

    Attributes:
        low: Features ``(N, D, H/8, W/8)``, without a gradient, and which codes they are.
        high: Features ``(N, D, H/4, W/4)``, without a gradient, and which codes they are.
        mask: Where they are, at image size, ``(N, 1, H, W)``.
    """

    low: Quantized
    high: Quantized
    mask: Tensor


class LatentSimulator:
    """Puts anomalies into the latents of normal images.

    Args:
        model: The frozen discrete latent model; the neighbour tables are made from its codebooks, on its
            device.
        config: Which anomalies.
    """

    def __init__(self, model: LatentModel, config: SimulationConfig) -> None:
        self.model = model
        self.config = config
        self._tables = {
            codebook: torch.stack([neighbour_table(codes) for codes in codebook.grouped()])
            for codebook in (model.low_codebook, model.high_codebook)
            if config.sampling == "table"
        }

    def choose_painted(self, anomalous: Tensor, generator: torch.Generator) -> Tensor:
        """Which images have their anomalies painted instead of made from codes.

        Args:
            anomalous: Which are to get any, ``(N,)``, bool, on the CPU.
            generator: Random source, on the CPU.

        Returns:
            Places in the batch, ``(n,)``, on the CPU.
        """
        drawn = torch.rand(len(anomalous), generator=generator) < self.config.image_share
        return (anomalous & drawn).nonzero().squeeze(1)

    def __call__(
        self, images: Tensor, latents: Latents, mask: Tensor, painted: Tensor, generator: torch.Generator
    ) -> AnomalousLatents:
        """Simulates anomalies under a mask.

        Args:
            images: ``(N, 3, H, W)``, as the model takes them.
            latents: Of these images.
            mask: Where anomalies are wanted, ``(N, 1, H, W)``; empty for images to be left normal.
            painted: Of ``choose_painted``; on the CPU, so that nothing waits for a GPU.
            generator: Random source; its device is used.
        """
        if not len(painted):
            return self._from_codes(latents, mask, generator)
        painted = painted.to(mask.device, non_blocking=True)
        in_codes = mask.index_fill(0, painted, 0)
        anomalous = self._from_codes(latents, in_codes, generator)
        return self._with_painted(anomalous, images, mask - in_codes, painted, generator)

    def _with_painted(
        self,
        anomalous: AnomalousLatents,
        images: Tensor,
        mask: Tensor,
        places: Tensor,
        generator: torch.Generator,
    ) -> AnomalousLatents:
        """The same, but of images painted under ``mask`` at ``places`` (n,) of the batch."""
        # All are painted, since grafts come from neighbours in the batch; only these are encoded.
        defective = paint(images, mask, generator, self.config.fills)[places]
        latents = self.model.encode(defective.contiguous(memory_format=torch.channels_last))
        return AnomalousLatents(
            _replaced(anomalous.low, places, latents.quantized_low),
            _replaced(anomalous.high, places, latents.quantized_high),
            torch.maximum(anomalous.mask, mask),
        )

    def _from_codes(self, latents: Latents, mask: Tensor, generator: torch.Generator) -> AnomalousLatents:
        model = self.model
        placement = draw_placement(len(mask), generator)
        mask_low = pool_mask(mask, LOW_STRIDE) * placement.low[:, None, None, None]
        low = self._exchange(
            model.low_codebook, latents.low, latents.quantized_low.indices, mask_low, generator
        )
        mask_high = pool_mask(mask, HIGH_STRIDE) * placement.high[:, None, None, None]
        unquantized, indices = self._high_beside(low, latents, placement)
        high = self._exchange(model.high_codebook, unquantized, indices, mask_high, generator)
        marked = torch.maximum(
            F.interpolate(mask_low, scale_factor=LOW_STRIDE),
            F.interpolate(mask_high, scale_factor=HIGH_STRIDE),
        )
        return AnomalousLatents(low, high, marked)

    def _high_beside(self, low: Quantized, latents: Latents, placement: Placement) -> tuple[Tensor, Tensor]:
        """High features ``(N, D, h, w)`` and their codes: where both levels change, of the changed low ones."""
        model = self.model
        if not model.high_follows_low:
            return latents.high, latents.quantized_high.indices
        both = (placement.low & placement.high)[:, None, None, None]
        unquantized = torch.where(both, model.high_features(latents.encoded, low.features), latents.high)
        return unquantized, model.high_codebook(unquantized).indices

    def _exchange(
        self, codebook: AnyCodebook, features: Tensor, indices: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Quantized:
        """Quantised features ``(N, D, h, w)``, with other codes where ``mask`` (N, 1, h, w) is 1."""
        config, codes = self.config, codebook.grouped().shape[1]
        ranks = draw_ranks(len(mask), codes, config.nearest_share, config.minimum_strength, generator)
        before = indices.view(len(indices), -1, *indices.shape[-2:])
        sampled = self._sample(codebook, features, before.transpose(0, 1), mask, ranks, generator)
        chosen = torch.where(mask > 0, sampled.transpose(0, 1), before).view_as(indices)
        return Quantized(codebook.lookup(chosen), chosen)

    def _sample(
        self,
        codebook: AnyCodebook,
        features: Tensor,
        indices: Tensor,
        mask: Tensor,
        ranks: Ranks,
        generator: torch.Generator,
    ) -> Tensor:
        """Other codes ``(G, N, h, w)`` for features ``(N, D, h, w)`` and their codes ``(G, N, h, w)``."""
        codes = codebook.grouped()
        match self.config.sampling:
            case "table":
                return sample_from_table(indices, self._tables[codebook], ranks, generator)
            case "exact":
                parts = zip(features.chunk(len(codes), 1), codes, strict=True)
                return torch.stack([sample_exactly(part, book, mask, ranks, generator) for part, book in parts])
            case "uniform":
                return sample_uniformly(indices.shape, codes.shape[1], generator)


def _replaced(quantized: Quantized, places: Tensor, by: Quantized) -> Quantized:
    """With other samples at ``places`` (n,) of the batch."""
    return Quantized(
        quantized.features.index_copy(0, places, by.features),
        quantized.indices.index_copy(0, places, by.indices),
    )
