"""Shapes that simulated defects take beside Perlin noise: small blobs, thin strokes, broad bands.

Perlin masks are broad and ragged. Pores, cracks and ill-finished zones are not; lengths here are in pixels,
because a small defect has few of them whatever the size of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from subspect.simulation.perlin import perlin_masks, perlin_noise

Shape = Literal["perlin", "blobs", "strokes", "bands"]

_BLOBS = 3
_BLOB_RADIUS = (2.0, 20.0)
_STROKE_LENGTH = (10.0, 100.0)
_STROKE_WIDTH = (0.6, 2.8)  # half of it, to either side
_STROKE_PIECES = 23


def choose_shapes(
    number: int, shapes: Sequence[Shape], normal_share: float, generator: torch.Generator
) -> Tensor:
    """Which shape the defect of each image gets.

    Args:
        number: How many images.
        shapes: What is drawn from, each as likely as the others.
        normal_share: Share of images that get none.
        generator: Random source, on the CPU.

    Returns:
        ``(number,)``, places in ``shapes``, or -1 for none.
    """
    chosen = torch.randint(len(shapes), (number,), generator=generator)
    chosen[_uniform(number, generator=generator) < normal_share] = -1
    return chosen


def draw_masks(
    chosen: Tensor, size: tuple[int, int], shapes: Sequence[Shape], generator: torch.Generator
) -> Tensor:
    """Masks of simulated defects of the shapes chosen for each image.

    Args:
        chosen: ``(N,)`` of ``choose_shapes``, on the CPU, so that nothing waits for a GPU.
        size: Height and width.
        shapes: What was chosen from.
        generator: Random source; its device is used.

    Returns:
        ``(N, 1, H, W)``, float, 0 or 1; of a mask with a shape all may happen to lie outside of the picture.
    """
    masks = torch.zeros(len(chosen), 1, *size, device=generator.device)
    for index, shape in enumerate(shapes):
        places = (chosen == index).nonzero().squeeze(1)
        if len(places):
            places = places.to(masks.device, non_blocking=True)
            masks[places] = _draw(shape, len(places), size, generator)
    return masks


def _draw(shape: Shape, number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    match shape:
        case "perlin":
            return perlin_masks(number, size, generator, normal_share=0.0)
        case "blobs":
            return blobs(number, size, generator)
        case "strokes":
            return strokes(number, size, generator)
        case "bands":
            return bands(number, size, generator)


def blobs(number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """One to three ragged ellipses an image, of 2 to 20 pixels radius: ``(number, 1, H, W)``, 0 or 1."""
    device = generator.device
    down, right = _pixels(size, device)
    ragged = 0.6 * _noise(number, size, generator, exponents=(3, 6))
    mask = torch.zeros(number, *size, dtype=torch.bool, device=device)
    for blob in range(_BLOBS):
        centre_down, centre_right = _place(number, size, generator)
        radius = _log_uniform(number, _BLOB_RADIUS, generator)
        stretch = torch.exp(1.6 * (_uniform(number, generator=generator) - 0.5))
        angle = math.pi * _uniform(number, generator=generator)
        along, across = _turned(
            down - centre_down[:, None, None], right - centre_right[:, None, None], angle[:, None, None]
        )
        long, short = (radius * stretch)[:, None, None], (radius / stretch)[:, None, None]
        inside = torch.hypot(along / long, across / short) + ragged < 1
        wanted = _uniform(number, generator=generator) < (1.0 if blob == 0 else 0.5)
        mask |= inside & wanted[:, None, None]
    return mask[:, None].float()


def strokes(number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """One bent, unsteady line an image, 1 to 6 pixels wide: ``(number, 1, H, W)``, 0 or 1."""
    device = generator.device
    centre = torch.stack(_place(number, size, generator), 1)
    length = _log_uniform(number, _STROKE_LENGTH, generator)
    heading = 2 * math.pi * _uniform(number, generator=generator)
    bend = 1.2 * (_uniform(number, generator=generator) - 0.5)
    least, most = _STROKE_WIDTH
    width = least + (most - least) * _uniform(number, generator=generator) ** 2
    turns = torch.linspace(-1.0, 1.0, _STROKE_PIECES + 1, device=device)
    unsteady = 0.5 * (_uniform(number, _STROKE_PIECES + 1, generator=generator) - 0.5)
    headings = heading[:, None] + bend[:, None] * turns + unsteady
    steps = torch.stack((headings.sin(), headings.cos()), 2) * (length / (_STROKE_PIECES + 1))[:, None, None]
    path = steps.cumsum(1)
    path = path - path.mean(1, keepdim=True) + centre[:, None]
    return (distance_to_path(path, size) < width[:, None, None]).float()[:, None]


def distance_to_path(path: Tensor, size: tuple[int, int]) -> Tensor:
    """Distance of each pixel's centre from a broken line.

    Args:
        path: Its corners, ``(N, P, 2)``: down and right, in pixels from the picture's upper left corner.
        size: Height and width of the picture.

    Returns:
        ``(N, H, W)``, in pixels.
    """
    down, right = _pixels(size, path.device)
    squared = torch.full((len(path), *size), torch.inf, device=path.device)
    # A piece at a time: all at once would take a picture's memory a piece.
    for start, end in zip(path.unbind(1)[:-1], path.unbind(1)[1:], strict=True):
        from_down, from_right = (part[:, None, None] for part in start.unbind(1))
        to_down, to_right = (part[:, None, None] for part in (end - start).unbind(1))
        reach = (down - from_down) * to_down + (right - from_right) * to_right
        place = (reach / (to_down**2 + to_right**2).clamp(min=1e-9)).clamp(0, 1)
        off_down, off_right = down - from_down - place * to_down, right - from_right - place * to_right
        squared = torch.minimum(squared, off_down**2 + off_right**2)
    return squared.sqrt()


def bands(number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """One broad strip or box an image, about parallel to its sides: ``(number, 1, H, W)``, 0 or 1."""
    device = generator.device
    height, width = size
    down, right = _pixels(size, device)
    down, right = down / height - 0.5, right / width - 0.5

    def draw(low: float, high: float) -> Tensor:
        return (low + (high - low) * _uniform(number, generator=generator))[:, None, None]

    quarter = torch.randint(4, (number, 1, 1), generator=generator, device=device) * (math.pi / 2)
    along, across = _turned(down, right, quarter + draw(-0.25, 0.25))
    ragged = 0.04 * _noise(number, size, generator, exponents=(1, 5))
    endless = draw(0, 1) < 0.5
    half_length = torch.where(endless, 2.0, draw(0.1, 0.5))
    narrow = (across - draw(-0.45, 0.45)).abs() + ragged < draw(0.05, 0.45)
    short = (along - draw(-0.5, 0.5)).abs() + ragged < half_length
    return (narrow & short).float()[:, None]


def _pixels(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the pixels' centres lie: down ``(H, 1)`` and right ``(1, W)``."""
    height, width = size
    return (
        torch.arange(height, device=device)[:, None] + 0.5,
        torch.arange(width, device=device)[None] + 0.5,
    )


def _place(number: int, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A place anywhere in each picture: down and right, ``(number,)`` each."""
    down, right = _uniform(2, number, generator=generator)
    return down * size[0], right * size[1]


def _turned(down: Tensor, right: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates along and across a direction ``angle`` from rightwards."""
    cos, sin = angle.cos(), angle.sin()
    return right * cos + down * sin, down * cos - right * sin


def _noise(
    number: int, size: tuple[int, int], generator: torch.Generator, exponents: tuple[int, int]
) -> Tensor:
    """Perlin noise ``(number, H, W)`` of a scale drawn for each image and axis."""
    scales = 2 ** torch.randint(*exponents, (number, 2), generator=generator, device=generator.device)
    return perlin_noise(scales, 2 ** (exponents[1] - 1), size, generator)[:, 0]


def _uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, device=generator.device)


def _log_uniform(number: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low * (high / low) ** _uniform(number, generator=generator)
