"""The layout of VisA as its tar unpacks."""

from __future__ import annotations

import csv
from pathlib import Path

from subspect.datasets.reading import LayoutError
from subspect.datasets.table import NORMAL, Sample, Split, Table

TREE = (
    "split_csv/1cls.csv, CATEGORY/Data/Images/{Normal,Anomaly}/0000.JPG, CATEGORY/Data/Masks/Anomaly/0000.png"
)

_COLUMNS = ("object", "split", "label", "image", "mask")
_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}


def read_visa(root: Path, seed: int) -> Table:
    """Reads the one-class split; categories that were not unpacked are left out.

    Masks number the kinds of damage, so that everything but zero is defective.

    Args:
        root: Holds ``split_csv`` and the categories' folders.
        seed: Not used.

    Raises:
        LayoutError: The split file lacks a column, or has a split other than train and test.
    """
    path = root / "split_csv" / "1cls.csv"
    if not path.is_file():
        return Table((), "visa", root)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise LayoutError(f"{path}: no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}")
        rows = list(reader)
    unknown = sorted({row["split"] for row in rows} - _SPLITS.keys())
    if unknown:
        raise LayoutError(f"{path}: split {', '.join(unknown)}; expected train or test")
    samples = [_sample(root, row) for row in rows if (root / row["object"]).is_dir()]
    return Table(tuple(samples), "visa", root)


def _sample(root: Path, row: dict[str, str]) -> Sample:
    path, split, category = root / row["image"], _SPLITS[row["split"]], row["object"]
    if row["label"] == "normal":
        return Sample(path, split, category, NORMAL)
    masks = (root / row["mask"],) if row["mask"] else ()
    return Sample(path, split, category, row["label"], masks, mask_level=0)
