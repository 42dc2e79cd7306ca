"""PaDiM's numerics: a normal distribution at each position, gathered in one pass, and distances from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

REGULARISATION = 0.01
"""What is added to the variances (paper, section 3.2), so that any number of images gives a distribution."""

_CHUNK_BYTES = 64 * 1024**2


class MomentSums:
    """Running sums, in float64, of feature vectors and of their products at each position.

    Memory: 8·P·C² bytes for P positions and C channels (0.25 GB for 56x56 and 100, 7.6 GB for 56x56 and 550),
    held in chunks of positions; ``factorise`` frees each chunk as it turns it into float32 of half the size,
    kept in main memory: no GPU has to hold sums and factors at once.

    Args:
        positions: P.
        channels: C.
        device: Where to sum up.
    """

    def __init__(self, positions: int, channels: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self._chunk = max(1, _CHUNK_BYTES // (8 * channels**2))
        self._sum = torch.zeros(positions, channels, dtype=torch.float64, device=device)
        self._products = [
            torch.zeros(len(part), channels, channels, dtype=torch.float64, device=device)
            for part in self._chunked(self._sum)
        ]

    def add(self, features: Tensor) -> None:
        """Adds the features ``(N, C, P)`` of N images."""
        self.count += len(features)
        parts = self._chunked(features.permute(2, 0, 1))
        for sums, products, part in zip(self._chunked(self._sum), self._products, parts, strict=True):
            vectors = part.to(sums.device).to(sums.dtype).contiguous()
            sums += vectors.sum(1)
            products.baddbmm_(vectors.mT, vectors)

    def factorise(self) -> tuple[Tensor, Tensor]:
        """Means ``(P, C)`` and, on the CPU, lower Cholesky factors ``(P, C, C)`` of the covariances, float32.

        Covariance: 1/(N - 1)·Σ(x - μ)(x - μ)ᵀ + 0.01·I (paper, equation 1). The sums are used up.

        Raises:
            ValueError: Fewer than two images were added.
        """
        if self.count < 2:
            raise ValueError(f"a covariance takes at least two images, got {self.count}")
        mean = self._sum / self.count
        factor = torch.empty(*mean.shape, mean.shape[1], dtype=torch.float32)
        self._products.reverse()
        for means, factors in zip(self._chunked(mean), self._chunked(factor), strict=True):
            factors.copy_(self._factors(self._products.pop(), means))
        return mean.float(), factor

    def _chunked(self, values: Tensor) -> Sequence[Tensor]:
        """Views of values ``(P, …)``, a chunk of positions each."""
        return torch.split(values, self._chunk)

    def _factors(self, products: Tensor, means: Tensor) -> Tensor:
        """The factors ``(p, C, C)`` of one chunk, in float64; ``products`` is overwritten."""
        products.baddbmm_(means[:, :, None], means[:, None], alpha=-self.count)
        covariance = products.div_(self.count - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(REGULARISATION)
        return torch.linalg.cholesky(covariance)


def mahalanobis(features: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Mahalanobis distances √((x - μ)ᵀ Σ⁻¹ (x - μ)) (paper, equation 2), by solving L·z = x - μ.

    Args:
        features: x, ``(N, C, P)``.
        mean: μ, ``(P, C)``.
        factor: L, lower triangular with L·Lᵀ = Σ, ``(P, C, C)``.

    Returns:
        ‖z‖, ``(N, P)``.
    """
    deviations = features.permute(2, 1, 0) - mean[:, :, None]
    whitened = torch.linalg.solve_triangular(factor, deviations, upper=False)
    return torch.linalg.vector_norm(whitened, dim=1).mT


def inverse_factors(factor: Tensor) -> Tensor:
    """L⁻¹ ``(P, C, C)`` of lower triangular L ``(P, C, C)``, computed in float64 and rounded once."""
    identity = torch.eye(factor.shape[1], dtype=torch.float64, device=factor.device)
    inverse = torch.empty(factor.shape, dtype=factor.dtype, device=factor.device)
    chunk = max(1, _CHUNK_BYTES // (8 * factor.shape[1] ** 2))
    for known, wanted in zip(torch.split(factor, chunk), torch.split(inverse, chunk), strict=True):
        wanted.copy_(torch.linalg.solve_triangular(known.double(), identity, upper=False))
    return inverse
