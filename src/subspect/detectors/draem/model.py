"""DRAEM as a detector: reconstruct, compare."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from subspect.datasets.loading import TrainingImages
from subspect.datasets.textures import Textures, surface_textures
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.colour import in_order
from subspect.detectors.draem.config import DraemConfig
from subspect.detectors.draem.modules import DiscriminativeNetwork, ReconstructiveNetwork
from subspect.detectors.scoring import image_score
from subspect.sizes import crop, pad_to_multiple
from subspect.training.stage import Stage

logger = logging.getLogger("subspect")
SIZE_MULTIPLE = 32  # the discriminative network halves five times


class Comparison(NamedTuple):
    """An image drawn without its anomaly, and where the two disagree.

    Attributes:
        reconstruction: ``(N, 3, H, W)``.
        logits: Of normal and anomalous, ``(N, 2, H, W)``.
    """

    reconstruction: Tensor
    logits: Tensor


class Draem(Detector):
    """DRAEM (paper, section 3). Anomaly map: the probability of anomalous; score: as DSR's.

    Images of any size are padded by reflection to multiples of 32 and the map is cropped back.

    Args:
        config: The defaults have the reference's shapes and parameter counts.
    """

    method = "draem"
    config: DraemConfig

    def __init__(self, config: DraemConfig) -> None:
        super().__init__()
        self.config = config
        self.reconstructive = ReconstructiveNetwork(config.reconstructive_width)
        self.discriminative = DiscriminativeNetwork(config.discriminative_width)
        self.textures: Textures | None = None
        self.origin: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        compared = self.compare(self.reorder(padded))
        anomaly_map = crop(compared.logits.softmax(1)[:, 1:], size)
        return Prediction(anomaly_map, image_score(anomaly_map))

    def reorder(self, images: Tensor) -> Tensor:
        """RGB images in the channel order that the weights expect, and back."""
        return in_order(images, self.config.colour)

    def compare(self, images: Tensor) -> Comparison:
        """Reconstructs images ``(N, 3, H, W)``, H and W multiples of 32, and compares."""
        reconstruction = self.reconstructive(images)
        return Comparison(reconstruction, self.discriminative(torch.cat((reconstruction, images), 1)))

    def use_textures(self, textures: Textures | None) -> None:
        """Takes the pictures that training anomalies are made of; without any, the built-in surfaces."""
        if textures is None:
            textures = surface_textures()
            logger.warning(
                "draem paints its training defects with textures, and --textures names no folder of pictures:"
                " %d of built-in surfaces serve instead, at a cost. On MVTec AD the paper finds a pixel AP of"
                " 68.4 with the textures of DTD and 56.5 with plain colours; expect something between",
                textures.count,
            )
        self.textures = textures
        self.origin["textures"] = textures.describe()

    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """One stage, in which both networks are trained together."""
        from subspect.detectors.draem.stages import JointStage

        return [JointStage(self, images, self.textures or surface_textures(), seed)]

    @torch.no_grad()
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """The reconstruction of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        reconstruction = self.reorder(self.reconstructive(self.reorder(padded)))
        return {"reconstruction": crop(reconstruction, size).clamp(0, 1)}

    def provenance(self) -> dict[str, Any]:
        """Which textures it was trained with, or which checkpoints it was imported from."""
        return self.origin

    def restore_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Takes back what ``provenance`` gave."""
        self.origin = {name: provenance[name] for name in ("textures", "imported_from") if name in provenance}
