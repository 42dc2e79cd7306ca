"""Rotation of batches by an angle each, on whatever device they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotates each picture of ``(N, C, H, W)`` about its centre, bilinear; what lies outside is zero.

    Args:
        images: The pictures.
        degrees: Counter-clockwise angles ``(N,)``.
    """
    height, width = images.shape[2:]
    radians = torch.deg2rad(degrees.float())
    cos, sin = radians.cos(), radians.sin()
    zero = torch.zeros_like(cos)
    # Normalised coordinates are stretched by the aspect ratio; the angle is in pixels.
    rows = (
        torch.stack((cos, -sin * (height / width), zero), 1),
        torch.stack((sin * (width / height), cos, zero), 1),
    )
    with torch.autocast(images.device.type, enabled=False):  # places in bfloat16 are a pixel off
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        rotated = F.grid_sample(
            images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    return rotated.to(images.dtype)


def rotate_some(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Rotates a share of the images by U(-90°, 90°), as the reference; corners become black."""
    number, device = len(images), generator.device
    angles = (torch.rand(number, generator=generator, device=device) - 0.5) * 180
    angles = angles * (torch.rand(number, generator=generator, device=device) < share)
    return rotate(images, angles)
