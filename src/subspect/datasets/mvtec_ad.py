"""The layout of MVTec AD, which MPDD and VisA after its converter share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from subspect.datasets.reading import category_folders, category_name, images_in, masks_by_stem, subfolders
from subspect.datasets.table import NORMAL, Sample, Table

TREE = "[CATEGORY/]train/good/000.png, test/{good,DEFECT}/000.png, ground_truth/DEFECT/000[_mask].png"


def read_mvtec_ad(root: Path, seed: int) -> Table:
    """Reads a data set, or one category of it, with the split it comes with.

    Args:
        root: Holds the categories' folders, or ``train`` and ``test`` themselves.
        seed: Not used.
    """
    samples = [sample for folder in category_folders(root, "train/good") for sample in _read(folder)]
    return Table(tuple(samples), "mvtec_ad", root)


def _read(folder: Path) -> Iterator[Sample]:
    category = category_name(folder)
    for path in images_in(folder / "train" / NORMAL):
        yield Sample(path, "train", category)
    for kind in subfolders(folder / "test"):
        masks = masks_by_stem(folder / "ground_truth" / kind.name)
        for path in images_in(kind):
            yield Sample(
                path, "test", category, kind.name, () if kind.name == NORMAL else masks.get(path.stem, ())
            )
