"""A folder of one's own: normal images, and whatever defective images and masks there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from subspect.datasets.reading import (
    LayoutError,
    category_name,
    draw_fifth,
    images_in,
    listed,
    masks_by_stem,
    subfolders,
)
from subspect.datasets.table import Sample, Table
from subspect.images import MASK_FOLDERS

TREE = "images, or {normal,good}/, {defective,bad,anomalous}/ and masks/ with images in them"

NORMAL_NAMES = ("normal", "good")
DEFECTIVE_NAMES = ("defective", "bad", "anomalous")


def read_folder(root: Path, seed: int) -> Table:
    """Reads a folder of images as one category, named like the folder.

    - Normal images: those in ``ROOT/normal`` or ``ROOT/good``. Without such a folder, all images in ``ROOT``
      and below that are neither in the folder of defective ones nor in the one of masks; a folder with
      nothing but images needs nothing else.
    - Defective images, optional: those in ``ROOT/defective``, ``ROOT/bad`` or ``ROOT/anomalous``. A subfolder
      of it names the kind of defect, which is otherwise ``defective``.
    - Masks, optional: ``ROOT/masks/NAME.png`` or ``NAME_mask.png`` (any image format; also ``_mask1``,
      ``_mask2``, which are united) belongs to the defective image called ``NAME``; with kinds of defects,
      also ``ROOT/masks/KIND/NAME.png``. Grey values above 127 are defective. The folder may be called ``mask``
      or ``ground_truth``, too.

    These folders' names count in any case. Without defective images all normal ones are trained on; with
    them, a fifth of the normal ones, drawn by seed, is tested on together with all defective ones.

    Args:
        root: The folder.
        seed: Draws the normal images to test on.

    Raises:
        LayoutError: Two folders of one purpose; images that belong nowhere; a mask that fits several images.
    """
    normal, defective, masks = (_named(root, names) for names in (NORMAL_NAMES, DEFECTIVE_NAMES, MASK_FOLDERS))
    normals = _normal_images(root, normal, [folder for folder in (defective, masks) if folder])
    anomalous = list(_defective_samples(defective, masks, category_name(root))) if defective else []
    tested = draw_fifth(normals, seed) if anomalous else set()
    samples = [Sample(path, "test" if path in tested else "train", category_name(root)) for path in normals]
    return Table((*samples, *anomalous), "folder", root)


def _named(root: Path, names: tuple[str, ...]) -> Path | None:
    """The subfolder with one of these names, if there is one."""
    found = [folder for folder in subfolders(root) if folder.name.casefold() in names]
    if len(found) > 1:
        raise LayoutError(f"{root}: {listed(folder.name for folder in found)} say the same; keep one of them")
    return found[0] if found else None


def _normal_images(root: Path, normal: Path | None, others: list[Path]) -> list[Path]:
    outside = [path for path in images_in(root) if not any(path.is_relative_to(folder) for folder in others)]
    if normal is None:
        return outside
    stray = [path for path in outside if not path.is_relative_to(normal)]
    if stray:
        raise LayoutError(
            f"{root}: {len(stray)} images are neither in {normal.name} nor in a folder of defective images"
            f" ({', '.join(DEFECTIVE_NAMES)}) or of masks ({', '.join(MASK_FOLDERS)}): {listed(stray)}"
        )
    return outside


def _defective_samples(folder: Path, masks_folder: Path | None, category: str) -> Iterator[Sample]:
    masks = masks_by_stem(masks_folder) if masks_folder else {}
    taken: dict[tuple[Path, ...], Path] = {}
    for path in images_in(folder):
        inside = path.relative_to(folder)
        own = masks.get(inside.with_suffix("").as_posix()) or masks.get(path.stem, ())
        if own and own in taken:
            raise LayoutError(f"{own[0]}: this mask fits both {taken[own]} and {path}; rename one of them")
        taken[own] = path
        yield Sample(path, "test", category, _kind(inside), own)


def _kind(inside: Path) -> str:
    """The kind of defect of an image, given its path within the folder of defective ones."""
    return "defective" if len(inside.parts) == 1 else inside.parts[0]
