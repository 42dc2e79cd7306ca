"""What DSR's stage 2 learns from: batches with simulated anomalies, on a GPU made several steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from subspect.detectors.dsr.folds import Batch


class Lesson(NamedTuple):
    """A batch with simulated anomalies, on the device, nothing with a gradient.

    Attributes:
        images: Without anomalies, as the detector takes them, ``(N, 3, H, W)``.
        normal: Whether the normal appearance is known of each, ``(N,)``, bool; annotated ones have none.
        target: Where they are anomalous, ``(N, 1, H, W)``, 0 or 1.
        normal_low: Their quantised low features, ``(N, D, H/8, W/8)``.
        normal_high: Their quantised high features, ``(N, D, H/4, W/4)``.
        low: The same with anomalies.
        low_codes: Which codes those are, ``(N, H/8, W/8)`` or ``(N, G, H/8, W/8)``.
        high: The same with anomalies.
        high_codes: Which codes those are.
        general: The general reconstruction of the anomalous ones, ``(N, 3, H, W)``.
        places: Of their pixels in the whole images, see ``Origin``.
        folds: Of the whole images, see ``Origin``.
    """

    images: Tensor
    normal: Tensor
    target: Tensor
    normal_low: Tensor
    normal_high: Tensor
    low: Tensor
    low_codes: Tensor
    high: Tensor
    high_codes: Tensor
    general: Tensor
    places: Tensor
    folds: Tensor


class LessonsAhead:
    """The batches of a loader made into lessons some steps at a time, in one go for all of them.

    A simulation takes a GPU's host as long for many images as for few, and longer than the GPU.

    Args:
        loader: Of all batches from the first step of a block on.
        prepare: Makes one lesson of the batches of some steps put together, given the first step's number.
        ahead: Steps of a block.
        start_step: From which on lessons are wanted; the loader begins at its block's first step.
    """

    def __init__(
        self, loader: DataLoader[Any], prepare: Callable[[Batch, int], Lesson], ahead: int, start_step: int
    ) -> None:
        self.loader, self.prepare, self.ahead, self.start_step = loader, prepare, ahead, start_step

    def __len__(self) -> int:
        """Steps of the whole training, as of the loader."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Lesson]:
        step = block_start(self.start_step, self.ahead)
        batches = iter(self.loader)
        while block := list(islice(batches, self.ahead)):
            images, masks, folds = (torch.cat(parts) for parts in zip(*block, strict=True))
            lesson = self.prepare((images, masks, folds), step)
            for part in zip(*(values.chunk(len(block)) for values in lesson), strict=True):
                if step >= self.start_step:
                    yield Lesson(*part)
                step += 1


def block_start(step: int, ahead: int) -> int:
    """The first step of the block of ``ahead`` steps that a step is in."""
    return step - step % ahead
