"""PaDiM as a detector: a backbone, a normal distribution at each position, distances as the anomaly map."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from subspect.datasets.loading import TrainingImages
from subspect.detectors.backbones import Backbone
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.padim.config import PadimConfig
from subspect.detectors.padim.distributions import Distributions, Whitening
from subspect.detectors.padim.smoothing import gaussian_blur
from subspect.sizes import resize
from subspect.training.stage import Stage

SMOOTHING = 4.0
"""Standard deviation in pixels of the Gaussian over anomaly maps (paper, section 4.2)."""


class Padim(Detector):
    """PaDiM (paper, section 3). Anomaly map: Mahalanobis distances, enlarged and smoothed; score: its maximum.

    The statistics belong to the positions of one image size, so images of another size are resized to it,
    and their maps back. How they are smoothed and scored is decided at the detector's own size.

    Memory: 4·P·d² bytes for the distributions of P positions and d channels, in the file and for inference
    (0.13 GB for 56x56 and 100, 3.8 GB for 56x56 and 550; a third more at 256x256), and twice that and a little,
    besides the backbone's, while fitting.

    Args:
        config: The defaults have the paper's best backbone.

    Raises:
        ValueError: timm has no such backbone, levels, or so many channels, or it cannot take the image size.
    """

    method = "padim"
    config: PadimConfig

    def __init__(self, config: PadimConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, config.levels)
        channels = sum(self.backbone.channels)
        if config.channels > channels:
            raise ValueError(
                f"{config.channels} channels are to be kept, but the levels {config.levels} of"
                f" {config.backbone} have {channels} together"
            )
        self.grid = self.backbone.grid(config.looked_at)
        positions = self.grid[0] * self.grid[1]
        self.distributions = Distributions(positions, config.channels, channels)
        self.weights_source = ""

    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        distances = self.distributions(self.features(images))
        smoothed = gaussian_blur(self._enlarged(distances), SMOOTHING)
        return Prediction(self._over_whole(smoothed, images), smoothed.amax((1, 2, 3)))

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features ``(N, C, P)`` at all P positions of images ``(N, 3, H, W)``.

        Those of all levels, joined on the grid of the first (paper, section 3.1): each position gets the
        features of the coarser levels' cell that it lies in.
        """
        resized = resize(images, self.config.image_size, antialias=self.config.antialias)
        (height, width), (rows, columns) = self.config.image_size, self.config.looked_at
        top, left = (height - rows) // 2, (width - columns) // 2
        first, *coarser = self.backbone(resized[..., top : top + rows, left : left + columns])
        brought = [F.interpolate(level, self.grid, mode="nearest") for level in coarser]
        return torch.cat((first, *brought), 1).flatten(2)

    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """One pass over the normal images, which gathers their statistics (paper, section 3.2).

        Raises:
            ValueError: There are fewer than two.
        """
        from subspect.detectors.padim.stages import StatisticsStage

        return [StatisticsStage(self, images, seed)]

    @torch.no_grad()
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Distances from the mean before smoothing, with and without the covariance; 1 = an image's largest."""
        features = self.features(images)
        distances = {
            "Euclidean distance": self.distributions.euclidean(features),
            "Mahalanobis distance": self.distributions(features),
        }
        return {
            name: as_picture(self._over_whole(self._enlarged(each), images)) for name, each in distances.items()
        }

    def exportable(self) -> Detector:
        """The same with inverted Cholesky factors, since no format of exported graphs has triangular solves."""
        return copy.deepcopy(self, {id(self.distributions): Whitening(self.distributions)})

    def start(self, weights: str | None) -> None:
        """Takes over the backbone's ImageNet weights: those named, or the hub's for this backbone."""
        self.weights_source = self.backbone.load_weights(weights)

    def provenance(self) -> dict[str, Any]:
        """Where the backbone's weights come from."""
        return {"backbone_weights": self.weights_source}

    def restore_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Takes back where the backbone's weights came from."""
        self.weights_source = str(provenance.get("backbone_weights", ""))

    def _enlarged(self, distances: Tensor) -> Tensor:
        """Distances ``(N, P)`` as maps ``(N, 1, h, w)`` of the part that is looked at."""
        return resize(distances.reshape(-1, 1, *self.grid), self.config.looked_at, antialias=False)

    def _over_whole(self, maps: Tensor, images: Tensor) -> Tensor:
        """Maps of the part that is looked at, laid over the whole images, at their size."""
        (height, width), (rows, columns) = self.config.image_size, self.config.looked_at
        top, left = (height - rows) // 2, (width - columns) // 2
        whole = F.pad(maps, (left, width - columns - left, top, height - rows - top))
        size = (images.shape[2], images.shape[3])
        return resize(whole, size, antialias=self.config.antialias)


def as_picture(maps: Tensor) -> Tensor:
    """Maps ``(N, 1, H, W)`` as grey pictures ``(N, 3, H, W)`` in [0, 1], each relative to its largest value."""
    return (maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)).expand(-1, 3, -1, -1)
