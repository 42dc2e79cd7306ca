"""Feeding training: a category's images, prepared and kept in memory, and batches that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d
from torch.utils.data import Dataset, Sampler

from subspect.datasets.reading import listed
from subspect.datasets.table import Sample
from subspect.images import read_image, read_mask

CACHE_LIMIT = 4 * 1024**3
"""Bytes that training images may take in memory."""

ReadT = TypeVar("ReadT")
Prepare = Callable[[NDArray[np.float32]], Tensor]

_PATIENCE = 2.0  # seconds of reading before a progress bar is shown


class TrainingImages(Dataset[tuple[Tensor, Tensor]]):
    """The training images of one category as a detector takes them, with their masks.

    They are resized once and kept in memory as float16 when they fit, read anew at each access otherwise; the
    values are rounded to float16 either way, so that the size of the memory changes no result. Masks (of
    anomalous images only, a sixth as large) are read when they are first asked for, and kept.

    Attributes:
        samples: One entry an image.
        image_size: ``(h, w)`` of the prepared images.
        normal_indices: Which of the images are normal.
        anomalous_indices: Which show a defect; each has a mask.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        prepare: Prepare,
        image_size: tuple[int, int],
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        """Reads the images if they fit into memory.

        Args:
            samples: The training samples.
            prepare: A decoded picture ``(H, W, 3)`` in [0, 1] to the detector's input ``(3, h, w)``.
            image_size: ``(h, w)`` of what ``prepare`` returns.
            cache_limit: How many bytes the images may take in memory.

        Raises:
            ValueError: Anomalous samples without a mask to learn from; the message lists them.
            ImageError: A file cannot be read.
        """
        check_annotated(samples)
        self.samples = tuple(samples)
        self.image_size = image_size
        self.normal_indices = tuple(i for i, sample in enumerate(samples) if not sample.anomalous)
        self.anomalous_indices = tuple(i for i, sample in enumerate(samples) if sample.anomalous)
        self._prepare = prepare
        self._shrunk: dict[int, Tensor] = {}
        self._cache = self._read_all() if bytes_of(len(samples), image_size) <= cache_limit else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image ``(3, h, w)`` in [0, 1] and mask ``(1, h, w)``, 1 where defective, both float32."""
        images, masks = self.batch([index])
        return images[0].float(), masks[0].float()

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A batch, as loaders with ``collate_fn=as_loaded`` ask for it."""
        return self.batch(indices)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images ``(N, 3, h, w)`` in [0, 1], float16 as they are kept, and masks ``(N, 1, h, w)``, bool."""
        masks = torch.zeros(len(indices), 1, *self.image_size, dtype=torch.bool)
        for place, index in enumerate(indices):
            if self.samples[index].anomalous:
                masks[place] = self._mask(index)
        return self._gather(indices), masks

    def _gather(self, indices: Sequence[int]) -> Tensor:
        if self._cache is not None:
            return self._cache[list(indices)]
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self._read, indices)))

    def _read(self, index: int) -> Tensor:
        return self._prepare(read_image(self.samples[index].path)).half()

    def _mask(self, index: int) -> Tensor:
        """Of an anomalous image, ``(1, h, w)``."""
        if index not in self._shrunk:
            sample = self.samples[index]
            mask = read_mask(sample.mask_paths, sample.mask_level)
            self._shrunk[index] = shrink_mask(mask, self.image_size).bool()
        return self._shrunk[index]

    def _read_all(self) -> Tensor:
        """All images ``(N, 3, h, w)`` in float16."""
        images = torch.empty(len(self), 3, *self.image_size, dtype=torch.float16)
        with ThreadPoolExecutor() as pool:
            read = pool.map(self._read, range(len(self)))
            for index, image in enumerate(watched(read, len(self))):
                images[index] = image
        return images


def as_loaded(batch: Any) -> Any:
    """What a loader is to make of a batch that is one already: nothing."""
    return batch


def check_annotated(samples: Sequence[Sample]) -> None:
    """Makes sure that anomalous training images have masks to learn from.

    Raises:
        ValueError: Some have none; the message lists them.
    """
    unannotated = [sample.path for sample in samples if sample.anomalous and not sample.mask_paths]
    if unannotated:
        raise ValueError(f"anomalous training images without a mask: {listed(unannotated)}")


def bytes_of(count: int, image_size: tuple[int, int]) -> int:
    """What so many images take in memory."""
    return count * 3 * image_size[0] * image_size[1] * torch.float16.itemsize


def shrink_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    """A mask ``(H, W)`` as ``(1, h, w)``, 1 where defective.

    By the maximum, so that a defect smaller than a pixel of the new size does not vanish.
    """
    return adaptive_max_pool2d(torch.from_numpy(mask)[None].float(), size)


def watched(images: Iterator[ReadT], total: int) -> Iterator[ReadT]:
    """The same images, with a progress bar that appears only when reading them takes long."""
    progress = Progress(transient=True)
    task = progress.add_task("reading images", total=total)
    patient_until = time.monotonic() + _PATIENCE
    try:
        for image in images:
            yield image
            progress.advance(task)
            if time.monotonic() > patient_until:
                progress.start()
    finally:
        if progress.live.is_started:
            progress.stop()


class StepSampler(Sampler[list[int]]):
    """Batches of indices as a pure function of seed and step, the same whenever training is resumed.

    Every epoch is a permutation of all images drawn from seed and epoch; the epochs are laid end to end and
    cut into global batches of ``batch_size * world_size``, of which each process takes its own part. A batch
    may thus reach over the end of an epoch, and no image is ever left out.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Sets up the sequence of batches.

        Args:
            length: Number of images.
            batch_size: Images in a batch of one process.
            steps: Length of the whole training, in steps.
            seed: Draws the order.
            start_step: Where iteration begins; the steps before are taken as done.
            rank: Which process this is, below ``world_size``.
            world_size: How many processes share a step.

        Raises:
            ValueError: There are no images.
        """
        if length < 1:
            raise ValueError("no images to draw batches from")
        self.length, self.batch_size, self.steps, self.seed = length, batch_size, steps, seed
        self.start_step, self.rank, self.world_size = start_step, rank, world_size

    def __len__(self) -> int:
        """Steps of the whole training, not of what is left: Lightning counts from 0."""
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start_step, self.steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
                batch.append(int(order[position % self.length]))
            yield batch
