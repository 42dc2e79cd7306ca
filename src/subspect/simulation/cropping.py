"""Random crops of batches, another for each image, on whatever device they are."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_randomly(images: Tensor, mask: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """One square crop of each picture: anywhere in it, or where it has a defect, on some of that.

    Args:
        images: ``(N, C, H, W)``.
        mask: ``(N, 1, H, W)``, above 0 where defective; a crop of a picture with a defect holds a pixel of it.
        side: Side of the crops; a picture's own height or width where that is smaller.
        generator: Random source; its device is used.

    Returns:
        ``(N, C, side, side)`` at most.
    """
    channels, height, width = images.shape[1:]
    defective = mask.flatten(1) > 0
    has_defect = defective.any(1)
    # The largest of a random number a pixel; torch.multinomial would have the host wait for the device.
    drawn = torch.rand(defective.shape, generator=generator, device=generator.device)
    pixel = torch.where(defective, drawn, -1.0).argmax(1)
    rows = _window(height, side, pixel // width, has_defect, generator)
    columns = _window(width, side, pixel % width, has_defect, generator)
    cut = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return cut.gather(3, columns[:, None, None, :].expand(-1, channels, rows.shape[1], -1))


def _window(length: int, side: int, place: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
    """Neighbouring indices ``(N, side)`` below ``length``, with ``place`` (N,) among them where ``wanted``."""
    side = min(side, length)
    uniform = torch.rand(2, len(place), generator=generator, device=generator.device)
    anywhere = (uniform[0] * (length - side + 1)).long()
    around = place - (uniform[1] * side).long()
    start = torch.where(wanted, around, anywhere).clamp(0, length - side)
    return start[:, None] + torch.arange(side, device=generator.device)
