"""Perlin noise masks: where simulated defects go."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from subspect.simulation.rotation import rotate


def perlin_noise(scales: Tensor, most: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Perlin gradient noise, one picture a row of ``scales``, with quintic fade.

    Args:
        scales: ``(N, 2)``, int64: how many lattice cells the picture is high and wide, at least 1.
        most: What no scale is above; known beforehand, so that nobody waits for the device to say.
        size: Height and width of the pictures.
        generator: Draws the gradients; its device is used.

    Returns:
        ``(N, 1, H, W)``, about within [-1, 1] (times √2, as the noise that the reference uses).
    """
    device = generator.device
    angles = torch.rand(len(scales), most + 1, most + 1, generator=generator, device=device) * (2 * torch.pi)
    gradients = torch.stack((angles.cos(), angles.sin()), -1)
    down = _positions(scales[:, 0], size[0])
    right = _positions(scales[:, 1], size[1])
    corners = [_corner(gradients, down, right, row, column) for row in (0, 1) for column in (0, 1)]
    fade_down, fade_right = _fade(down.frac())[:, :, None], _fade(right.frac())[:, None, :]
    top = torch.lerp(corners[0], corners[1], fade_right)
    bottom = torch.lerp(corners[2], corners[3], fade_right)
    return (2**0.5 * torch.lerp(top, bottom, fade_down))[:, None]


def _positions(scales: Tensor, length: int) -> Tensor:
    """Lattice coordinates ``(N, length)`` of a picture's rows or columns."""
    return torch.arange(length, device=scales.device) * (scales[:, None] / length)


def _corner(gradients: Tensor, down: Tensor, right: Tensor, row: int, column: int) -> Tensor:
    """Dot products ``(N, H, W)`` of one corner's gradient with the offset from that corner."""
    number = torch.arange(len(gradients), device=gradients.device)[:, None, None]
    chosen = gradients[number, down.long()[:, :, None] + row, right.long()[:, None, :] + column]
    return (
        chosen[..., 0] * (down.frac() - row)[:, :, None] + chosen[..., 1] * (right.frac() - column)[:, None, :]
    )


def _fade(t: Tensor) -> Tensor:
    return t**3 * (t * (6 * t - 15) + 10)


def perlin_masks(
    number: int,
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    normal_share: float = 0.5,
    exponents: tuple[int, int] = (0, 6),
    threshold: float = 0.5,
) -> Tensor:
    """Masks of simulated defects (DSR and DRAEM reference code).

    Scale 2^randint(0, 6) an axis, threshold 0.5, rotated by U(-90°, 90°), emptied with probability
    ``normal_share``. The reference makes square noise for square images; here the noise stretches with the
    image.

    Args:
        number: How many.
        size: Height and width.
        generator: Random source; its device is used.
        normal_share: Share of masks left empty.
        exponents: Range of the scale's exponent, upper end exclusive.
        threshold: Noise above it is defective.

    Returns:
        ``(number, 1, H, W)``, float, 0 or 1.
    """
    device = generator.device
    drawn = torch.randint(*exponents, (number, 2), generator=generator, device=device)
    noise = rotate(
        perlin_noise(2**drawn, 2 ** (exponents[1] - 1), size, generator),
        (torch.rand(number, generator=generator, device=device) - 0.5) * 180,
    )
    anomalous = torch.rand(number, 1, 1, 1, generator=generator, device=device) >= normal_share
    return ((noise > threshold) & anomalous).float()


def pool_mask(mask: Tensor, stride: int) -> Tensor:
    """A mask on a grid ``stride`` times coarser: a cell is defective if any of its pixels is."""
    return F.max_pool2d(mask, stride)
