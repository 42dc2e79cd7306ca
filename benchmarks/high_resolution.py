"""Memory and processor time of inspecting one large picture in tiles, reading and drawing included.

Run ``python benchmarks/high_resolution.py DETECTOR HEIGHTxWIDTH``: a run trained with ``--tile``, or its
export. The picture is noise around mid-grey.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import subspect
from subspect.inspection import inspect_files
from subspect.tiling import TILES_AT_ONCE, lay_tiles


def main(detector: str, size: tuple[int, int]) -> None:
    """Inspects noise of a size."""
    inspector = subspect.load(detector)
    assert inspector.tiling is not None, f"{detector} looks at whole pictures"
    height, width = inspector.tiling.tile
    inspector.score([np.full((height, width * TILES_AT_ONCE, 3), 0.5, np.float32)])
    print(f"{len(lay_tiles(size, inspector.tiling))} {inspector.tiling}")
    print(f"detector, and {TILES_AT_ONCE} tiles at once: {_peak():.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.png"
        noise = np.random.default_rng(0).integers(120, 136, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=1)
        del noise
        started = time.process_time()
        inspector(path)
        scored = time.process_time()
        print(f"with a picture read and scored: {_peak():.2f} GB, {scored - started:.0f} s")
        inspect_files(inspector, [path], Path(folder) / "found")
        drawing = time.process_time() - scored - (scored - started)
        print(f"and drawn: {_peak():.2f} GB, {drawing:.0f} s more")


def _peak() -> float:
    """The most memory that the process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    rows, columns = sys.argv[2].split("x")
    main(sys.argv[1], (int(rows), int(columns)))
