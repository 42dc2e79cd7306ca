"""Training on tiles: the pictures of a category cut up as they will be when they are inspected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subspect.datasets.loading import (
    CACHE_LIMIT,
    Prepare,
    TrainingImages,
    bytes_of,
    check_annotated,
    shrink_mask,
    watched,
)
from subspect.datasets.table import Sample
from subspect.images import read_image, read_mask, resize_mask
from subspect.tiling import Tiling, Window, lay_tiles, pad_to_tile

FloatArray = npt.NDArray[np.float32]

logger = logging.getLogger("subspect")

_AT_ONCE = 2  # pictures, which are large


class _Cut(NamedTuple):
    """The tiles taken of a picture, their masks if it is anomalous, and how many there were."""

    sample: Sample
    images: list[Tensor]
    masks: list[Tensor | None]
    found: int


class TrainingTiles(TrainingImages):
    """The tiles of the training images of one category, each like an image of its own, all of them in memory.

    Where they do not fit there, as many are drawn from each picture as do. Of anomalous pictures, tiles that
    show no defect are left out. Tiles of one picture are of one group.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        prepare: Prepare,
        image_size: tuple[int, int],
        tiling: Tiling,
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        """Reads the images and cuts them up.

        Args:
            samples: The training samples.
            prepare: A tile ``(h, w, 3)`` in [0, 1] to the detector's input.
            image_size: ``(h, w)`` of what ``prepare`` returns.
            tiling: How they are cut up.
            cache_limit: How many bytes the tiles may take in memory.

        Raises:
            ValueError: Anomalous samples without a mask to learn from; the message lists them.
            ImageError: A file cannot be read.
        """
        check_annotated(samples)
        most = max(1, cache_limit // max(1, bytes_of(len(samples), image_size)))

        def cut(number: int) -> _Cut:
            picture, places, mask = _read_with_places(samples[number], tiling)
            drawn = sorted(np.random.default_rng(number).permutation(len(places))[:most])
            images = [prepare(picture[places[place]]).half() for place in drawn]
            masks = [None if mask is None else shrink_mask(mask[places[place]], image_size) for place in drawn]
            return _Cut(samples[number], images, masks, len(places))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            cuts = list(watched(pool.map(cut, range(len(samples))), len(samples)))
        self._images = [image for one in cuts for image in one.images]
        self._masks = [mask for one in cuts for mask in one.masks]
        found = sum(one.found for one in cuts)
        logger.info("learning from %d of the %d tiles of %d pictures", len(self._images), found, len(samples))
        of_tiles = [
            replace(one.sample, group=one.sample.group or str(one.sample.path))
            for one in cuts
            for _ in one.images
        ]
        super().__init__(of_tiles, prepare, image_size, cache_limit=0)

    def _gather(self, indices: Sequence[int]) -> Tensor:
        return torch.stack([self._images[index] for index in indices])

    def _mask(self, index: int) -> Tensor:
        mask = self._masks[index]
        assert mask is not None  # asked for of anomalous pictures only
        return mask


def _read_with_places(
    sample: Sample, tiling: Tiling
) -> tuple[FloatArray, list[Window], npt.NDArray[np.bool_] | None]:
    """A picture, where its tiles lie, and its mask if it is anomalous; of such only the tiles with a defect."""
    picture = read_image(sample.path)
    size = (picture.shape[0], picture.shape[1])
    picture = pad_to_tile(picture, tiling)
    places = [tile.window for tile in lay_tiles((picture.shape[0], picture.shape[1]), tiling)]
    if not sample.anomalous:
        return picture, places, None
    mask = pad_to_tile(resize_mask(read_mask(sample.mask_paths, sample.mask_level), size), tiling)
    return picture, [place for place in places if mask[place].any()], mask


def load_training_images(
    samples: Sequence[Sample], prepare: Prepare, image_size: tuple[int, int], tiling: Tiling | None
) -> TrainingImages:
    """The training images, or their tiles, as a detector takes them; see ``TrainingImages``."""
    if tiling is None:
        return TrainingImages(samples, prepare, image_size)
    return TrainingTiles(samples, prepare, image_size, tiling)
