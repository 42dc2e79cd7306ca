"""The layout of KolektorSDD2."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from subspect.datasets.reading import LayoutError, images_in, listed
from subspect.datasets.table import NORMAL, Sample, Split, Table
from subspect.images import ImageError, read_mask

TREE = "{train,test}/10000.png with its mask 10000_GT.png beside it"

_MASK_ENDING = "_GT"
_MASK_LEVEL = 0


def read_ksdd2(root: Path, seed: int) -> Table:
    """Reads the data set with the split it comes with; an image is normal if its mask is empty.

    The training split has anomalous images too. Which of them are taken as annotated is drawn by seed
    (``take_anomalies``) and not read from the ``split_weakly_*.pyb`` files: those are pickles.

    Args:
        root: Holds ``train`` and ``test``.
        seed: Not used.

    Raises:
        LayoutError: There are masks, but some images have none; the message lists them.
    """
    with ThreadPoolExecutor() as pool:
        samples = [sample for split in ("train", "test") for sample in _read(root / split, split, pool)]
    return Table(tuple(samples), "ksdd2", root)


def _read(folder: Path, split: Split, pool: ThreadPoolExecutor) -> Iterator[Sample]:
    files = images_in(folder)
    masks = {path.with_stem(path.stem.removesuffix(_MASK_ENDING)): path for path in files if _is_mask(path)}
    if not masks:
        return
    images = [path for path in files if not _is_mask(path)]
    lacking = [path for path in images if path not in masks]
    if lacking:
        raise LayoutError(f"{folder}: {len(lacking)} images have no mask beside them: {listed(lacking)}")
    defective = pool.map(_is_defective, [masks[path] for path in images])
    for path, anomalous in zip(images, defective, strict=True):
        if anomalous:
            yield Sample(path, split, "ksdd2", "defect", (masks[path],), _MASK_LEVEL)
        else:
            yield Sample(path, split, "ksdd2", NORMAL)


def _is_mask(path: Path) -> bool:
    return path.stem.endswith(_MASK_ENDING)


def _is_defective(mask: Path) -> bool:
    """Whether a mask marks anything; an unreadable one counts, so that checking the files finds it."""
    try:
        return bool(read_mask([mask], _MASK_LEVEL).any())
    except ImageError:
        return True
