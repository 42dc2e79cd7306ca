"""The pictures that a folder stands for: all of them, or the normal ones; masks are none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from subspect.datasets import read_table
from subspect.images import find_images, is_in_masks

logger = logging.getLogger("subspect")


def pictures_in(folder: Path) -> list[Path]:
    """The images in a folder and below, but for masks; says how many were left out."""
    found = find_images(folder)
    return _kept_of(found, [path for path in found if not is_in_masks(path, folder)], folder, "masks")


def normal_pictures_in(folder: Path) -> list[Path]:
    """The normal images of a folder, as training reads it (layout ``folder``); says how many were left out.

    Raises:
        LayoutError: Training would refuse the folder, so that nothing says which of its images are normal.
    """
    normal = [sample.path for sample in read_table(folder, "folder") if not sample.anomalous]
    kept = [path for path in normal if not is_in_masks(path, folder)]
    return _kept_of(find_images(folder), kept, folder, "masks, defective ones")


def _kept_of(found: Sequence[Path], kept: list[Path], folder: Path, what: str) -> list[Path]:
    """Those kept, after saying how many of a folder's images were left out."""
    if left_out := len(found) - len(kept):
        logger.info("%s: %d of %d images left out (%s)", folder, left_out, len(found), what)
    return kept
