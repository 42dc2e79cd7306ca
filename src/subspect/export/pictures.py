"""The pictures that an export is checked on, and those, or their tiles, that int8 takes its ranges from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from subspect.datasets.surfaces import DEFECTS, render
from subspect.datasets.table import NORMAL
from subspect.export.graph import Size
from subspect.images import read_image
from subspect.inspection import FloatArray, unit_rgb
from subspect.tiling import Tiling, lay_tiles, pad_to_tile

_BUILT_IN = ("fabric", "metal", "brick")
_SIDE = 256
_MOST_TILES = 300  # as many as NNCF takes at most unless told otherwise


class Part(NamedTuple):
    """A picture, or a tile of it.

    Attributes:
        path: The picture.
        tiling: How it is cut up; None for the whole of it.
        place: Number of the tile.
    """

    path: Path
    tiling: Tiling | None = None
    place: int = 0


def list_parts(paths: Sequence[Path], tiling: Tiling | None) -> list[Part]:
    """Pictures as a graph is given them: whole, or some of the tiles of each, drawn at random.

    Raises:
        ImageError: A file cannot be read.
    """
    if tiling is None:
        return [Part(path) for path in paths]
    rng, most = np.random.default_rng(0), max(1, _MOST_TILES // len(paths))
    counts = [len(_tiles_of(path, tiling)) for path in paths]
    return [
        Part(path, tiling, int(place))
        for path, count in zip(paths, counts, strict=True)
        for place in rng.permutation(count)[:most]
    ]


def read_part(part: Part) -> FloatArray:
    """A picture or tile ``(H, W, 3)``, RGB in [0, 1]."""
    return read_image(part.path) if part.tiling is None else _tiles_of(part.path, part.tiling)[part.place]


@lru_cache(maxsize=1)  # tiles of one picture are read one after the other
def _tiles_of(path: Path, tiling: Tiling) -> list[FloatArray]:
    picture = pad_to_tile(read_image(path), tiling)
    return [picture[tile.window] for tile in lay_tiles((picture.shape[0], picture.shape[1]), tiling)]


@dataclass(frozen=True)
class CheckPictures:
    """Pictures by name, read when they are needed.

    Attributes:
        paths: Files; none for built-in surfaces, normal and defective ones.
        size: Of the built-in ones; None makes them of several sizes.
    """

    paths: tuple[Path, ...]
    size: Size | None

    @property
    def origin(self) -> str:
        """What they are, for the report."""
        return f"{len(self.paths)} files given" if self.paths else "built-in surfaces"

    def __iter__(self) -> Iterator[tuple[str, FloatArray]]:
        """Names and pictures ``(H, W, 3)``, RGB in [0, 1].

        Raises:
            ImageError: A file cannot be read.
        """
        for path in self.paths:
            yield str(path), read_image(path)
        if not self.paths:
            yield from self._surfaces()

    def check(self, wanted: Size | None) -> None:
        """Makes sure that all can be read and have the wanted size, if there is one.

        Raises:
            ImageError: A file cannot be read.
            ValueError: One has another size.
        """
        for name, picture in self:
            if wanted is not None and picture.shape[:2] != wanted:
                raise ValueError(
                    f"{name} has {picture.shape[0]}x{picture.shape[1]} pixels, but the export is to take"
                    f" {wanted[0]}x{wanted[1]} only: leave out --size, or give --images of that size"
                )

    def _surfaces(self) -> Iterator[tuple[str, FloatArray]]:
        for number, surface in enumerate(_BUILT_IN):
            for kind in (NORMAL, DEFECTS[surface][0]):
                height, width = self.size or (_SIDE - 16 * number, _SIDE - 40 * number)
                shot = render(surface, kind, 0, seed=0, size=max(height, width, _SIDE))
                yield f"{surface} {kind}", unit_rgb(shot.image)[:height, :width]
