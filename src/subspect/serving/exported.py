"""An exported detector, ready for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from subspect.calibration import check_retiling
from subspect.inspection.inspecting import DetectorError, FloatArray, Inspector, Scored
from subspect.serving.description import Description, ExportError, read_description
from subspect.serving.engines import Engine, start_engine
from subspect.tiling import Tiling, score_tiles


class ExportInspector(Inspector):
    """An exported detector with a threshold.

    Attributes:
        description: What the export says of itself.
    """

    def __init__(self, description: Description, engine: Engine, threshold: float | None = None) -> None:
        """Puts it together; see ``load_export``."""
        super().__init__(description.calibration, threshold, description.tiling)
        self.description = description
        self._engine = engine

    def score(self, pictures: Sequence[FloatArray]) -> list[Scored]:
        """Scores pictures ``(H, W, 3)``; see ``Inspector.score``."""
        if self.tiling is None:
            return self._score_whole(pictures)
        return [Scored(*score_tiles(self._score_whole, picture, self.tiling)) for picture in pictures]

    def _score_whole(self, pictures: Sequence[FloatArray]) -> list[Scored]:
        """Scores pictures as they are, or tiles."""
        for picture in pictures:
            self._check_size(picture)
        scored: dict[int, Scored] = {}
        for shape in dict.fromkeys(picture.shape for picture in pictures):
            places = [place for place, picture in enumerate(pictures) if picture.shape == shape]
            found = self._engine(np.stack([pictures[place] for place in places]), self.threshold)
            if not (np.isfinite(found.anomaly_maps).all() and np.isfinite(found.scores).all()):
                raise DetectorError("the exported detector gave values that are not finite")
            scored.update(zip(places, map(Scored, found.anomaly_maps, found.scores.tolist()), strict=True))
        return [scored[place] for place in range(len(pictures))]

    def _check_size(self, picture: FloatArray) -> None:
        wanted, (height, width) = self.description.picture_size, picture.shape[:2]
        if wanted is not None and (height, width) != wanted:
            raise DetectorError(
                f"the picture has {height}x{width} pixels (height x width), but this detector was exported for"
                f" {wanted[0]}x{wanted[1]} only; export it without --size to take any"
            )


def _check_tiles(folder: Path, description: Description) -> None:
    wanted, tiling = description.picture_size, description.tiling
    if wanted is not None and tiling is not None and tiling.tile != wanted:
        raise ExportError(
            f"{folder} was exported for {wanted[0]}x{wanted[1]} pixels only, so it cannot be given {tiling};"
            " export it without --size, or calibrate the detector for those tiles and export that one"
        )


def load_export(
    folder: Path,
    device: str = "cpu",
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    tiling: Tiling | None = None,
) -> ExportInspector:
    """Reads an exported detector.

    Args:
        folder: With ``export.json``.
        device: ``cpu``, ``cuda`` (onnx, torch), or a device of OpenVINO.
        threshold: Replaces the calibrated one.
        false_alarm_rate: Chooses the threshold anew from the calibration.
        tiling: How pictures are cut up; None for what the detector was calibrated for.

    Raises:
        ExportError: It is damaged, of a newer version, or cannot be run here.
        ValueError: It has no calibration and no threshold is given, or does not support the rate; or it was
            calibrated for another tiling and no threshold is given.
    """
    description = read_description(folder)
    if false_alarm_rate is not None:
        description = description.with_rate(false_alarm_rate)
    if tiling is not None and tiling != description.tiling:
        check_retiling(description.calibration, description.tiling, tiling, threshold)
        description = replace(description, tiling=tiling, calibration=None)
        _check_tiles(folder, description)
    return ExportInspector(description, start_engine(folder, description, device), threshold)
