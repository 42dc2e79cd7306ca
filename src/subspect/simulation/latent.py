"""Latent anomalies: codes under a mask exchanged for other codes (DSR paper, section 3.5; reference code)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from subspect.codes import code_distances, flatten_features

_CHUNK = 4096


class Ranks(NamedTuple):
    """Which neighbours of a feature may replace it: ranks ``nearest`` to ``farthest`` - 1, 0 the closest code.

    Attributes:
        nearest: The same for all images.
        farthest: ``(N,)``, int64, one an image.
    """

    nearest: int
    farthest: Tensor


def draw_ranks(
    number: int, codes: int, nearest_share: float, minimum_strength: float, generator: torch.Generator
) -> Ranks:
    """Draws how far from normal each image's anomalies go.

    The strength is s ~ U[max(minimum_strength, λs), 1) an image; the int(s·K) + 1 nearest codes (at most
    K - 1) are candidates, less the int(λs·K) nearest of all.

    Args:
        number: How many images.
        codes: K, the size of the codebook.
        nearest_share: λs.
        minimum_strength: Lower bound of s; the reference has 0.2, the paper's text λs.
        generator: Random source.
    """
    strength = torch.rand(number, generator=generator, device=generator.device)
    least = max(minimum_strength, nearest_share)
    strength = least + (1 - least) * strength
    nearest = int(nearest_share * codes)
    farthest = ((strength * codes).long() + 1).clamp(1, codes - 1).clamp(min=nearest + 1)
    return Ranks(nearest, farthest)


def neighbour_table(codes: Tensor) -> Tensor:
    """For each of the K codes (K, D) all codes from nearest to farthest: ``(K, K)``, int32, first itself."""
    distances = code_distances(codes, codes)
    distances.fill_diagonal_(-torch.inf)  # a code comes first in its own row, also where codes repeat
    return distances.argsort(1).int()


def sample_from_table(indices: Tensor, tables: Tensor, ranks: Ranks, generator: torch.Generator) -> Tensor:
    """Exchanges each code for one of its neighbours, uniformly among the ranks of its image.

    Distances are from the code, not from the feature that it stands for, so that nothing is sorted here.

    Args:
        indices: ``(G, N, H, W)``, the codes of each group.
        tables: Of ``neighbour_table``, one a group, ``(G, K, K)``.
        ranks: The range of neighbours.
        generator: Random source.

    Returns:
        ``(G, N, H, W)``, int64.
    """
    group = torch.arange(len(tables), device=tables.device)[:, None, None, None]
    return tables[group, indices, _uniform_ranks(indices.shape, ranks, generator)].long()


def sample_exactly(
    features: Tensor, codes: Tensor, mask: Tensor, ranks: Ranks, generator: torch.Generator
) -> Tensor:
    """As ``sample_from_table``, with distances from the unquantised features, as the reference.

    Args:
        features: ``(N, D, H, W)``, unquantised.
        codes: ``(K, D)``.
        mask: ``(N, 1, H, W)``; positions where it is 0 are not computed and come back as code 0.
        ranks: The range of neighbours.
        generator: Random source.

    Returns:
        ``(N, H, W)``, int64.
    """
    number, _, height, width = features.shape
    rank = _uniform_ranks((number, height, width), ranks, generator).flatten()
    masked = mask.flatten().nonzero().squeeze(1)
    vectors = flatten_features(features)[masked]
    sampled = torch.zeros_like(rank)
    # Sorted in pieces: all positions of a batch at once would take a gigabyte.
    for start in range(0, len(masked), _CHUNK):
        rows = masked[start : start + _CHUNK]
        order = code_distances(vectors[start : start + _CHUNK], codes).argsort(1)
        sampled[rows] = order.gather(1, rank[rows, None]).squeeze(1)
    return sampled.view(number, height, width)


def sample_uniformly(shape: torch.Size, codes: int, generator: torch.Generator) -> Tensor:
    """Codes drawn from the whole codebook, wherever they lie (the ablation of Table 6)."""
    return torch.randint(codes, shape, generator=generator, device=generator.device)


def _uniform_ranks(shape: tuple[int, ...], ranks: Ranks, generator: torch.Generator) -> Tensor:
    """One rank a position, uniform in its image's range."""
    span = (ranks.farthest - ranks.nearest)[:, None, None]
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    # The product can round up to the span itself.
    return ranks.nearest + (uniform * span).long().clamp(max=span - 1)


class Placement(NamedTuple):
    """Which levels of the latent space each image's anomaly is in.

    Attributes:
        low: ``(N,)``, bool.
        high: ``(N,)``, bool.
    """

    low: Tensor
    high: Tensor


def draw_placement(number: int, generator: torch.Generator) -> Placement:
    """Both levels with probability 1/2, else low only or high only, 1/2 each (reference)."""
    both, low = torch.rand(2, number, generator=generator, device=generator.device) < 0.5
    return Placement(both | low, both | ~low)
