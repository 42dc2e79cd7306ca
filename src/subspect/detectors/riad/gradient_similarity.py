"""Gradient magnitude similarity (GMS) of two images, on one scale and on several, as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CONSTANT = 0.0026
_SCALES = 4


def gradient_magnitude(images: Tensor) -> Tensor:
    """Magnitude of the Prewitt gradient, divided by 3; at the borders the last pixel is repeated.

    Args:
        images: ``(N, C, H, W)``.

    Returns:
        ``(N, C, H, W)``, at least 1e-6, so that flat images have a gradient to learn by.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    # Sums of slices instead of a convolution: those keep their precision where autocast would not.
    columns = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    right = (columns[..., 2:] - columns[..., :-2]) / 3
    down = (rows[..., 2:, :] - rows[..., :-2, :]) / 3
    return (right**2 + down**2 + 1e-12).sqrt()


def gms_map(images: Tensor, targets: Tensor) -> Tensor:
    """Gradient magnitude similarity at every pixel: ``(2·g·h + c) / (g² + h² + c)``, c = 0.0026.

    Xue et al., IEEE TIP 2014; RIAD, section 3.2. On the mean of the channels, as open implementations of RIAD
    have it (Xue et al. compare luminance); c is theirs, too, and about Xue's 170 / 255².

    Args:
        images: ``(N, C, H, W)``, values in [0, 1].
        targets: Of the same shape.

    Returns:
        ``(N, 1, H, W)`` in (0, 1]; 1 where the magnitudes agree, whatever the brightness.
    """
    gradient = gradient_magnitude(images.mean(1, keepdim=True))
    target = gradient_magnitude(targets.mean(1, keepdim=True))
    return (2 * gradient * target + _CONSTANT) / (gradient**2 + target**2 + _CONSTANT)


def msgms_map(images: Tensor, targets: Tensor) -> Tensor:
    """Multi-scale GMS at every pixel: the mean of four scales, each enlarged bilinearly (RIAD, section 3.3).

    Args:
        images: ``(N, C, H, W)``, H and W multiples of 8, values in [0, 1].
        targets: Of the same shape.

    Returns:
        ``(N, 1, H, W)`` in (0, 1]; 1 where the images agree.
    """
    size = (images.shape[2], images.shape[3])
    maps = _gms_pyramid(images, targets)
    enlarged = [F.interpolate(each, size, mode="bilinear", align_corners=False) for each in maps[1:]]
    return torch.stack((maps[0], *enlarged)).mean(0)


def msgms_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean over four scales of the mean of 1 - GMS (RIAD, section 3.2).

    Args:
        images: ``(N, C, H, W)``, H and W multiples of 8, values in [0, 1].
        targets: Of the same shape.

    Returns:
        A scalar in [0, 1).
    """
    return torch.stack([1 - each.mean() for each in _gms_pyramid(images, targets)]).mean()


def _gms_pyramid(images: Tensor, targets: Tensor) -> list[Tensor]:
    """GMS maps from the finest to the coarsest scale, each halved by averaging 2x2 pixels."""
    maps = [gms_map(images, targets)]
    for _ in range(_SCALES - 1):
        images, targets = F.avg_pool2d(images, 2), F.avg_pool2d(targets, 2)
        maps.append(gms_map(images, targets))
    return maps
