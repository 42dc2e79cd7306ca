"""The layout of the magnetic tile data set (Huang et al. 2018), and a split of it that does not leak."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from subspect.datasets.reading import LayoutError, images_in, listed, subfolders
from subspect.datasets.table import Sample, Split, Table

TREE = "MT_{Free,Blowhole,Break,Crack,Fray,Uneven}/Imgs/NAME.jpg with its mask NAME.png beside it"

BLOCKS = 20
TEST_BLOCKS = 4

_CATEGORY = "magnetic_tile"
_NORMAL_FOLDER = "MT_Free"
# A tile was shot about six times in a row: numbers rise by about 20 within a tile, by hundreds to the next.
_SHOTS = 6
_TILE_GAP = 200


def read_magnetic_tile(root: Path, seed: int) -> Table:
    """Reads the data set, which has no split of its own, and splits it by blocks of numbers.

    The shots of a tile, which are near-duplicates, bear neighbouring numbers. The normal images are sorted
    by number and cut into 20 contiguous blocks, of which 4 drawn by seed are tested on and 16 trained on.
    Each cut lies between two tiles: at the widest gap in the numbers near the even cut. A block is a group, its
    tiles are parts. All defective images are tested on; their groups are the tiles.

    Args:
        root: Holds the ``MT_*`` folders.
        seed: Draws the blocks.

    Raises:
        LayoutError: Images without a number in their name; the message lists them.
    """
    normals = _sort_by_number(_photographs(root / _NORMAL_FOLDER))
    samples = list(_normal_samples(normals, seed)) if normals else []
    kinds = [folder for folder in subfolders(root) if re.fullmatch("MT_.+", folder.name)]
    samples.extend(_defective_samples([folder for folder in kinds if folder.name != _NORMAL_FOLDER]))
    return Table(tuple(samples), "magnetic_tile", root)


def _photographs(folder: Path) -> list[Path]:
    """The pictures of a kind; the png files among them are masks."""
    return [path for path in images_in(folder / "Imgs") if path.suffix.lower() != ".png"]


def _sort_by_number(paths: Sequence[Path]) -> list[Path]:
    unnumbered = [path for path in paths if not re.search(r"\d+$", path.stem)]
    if unnumbered:
        raise LayoutError(f"no number at the end of these names, by which to split: {listed(unnumbered)}")
    return sorted(paths, key=_number)


def _number(path: Path) -> int:
    match = re.search(r"\d+$", path.stem)
    assert match is not None, "checked by _sort_by_number"
    return int(match[0])


def _normal_samples(normals: Sequence[Path], seed: int) -> Iterator[Sample]:
    cuts = _cuts_between_tiles([_number(path) for path in normals], min(BLOCKS, len(normals)))
    blocks = np.searchsorted(cuts, np.arange(len(normals)), side="right")
    tested = np.random.default_rng(seed).permutation(BLOCKS)[:TEST_BLOCKS]
    for path, block, tile in zip(normals, blocks, _tiles(normals), strict=True):
        split: Split = "test" if block in tested else "train"
        yield Sample(path, split, _CATEGORY, group=f"block {block:02d}", part=tile)


def _tiles(photographs: Sequence[Path]) -> list[str]:
    """The tile that each of these, sorted by number, shows."""
    names: list[str] = []
    previous = None
    for number in map(_number, photographs):
        same = previous is not None and number - previous <= _TILE_GAP
        names.append(names[-1] if same else f"tile {number}")
        previous = number
    return names


def _cuts_between_tiles(numbers: Sequence[int], blocks: int) -> list[int]:
    """Where the blocks after the first begin: the widest gap within a tile's shots of each even cut."""
    gaps = np.diff(numbers)
    cuts = []
    for block in range(1, blocks):
        even = round(block * len(numbers) / blocks)
        near = range(max(even - _SHOTS, 1), min(even + _SHOTS + 1, len(numbers)))
        cuts.append(max(near, key=lambda index: int(gaps[index - 1])))
    return sorted(set(cuts))


def _defective_samples(folders: Sequence[Path]) -> Iterator[Sample]:
    """By number over all kinds: a few tiles are filed under one kind in one shot, under another in the next."""
    photographs = _sort_by_number([path for folder in folders for path in _photographs(folder)])
    for path, tile in zip(photographs, _tiles(photographs), strict=True):
        mask = path.with_suffix(".png")
        masks = (mask,) if mask.exists() else ()
        defect = path.parent.parent.name.removeprefix("MT_").lower()
        yield Sample(path, "test", _CATEGORY, defect, masks, group=tile)
