"""The layout of the AITEX fabric images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from subspect.datasets.reading import draw_fifth, images_in, masks_by_stem, subfolders
from subspect.datasets.table import Sample, Table

TREE = (
    "NoDefect_images/FABRIC/NAME.png, Defect_images/NAME.png, Mask_images/NAME_mask.png (also _mask1, _mask2)"
)

_CATEGORY = "aitex"
_MASK_LEVEL = 127  # the masks' outlines are smoothed


def read_aitex(root: Path, seed: int) -> Table:
    """Reads the data set, which has no split of its own, as one category.

    A fifth of each fabric's normal images, drawn by seed, is tested on, and all defective images. The kind
    of defect is the number in the middle of their names (``0001_002_00.png``: ``002``).

    Args:
        root: Holds ``NoDefect_images``, ``Defect_images`` and ``Mask_images``.
        seed: Draws the normal images to test on.
    """
    samples = (*_normal_samples(root / "NoDefect_images", seed), *_defective_samples(root))
    return Table(samples, "aitex", root)


def _normal_samples(folder: Path, seed: int) -> Iterator[Sample]:
    for fabric in subfolders(folder):
        paths = images_in(fabric)
        tested = draw_fifth(paths, seed)
        for path in paths:
            yield Sample(path, "test" if path in tested else "train", _CATEGORY)


def _defective_samples(root: Path) -> Iterator[Sample]:
    masks = masks_by_stem(root / "Mask_images")
    for path in images_in(root / "Defect_images"):
        match = re.fullmatch(r"\d+_(\d+)_\d+", path.stem)
        defect = match[1] if match else "defect"
        yield Sample(path, "test", _CATEGORY, defect, masks.get(path.stem, ()), _MASK_LEVEL)
