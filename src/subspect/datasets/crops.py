"""Random crops of photographs, for training the discrete latent model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from subspect.images import ImageError, decode, read_image, resize

_LEAST_SIDE = 16


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
        crop = resize(self._cut(self._picture(index), rng), (self.size, self.size), antialias=True)
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < self.grey_share:
            crop = crop.mean(0, keepdim=True).expand(3, -1, -1)
        return crop.contiguous()

    def _order(self, run: int) -> NDArray[np.int64]:
        if self._latest[0] != run:
            self._latest = run, np.random.default_rng([self.seed, run]).permutation(len(self.paths))
        return self._latest[1]

    def _cut(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        _, height, width = picture.shape
        side = round(min(height, width) * float(np.sqrt(rng.uniform(0.25, 1.0))))
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        return picture[:, top : top + side, left : left + side].float() / 255

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
