"""Distances between features and the codes of a codebook, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from subspect.parts import parts_of

_PIECE = 512


def flatten_features(features: Tensor) -> Tensor:
    """``(N, D, H, W)`` as rows ``(N·H·W, D)``."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def code_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """Squared L2 distances ``(…, M, K)`` of vectors (…, M, D) to codes (…, K, D), less ‖vector‖², in float32.

    The missing term is the same for all codes, so it changes neither the nearest one nor any order.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codes = vectors.float(), codes.float()
        squares = codes.square().sum(-1)
        if codes.dim() == 2:
            return torch.addmm(squares, vectors, codes.T, alpha=-2.0)
        # Not by baddbmm, which first spreads the squares out to the size of the product; compiled, the sum
        # becomes one with the minimum taken next.
        return torch.add(squares[:, None], vectors @ codes.mT, alpha=-2.0)


@torch.no_grad()
def nearest_codes(features: Tensor, codes: Tensor) -> Tensor:
    """Which codes are nearest to each part of the features.

    Args:
        features: ``(N, G·D, H, W)``.
        codes: ``(G, K, D)``, K for each of the G parts.

    Returns:
        ``(N, G, H, W)``, int64.
    """
    number, _, height, width = features.shape
    parts = flatten_features(features).view(-1, len(codes), codes.shape[2]).unbind(1)
    search = nearest_in_pieces if features.device.type == "cpu" else nearest_at_once
    return search(parts, codes).view(len(codes), number, height, width).transpose(0, 1)


def nearest_in_pieces(parts: Sequence[Tensor], codes: Tensor) -> Tensor:
    """The search for a processor: pieces that stay in its cache, and min, vectorised better than argmin.

    Twice as fast together.

    Args:
        parts: G of ``(M, D)``.
        codes: ``(G, K, D)``.

    Returns:
        Indices ``(G, M)``, int64.
    """
    return torch.stack(
        [
            torch.cat([code_distances(piece, book).min(1).indices for piece in parts_of(part, _PIECE)])
            for part, book in zip(parts, codes, strict=True)
        ]
    )


def nearest_at_once(parts: Sequence[Tensor], codes: Tensor) -> Tensor:
    """As ``nearest_in_pieces``, for a GPU, whose host takes longer to ask for a search than that takes."""
    return code_distances(torch.stack(list(parts)), codes).min(2).indices
