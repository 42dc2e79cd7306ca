"""The pictures that an export is checked on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subspect.datasets.surfaces import DEFECTS, render
from subspect.datasets.table import NORMAL
from subspect.export.graph import Size
from subspect.images import read_image
from subspect.inspection import FloatArray, unit_rgb

_BUILT_IN = ("fabric", "metal", "brick")
_SIDE = 256


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
