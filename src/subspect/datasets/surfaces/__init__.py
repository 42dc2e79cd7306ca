"""Built-in demo data: six surfaces with defects and exact masks, made from a seed, in ``mvtec_ad`` layout.

``brick``, ``gravel`` and ``grass`` are cut from CC0 photographs that scikit-image ships; ``metal``,
``fabric`` and ``flange`` are drawn. Each image has a random generator of its own, so that asking for more
never changes the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from subspect.datasets.surfaces.camera import Camera, changed, confine
from subspect.datasets.surfaces.drawing import Mask, Picture, Surface
from subspect.datasets.surfaces.fabric import FABRIC
from subspect.datasets.surfaces.flange import FLANGE
from subspect.datasets.surfaces.metal import METAL
from subspect.datasets.surfaces.photographs import BRICK, GRASS, GRAVEL
from subspect.datasets.table import NORMAL
from subspect.files import complete_folder

_SURFACES: dict[str, Surface[Any]] = {
    "brick": BRICK,
    "gravel": GRAVEL,
    "grass": GRASS,
    "metal": METAL,
    "fabric": FABRIC,
    "flange": FLANGE,
}
SURFACES: tuple[str, ...] = tuple(_SURFACES)
"""Names of the surfaces."""
DEFECTS: dict[str, tuple[str, ...]] = {name: tuple(surface.defects) for name, surface in _SURFACES.items()}
"""Surface -> the kinds of defect it is made with."""
PER_DEFECT = 8
"""Defective test images of each kind, unless another number is asked for."""
NEAR_DISTRIBUTION: frozenset[str] = frozenset({"warp", "missing", "displaced", "doubled_thread"})
"""Kinds that consist of the normal appearance, wrongly arranged; the others bring in something foreign."""

_SMALLEST, _LARGEST = 64, 2048
_DRAWN = 256  # smaller pictures are drawn at least this large and reduced, so that threads do not alias
_LEAST_AREA, _MOST_AREA, _LEAST_CHANGE = 0.001, 0.25, 10.0 / 255.0
_ATTEMPTS = 50
_README = """\
Demo data made by `subspect surfaces` (seed {seed}, {size} x {size} pixels), in the layout of MVTec AD.

Nothing here shows a real product. brick, gravel and grass are cut from photographs that scikit-image ships,
each dedicated to the public domain (CC0 1.0) by its author:
  brick   https://cc0textures.com/view.php?tex=Bricks25
  gravel  https://cc0textures.com/view.php?tex=Gravel04
  grass   https://www.deviantart.com/linolafett/art/Grass-01-434853879
metal, fabric and flange are drawn by a program, and so are all defects. These images are CC0 1.0 as well:
https://creativecommons.org/publicdomain/zero/1.0/

