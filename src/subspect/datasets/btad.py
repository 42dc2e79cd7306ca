"""The layout of BTAD (beanTech anomaly detection)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from subspect.datasets.reading import category_folders, category_name, images_in, masks_by_stem
from subspect.datasets.table import Sample, Table

TREE = "[CATEGORY/]train/ok/0000.bmp, test/{ok,ko}/0000.bmp, ground_truth/ko/0000.png"


def read_btad(root: Path, seed: int) -> Table:
    """Reads a data set, or one category of it, with the split it comes with.

    The only kind of defect is ``ko``.

    Args:
        root: Holds the categories' folders, or ``train`` and ``test`` themselves.
        seed: Not used.
    """
    samples = [sample for folder in category_folders(root, "train/ok") for sample in _read(folder)]
    return Table(tuple(samples), "btad", root)


def _read(folder: Path) -> Iterator[Sample]:
    category = category_name(folder)
    for path in images_in(folder / "train" / "ok"):
        yield Sample(path, "train", category)
    for path in images_in(folder / "test" / "ok"):
        yield Sample(path, "test", category)
    masks = masks_by_stem(folder / "ground_truth" / "ko")
    for path in images_in(folder / "test" / "ko"):
        yield Sample(path, "test", category, "ko", masks.get(path.stem, ()))
