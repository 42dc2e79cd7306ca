"""Data sets: each layout a function from a folder to one table of samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from subspect.datasets import aitex, btad, folder, ksdd2, magnetic_tile, mvtec_ad, visa
from subspect.datasets.reading import LayoutError, listed
from subspect.datasets.table import Table

LAYOUTS: dict[str, Callable[[Path, int], Table]] = {
    "mvtec_ad": mvtec_ad.read_mvtec_ad,
    "ksdd2": ksdd2.read_ksdd2,
    "visa": visa.read_visa,
    "btad": btad.read_btad,
    "magnetic_tile": magnetic_tile.read_magnetic_tile,
    "aitex": aitex.read_aitex,
    "folder": folder.read_folder,
}

TREES: dict[str, str] = {
    "mvtec_ad": mvtec_ad.TREE,
    "ksdd2": ksdd2.TREE,
    "visa": visa.TREE,
    "btad": btad.TREE,
    "magnetic_tile": magnetic_tile.TREE,
    "aitex": aitex.TREE,
    "folder": folder.TREE,
}


def read_table(root: Path, layout: str, seed: int = 0, category: str | None = None) -> Table:
    """Reads a data set into a table of samples.

    Args:
        root: Folder of the data set.
        layout: Name of its layout, one of ``LAYOUTS``.
        seed: Draws the split where the layout has none of its own.
        category: Read only this category.

    Returns:
        The table; each of its categories has normal images to train on.

    Raises:
        LayoutError: Unknown layout, no such folder, no images, no normal training images, or a tree that does
            not fit the layout, in which case the message names the layouts that do fit.
        ValueError: No such category; the message lists those that exist.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise LayoutError(f"{root}: no such folder")
    table = LAYOUTS[layout](root, seed)
    if not len(table):
        raise LayoutError(
            f"{root}: no images found as layout {layout}, which looks for {TREES[layout]}{_hint(root)}"
        )
    _check_not_a_data_set(root, layout)
    table = table.select(category=category)
    _check_normals(table)
    return table


def _hint(root: Path) -> str:
    fitting = fitting_layouts(root)
    return f"; the folder fits layout {' or '.join(fitting)}" if fitting else ""


def fitting_layouts(root: Path) -> list[str]:
    """Names of the layouts that find normal training images in a folder; ``folder`` only if no other does."""
    fitting = [layout for layout in LAYOUTS if layout != "folder" and _fits(root, layout)]
    return fitting or ["folder"] * _fits(root, "folder")


def _fits(root: Path, layout: str) -> bool:
    try:
        return len(LAYOUTS[layout](root, 0).select(split="train", anomalous=False)) > 0
    except LayoutError:
        return False


def _check_not_a_data_set(root: Path, layout: str) -> None:
    """Refuses to take a whole data set, defects and masks and all, for a folder of normal images."""
    fitting = fitting_layouts(root) if layout == "folder" else []
    if fitting and fitting != ["folder"]:
        raise LayoutError(
            f"{root}: not a folder of images alone, but a data set of layout {' or '.join(fitting)}"
        )


def _check_normals(table: Table) -> None:
    trained = set(table.select(split="train", anomalous=False).categories)
    lacking = [category for category in table.categories if category not in trained]
    if lacking:
        raise LayoutError(
            f"{table.root}: no normal training images of {listed(lacking)}; layout {table.layout} looks for"
            f" {TREES[table.layout]}"
        )
