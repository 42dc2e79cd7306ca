"""Textures: pictures that simulated defects are made of, from a folder or the built-in surfaces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from subspect.datasets.surfaces import SURFACES, render
from subspect.datasets.table import NORMAL, Table
from subspect.files import content_digest
from subspect.images import ImageError, decode, find_images, read_image

_BUILT_IN = 16  # pictures of each surface
_BUILT_IN_SIZE = 256


@dataclass(frozen=True)
class Textures:
    """A supply of pictures, each read when it is needed.

    Attributes:
        origin: Where they come from: a folder, or ``built-in surfaces``.
        count: How many there are.
        read: The picture of a number below ``count``: ``(H, W, 3)``, RGB in [0, 1].
        digests: Hashes of the files, by which they can be told from images of a data set; file -> hash.
    """

    origin: str
    count: int
    read: Callable[[int], NDArray[np.float32]]
    digests: dict[Path, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """What a run records: origin, number and a hash over all files; values JSON can hold."""
        everything = hashlib.sha256("\n".join(sorted(self.digests.values())).encode()).hexdigest()
        hashed = {"sha256": everything} if self.digests else {}
        return {"origin": self.origin, "pictures": self.count} | hashed


def folder_textures(folder: Path) -> Textures:
    """All pictures in a folder and below, every file decoded once.

    Raises:
        ImageError: There is no such folder, it holds no picture, or some cannot be read; the message lists
            all of those.
    """
    if not folder.is_dir():
        raise ImageError(f"no folder of textures: {folder}")
    paths = find_images(folder)
    if not paths:
        raise ImageError(f"{folder} holds no picture that could serve as a texture")
    with ThreadPoolExecutor() as pool:  # decoding and hashing leave the interpreter to the other threads
        problems = [problem for problem in pool.map(_problem, paths) if problem]
        if problems:
            raise ImageError(f"{len(problems)} textures cannot be read:\n  " + "\n  ".join(problems))
        digests = dict(zip(paths, pool.map(content_digest, paths), strict=True))
    return Textures(str(folder), len(paths), partial(_read_file, paths), digests)


def surface_textures() -> Textures:
    """The built-in surfaces, without defects; each is drawn when it is first needed."""
    return Textures("built-in surfaces", _BUILT_IN * len(SURFACES), _draw_surface)


def check_foreign(textures: Textures, table: Table) -> None:
    """Makes sure that no texture is an image of the data set: nothing seen in training may judge.

    Raises:
        ValueError: Some are; the message says how many and names one.
    """
    if not textures.digests:
        return
    known = {digest: path for path, digest in textures.digests.items()}
    shared = [digest for sample in table if (digest := content_digest(sample.path)) in known]
    if shared:
        raise ValueError(
            f"{len(shared)} images of {table.root} are textures, too, among them {known[shared[0]]};"
            " give --textures a folder of other pictures"
        )


class PreparedTextures(Dataset[Tensor]):
    """Textures as a detector takes images, with 8 bits; kept in memory while there is room.

    Args:
        textures: The pictures.
        prepare: A decoded picture ``(H, W, 3)`` in [0, 1] to the detector's input ``(3, h, w)``.
        memory_limit: Prepared pictures are kept until they take this many bytes.
    """

    def __init__(
        self,
        textures: Textures,
        prepare: Callable[[NDArray[np.float32]], Tensor],
        memory_limit: int = 2 * 1024**3,
    ) -> None:
        self._textures = textures
        self._prepare = prepare
        self._free = memory_limit
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self._textures.count

    def __getitem__(self, index: int) -> Tensor:
        """Picture ``(3, h, w)``, uint8."""
        if index in self._kept:
            return self._kept[index]
        picture = (self._prepare(self._textures.read(index)) * 255).round().to(torch.uint8)
        if picture.nbytes <= self._free:
            self._free -= picture.nbytes
            self._kept[index] = picture
        return picture


def _problem(path: Path) -> str | None:
    try:
        decode(path)
    except ImageError as error:
        return str(error)
    return None


def _read_file(paths: list[Path], index: int) -> NDArray[np.float32]:
    return read_image(paths[index])


def _draw_surface(index: int) -> NDArray[np.float32]:
    number, surface = divmod(index, len(SURFACES))
    drawn = render(SURFACES[surface], NORMAL, number, seed=0, size=_BUILT_IN_SIZE, training=True).image
    picture = drawn if drawn.ndim == 3 else np.repeat(drawn[..., None], 3, axis=2)
    return picture.astype(np.float32) / np.float32(255)
