"""Resizing with antialias by operations that every runtime has.

ONNX has an attribute for it, but runtimes treat it differently: OpenVINO 2026.4 ignores it without a word.
"""

from __future__ import annotations

import torch
from torch import Tensor


def resize_antialiased(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images ``(N, C, H, W)``, H and W fixed or open, resized bilinearly to ``size``.

    As ``torch.nn.functional.interpolate`` does with ``antialias``: each new pixel is a mean of old ones under a
    triangle, as wide as the distance of two new pixels to either side where the image shrinks.
    """
    places, weights = _taps(images.shape[2], size[0], images)
    rows = torch.unflatten(images.index_select(2, places.flatten()), 2, places.shape)
    images = (weights[:, None, :] @ rows).squeeze(3)
    places, weights = _taps(images.shape[3], size[1], images)
    columns = torch.unflatten(images.index_select(3, places.flatten()), 3, places.shape)
    return (columns * weights).sum(4)


def _taps(before: int, after: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each new pixel along a side the old ones that it is made of and their weights, ``(after, taps)``.

    Places and the triangles' heights are whole numbers, in units of 1 / (2·after) of an old pixel: OpenVINO
    would round places to bfloat16, eight bits, where it computes in that.
    """
    number = 2 * (before // after) + 4  # as many as ever needed; those beyond the triangle weigh nothing
    new, taps = (torch.arange(length, device=like.device) for length in (after, number))
    reach = 2 * torch.full((), before, device=like.device).clamp(min=after)
    centres = (2 * new[:, None] + 1) * before
    places = torch.div(centres - reach, 2 * after, rounding_mode="floor") + taps
    heights = (reach - ((2 * places + 1) * after - centres).abs()).clamp(min=0)
    inside = (places >= 0) & (places < before)
    weights = torch.where(inside, heights, 0).to(like.dtype)
    return places.clamp(0, before - 1), weights / weights.sum(1, keepdim=True)
