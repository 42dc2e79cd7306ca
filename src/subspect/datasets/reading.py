"""What several layouts share: folders within a folder, masks found by name, a seeded share of the normals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from subspect.images import find_images, natural_order


class LayoutError(ValueError):
    """A folder that does not hold what its layout says; the message names what was looked for."""


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly within a folder, in natural order; none if it does not exist."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=natural_order)


def category_folders(root: Path, marker: str) -> list[Path]:
    """The folders of a data set's categories: those that hold ``marker``, among them ``root`` itself.

    So that ``ROOT`` may be a whole data set as well as one category of it.
    """
    return [folder for folder in (root, *subfolders(root)) if (folder / marker).is_dir()]


def category_name(folder: Path) -> str:
    """The name of a category's folder, also when it is given as ``.``."""
    return folder.resolve().name


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and below; none if it does not exist."""
    return find_images(folder) if folder.is_dir() else []


def masks_by_stem(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The masks in a folder and below by the name of the image they belong to.

    A mask is called like its image, ``_mask`` and a number allowed behind (``3.png``, ``3_mask.png``,
    ``3_mask2.png`` all belong to ``3``); in a subfolder its name is the path, ``scratch/3``.

    Raises:
        LayoutError: A file is called ``_mask`` and nothing else.
    """
    masks: dict[str, tuple[Path, ...]] = {}
    for path in images_in(folder):
        stem = re.sub(r"_mask\d*$", "", path.stem)
        if not stem:
            raise LayoutError(f"{path}: a mask is named like its image, and this one names none; rename it")
        name = path.relative_to(folder).with_name(stem).as_posix()
        masks[name] = (*masks.get(name, ()), path)
    return masks


def draw_fifth(paths: Sequence[Path], seed: int) -> set[Path]:
    """A seeded fifth of the normal images, for layouts without a split of their own.

    At least one is drawn, but never the last one left to train on.
    """
    count = min(max(1, round(len(paths) / 5)), len(paths) - 1)
    order = np.random.default_rng(seed).permutation(len(paths))
    return {paths[index] for index in order[: max(count, 0)]}


def listed(names: Iterable[object], limit: int = 10) -> str:
    """The first of many names, comma-separated, and how many more there are."""
    everything = [str(name) for name in names]
    more = len(everything) - limit
    return ", ".join(everything[:limit]) + (f" and {more} more" if more > 0 else "")
