"""The pictures that an export is checked on, and those, or their tiles, that int8 takes its ranges from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from subspect.datasets.surfaces import DEFECTS, render
from subspect.datasets.table import NORMAL
from subspect.export.combinations import ExportOptions
from subspect.export.graph import Size
from subspect.images import ImageError, read_image
from subspect.inspection.inspecting import FloatArray, unit_rgb
from subspect.runs.data import held_out_images
from subspect.tiling import Tiling, lay_tiles, pad_to_tile

logger = logging.getLogger("subspect")

_BUILT_IN = ("fabric", "metal", "brick")
_SIDE = 256
_MOST_FOUND = 30  # pictures to check an export on that nobody named; both it and the detector inspect each
_MOST_PARTS = 300  # as many as NNCF takes at most unless told otherwise


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
    """Pictures as a graph is given them: whole, or some of the tiles of each; drawn at random, 300 at most.

    Raises:
        ImageError: A file cannot be read.
    """
    rng = np.random.default_rng(0)
    if len(paths) > _MOST_PARTS:
        paths = [paths[place] for place in sorted(rng.permutation(len(paths))[:_MOST_PARTS])]
    if tiling is None:
        return [Part(path) for path in paths]
    most = _MOST_PARTS // len(paths)
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


def choose_pictures(options: ExportOptions, provenance: Mapping[str, Any], size: Size | None) -> CheckPictures:
    """What to check an export on: the pictures named, or the best that can be found.

    The best are images that the detector's run held out, then the normal images that int8 is given, then
    built-in surfaces, which say little of how the export treats the detector's own; hence the warning.

    Args:
        options: With the pictures named, if any.
        provenance: Of the detector.
        size: That all must have; None for any.
    """
    if options.images:
        return CheckPictures(options.images, size, f"{len(options.images)} files given")
    for paths, what in (
        (held_out_images(provenance), "held-out images of the detector's run"),
        (options.normal_images, "of the normal images given"),
    ):
        if fitting := _fitting(paths, size):
            return CheckPictures(fitting, size, f"{len(fitting)} {what}")
    logger.warning(
        "no images that the detector's run held out were found%s, so it is checked on built-in surfaces,"
        " which the detector does not know; name pictures of its own surface by --images",
        f" of {size[0]}x{size[1]} pixels" if size else "",
    )
    return CheckPictures((), size, "built-in surfaces")


def _fitting(paths: Sequence[Path], size: Size | None) -> tuple[Path, ...]:
    """Some of the files, from all over the list, that can be read and have the size."""
    some = paths[:: max(1, len(paths) // _MOST_FOUND)][:_MOST_FOUND]
    return tuple(path for path in some if _fits(path, size))


def _fits(path: Path, size: Size | None) -> bool:
    try:
        return read_image(path).shape[:2] == size or size is None
    except ImageError:
        return False


def check_pictures(paths: Sequence[Path], size: Size | None, option: str) -> None:
    """Makes sure that pictures can be read and have the size, if there is one.

    Raises:
        ImageError: A file cannot be read.
        ValueError: One has another size; the message names the option by which it was given.
    """
    for path in paths:
        height, width = read_image(path).shape[:2]
        if size not in (None, (height, width)):
            raise ValueError(
                f"{path} has {height}x{width} pixels, but the export is to take {size[0]}x{size[1]} only: leave"
                f" out --size, or give {option} of that size"
            )


@dataclass(frozen=True)
class CheckPictures:
    """Pictures by name, read when they are needed.

    Attributes:
        paths: Files; none for built-in surfaces, normal and defective ones.
        size: Of the built-in ones; None makes them of several sizes.
        origin: What they are, for the report.
    """

    paths: tuple[Path, ...]
    size: Size | None
    origin: str

    def __iter__(self) -> Iterator[tuple[str, FloatArray]]:
        """Names and pictures ``(H, W, 3)``, RGB in [0, 1].

        Raises:
            ImageError: A file cannot be read.
        """
        for path in self.paths:
            yield str(path), read_image(path)
        if not self.paths:
            yield from self._surfaces()

    def _surfaces(self) -> Iterator[tuple[str, FloatArray]]:
        for number, surface in enumerate(_BUILT_IN):
            for kind in (NORMAL, DEFECTS[surface][0]):
                height, width = self.size or (_SIDE - 16 * number, _SIDE - 40 * number)
                shot = render(surface, kind, 0, seed=0, size=max(height, width, _SIDE))
                yield f"{surface} {kind}", unit_rgb(shot.image)[:height, :width]
