"""Erasure for inpainting (RIAD): the cells of a grid, shared out at random among disjoint sets."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_count(size: tuple[int, int], cell: int) -> int:
    """How many cells of ``cell`` x ``cell`` pixels cover a picture of ``size``; those at its end may be cut."""
    rows, columns = _grid(size, cell)
    return rows * columns


def erasure_masks(order: Tensor, size: tuple[int, int], cell: int, sets: int) -> Tensor:
    """Masks that erase every pixel in exactly one of them.

    Args:
        order: A permutation of ``range(cell_count(size, cell))``, int64: it decides which cell, counted row by
            row, goes to which set. Drawn at random, all ways to share out the cells are equally likely.
        size: Height and width of the picture.
        cell: Side of a cell in pixels.
        sets: How many masks; their numbers of cells differ by one at most.

    Returns:
        ``(sets, 1, H, W)``, bool, true where erased.
    """
    height, width = size
    chosen = (order % sets).reshape(_grid(size, cell))
    pixels = chosen.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width]
    return pixels == torch.arange(sets, device=order.device)[:, None, None, None]


def _grid(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Rows and columns of cells."""
    height, width = size
    return -(-height // cell), -(-width // cell)
