"""Patches of photographs that a teacher learns from, and the triplets of metric learning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from subspect.datasets.crops import Crops, cut_square

_ZOOM = (4.0, 16.0)


class Patches(Crops):
    """An endless supply of patches; patch number ``n`` is a function of ``n`` and the seed alone.

    As in the paper (section 4) a picture is zoomed so that its shorter side is 4 to 16 patches long, uniformly,
    and one patch is cut anywhere. As the zoomed picture itself is never needed, the patch is cut first.
    """

    def cut(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """A square of a 4th to a 16th of the picture's shorter side."""
        shorter = min(picture.shape[1:])
        return cut_square(picture, max(1, round(shorter / rng.uniform(*_ZOOM))), rng)


def translation_margin(patch_size: int) -> int:
    """How far a triplet's second patch may lie from the first, to each side: a quarter of the patch."""
    return (patch_size - 1) // 4


def cut_centre(images: Tensor, size: int) -> Tensor:
    """The central ``size`` x ``size`` of images ``(N, 3, S, S)``; S - size is even."""
    margin = (images.shape[-1] - size) // 2
    return images[..., margin : margin + size, margin : margin + size]


def cut_shifted(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A window of ``size`` x ``size`` at a random place of each image ``(N, 3, S, S)``."""
    count, _, side, _ = images.shape
    device = images.device
    corners = torch.randint(side - size + 1, (2, count, 1), generator=generator, device=device)
    rows, columns = corners + torch.arange(size, device=device)
    samples = torch.arange(count, device=device)[:, None, None]
    return images[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def disturb(patches: Tensor, luminance: float, noise: float, generator: torch.Generator) -> Tensor:
    """Patches ``(N, 3, S, S)`` made brighter or darker, each by another factor, with Gaussian noise on them."""
    shape = (len(patches), 1, 1, 1)
    factor = torch.rand(shape, generator=generator, device=patches.device) * 2 - 1
    added = torch.randn(patches.shape, generator=generator, device=patches.device)
    return patches * (1 + luminance * factor) + noise * added
