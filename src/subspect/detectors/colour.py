"""The order of colour channels: pictures are RGB, weights of implementations that use OpenCV expect BGR."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Colour = Literal["bgr", "rgb"]


def in_order(images: Tensor, colour: Colour) -> Tensor:
    """RGB images ``(N, 3, H, W)`` with their channels in another order, and back."""
    return images.flip(1) if colour == "bgr" else images
