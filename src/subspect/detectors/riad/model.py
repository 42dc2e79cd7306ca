"""RIAD as a detector: an image inpainted from parts of itself, compared with itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.riad.config import RiadConfig
from subspect.detectors.riad.gradient_similarity import msgms_map
from subspect.detectors.riad.unet import InpaintingUNet
from subspect.detectors.scoring import mean_filter
from subspect.parts import parts_of
from subspect.simulation.erasure import cell_count, erasure_masks
from subspect.sizes import crop, pad_to_multiple
from subspect.training.stage import Stage

SIZE_MULTIPLE = 16
_SMOOTHING = 21
# Of network inputs at a time: 12 images of 256x256, for which preset ``paper`` takes about 1.1 GB.
_PIXELS_AT_ONCE = 12 * 256 * 256


class Riad(Detector):
    """RIAD (paper, section 3). Anomaly map: 1 - MSGMS after a 21x21 mean filter; anomaly score: its maximum.

    MSGMS is averaged over the inpaintings of all cell sizes. The mean at a border is taken over the pixels
    that are there. Which cells are erased together is drawn once for each size of image and the same for every
    image, so that predictions repeat and batch mates make no difference.

    Images of any size are padded by reflection to multiples of 16 and the map is cropped back.

    Args:
        config: The defaults are the paper's.
    """

    method = "riad"
    config: RiadConfig

    def __init__(self, config: RiadConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = InpaintingUNet(config.width)

    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        similarities = [
            msgms_map(self.inpaint_in_turn(padded, cell), padded) for cell in self.config.cell_sizes
        ]
        differences = crop(1 - torch.stack(similarities).mean(0), size)
        anomaly_map = mean_filter(differences, _SMOOTHING, zeros_around=False)
        return Prediction(anomaly_map, anomaly_map.amax((1, 2, 3)))

    def inpaint(self, images: Tensor, erased: Tensor) -> Tensor:
        """Erases each set of cells in turn and assembles what the network draws in their place.

        All sets go through the network at once; outside of training in parts of bounded size.

        Args:
            images: ``(N, 3, H, W)``, H and W multiples of 16.
            erased: Masks of disjoint sets that together cover the picture, ``(sets, 1, H, W)``, bool.

        Returns:
            ``(N, 3, H, W)``; no pixel of it comes from an input that showed that pixel.
        """
        # (N, sets, 3, H, W) → (N·sets, 3, H, W)
        inputs = images[:, None].masked_fill(erased, 0).flatten(0, 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        whole = self.unet.training  # BatchNorm takes its statistics over the whole batch
        drawn = self.unet(inputs) if whole else torch.cat([self.unet(part) for part in _parts(inputs)])
        drawn = drawn.to(images.dtype).unflatten(0, (-1, len(erased)))
        return (drawn * erased).sum(1)

    def inpaint_in_turn(self, images: Tensor, cell: int) -> Tensor:
        """As ``inpaint``, with the cells of ``cell`` pixels that every image of this size is judged with."""
        size = (images.shape[2], images.shape[3])
        order = _fixed_order(cell_count(size, cell)).to(images.device)
        return self.inpaint(images, erasure_masks(order, size, cell, self.config.sets))

    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """The one stage: learning to inpaint."""
        from subspect.detectors.riad.stages import InpaintingStage

        return [InpaintingStage(self, images, seed)]

    @torch.no_grad()
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """The inpainting with each size of cells, of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        return {
            f"inpainting of {cell}x{cell} px": crop(self.inpaint_in_turn(padded, cell), size).clamp(0, 1)
            for cell in self.config.cell_sizes
        }


def _parts(inputs: Tensor) -> Sequence[Tensor]:
    """A batch in parts of ``_PIXELS_AT_ONCE`` pixels, at least one image each."""
    height, width = inputs.shape[2:]
    return parts_of(inputs, max(1, _PIXELS_AT_ONCE // (height * width)))


def _fixed_order(cells: int) -> Tensor:
    """A permutation of ``range(cells)`` that is the same everywhere and always."""
    # RandomState, because NumPy promises that its numbers never change, and no torch generator, because
    # that would go on drawing, call by call, in an exported detector.
    return torch.from_numpy(np.random.RandomState(0).permutation(cells))
