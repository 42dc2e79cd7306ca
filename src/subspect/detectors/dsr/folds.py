"""Training images told apart in folds, so that each can be compared with others than itself and its like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from subspect.datasets.loading import TrainingImages
from subspect.datasets.table import Sample

FOLDS = 4
"""Parts of about the same size."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Images ``(N, 3, H, W)`` in [0, 1], masks ``(N, 1, H, W)``, 1 where defective, and folds ``(N,)``.

Images and masks are as they are kept in memory, float16 and bool, until they are on the device.
"""


class FoldedImages(Dataset[Batch]):
    """Training images with their folds; loaders take whole batches at once (``collate_fn=as_loaded``).

    Attributes:
        images: Training images of one category.
        folds: Of each image, ``(N,)``.
    """

    def __init__(self, images: TrainingImages) -> None:
        self.images = images
        self.folds = fold_of_each(images.samples)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image ``(3, h, w)`` in [0, 1], mask ``(1, h, w)``, fold ``()``."""
        image, mask = self.images[index]
        return image, mask, self.folds[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch."""
        return *self.images.batch(indices), self.folds[indices]


def fold_of_each(samples: Sequence[Sample]) -> Tensor:
    """The folds of training images, ``(N,)``: groups kept whole and in their order, ``FOLDS`` if anomalous.

    A group belongs to the fold that its middle lies in, so that there are always at least two folds, however
    large one group is. With fewer groups than folds, images count for themselves; neighbours, which may be
    shots of one part, are together even so.
    """
    normal = [index for index, sample in enumerate(samples) if not sample.anomalous]
    names = [samples[index].group or str(samples[index].path) for index in normal]
    if len(set(names)) < FOLDS:
        names = [str(index) for index in normal]
    fold_of, start = {}, 0
    for name, size in Counter(names).items():
        fold_of[name] = (2 * start + size) * FOLDS // (2 * len(normal))
        start += size
    folds = torch.full((len(samples),), FOLDS)
    for index, name in zip(normal, names, strict=True):
        folds[index] = fold_of[name]
    return folds
