"""What an exported detector says of itself: ``export.json``, beside the model's files and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from subspect.calibration import Calibration
from subspect.files import content_digest
from subspect.tiling import Tiling

FORMAT = 1
DESCRIPTION = "export.json"
REPORT = "check.json"

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]

MODEL_FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
"""The file that a runtime is given; there may be others beside it that belong to it."""

INPUTS, OUTPUTS = ("pixels", "threshold"), ("anomaly_map", "score", "anomalous")
INTERFACE = {
    "pixels": "float32 (N, H, W, 3): decoded pictures, RGB, divided by what their bit depth can hold",
    "threshold": "float32 scalar: a score above it is anomalous",
    "anomaly_map": "float32 (N, H, W), at the pictures' own size",
    "score": "float32 (N,)",
    "anomalous": "bool (N,)",
}
"""Inputs and outputs of every exported graph."""


class ExportError(ValueError):
    """An exported detector that cannot be used or made; the message names the file and the reason."""


@dataclass(frozen=True)
class Description:
    """The content of ``export.json``.

    Attributes:
        method: The detector's method.
        format: What runs it.
        precision: Of its arithmetic.
        picture_size: Height and width that pictures, or tiles, must have; None if they may have any.
        image_size: Height and width that the graph resizes them to.
        tiling: How pictures are cut up, so that the graph is given their tiles; None if it is given them whole.
        calibration: From which thresholds are chosen; None if the detector has none.
        files: SHA-256 of each of the model's files, by name.
        versions: Of the libraries that made it.
        detector: Configuration and provenance of the detector.
    """

    method: str
    format: Format
    precision: Precision
    picture_size: tuple[int, int] | None
    image_size: tuple[int, int]
    tiling: Tiling | None
    calibration: Calibration | None
    files: Mapping[str, str]
    versions: Mapping[str, str]
    detector: Mapping[str, Any]

    def to_values(self) -> dict[str, Any]:
        """The content of ``export.json``, values JSON can hold."""
        return {"format_version": FORMAT, **asdict(self), "interface": INTERFACE}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The description that ``to_values`` gave, also after a round trip through JSON.

        Raises:
            KeyError: Something is missing.
            TypeError: Something is of another kind.
            ValueError: A value is none of those there are.
        """
        if values["format"] not in get_args(Format) or values["precision"] not in get_args(Precision):
            raise ValueError(f"no format {values['format']!r} in {values['precision']!r}")
        calibration, picture_size, tiling = (
            values["calibration"],
            values["picture_size"],
            values.get("tiling"),
        )
        return cls(
            method=str(values["method"]),
            format=cast(Format, values["format"]),
            precision=cast(Precision, values["precision"]),
            picture_size=None if picture_size is None else _size(picture_size),
            image_size=_size(values["image_size"]),
            tiling=None if tiling is None else Tiling(_size(tiling["tile"]), int(tiling["overlap"])),
            calibration=None if calibration is None else Calibration.from_dict(calibration),
            files={str(name): str(digest) for name, digest in values["files"].items()},
            versions=dict(values["versions"]),
            detector=dict(values["detector"]),
        )

    def with_rate(self, false_alarm_rate: float) -> Self:
        """The same with the threshold for another false-alarm rate.

        Raises:
            ValueError: There is no calibration, or it does not support the rate.
        """
        if self.calibration is None:
            raise ValueError("a false-alarm rate needs a calibrated detector")
        return replace(self, calibration=self.calibration.with_rate(false_alarm_rate))


def is_export(path: Path) -> bool:
    """Whether a folder holds an exported detector."""
    return (path / DESCRIPTION).is_file()


def read_description(folder: Path) -> Description:
    """Reads ``export.json`` and compares the model's files with it.

    Raises:
        ExportError: It is damaged or of a newer version, or a file is missing or not the one that was written.
    """
    path = folder / DESCRIPTION
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written = int(values["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} is missing or damaged: {error!r}; export the detector again") from error
    if written > FORMAT:
        raise ExportError(
            f"{path} has format version {written}, and this version of subspect reads up to {FORMAT};"
            " install a newer one"
        )
    try:
        description = Description.from_values(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"{path} is damaged: {error!r}; export the detector again") from error
    _compare_files(folder, description)
    return description


def _compare_files(folder: Path, description: Description) -> None:
    if MODEL_FILES[description.format] not in description.files:
        raise ExportError(f"{folder / DESCRIPTION} is damaged: it does not name the model's file")
    for name, digest in description.files.items():
        path = folder / name
        if not path.is_file():
            raise ExportError(f"{path} is missing; export the detector again")
        if content_digest(path) != digest:
            raise ExportError(f"{path} is damaged: its SHA-256 is not that in {DESCRIPTION}; export it again")


def _size(values: Any) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)
