"""RIAD's training (paper, sections 3.1 and 3.2): inpainting normal images with random cells erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from subspect.datasets.loading import StepSampler, TrainingImages, as_loaded
from subspect.detectors.riad.gradient_similarity import msgms_loss
from subspect.detectors.riad.model import SIZE_MULTIPLE, Riad
from subspect.losses import ssim_map
from subspect.simulation.cropping import crop_randomly
from subspect.simulation.erasure import cell_count, erasure_masks
from subspect.sizes import pad_to_multiple
from subspect.spans import Span
from subspect.training.stage import Stage, seeded_generator

_PREVIEWED = 4


class InpaintingStage(Stage):
    """Trains the network to inpaint normal images, one size of cells a step.

    Loss: L2 + MSGMS + (1 - SSIM) between the image and its assembled inpainting, with equal weights as in the
    open implementations (the paper's are not known here). All sets of cells are inpainted in one pass, so
    BatchNorm's statistics are taken over them together.

    Args:
        detector: Trained here.
        images: Training images of one category; the normal ones are used.
        seed: Decides everything random.
    """

    def __init__(self, detector: Riad, images: TrainingImages, seed: int) -> None:
        super().__init__("inpainting", detector.config.inpainting_stage, seed)
        self.detector = detector
        self.images = images

    def trained(self) -> Sequence[nn.Module]:
        """The network."""
        return [self.detector.unet]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Normal images."""
        normal = Subset(self.images, self.images.normal_indices)
        size = self.config.batch_size // world_size
        sampler = StepSampler(len(normal), size, self.config.steps, self.seed, start_step, rank, world_size)
        return DataLoader(normal, batch_sampler=sampler, collate_fn=as_loaded)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch of images ``(N, 3, H, W)``; their masks are empty."""
        with Span("simulation"):
            images = self._prepared(batch[0].float(), batch[1])
            masks = self._erased((images.shape[2], images.shape[3]))
        inpainted = self.detector.inpaint(images, masks)
        losses = {
            "l2": F.mse_loss(inpainted, images),
            "msgms": msgms_loss(inpainted, images),
            "ssim": 1 - ssim_map(inpainted, images).mean(),
        }
        self.report(losses)
        return torch.stack(list(losses.values())).sum()

    def preview(self) -> dict[str, Tensor]:
        """Normal images, always the same ones, their inpaintings and their anomaly maps."""
        indices = self.images.normal_indices[:_PREVIEWED]
        images = torch.stack([self.images[index][0] for index in indices]).to(self.device)
        shown = self.detector.inner_pictures(images)
        anomaly_map = self.detector(images).anomaly_map
        return {"image": images, **shown, "anomaly map": anomaly_map.expand(-1, 3, -1, -1)}

    def _prepared(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images cropped if so configured, padded as for inference."""
        if self.detector.config.training_crop:
            side = self.detector.config.training_crop
            images = crop_randomly(images, masks, side, self.step_generator("crop"))
        padded, _ = pad_to_multiple(images, SIZE_MULTIPLE)
        return padded

    def _erased(self, size: tuple[int, int]) -> Tensor:
        """This step's masks ``(sets, 1, H, W)``, for all images of the batch."""
        config = self.detector.config
        # On the CPU, so that no GPU is waited for. All images have the same masks, in all processes.
        drawn = seeded_generator(torch.device("cpu"), self.seed, self.name, "cell", self.global_step)
        cell = config.cell_sizes[int(torch.randint(len(config.cell_sizes), (), generator=drawn))]
        order = torch.randperm(
            cell_count(size, cell), generator=self.step_generator("erasure", shared=True), device=self.device
        )
        return erasure_masks(order, size, cell, config.sets)