Training images of brick, gravel and grass come from the left half of the photograph, test images from its
right half. A mask (255 = defective) marks what the defect visibly changed; all other pixels are exactly those
of the same picture without the defect.
"""


@dataclass(frozen=True, slots=True)
class Rendering:
    """One shot.

    Attributes:
        image: 8 bit, ``(H, W)`` for the photographs, ``(H, W, 3)`` RGB for the drawn surfaces.
        normal: The same shot of the same surface without its defect, same light, same noise.
        mask: What the defect visibly changed, ``(H, W)``; empty for a normal shot.
    """

    image: npt.NDArray[np.uint8]
    normal: npt.NDArray[np.uint8]
    mask: Mask


def render(surface: str, kind: str, index: int, *, seed: int, size: int, training: bool = False) -> Rendering:
    """Makes one image of the demo data.

    Args:
        surface: One of ``SURFACES``.
        kind: ``good`` or one of the surface's ``DEFECTS``.
        index: Number of the image within its folder.
        seed: Seed of the whole data set.
        size: Side in pixels.
        training: Whether it is for the training split.
    """
    recipe = _SURFACES[surface]
    folder = f"{surface}/{'train' if training else 'test'}/{kind}"
    rng = np.random.default_rng([seed, zlib.crc32(folder.encode()), index])
    scene_rng, defect_rng, camera_rng = rng.spawn(3)
    factor = -(-_DRAWN // size)
    scene = recipe.scene(scene_rng, size * factor, training)
    normal = _reduce(scene.picture, factor)
    camera = Camera(camera_rng, size, normal.shape[2])
    seen = camera.see(normal)
    untouched = np.squeeze(camera.record(seen))
    if kind == NORMAL:
        return Rendering(untouched, untouched, np.zeros((size, size), dtype=np.bool_))
    for _ in range(_ATTEMPTS):
        drawn = recipe.defects[kind](scene, defect_rng)
        defective = camera.see(_reduce(drawn, factor))
        mask = changed(seen, defective)
        if _sensible(seen, defective, mask):
            image = camera.record(confine(seen, defective, mask))
            return Rendering(np.squeeze(image), untouched, mask)
    raise RuntimeError(f"no visible {kind} on {surface} number {index} with seed {seed}, size {size}")


def _reduce(picture: Picture, factor: int) -> Picture:
    """The picture at 1 / ``factor`` of its size, by averaging."""
    side, channels = picture.shape[0] // factor, picture.shape[2]
    blocks = picture.reshape(side, factor, side, factor, channels)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _sensible(normal: Picture, defective: Picture, mask: Mask) -> bool:
    """Whether the defect is neither tiny nor everywhere, and strong enough for an attentive person to see."""
    if not _LEAST_AREA <= mask.mean() <= _MOST_AREA:
        return False
    return bool(np.abs(defective - normal).max(axis=-1)[mask].mean() >= _LEAST_CHANGE)


def generate(
    output: Path,
    *,
    seed: int = 0,
    surfaces: Sequence[str] | None = None,
    size: int = 256,
    train: int = 60,
    test_normal: int = 20,
    per_defect: int = PER_DEFECT,
) -> None:
    """Writes the demo data as a data set in ``mvtec_ad`` layout, or nothing at all.

    Args:
        output: Folder to make; it may exist if it is empty.
        seed: The same seed gives the same files.
        surfaces: Some of ``SURFACES``; left out = all.
        size: Side of the images in pixels, 64 to 2048.
        train: Normal images for training, for each surface.
        test_normal: Normal test images, for each surface.
        per_defect: Defective test images, for each surface and kind of defect.

    Raises:
        ValueError: The folder has something in it, or an argument is out of its range.
    """
    chosen = tuple(SURFACES if surfaces is None else surfaces)
    _check(output, seed, chosen, size, (train, test_normal, per_defect))
    with complete_folder(output) as building:
        (building / "README.txt").write_text(_README.format(seed=seed, size=size), encoding="utf-8")
        for surface in chosen:
            _write(building, surface, NORMAL, train, seed, size, training=True)
            _write(building, surface, NORMAL, test_normal, seed, size)
            for kind in DEFECTS[surface]:
                _write(building, surface, kind, per_defect, seed, size)


def _check(output: Path, seed: int, surfaces: tuple[str, ...], size: int, counts: tuple[int, ...]) -> None:
    """Raises ValueError for arguments that cannot work, before anything is written."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} exists and is not an empty folder; name a new folder, nothing is overwritten"
        )
    unknown = [name for name in surfaces if name not in _SURFACES]
    if unknown:
        raise ValueError(f"no surface called {', '.join(unknown)}; there are: {', '.join(SURFACES)}")
    if not surfaces:
        raise ValueError(f"no surface chosen; there are: {', '.join(SURFACES)}")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; take 0 or more")
    if not _SMALLEST <= size <= _LARGEST:
        raise ValueError(f"image size {size} is not between {_SMALLEST} and {_LARGEST}")
    if min(counts) < 0:
        raise ValueError(f"{min(counts)} images asked for; counts are 0 or more")


def _write(
    root: Path, surface: str, kind: str, count: int, seed: int, size: int, *, training: bool = False
) -> None:
    """Writes the images of one folder, and their masks beside the tree where the layout wants them."""
    images = root / surface / ("train" if training else "test") / kind
    masks = root / surface / "ground_truth" / kind
    for index in range(count):
        shot = render(surface, kind, index, seed=seed, size=size, training=training)
        images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shot.image).save(images / f"{index:03d}.png")
        if kind != NORMAL:
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shot.mask.astype(np.uint8) * np.uint8(255)).save(masks / f"{index:03d}_mask.png")
