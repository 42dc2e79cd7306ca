"""What PaDiM learns: at each position, which values the features of normal images take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from subspect.detectors.padim.statistics import REGULARISATION, MomentSums, inverse_factors, mahalanobis


class Distributions(nn.Module):
    """A normal distribution of some of the backbone's channels at each position.

    Before anything is known the mean is 0 and the covariance 0.01·I.

    Args:
        positions: P.
        channels: d, how many channels are kept.
        available: C, how many the backbone has.

    Attributes:
        channels: Which channels are kept, ``(d,)``, ascending.
        mean: ``(P, d)``.
        factor: Lower Cholesky factors of the covariances, ``(P, d, d)``; until known, one that stands for all.
    """

    channels: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, positions: int, channels: int, available: int) -> None:
        super().__init__()
        self.available = available
        self.register_buffer("channels", torch.arange(channels))
        self.register_buffer("mean", torch.zeros(positions, channels))
        self.register_buffer("factor", _unknown(self.mean))

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances ``(N, P)`` of features ``(N, C, P)``."""
        return mahalanobis(self.kept(features), self.mean, self.factor)

    def euclidean(self, features: Tensor) -> Tensor:
        """Euclidean distances ``(N, P)`` of features ``(N, C, P)`` from the mean."""
        return torch.linalg.vector_norm(self.kept(features) - self.mean.mT, dim=1)

    def kept(self, features: Tensor) -> Tensor:
        """Those of the features ``(N, C, P)`` that are kept, ``(N, d, P)``."""
        return features.index_select(1, self.channels)

    def draw_channels(self, generator: torch.Generator) -> None:
        """Draws the channels to keep (paper, section 3.1)."""
        drawn = torch.randperm(self.available, generator=generator)[: len(self.channels)]
        self.channels.copy_(drawn.sort().values)

    def forget(self) -> None:
        """Begins anew, with one factor that stands for all; a move to a device gave it the room of all."""
        self.mean.zero_()
        self.factor = _unknown(self.mean)

    def conclude(self, sums: MomentSums) -> None:
        """Takes over the distributions of what was summed up; the sums are used up."""
        mean, factor = sums.factorise()
        self.mean, self.factor = mean.to(self.mean), factor.to(self.factor)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        if not self.factor.is_contiguous():  # one stands for all: what is read needs room
            self.factor = self.factor.new_empty(self.factor.shape)
        super()._load_from_state_dict(state_dict, prefix, *others)


def _unknown(mean: Tensor) -> Tensor:
    """The factors ``(P, d, d)`` for means ``(P, d)`` before anything is known, in the memory of one."""
    one = torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device) * REGULARISATION**0.5
    return one.expand(len(mean), -1, -1)


class Whitening(nn.Module):
    """What ``Distributions`` give, by matrix products alone: for exported detectors.

    Args:
        distributions: As learnt.
    """

    channels: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, distributions: Distributions) -> None:
        super().__init__()
        self.register_buffer("channels", distributions.channels)
        self.register_buffer("mean", distributions.mean)
        self.register_buffer("whitening", inverse_factors(distributions.factor))

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances ``(N, P)`` of features ``(N, C, P)``."""
        deviations = features.index_select(1, self.channels).permute(2, 1, 0) - self.mean[:, :, None]
        return torch.linalg.vector_norm(self.whitening @ deviations, dim=1).mT
