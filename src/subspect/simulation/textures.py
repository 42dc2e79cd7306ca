"""Textures changed at random, so that few pictures give many kinds of simulated defects (DRAEM, section 3.3).

Ten augmentations, of which three are applied to each picture, in random order. Kinds and ranges are those of
the reference code, which has them from imgaug; its numbers count from 0 to 255, ours from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from subspect.simulation.rotation import rotate

_APPLIED = 3
_LEVELS = 256


def choose_augmentations(number: int, generator: torch.Generator) -> Tensor:
    """Which augmentations each picture gets: ``(number, 3)``, different ones in the order of application."""
    order = torch.rand(number, len(AUGMENTATIONS), generator=generator, device=generator.device)
    return order.argsort(1)[:, :_APPLIED]


def augment(textures: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Applies to each picture the augmentations chosen for it; those of one kind in one go.

    Args:
        textures: ``(N, 3, H, W)``, RGB in [0, 1].
        chosen: ``(N, 3)`` of ``choose_augmentations``, on the CPU, so that nothing waits for a GPU.
        generator: Random source of their strengths; on the device of the textures.

    Returns:
        Pictures of the same shape, in [0, 1].
    """
    textures = textures.clone()
    for turn in chosen.unbind(1):
        for kind, apply in enumerate(AUGMENTATIONS.values()):
            places = (turn == kind).nonzero().squeeze(1)
            if len(places):
                places = places.to(textures.device, non_blocking=True)
                textures[places] = apply(textures[places], generator)
    return textures


def gamma(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each channel to a power of U(0.5, 2)."""
    return images ** _uniform((len(images), 3, 1, 1), generator, 0.5, 2.0)


def brightness(images: Tensor, generator: torch.Generator) -> Tensor:
    """Luma times U(0.8, 1.2) plus U(-30, 30)/255, colour differences kept.

    The reference draws one of six colour spaces and the order of the two; here it is YCrCb, times first.
    """
    red, green, blue = images.chunk(3, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # BT.601, as YCrCb
    factor = _one_each(images, generator, 0.8, 1.2)
    offset = _one_each(images, generator, -30 / 255, 30 / 255)
    return (images + luma * (factor - 1) + offset).clamp(0, 1)


def sharpness(images: Tensor, generator: torch.Generator) -> Tensor:
    """From smoothed (0) over unchanged (1) to sharpened (2), as Pillow's enhancer; U(0, 2)."""
    smooth = TF.adjust_sharpness(images, 0.0)
    return torch.lerp(smooth, images, _one_each(images, generator, 0.0, 2.0)).clamp(0, 1)


def hue_saturation(images: Tensor, generator: torch.Generator) -> Tensor:
    """Hue turned by U(-50, 50)/255 of the circle, U(-50, 50)/255 added to the saturation (of HSV)."""
    hue, saturation, value = to_hsv(images)
    hue = hue + _one_each(images, generator, -50 / 255, 50 / 255)
    saturation = saturation + _one_each(images, generator, -50 / 255, 50 / 255)
    return from_hsv(hue, saturation.clamp(0, 1), value)


def solarise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Inverts what is brighter than U(32, 128)/255, in half of the pictures."""
    threshold = _one_each(images, generator, 32 / 255, 128 / 255)
    applied = _one_each(images, generator, 0.0, 1.0) < 0.5
    return torch.where((images >= threshold) & applied, 1 - images, images)


def posterise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Keeps the highest 1 to 8 of 8 bits."""
    bits = torch.randint(1, 9, (len(images), 1, 1, 1), generator=generator, device=images.device)
    step = 2.0 ** (8 - bits)
    return ((images * 255).round() / step).floor() * step / 255


def invert(images: Tensor, generator: torch.Generator) -> Tensor:
    """The negative."""
    return 1 - images


def autocontrast(images: Tensor, generator: torch.Generator) -> Tensor:
    """Stretches each channel to its full range, 0 to 20 % of the pixels cut off at either end, as Pillow."""
    share = torch.randint(21, (len(images), 1, 1), generator=generator, device=images.device)
    below = histogram(images).cumsum(2)  # pixels at or below a level
    pixels = below[..., -1:]
    cut = pixels * share // 100
    low = (below <= cut).sum(2)
    high = _LEVELS - 1 - (pixels - F.pad(below, (1, -1)) <= cut).sum(2)
    low, high = (level[..., None, None] / (_LEVELS - 1) for level in (low, high))
    stretched = (images - low) / (high - low).clamp(min=1 / _LEVELS)
    return torch.where(high > low, stretched.clamp(0, 1), images)


def equalise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flattens the histogram of each channel, as Pillow."""
    return TF.equalize(_as_bytes(images)) / 255


def turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotates by U(-45°, 45°); corners become black."""
    return rotate(images, _uniform((len(images),), generator, -45.0, 45.0))


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "gamma": gamma,
    "brightness": brightness,
    "sharpness": sharpness,
    "hue and saturation": hue_saturation,
    "solarise": solarise,
    "posterise": posterise,
    "invert": invert,
    "autocontrast": autocontrast,
    "equalise": equalise,
    "turn": turn,
}
"""What is applied, by name, in the order that ``choose_augmentations`` numbers it."""


def to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value of RGB images ``(N, 3, H, W)``, each ``(N, 1, H, W)`` in [0, 1]."""
    value, largest = images.max(1, keepdim=True)
    spread = value - images.amin(1, keepdim=True)
    # With red the largest: (green - blue) / spread, in sixths of the circle; the others two and four on.
    after, before = ((images.roll(-shift, 1)).gather(1, largest) for shift in (1, 2))
    hue = (after - before) / spread.clamp(min=1e-9) / 6 + largest / 3
    return hue.remainder(1), spread / value.clamp(min=1e-9), value


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB images ``(N, 3, H, W)`` of hue (any number of turns), saturation and value, each ``(N, 1, H, W)``."""
    offset = torch.arange(5, 0, -2, device=hue.device)[:, None, None]
    place = (offset + 6 * hue).remainder(6)
    return value * (1 - saturation * torch.minimum(place, 4 - place).clamp(0, 1))


def histogram(images: Tensor) -> Tensor:
    """How many pixels of each channel have each of 256 levels: ``(N, C, 256)``, int64."""
    levels = _as_bytes(images).flatten(2).long()
    counts = levels.new_zeros(*levels.shape[:2], _LEVELS)
    return counts.scatter_add_(2, levels, torch.ones_like(levels))


def _as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def _one_each(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    return _uniform((len(images), 1, 1, 1), generator, low, high)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)
