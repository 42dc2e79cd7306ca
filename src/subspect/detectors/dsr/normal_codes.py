"""What the quantised features of normal images are at each position, and how far others are from that.

The paper's modules have 100,000 steps on whole images to learn what belongs where. A short training on crops
cannot: on magnetic tile, one distribution of the codes for all positions tells next to nothing, one with a mean
and a scale for each position as much as PaDiM with a covariance for each (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REGULARISATION = 0.01  # added to variances, as a share of their mean, so that what never varied is no alarm
_LEAST_SQUARE = 1e-4  # whose logarithm is finite; normal features have 1

Chunks = Callable[[], Iterable[Tensor]]
"""Goes through the features of many images, ``(n, D, h, w)`` at a time, as often as it is called."""


class Deviations(NamedTuple):
    """How features differ from the normal ones at their positions.

    Attributes:
        whitened: z = W·(x - mean)/scale, ``(N, D, h, w)``, of mean square 1 over normal images.
        distance: Logarithm of the mean square of z over its channels, ``(N, 1, h, w)``.
    """

    whitened: Tensor
    distance: Tensor


class NormalCodes(nn.Module):
    """Mean and scale of quantised features at each position, and one covariance for all positions.

    Args:
        channels: D, of the features.
        grid: Positions ``(h, w)`` of a whole image.
    """

    mean: Tensor
    scale: Tensor
    whitening: Tensor

    def __init__(self, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, *grid))
        self.register_buffer("scale", torch.ones(1, *grid))
        self.register_buffer("whitening", torch.eye(channels))

    def forward(self, features: Tensor, places: Tensor | None) -> Deviations:
        """Compares features with the normal ones.

        Args:
            features: x, ``(N, D, h, w)``.
            places: Where they are in the whole image, ``(N, 2, h, w)``, see `coordinates`; None if they are all
                of it.
        """
        mean, scale = (_at(values, features, places) for values in (self.mean, self.scale))
        whitened = F.conv2d(features - mean, self.whitening[:, :, None, None]) / scale
        squares = whitened.square().mean(1, keepdim=True)
        return Deviations(whitened, squares.clamp(min=_LEAST_SQUARE).log())

    @torch.no_grad()
    def fit(self, chunks: Chunks) -> None:
        """Takes the statistics of whole normal images; sums are in float64.

        Args:
            chunks: Their features, gone through four times.
        """
        images = sum(len(chunk) for chunk in chunks())
        self.mean.copy_(_total(chunk.sum(0) for chunk in chunks()) / images)
        products = _total(_products(chunk - self.mean) for chunk in chunks())
        self.whitening.copy_(whitening(products / (images * self.scale.numel())))
        self.scale.fill_(1.0)
        squares = _total(self(chunk, None).distance.exp().sum(0) for chunk in chunks())
        self.scale.copy_(_regularised(squares / images).sqrt())


def whitening(covariance: Tensor) -> Tensor:
    """The symmetric W with W·Σ·W = I, for a covariance Σ ``(D, D)``, a hundredth of its mean variance added."""
    variances, directions = torch.linalg.eigh(covariance)
    return (directions * _regularised(variances).rsqrt()) @ directions.T


def coordinates(size: tuple[int, int], device: torch.device) -> Tensor:
    """Where the pixels of a whole image are: right and down, ``(2, H, W)``, from -1 to 1 between its edges."""
    down, right = ((2 * torch.arange(length, device=device) + 1) / length - 1 for length in size)
    return torch.stack((right.expand(*size), down[:, None].expand(*size)))


def _at(values: Tensor, features: Tensor, places: Tensor | None) -> Tensor:
    """Values ``(C, h, w)`` of the whole image at the features' places."""
    if places is None:
        size = (features.shape[2], features.shape[3])
        # Images of another size than trained on.
        return values[None] if values.shape[1:] == size else _resized(values, size)
    grid = places.permute(0, 2, 3, 1).to(values.dtype)
    everywhere = values.expand(len(places), *values.shape)
    return F.grid_sample(everywhere, grid, padding_mode="border", align_corners=False).to(features.dtype)


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None], size, mode="bilinear", align_corners=False)


def _total(parts: Iterable[Tensor]) -> Tensor:
    """Their sum in float64, on the host: Apple's GPUs know no float64."""
    return sum((part.cpu().double() for part in parts), start=torch.zeros((), dtype=torch.float64))


def _regularised(variances: Tensor) -> Tensor:
    """Above zero also where all images are the same."""
    return variances + (_REGULARISATION * variances.mean()).clamp(min=1e-12)


def _products(deviations: Tensor) -> Tensor:
    """Σ x·xᵀ over all positions of ``(n, D, h, w)``."""
    vectors = deviations.transpose(0, 1).flatten(1)
    return vectors @ vectors.T
