"""Memory and processor time of inspecting one large picture in tiles, reading and drawing included.

    python benchmarks/high_resolution.py DETECTOR HEIGHTxWIDTH TILE

DETECTOR is a run or an export, whatever it was trained on. The picture is noise around mid-grey, and the
threshold 0, so that all of it is outlined.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import subspect
from subspect.cli.values import image_size
from subspect.images import read_image
from subspect.inspection.inspecting import draw_inspection
from subspect.pictures import save_picture
from subspect.tiling import TILES_AT_ONCE, lay_tiles, make_tiling


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path, help="folder of a run, detector or export")
    parser.add_argument("size", type=image_size, help="of the picture: HEIGHTxWIDTH")
    parser.add_argument("tile", type=int, help="side of the tiles")
    given = parser.parse_args()
    measure(given.detector, given.size, given.tile)


def measure(detector: Path, size: tuple[int, int], tile: int) -> None:
    """Inspects noise of a size."""
    inspector = subspect.load(detector, tile=tile, threshold=0.0)
    tiling = make_tiling(tile)
    assert tiling is not None
    inspector.score([np.full((tile, tile + (TILES_AT_ONCE - 1) * (tile - tiling.overlap), 3), 0.5, np.float32)])
    print(f"{_peak():.2f} GB: detector, {TILES_AT_ONCE} tiles at once")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.png"
        _write_noise(path, size)
        started = time.process_time()
        picture = read_image(path)
        print(f"{_peak():.2f} GB: picture read, {time.process_time() - started:.0f} s")
        started = time.process_time()
        inspection = inspector(picture)
        seconds = time.process_time() - started
        print(f"{_peak():.2f} GB: {len(lay_tiles(size, tiling))} {tiling}, {seconds:.0f} s")
        started = time.process_time()
        save_picture(Path(folder) / "drawn.png", draw_inspection(picture, inspection, inspector.map_threshold))
        print(f"{_peak():.2f} GB: drawn and written, {time.process_time() - started:.0f} s")


def _write_noise(path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(120, 136, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, compress_level=1)


def _peak() -> float:
    """The most memory that the process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
