"""Does a defect across a seam score as without the seam?

A dark disc is planted into a strip of two tiles, on the middle of what they share, where each sees it
nearest to its edge. The score is compared with that of a tile which has the disc in its middle, for
overlaps of a quarter of a tile, an eighth, and none.

    python benchmarks/seams.py DETECTOR PICTURES TILE

DETECTOR is a run or an export, PICTURES a folder of normal pictures, of which the first that are large enough
serve: as high as a tile and as wide as two.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from subspect.images import decode, find_images, read_image
from subspect.inspection.inspecting import FloatArray, Inspector
from subspect.loading import load
from subspect.tiling import Tiling, score_tiles

PICTURES = 8
RADII = (4, 12)
DEPTH = 0.3


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path, help="folder of a run, detector or export")
    parser.add_argument("pictures", type=Path, help="folder of normal pictures")
    parser.add_argument("tile", type=int, help="side of the tiles")
    given = parser.parse_args()
    large = (path for path in find_images(given.pictures) if _is_large(path, given.tile))
    pictures = [read_image(path) for path in islice(large, PICTURES)]
    if not pictures:
        parser.error(f"{given.pictures} has no pictures of at least {given.tile}x{2 * given.tile} pixels")
    compare(load(given.detector, tile=given.tile, threshold=0.0), pictures, given.tile)


def compare(inspector: Inspector, pictures: list[FloatArray], tile: int) -> None:
    """Prints, for each size of the disc and each overlap, how the scores compare."""
    for radius in RADII:
        for overlap in (tile // 4, tile // 8, 0):
            tiling = Tiling((tile, tile), overlap)
            ratios = [_ratio(inspector, picture, tiling, radius) for picture in pictures]
            print(
                f"radius {radius}, overlap {overlap}: score across a seam relative to that without:"
                f" median {np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} times"
            )


def _is_large(path: Path, tile: int) -> bool:
    height, width = decode(path).pixels.shape[:2]
    return height >= tile and width >= 2 * tile


def _ratio(inspector: Inspector, picture: FloatArray, tiling: Tiling, radius: int) -> float:
    """The score with the disc across the seam, as a share of that with the disc in the middle of a tile."""
    height, width = tiling.tile
    strip = picture[:height, : 2 * width - tiling.overlap].copy()
    y, x = (np.arange(side) - (side - 1) / 2 for side in strip.shape[:2])
    strip[y[:, None] ** 2 + x**2 <= radius**2] -= DEPTH
    strip = strip.clip(0, 1)
    left = (strip.shape[1] - width) // 2
    (without,) = inspector.score([strip[:, left : left + width]])
    return score_tiles(inspector.score, strip, tiling)[1] / without.score


if __name__ == "__main__":
    main()
