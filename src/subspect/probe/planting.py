"""Defects of a known size and contrast, planted into a picture at a random place.

Lengths are in pixels of the picture. Shapes have sub-pixel positions and edges one pixel wide; every defect
lies wholly inside the picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from subspect.datasets.surfaces.defects import sample
from subspect.datasets.surfaces.drawing import POINTS, Field, Picture, grid

SCRATCH_ASPECT = 10.0
"""Length of a scratch over its width; the width is at least a pixel."""

WARP_SHARE, DISPLACED_SHARE = 1 / 4, 1 / 8
"""Diameter of a warped and of a displaced patch over the picture's shorter side."""

SMALLEST_SIDE = 32
"""Shorter side from which a picture holds all defects at all strengths."""


class Planted(NamedTuple):
    """A picture with a defect.

    Attributes:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        size: Of the defect, in the terms of what was planted; whole pixels for a displaced patch.
    """

    picture: Picture
    size: float


class _Site(NamedTuple):
    """A square window of a picture, and coordinates in it relative to a random point near its middle."""

    rows: slice
    columns: slice
    down: Field
    right: Field


def spot(picture: Picture, diameter: float, contrast: float, rng: np.random.Generator) -> Planted:
    """A round spot, darker than the picture or lighter.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        diameter: Of the disc whose area the spot has; at least 1.
        contrast: Change in all channels, of the range from black to white; away from the nearer end of that
            range, and clipped where it leaves it.
        rng: Draws the place.
    """
    site = _site(rng, picture.shape, diameter + 1)
    return _shaded(picture, site, _disc(site, diameter), contrast, diameter)


def scratch(picture: Picture, length: float, contrast: float, rng: np.random.Generator) -> Planted:
    """A straight line in a random direction, a tenth as wide as it is long but at least one pixel.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        length: From end to end; at least 1.
        contrast: As of a spot.
        rng: Draws place and direction.
    """
    width = max(1.0, length / SCRATCH_ASPECT)
    site = _site(rng, picture.shape, math.hypot(length, width) + 1)
    angle = rng.uniform(0.0, np.pi)
    along = np.abs(site.right * np.cos(angle) + site.down * np.sin(angle))
    across = np.abs(site.down * np.cos(angle) - site.right * np.sin(angle))
    inside = np.clip(length / 2 + 0.5 - along, 0.0, 1.0) * np.clip(width / 2 + 0.5 - across, 0.0, 1.0)
    return _shaded(picture, site, np.asarray(inside, dtype=np.float32), contrast, length)


def warp(picture: Picture, shift: float, rng: np.random.Generator) -> Planted:
    """A round patch whose middle is pushed aside in a random direction, smoothly less towards its outline.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        shift: How far the middle is pushed; up to a quarter of the patch's diameter.
        rng: Draws place and direction.
    """
    diameter = WARP_SHARE * min(picture.shape[:2])
    site = _site(rng, picture.shape, diameter)
    angle = rng.uniform(0.0, 2 * np.pi)
    radius = 2.0 * np.hypot(site.down, site.right) / diameter
    push = shift * np.clip(1.0 - radius**2, 0.0, 1.0) ** 2
    x, y = grid(len(push))
    points = push * POINTS / len(push)
    warped = sample(picture[site.rows, site.columns], x + points * np.cos(angle), y + points * np.sin(angle))
    inside = np.asarray(radius < 1.0, dtype=np.float32)
    return _pasted(picture, site, np.clip(warped, 0.0, 1.0), inside, shift)


def displaced_patch(picture: Picture, distance: float, rng: np.random.Generator) -> Planted:
    """A round patch that shows what lies beside it: to the left, right, above or below.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        distance: How far away; rounded to whole pixels, so that nothing is interpolated.
        rng: Draws place and direction.
    """
    diameter, steps = DISPLACED_SHARE * min(picture.shape[:2]), max(1, round(distance))
    site = _site(rng, picture.shape, diameter + 1)
    moves = [(steps, 0), (-steps, 0), (0, steps), (0, -steps)]
    for move in rng.permutation(moves).tolist():
        rows, columns = (_moved(part, by) for part, by in zip((site.rows, site.columns), move, strict=True))
        if (
            min(rows.start, columns.start) >= 0
            and rows.stop <= len(picture)
            and columns.stop <= picture.shape[1]
        ):
            return _pasted(picture, site, picture[rows, columns], _disc(site, diameter), steps)
    raise ValueError(f"no patch of a {_text(picture.shape)} picture has another one {steps} pixels beside it")


def swapped_patch(picture: Picture, other: Picture, diameter: float, rng: np.random.Generator) -> Planted:
    """A round patch that shows a random place of another picture.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        other: Where the patch comes from, of any size.
        diameter: Of the patch; at least 1.
        rng: Draws both places.
    """
    site, source = (_site(rng, one.shape, diameter + 1) for one in (picture, other))
    return _pasted(picture, site, other[source.rows, source.columns], _disc(site, diameter), diameter)


def _site(rng: np.random.Generator, shape: tuple[int, ...], extent: float) -> _Site:
    """A random window that holds what extends so far, wherever in the middle pixel its centre falls."""
    side = math.ceil(extent) + 2
    if side > min(shape[:2]):
        raise ValueError(f"a defect of {extent:.3g} pixels does not fit into a picture of {_text(shape)}")
    top, left = (int(rng.integers(length - side + 1)) for length in shape[:2])
    axis = np.arange(side) - (side - 1) / 2
    down, right = np.meshgrid(*(axis - rng.uniform(-0.5, 0.5, 2)[:, None]), indexing="ij")
    return _Site(
        slice(top, top + side), slice(left, left + side), down.astype(np.float32), right.astype(np.float32)
    )


def _disc(site: _Site, diameter: float) -> Field:
    """Share of each pixel that a disc covers.

    An edge one pixel wide adds to the area what a radius of ``sqrt(r**2 - 1/12)`` takes away.
    """
    radius = math.sqrt(diameter**2 / 4 - 1 / 12)
    return np.asarray(np.clip(radius + 0.5 - np.hypot(site.down, site.right), 0.0, 1.0), dtype=np.float32)


def _shaded(picture: Picture, site: _Site, inside: Field, contrast: float, size: float) -> Planted:
    """The picture lighter or darker where the defect is."""
    window = picture[site.rows, site.columns]
    brightness = float((window.mean(axis=2) * inside).sum() / max(float(inside.sum()), 1e-6))
    change = contrast if brightness < 0.5 else -contrast
    return _pasted(picture, site, np.clip(window + np.float32(change), 0.0, 1.0), inside, size)


def _pasted(picture: Picture, site: _Site, content: Picture, inside: Field, size: float) -> Planted:
    """The picture with other content in a window, where and as far as the defect covers it."""
    planted = picture.copy()
    window = planted[site.rows, site.columns]
    window += inside[..., None] * (content - window)
    return Planted(planted, float(size))


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
