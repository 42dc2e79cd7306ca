"""Distances between features and the codes of a codebook, as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from subspect.parts import parts_of

_PIECE = 512


def flatten_features(features: Tensor) -> Tensor:
    """``(N, D, H, W)`` as rows ``(N·H·W, D)``."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def code_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """Squared L2 distances ``(M, K)`` of vectors (M, D) to codes (K, D), less ‖vector‖², in float32.

    The missing term is the same for all codes, so it changes neither the nearest one nor any order.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codes = vectors.float(), codes.float()
        return torch.addmm(codes.square().sum(1), vectors, codes.T, alpha=-2.0)


@torch.no_grad()
def nearest_codes(features: Tensor, codes: Tensor) -> Tensor:
    """Indices ``(N, H, W)`` of the codes (K, D) nearest to features ``(N, D, H, W)``."""
    vectors = flatten_features(features)
    # In pieces that stay in a processor's cache, and by min, which PyTorch vectorises better than argmin:
    # twice as fast together.
    pieces = parts_of(vectors, _PIECE) if vectors.device.type == "cpu" else (vectors,)
    nearest = torch.cat([code_distances(piece, codes).min(1).indices for piece in pieces])
    number, _, height, width = features.shape
    return nearest.view(number, height, width)
