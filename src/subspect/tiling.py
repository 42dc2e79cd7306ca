"""Tiling: large pictures looked at in overlapping tiles, what is found in each blended into one.

With NumPy alone, since exported detectors look at tiles, too.

The map of a picture is the weighted mean of the maps of its tiles: wherever tiles overlap, one fades out
towards its edge, where it shows little of what is around, as its neighbour fades in. The score of a picture is
that of its most anomalous tile, so every detector scores as it always does. A tile finds whatever lies within
it; therefore a defect across the edge of one scores in its neighbour as it would in the middle, provided that
tiles overlap by what a score takes together (21 pixels at most, of the size that the detector sees).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ScalarT = TypeVar("ScalarT", bound=np.generic)
Window = tuple[slice, slice]
Look = Callable[[Sequence[FloatArray]], Sequence[FloatArray]]
Score = Callable[[Sequence[FloatArray]], Sequence[tuple[FloatArray, float]]]

PICTURES_AT_ONCE = TILES_AT_ONCE = 8
"""What a detector is given at once. It bounds the memory of inspecting, besides a picture and its map."""


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut up.

    Attributes:
        tile: Height and width of the tiles, in pixels of the picture.
        overlap: How many pixels neighbouring tiles share, at least.
    """

    tile: tuple[int, int]
    overlap: int

    def __post_init__(self) -> None:
        if min(self.tile) < 1 or not 0 <= self.overlap < min(self.tile):
            raise ValueError(
                f"tiles have at least one pixel and overlap by less than their shorter side, got {self}"
            )

    def __str__(self) -> str:
        return f"tiles of {self.tile[0]}x{self.tile[1]} pixels with an overlap of {self.overlap}"


def make_tiling(tile: int | tuple[int, int] | None, overlap: int | None = None) -> Tiling | None:
    """What a user says of tiles: none without a ``tile``; one number for squares.

    Raises:
        ValueError: There is an overlap without a tile, or the tiles cannot be.
    """
    if tile is None:
        if overlap is not None:
            raise ValueError("an overlap belongs to tiles; give the size of a tile, too")
        return None
    height, width = (tile, tile) if isinstance(tile, int) else tile
    return Tiling((height, width), min(height, width) // 4 if overlap is None else overlap)


class Tile(NamedTuple):
    """One tile of a picture.

    Attributes:
        window: Its rows and columns.
        row_shares: ``(h,)``; its share in the pixel (i, j) is ``row_shares[i]·column_shares[j]``.
        column_shares: ``(w,)``.
    """

    window: Window
    row_shares: FloatArray
    column_shares: FloatArray


def pictures_at_once(tiling: Tiling | None) -> int:
    """How many pictures to read at once: tiled ones are large, and fill batches of their own."""
    return PICTURES_AT_ONCE if tiling is None else 1


def pad_to_tile(picture: npt.NDArray[ScalarT], tiling: Tiling) -> npt.NDArray[ScalarT]:
    """A picture ``(H, W, 3)`` or mask ``(H, W)``, reflected at its edges where it is smaller than a tile."""
    missing = [max(0, side - length) for length, side in zip(picture.shape[:2], tiling.tile, strict=True)]
    if not any(missing):
        return picture
    widths = [(0, missing[0]), (0, missing[1]), (0, 0)][: picture.ndim]
    return np.pad(picture, widths, mode="reflect")


def lay_tiles(size: tuple[int, int], tiling: Tiling) -> list[Tile]:
    """The tiles of a picture of at least their size, row by row.

    Together they show every pixel, and at every pixel their shares sum to 1. They are spread evenly, so they
    may overlap by more than is asked for.
    """
    rows, columns = (_along(*lengths, tiling.overlap) for lengths in zip(size, tiling.tile, strict=True))
    return [
        Tile((row, column), row_shares, column_shares)
        for row, row_shares in rows
        for column, column_shares in columns
    ]


def blend_tiles(look: Look, picture: FloatArray, tiling: Tiling) -> FloatArray:
    """What is seen in a picture, from what is seen in its tiles.

    Args:
        look: From up to ``TILES_AT_ONCE`` tiles ``(h, w, 3)`` to what is seen in each, ``(h, w)`` or
            ``(h, w, C)``.
        picture: ``(H, W, 3)``; one that is smaller than a tile is extended for looking.
        tiling: How it is cut up.

    Returns:
        ``(H, W)`` or ``(H, W, C)``.
    """
    height, width = picture.shape[:2]
    padded = pad_to_tile(picture, tiling)
    size = (padded.shape[0], padded.shape[1])
    tiles = lay_tiles(size, tiling)
    blended: FloatArray | None = None
    for start in range(0, len(tiles), TILES_AT_ONCE):
        batch = tiles[start : start + TILES_AT_ONCE]
        for tile, seen in zip(batch, look([padded[tile.window] for tile in batch]), strict=True):
            if blended is None:
                blended = np.zeros((*size, *seen.shape[2:]), np.float32)
            shares = np.outer(tile.row_shares, tile.column_shares)
            blended[tile.window] += shares.reshape(*shares.shape, *[1] * (seen.ndim - 2)) * seen
    assert blended is not None
    return blended[:height, :width]


def score_tiles(score: Score, picture: FloatArray, tiling: Tiling) -> tuple[FloatArray, float]:
    """The anomaly map ``(H, W)`` and the score of a picture, from those of its tiles.

    Args:
        score: From up to ``TILES_AT_ONCE`` tiles ``(h, w, 3)`` to the map ``(h, w)`` and the score of each.
        picture: ``(H, W, 3)``.
        tiling: How it is cut up.
    """
    scores: list[float] = []

    def look(tiles: Sequence[FloatArray]) -> list[FloatArray]:
        scored = score(tiles)
        scores.extend(one for _, one in scored)
        return [anomaly_map for anomaly_map, _ in scored]

    return blend_tiles(look, picture, tiling), max(scores)


def _along(length: int, tile: int, overlap: int) -> list[tuple[slice, FloatArray]]:
    """Where the tiles along a side lie, and the shares ``(tile,)`` that each has in its pixels.

    The shares are in proportion to the distance from the tile's nearer edge; those of the picture do not count.
    """
    steps = math.ceil((length - tile) / (tile - overlap))
    starts = [step * (length - tile) // steps for step in range(steps + 1)] if steps else [0]
    places = [slice(start, start + tile) for start in starts]
    distances = [_distances(place, length) for place in places]
    total = np.zeros(length)
    for place, distance in zip(places, distances, strict=True):
        total[place] += distance
    return [
        (place, (distance / total[place]).astype(np.float32))
        for place, distance in zip(places, distances, strict=True)
    ]


def _distances(place: slice, length: int) -> npt.NDArray[np.float64]:
    """Of each pixel of a tile from the nearer of its edges inside the picture; its length without one."""
    tile = place.stop - place.start
    distance = np.full(tile, float(tile))
    if place.start > 0:
        distance = np.minimum(distance, np.arange(1, tile + 1))
    if place.stop < length:
        distance = np.minimum(distance, np.arange(tile, 0, -1))
    return distance
