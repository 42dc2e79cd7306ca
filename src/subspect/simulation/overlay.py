"""Defects painted onto images: the smudges that train DSR's upsampling module."""

from __future__ import annotations

import torch
from torch import Tensor


def smudge(images: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """Blends one random colour an image into it under the mask (DSR reference, stage 3).

    ``β·image + (1 - β)·colour`` with β ~ U(0, 0.8) and a uniform RGB colour.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        mask: ``(N, 1, H, W)``, 0 or 1.
        generator: Random source; its device is used.

    Returns:
        Images of the same shape.
    """
    number, device = len(images), generator.device
    colour = torch.rand(number, 3, 1, 1, generator=generator, device=device)
    opacity = 1 - 0.8 * torch.rand(number, 1, 1, 1, generator=generator, device=device)
    return torch.lerp(images, colour.to(images.dtype), (opacity * mask).to(images.dtype))
