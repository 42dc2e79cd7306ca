"""Random crops of photographs, for pretraining; which pictures are trained on and which judge."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from subspect.files import csv_text
from subspect.images import ImageError, decode, find_images, read_image
from subspect.sizes import resize

_LEAST_SIDE = 16
_PROCESSES = 8  # cutting a crop of 256 pixels takes a core some 0.6 ms, and a step takes 32


class Crops(Dataset[Tensor]):
    """An endless supply of square crops; crop number ``n`` is a function of ``n`` and the seed alone.

    Each run through the pictures is a permutation of them. A crop covers between a quarter and all of the
    picture's shorter side squared, is flipped half the time, and grey one time in ``grey_share``.

    Args:
        paths: The pictures.
        size: Side of the crops in pixels.
        seed: Decides everything.
        grey_share: Share of crops turned grey.
        memory_limit: Decoded pictures are kept (8 bit) until they take this many bytes.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        seed: int,
        grey_share: float = 0.2,
        memory_limit: int = 2 * 1024**3,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.seed = seed
        self.grey_share = grey_share
        self._latest: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._free = memory_limit
        self._kept: dict[int, Tensor] = {}

    def __getitem__(self, number: int) -> Tensor:
        """Crop ``number``: ``(3, size, size)``, RGB in [0, 1]."""
        run, place = divmod(number, len(self.paths))
        index = int(self._order(run)[place])
        rng = np.random.default_rng([self.seed, 1, number])
        crop = resize(self.cut(self._picture(index), rng), (self.size, self.size), antialias=True)
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < self.grey_share:
            crop = crop.mean(0, keepdim=True).expand(3, -1, -1)
        return crop.contiguous()

    def _order(self, run: int) -> NDArray[np.int64]:
        if self._latest[0] != run:
            self._latest = run, np.random.default_rng([self.seed, run]).permutation(len(self.paths))
        return self._latest[1]

    def cut(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """A square of a picture ``(3, H, W)`` in uint8, as floats in [0, 1], before it is resized."""
        _, height, width = picture.shape
        side = round(min(height, width) * float(np.sqrt(rng.uniform(0.25, 1.0))))
        return cut_square(picture, side, rng)

    def _picture(self, index: int) -> Tensor:
        if index in self._kept:
            return self._kept[index]
        picture = read_byte_image(self.paths[index])
        if picture.nbytes <= self._free:
            self._free -= picture.nbytes
            self._kept[index] = picture
        return picture


class NumberSampler(Sampler[list[int]]):
    """Batches of consecutive numbers, the share of one process, from a step on.

    Args:
        batch_size: Numbers a step over all processes.
        steps: Steps in all; the length, also when iteration begins later.
        start_step: First step to give.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, batch_size: int, steps: int, start_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batch_size = batch_size
        self.steps = steps
        self.start_step = start_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.steps):
            first = step * self.batch_size
            yield list(range(first + self.rank, first + self.batch_size, self.world_size))


def crop_loader(crops: Crops, sampler: NumberSampler, device: torch.device) -> DataLoader[Tensor]:
    """Batches of crops; for a GPU they are cut by processes of their own, so that it need not wait for them."""
    processes = 0 if device.type == "cpu" else min(_PROCESSES, os.cpu_count() or 1)
    return DataLoader(crops, batch_sampler=sampler, num_workers=processes, pin_memory=device.type == "cuda")


def cut_square(picture: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """A square of ``side`` pixels anywhere in a picture ``(3, H, W)`` in uint8, as floats in [0, 1]."""
    _, height, width = picture.shape
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    return picture[:, top : top + side, left : left + side].float() / 255


def find_pictures(folders: Sequence[str]) -> list[Path]:
    """The pictures in folders and below, each once, also where folders overlap.

    Raises:
        ImageError: A folder does not exist; the message lists all such.
    """
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    if missing:
        raise ImageError(f"no such folder: {', '.join(missing)}")
    found = {path.resolve(): path for folder in folders for path in find_images(Path(folder))}
    return list(found.values())


def held_out_text(trained: Sequence[Path], judged: Sequence[Path]) -> str:
    """Which pictures are trained on and which judge, as CSV."""
    split = (("train", trained), ("held_out", judged))
    return csv_text(["path", "split"], [(path.as_posix(), name) for name, paths in split for path in paths])


def read_byte_image(path: Path) -> Tensor:
    """A picture as ``(3, H, W)``, uint8."""
    return torch.from_numpy((read_image(path) * 255).round().astype(np.uint8)).permute(2, 0, 1)


def check_readable(paths: Sequence[Path]) -> None:
    """Decodes every picture once, so that a broken one is found before training, not in the middle of it.

    Raises:
        ImageError: Pictures that cannot be read, or are too small to crop; the message lists all of them.
    """

    def problem(path: Path) -> str | None:
        try:
            sides = decode(path).pixels.shape[:2]
        except ImageError as error:
            return str(error)
        return f"{path}: {sides[0]}x{sides[1]} pixels, too small to crop" if min(sides) < _LEAST_SIDE else None

    with ThreadPoolExecutor() as pool:
        problems = [found for found in pool.map(problem, paths) if found]
    if problems:
        raise ImageError(f"{len(problems)} pictures cannot be read:\n  " + "\n  ".join(problems))


def split_held_out(paths: Sequence[Path], held_out: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Pictures to train on and a share to judge by, drawn by seed.

    Raises:
        ImageError: There are fewer than two pictures.
    """
    if len(paths) < 2:
        raise ImageError(f"need at least two pictures to train on and to judge by, found {len(paths)}")
    order = np.random.default_rng(seed).permutation(len(paths))
    count = max(1, round(held_out * len(paths)))
    judged = set(order[:count].tolist())
    return [p for i, p in enumerate(paths) if i not in judged], [p for i, p in enumerate(paths) if i in judged]
