"""Sizes of image tensors: resizing, padding to a multiple and cropping back."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize(image: Tensor, size: tuple[int, int] | None, *, antialias: bool) -> Tensor:
    """Resizes images bilinearly, pixel centres at half-integer positions.

    Args:
        image: ``(..., C, H, W)``, floating point.
        size: New ``(H, W)``; None leaves the image as it is.
        antialias: Whether to widen the filter when the image shrinks.

    Returns:
        ``(..., C, *size)``; the input itself where nothing changes.
    """
    if size is None or tuple(image.shape[-2:]) == tuple(size):
        return image
    batch = image.reshape(-1, *image.shape[-3:])
    resized = F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=antialias)
    return resized.reshape(*image.shape[:-2], *size)


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Extends images at the right and bottom until both sides divide by ``multiple``.

    The picture is reflected about its edge; along a side too short for that, its last pixel is repeated.

    Args:
        images: ``(N, C, H, W)``.
        multiple: What both sides must divide by.

    Returns:
        The extended images and the original ``(H, W)``, for ``crop``.
    """
    height, width = images.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if right:
        images = F.pad(images, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    if bottom:
        images = F.pad(images, (0, 0, 0, bottom), mode="reflect" if bottom < height else "replicate")
    return images, (height, width)


def crop(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Undoes ``pad_to_multiple``: the top left ``size`` of maps ``(..., H, W)``."""
    return maps[..., : size[0], : size[1]]
