"""Random crops of batches, another for each image, on whatever device they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Windows(NamedTuple):
    """One rectangle in each picture of a batch, all of one size.

    Attributes:
        rows: Neighbouring rows, ``(N, h)``.
        columns: Neighbouring columns, ``(N, w)``.
    """

    rows: Tensor
    columns: Tensor

    def coarser(self, stride: int) -> Windows:
        """The same on maps ``stride`` times coarser, where they begin and end between two of its cells."""
        return Windows(self.rows[:, ::stride] // stride, self.columns[:, ::stride] // stride)

    def of(self, places: Tensor) -> Windows:
        """Those of some pictures, at ``places`` (n,) of the batch."""
        return Windows(self.rows[places], self.columns[places])

    def cut(self, maps: Tensor) -> Tensor:
        """What ``(N, C, H, W)`` or ``(N, H, W)`` has there, ``(N, C, h, w)`` or ``(N, h, w)``."""
        number, rows, columns = self._places()
        if maps.dim() == 3:
            return maps[number, rows, columns]
        return maps[number, :, rows, columns].permute(0, 3, 1, 2)

    def put_back(self, maps: Tensor, crops: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` with ``crops`` (N, C, h, w) there."""
        number, rows, columns = self._places()
        return (
            maps.permute(0, 2, 3, 1)
            .index_put((number, rows, columns), crops.permute(0, 2, 3, 1))
            .permute(0, 3, 1, 2)
        )

    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        number = torch.arange(len(self.rows), device=self.rows.device)
        return number[:, None, None], self.rows[:, :, None], self.columns[:, None, :]


def crop_randomly(images: Tensor, mask: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """One square crop of each picture: anywhere in it, or where it has a defect, on some of that.

    Args:
        images: ``(N, C, H, W)``.
        mask: As ``draw_windows`` takes it.
        side: Side of the crops; a picture's own height or width where that is smaller.
        generator: Random source; its device is used.

    Returns:
        ``(N, C, side, side)`` at most.
    """
    return draw_windows(mask, side, generator).cut(images)


def draw_windows(mask: Tensor, side: int, generator: torch.Generator, step: int = 1) -> Windows:
    """One square window of each picture: anywhere in it, or where it has a defect, on some of that.

    Args:
        mask: ``(N, 1, H, W)``, above 0 where defective; the window of a picture with a defect holds some of it.
        side: Side of the windows; a picture's own height or width where that is smaller.
        generator: Random source; its device is used.
        step: They begin at multiples of it, if ``side`` and the pictures' sides are multiples, too.
    """
    _, _, height, width = mask.shape
    defective = mask.flatten(1) > 0
    has_defect = defective.any(1)
    # The largest of a random number a pixel; torch.multinomial would have the host wait for the device.
    drawn = torch.rand(defective.shape, generator=generator, device=generator.device)
    pixel = torch.where(defective, drawn, -1.0).argmax(1)
    return Windows(
        _window(height, side, pixel // width, has_defect, generator, step),
        _window(width, side, pixel % width, has_defect, generator, step),
    )


def _window(
    length: int, side: int, place: Tensor, wanted: Tensor, generator: torch.Generator, step: int
) -> Tensor:
    """Neighbouring indices ``(N, side)`` below ``length``, with ``place`` (N,) among them where ``wanted``."""
    side = min(side, length)
    uniform = torch.rand(2, len(place), generator=generator, device=generator.device)
    anywhere = (uniform[0] * ((length - side) // step + 1)).long() * step
    # The cell of the place is anywhere in the window.
    around = (place // step - (uniform[1] * (side // step)).long()) * step
    start = torch.where(wanted, around, anywhere).clamp(0, length - side)
    return start[:, None] + torch.arange(side, device=generator.device)
