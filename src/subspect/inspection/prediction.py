"""Detectors in PyTorch on pictures: cut into tiles if need be, prepared, batched, checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from subspect.detectors.base import Detector
from subspect.devices import true_float32
from subspect.inspection.inspecting import DetectorError, FloatArray, Inspector, Scored
from subspect.sizes import resize
from subspect.tiling import score_tiles


class DetectorInspector(Inspector):
    """A detector with a threshold, ready for pictures.

    Attributes:
        detector: The detector, in evaluation mode on the device.
        device: Where it runs.
    """

    def __init__(
        self, detector: Detector, device: torch.device | str = "cpu", threshold: float | None = None
    ) -> None:
        """Takes a detector over.

        Args:
            detector: Moved to the device and put in evaluation mode.
            device: For example ``cpu`` or ``cuda``.
            threshold: Replaces the calibrated one. A detector without a calibration is outlined at this
                level, too.

        Raises:
            ValueError: No threshold is given and the detector has no calibration.
        """
        super().__init__(detector.calibration, threshold, detector.config.tiling)
        self.device = torch.device(device)
        self.detector = detector.to(self.device).eval()

    def score(self, pictures: Sequence[FloatArray]) -> list[Scored]:
        """Scores pictures ``(H, W, 3)``; see ``Inspector.score``."""
        return _at_own_size(pictures, predict(self.detector, pictures, self.device))


def predict(detector: Detector, pictures: Sequence[FloatArray], device: torch.device | str) -> list[Scored]:
    """Runs a detector, in evaluation mode on the device, on pictures ``(H, W, 3)``, RGB in [0, 1].

    The results come in the order of the pictures. The maps ``(h, w)`` have the size that the detector works at,
    or, if it looks at tiles, that of the pictures.

    Raises:
        DetectorError: A map or score is not a finite number.
    """
    tiling = detector.config.tiling
    if tiling is None:
        return _predict_whole(detector, pictures, device)

    def score(tiles: Sequence[FloatArray]) -> list[Scored]:
        return _at_own_size(tiles, _predict_whole(detector, tiles, device))

    return [Scored(*score_tiles(score, picture, tiling)) for picture in pictures]


def _predict_whole(
    detector: Detector, pictures: Sequence[FloatArray], device: torch.device | str
) -> list[Scored]:
    """Pictures as they are, or tiles; those of one prepared size form one batch."""
    prepared = [detector.prepare(picture) for picture in pictures]
    results: dict[int, Scored] = {}
    for shape in dict.fromkeys(tensor.shape for tensor in prepared):
        places = [place for place, tensor in enumerate(prepared) if tensor.shape == shape]
        images = torch.stack([prepared[place] for place in places])
        with torch.inference_mode(), true_float32():
            # Channels-last is what convolutions and enlarging want on CPUs, too.
            maps, scores = detector(images.to(device, memory_format=torch.channels_last))
        if not (torch.isfinite(maps).all() and torch.isfinite(scores).all()):
            raise DetectorError("the detector gave values that are not finite; its weights may be damaged")
        arrays = maps.float().cpu().numpy()[:, 0]
        results.update(zip(places, map(Scored, arrays, scores.tolist()), strict=True))
    return [results[place] for place in range(len(prepared))]


def _at_own_size(pictures: Sequence[FloatArray], scored: Sequence[Scored]) -> list[Scored]:
    """The same with the maps resized to the pictures' own sizes."""
    return [
        Scored(_resized(one.anomaly_map, (picture.shape[0], picture.shape[1])), one.score)
        for picture, one in zip(pictures, scored, strict=True)
    ]


def _resized(anomaly_map: FloatArray, size: tuple[int, int]) -> FloatArray:
    return resize(torch.from_numpy(anomaly_map)[None], size, antialias=False)[0].numpy()
