"""A teacher's losses (paper, section 3.1) and what it is judged by, as pure functions of batches of vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def distillation_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """``‖D(T̂(p)) − P(p)‖²``, mean over the batch, of vectors ``(N, C)`` (equation 2)."""
    return (decoded - target).square().sum(1).mean()


def compactness_loss(descriptors: Tensor) -> Tensor:
    """Sum of the correlations between different dimensions of a batch of descriptors (equation 4).

    With their sign, as published, for ``(N, D)``. Open implementations correlate the samples of the batch
    instead. It is least, -D, wherever the standardised dimensions add up to 0, also where all say the same and
    half of them have the other sign. A dimension that does not vary correlates with none. No D x D matrix is
    needed: all correlations add up to the variance of the sum of the standardised dimensions.
    """
    mean = descriptors.mean(0)
    centred = descriptors - mean
    variance = centred.square().mean(0)
    # What rounding leaves of a constant dimension; its root has no finite gradient.
    precision = torch.finfo(descriptors.dtype)
    floor = (4 * precision.eps * mean.detach()).square() + precision.tiny
    varies = variance > floor
    standardised = centred * torch.where(varies, variance.clamp(min=floor).rsqrt(), 0.0)
    return standardised.sum(1).square().mean() - varies.sum()


def effective_dimensions(descriptors: Tensor) -> Tensor:
    """How many dimensions of descriptors ``(N, D)`` say something of their own.

    D² / Σ c² over their correlations c, the participation ratio of the correlation matrix' eigenvalues: D where
    none is correlated with another, 1 where all say the same, with whatever sign. A dimension that never varies
    counts for nothing.
    """
    centred = (descriptors - descriptors.mean(0)).double()
    spread = centred.square().sum(0).sqrt()
    standardised = centred[:, spread > 0] / spread[spread > 0]
    correlations = standardised.mT @ standardised
    return standardised.shape[1] ** 2 / correlations.square().sum()


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """``max(0, δ + δ⁺ − δ⁻)``, mean over the batch, of descriptors ``(N, D)`` (equation 3).

    ``δ⁺ = ‖a − p‖²``, ``δ⁻ = min(‖a − n‖², ‖p − n‖²)``: anchor and positive swap where that is harder.
    """
    near = (anchor - positive).square().sum(1)
    far = torch.minimum((anchor - negative).square().sum(1), (positive - negative).square().sum(1))
    return (margin + near - far).clamp(min=0).mean()
