"""Mean and standard deviation of whatever passes by, gathered batch by batch and kept with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Statistics(nn.Module):
    """Running mean and standard deviation of each of some channels, over all pixels seen.

    Batches are joined by Chan's formula, which does not lose digits as a sum of squares does.

    Args:
        channels: Channels told apart.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("squares", torch.zeros(channels))

    @torch.no_grad()
    def add(self, values: Tensor) -> None:
        """Takes values ``(N, channels, H, W)`` in."""
        values = values.to(self.mean.dtype)
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
        added = values[:, 0].numel()
        share = added / (self.count + added)
        shift = mean - self.mean
        self.squares += added * (variance + shift**2 * (1 - share))
        self.mean += shift * share
        self.count += added

    def forget(self) -> None:
        """Begins anew."""
        for kept in self.buffers():
            kept.zero_()

    def standardise(self, values: Tensor) -> Tensor:
        """Values ``(N, channels, H, W)`` less the mean, in standard deviations; as they are before any is seen.

        A channel that never varied is only moved.
        """
        spread = (self.squares / self.count.clamp(min=1)).sqrt()
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return (values - self.mean[:, None, None]) / spread[:, None, None]
