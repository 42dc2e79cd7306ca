"""What all surfaces are drawn with: coordinates, soft edges, smooth noise, irregular patches, scenes.

Lengths are given in points: 1/256 of the picture's side, whatever its size in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Field = npt.NDArray[np.float32]
"""One value a pixel, ``(H, W)``."""
Picture = npt.NDArray[np.float32]
"""Colours ``(H, W, C)``, C = 1 (grey) or 3 (RGB), 0 = black, 1 = white."""
Mask = npt.NDArray[np.bool_]

POINTS = 256.0
"""Points along a picture's side."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A defect-free surface as drawn, before the camera sees it.

    Attributes:
        picture: Its colours.
        light: Direction the light comes from, radians; 0 = from the right, pi/2 = from below.
        material: 1 where there is surface that a defect can hit, 0 on the background.
    """

    picture: Picture
    light: float
    material: Field

    @property
    def size(self) -> int:
        """Side of the picture in pixels."""
        return int(self.picture.shape[0])

    def hit(self, picture: Picture) -> Picture:
        """Keeps of another picture only what falls on the material, and the scene's own background."""
        material = self.material[..., None]
        return np.asarray(self.picture + material * (picture - self.picture), dtype=np.float32)


S = TypeVar("S", bound=Scene)


@dataclass(frozen=True)
class Surface(Generic[S]):
    """A kind of surface.

    Attributes:
        scene: Draws a normal one from a random generator, the side in pixels, and whether it is for training.
        defects: Kind of defect -> function that draws the scene again with such a defect.
    """

    scene: Callable[[np.random.Generator, int, bool], S]
    defects: Mapping[str, Callable[[S, np.random.Generator], Picture]]


def grid(size: int) -> tuple[Field, Field]:
    """Coordinates x (rightwards) and y (downwards) of the pixel centres in points, each ``(size, size)``."""
    axis = ((np.arange(size) + 0.5) * POINTS / size).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below ``low``, 1 above ``high``, a cubic without kinks between (``low`` may be the greater one)."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def blur(field: Field, points: float) -> Field:
    """Gaussian blur of a field, standard deviation in points."""
    return np.asarray(ndimage.gaussian_filter(field, points * field.shape[0] / POINTS, mode="nearest"))


def smooth_noise(rng: np.random.Generator, size: int, length: float, across: float | None = None) -> Field:
    """Smooth random field with mean about 0 and standard deviation about 1.

    Args:
        rng: Source of randomness.
        size: Side in pixels.
        length: Distance over which the values become unrelated, in points, along x.
        across: The same along y; left out = the same as along x.
    """
    columns = int(POINTS / length) + 4
    rows = int(POINTS / (across or length)) + 4
    coarse = rng.normal(size=(rows, columns)).astype(np.float32)
    box = (1.0, 1.0, 1.0 + POINTS / length, 1.0 + POINTS / (across or length))
    fine = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=box))
    return np.asarray(fine * 1.4, dtype=np.float32)  # interpolation takes about 30 % off the deviation


def place(rng: np.random.Generator, material: Field, margin: float) -> tuple[float, float]:
    """A random point (x, y) on the material, at least ``margin`` points from the border of the picture."""
    size = material.shape[0]
    border = round(margin * size / POINTS)
    inner = material[border : size - border, border : size - border] > 0.5
    rows, columns = np.nonzero(inner)
    chosen = rng.integers(len(rows))
    return (
        float((columns[chosen] + border + 0.5) * POINTS / size),
        float((rows[chosen] + border + 0.5) * POINTS / size),
    )


def patch(rng: np.random.Generator, scene: Scene, radius: float, raggedness: float) -> Field:
    """An irregular patch somewhere on the material: 1 in its middle, 0 at its outline, negative outside.

    Args:
        rng: Source of randomness.
        scene: Where it goes.
        radius: Mean radius in points.
        raggedness: 0 = an ellipse; 0.5 = an outline like a spilt liquid.
    """
    x, y = grid(scene.size)
    centre_x, centre_y = place(rng, scene.material, min(radius * 0.8, 60.0))
    angle, stretch = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.5)
    along = ((x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)) / stretch
    across = (-(x - centre_x) * np.sin(angle) + (y - centre_y) * np.cos(angle)) * stretch
    rough = smooth_noise(rng, scene.size, radius * 0.8) + 0.4 * smooth_noise(rng, scene.size, radius * 0.25)
    return np.asarray(1.0 - np.hypot(along, across) / radius + raggedness * 0.6 * rough, dtype=np.float32)


def slope_towards(height: Field, light: float) -> Field:
    """How steeply a height field (points) falls towards the light: > 0 faces it, < 0 is turned away."""
    down, right = np.gradient(height * np.float32(height.shape[0] / POINTS))
    return np.asarray(-(right * np.cos(light) + down * np.sin(light)), dtype=np.float32)
