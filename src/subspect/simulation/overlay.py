"""Defects painted onto images: foreign colours, changed light, foreign grain, pieces of other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from subspect.simulation.perlin import perlin_noise

Fill = Literal["colour", "gain", "grain", "graft"]


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
    colour = torch.rand(len(images), 3, 1, 1, generator=generator, device=generator.device)
    return blend(images, colour, mask, generator)


def blend(images: Tensor, foreign: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """Blends something foreign into each image under the mask, a fifth to fully opaque (DRAEM, 3.3).

    ``β·image + (1 - β)·foreign`` with one β ~ U(0, 0.8) an image.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        foreign: Pictures or colours that broadcast with the images.
        mask: ``(N, 1, H, W)``, 0 or 1.
        generator: Random source; its device is used.

    Returns:
        Images of the same shape.
    """
    beta = 0.8 * torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device)
    return torch.lerp(images, foreign.to(images.dtype), ((1 - beta) * mask).to(images.dtype))


def paint(images: Tensor, mask: Tensor, generator: torch.Generator, fills: Sequence[Fill]) -> Tensor:
    """Paints a defect into each image under the mask, with edges of a pixel's softness half the time.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        mask: ``(N, 1, H, W)``, 0 or 1.
        generator: Random source; its device is used.
        fills: What defects are made of, each as likely as the others. ``colour``: one colour, grey half
            the time, from hardly visible to opaque. ``gain``: darker or lighter by 3 to 60 %. ``grain``:
            Perlin noise of two scales, added. ``graft``: another image of the batch, moved and changed in
            contrast.

    Returns:
        Images of the same shape, in [0, 1].
    """
    filled = torch.stack([_FILLS[fill](images, generator) for fill in fills])
    chosen = torch.randint(len(fills), (len(images),), generator=generator, device=generator.device)
    foreign = filled[chosen, torch.arange(len(images), device=generator.device)].clamp(0, 1)
    soft = F.avg_pool2d(mask, 3, stride=1, padding=1, count_include_pad=False)
    opacity = torch.where(_draw(images, generator) < 0.5, mask, soft)
    return torch.lerp(images, foreign, opacity.to(images.dtype))


def _colour(images: Tensor, generator: torch.Generator) -> Tensor:
    number, device = len(images), generator.device
    colour = torch.rand(number, 3, 1, 1, generator=generator, device=device)
    colour = torch.where(_draw(images, generator) < 0.5, colour, colour[:, :1])
    return torch.lerp(images, colour.to(images.dtype), _strength(images, generator, 0.05, 1.0))


def _gain(images: Tensor, generator: torch.Generator) -> Tensor:
    sign = torch.where(_draw(images, generator) < 0.5, -1.0, 1.0)
    gain = 1 + sign * _strength(images, generator, 0.03, 0.6)
    return images * gain + _draw(images, generator, -0.03, 0.03)


def _grain(images: Tensor, generator: torch.Generator) -> Tensor:
    size, shape, device = (images.shape[2], images.shape[3]), (len(images), 2), generator.device
    exponents = (torch.randint(*span, shape, generator=generator, device=device) for span in ((2, 6), (4, 7)))
    # The noise is zero on its lattice: cells of one pixel would leave none.
    most = min(2**6, min(size) // 2)
    coarse, fine = (perlin_noise((2**e).clamp(max=most), most, size, generator) for e in exponents)
    return images + _strength(images, generator, 0.03, 0.45) * (coarse + 0.6 * fine)


def _graft(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image's successor in the batch, shifted around and turned; of one image, itself."""
    height, width = images.shape[2:]
    device = generator.device
    down, right, turned = torch.rand(3, 1, generator=generator, device=device)
    rows = (torch.arange(height, device=device) + (down * height).long()) % height
    columns = (torch.arange(width, device=device) + (right * width).long()) % width
    donor = images.roll(1, 0)[:, :, rows[:, None], columns]
    if height == width:
        donor = torch.where(turned < 0.5, donor.rot90(1, (2, 3)), donor)
    mean, own_mean = donor.mean((2, 3), keepdim=True), images.mean((2, 3), keepdim=True)
    level = torch.where(_draw(images, generator) < 0.5, mean, own_mean)
    contrast = _draw(images, generator, 0.5, 1.5)
    return (donor - mean) * contrast + level + _draw(images, generator, -0.05, 0.05)


_FILLS = {"colour": _colour, "gain": _gain, "grain": _grain, "graft": _graft}


def _draw(images: Tensor, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """One uniform number an image, ``(N, 1, 1, 1)``."""
    uniform = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device)
    return (low + (high - low) * uniform).to(images.dtype)


def _strength(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """One log-uniform number an image, so that faint defects are as common as strong ones."""
    return low * (high / low) ** _draw(images, generator)
