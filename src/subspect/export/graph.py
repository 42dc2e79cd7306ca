"""The graph that is exported: from decoded pictures to map, score and verdict."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.base import Detector
from subspect.export.shrinking import resize_antialiased
from subspect.serving.description import INPUTS

Size = tuple[int, int]

_EXAMPLE_BATCH = 2  # torch.export takes sizes of 0 and 1 for constants


class InspectionGraph(nn.Module):
    """What ``DetectorInspector`` computes, from a picture to its verdict, as one module.

    Args:
        detector: In evaluation mode.
        precision: What convolutions and matrix products are computed in; None for that of their weights.
        picture_size: Height and width of the pictures; None for any.
    """

    def __init__(
        self, detector: Detector, precision: torch.dtype | None = None, picture_size: Size | None = None
    ) -> None:
        super().__init__()
        self.detector = detector
        self.precision = precision
        self.picture_size = picture_size

    def forward(self, pixels: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judges pictures ``(N, H, W, 3)``, RGB in [0, 1]; see ``subspect.serving.description.INTERFACE``."""
        config, own_size = self.detector.config, (pixels.shape[1], pixels.shape[2])
        resizes = self.picture_size != config.image_size  # asked of the tensors, it would fix open sizes
        images = pixels.permute(0, 3, 1, 2)
        if resizes:
            images = _resized(images, config.image_size, antialias=config.antialias)
        with torch.autocast(pixels.device.type, self.precision, enabled=self.precision is not None):
            maps, scores = self.detector(images)
        maps, scores = maps.float(), scores.float()
        if resizes:
            maps = _resized(maps, own_size, antialias=False)
        return maps[:, 0], scores, scores > threshold


def trace(graph: InspectionGraph) -> torch.export.ExportedProgram:
    """The graph, on the CPU, as a program of tensor operations for any number of pictures."""
    height, width = graph.picture_size or _example_size(graph.detector.config.image_size)
    example = (torch.rand(_EXAMPLE_BATCH, height, width, 3), torch.tensor(0.5))
    varying = (0,) if graph.picture_size else (0, 1, 2)
    dynamic: dict[str, Any] = dict.fromkeys(INPUTS)
    dynamic["pixels"] = dict.fromkeys(varying, torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        return torch.export.export(graph, example, dynamic_shapes=dynamic)


def _resized(images: Tensor, size: Size, *, antialias: bool) -> Tensor:
    """As ``subspect.sizes.resize``, but not asking whether anything changes: in a graph sizes are open."""
    if antialias:
        return resize_antialiased(images, size)
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _example_size(image_size: Size) -> Size:
    """A size of pictures from which nothing can be concluded: neither square nor the detector's own."""
    return image_size[0] + 18, image_size[1] + 44
