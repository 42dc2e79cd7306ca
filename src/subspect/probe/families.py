"""The families of defects that a probe plants: each is one kind at one contrast, graded in one quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subspect.datasets.surfaces.drawing import Picture
from subspect.probe import planting
from subspect.probe.planting import Planted

Plant = Callable[[Picture, Picture, float, np.random.Generator], Planted]
"""Plants into a picture, given another normal one, the size, and a source of randomness."""


@dataclass(frozen=True, slots=True)
class Family:
    """Defects that differ in size only.

    Attributes:
        name: For people; unique.
        quantity: What is called size, in pixels.
        smallest: Size to begin with, over the shorter side of the smallest picture.
        largest: Size to end with, likewise.
        least: In pixels; smaller ones are not planted even into small pictures.
        plant: What plants them.
    """

    name: str
    quantity: str
    smallest: float
    largest: float
    least: float
    plant: Plant

    def ladder(self, side: int, count: int) -> npt.NDArray[np.float64]:
        """``count`` sizes, evenly spaced in their logarithm, for pictures ``side`` pixels short."""
        return np.geomspace(max(self.least, self.smallest * side), self.largest * side, count)


def make_families(contrasts: Sequence[float]) -> tuple[Family, ...]:
    """Spots and scratches of each contrast, and the families near the normal distribution.

    Args:
        contrasts: In (0, 1], of the range from black to white.

    Raises:
        ValueError: There are none, one is out of range, or there twice.
    """
    if not contrasts or not all(0 < contrast <= 1 for contrast in contrasts):
        raise ValueError(f"contrasts lie above 0 and are at most 1 (black to white), got {list(contrasts)}")
    if len(set(contrasts)) < len(contrasts):
        raise ValueError(f"each contrast is probed once, got {list(contrasts)}")
    return (
        *(_spots(contrast) for contrast in contrasts),
        *(_scratches(contrast) for contrast in contrasts),
        Family("warp", "shift", 1 / 1024, 1 / 16, 0.25, lambda picture, _, *how: planting.warp(picture, *how)),
        Family(
            "displaced patch",
            "distance",
            1 / 256,
            1 / 4,
            1.0,
            lambda picture, _, *how: planting.displaced_patch(picture, *how),
        ),
        Family("swapped patch", "diameter", 1 / 128, 1 / 2, 2.0, planting.swapped_patch),
    )


def _spots(contrast: float) -> Family:
    def plant(picture: Picture, _: Picture, size: float, rng: np.random.Generator) -> Planted:
        return planting.spot(picture, size, contrast, rng)

    return Family(f"spot, contrast {contrast:g}", "diameter", 1 / 256, 1 / 4, 1.0, plant)


def _scratches(contrast: float) -> Family:
    def plant(picture: Picture, _: Picture, size: float, rng: np.random.Generator) -> Planted:
        return planting.scratch(picture, size, contrast, rng)

    return Family(f"scratch, contrast {contrast:g}", "length", 1 / 128, 1 / 2, 2.0, plant)
