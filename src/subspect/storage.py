"""Detectors on disk: a folder of ``detector.json`` and ``weights.safetensors``, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from subspect.calibration import Calibration
from subspect.detectors.base import Detector
from subspect.detectors.configuration import from_dict
from subspect.detectors.registry import find_method
from subspect.files import complete_folder, write_json
from subspect.serving.description import is_export

DETECTOR = "detector"
"""Folder of the detector in that of the run that made it."""

FORMAT = 1
DESCRIPTION = "detector.json"
WEIGHTS = "weights.safetensors"


class StorageError(ValueError):
    """A folder that does not hold a detector that can be read; the message names the file and the reason."""


def save_detector(detector: Detector, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Writes a detector as a folder, complete or not at all.

    Args:
        detector: What to write, with its calibration if it has one.
        folder: Must not exist.
        provenance: How it came about (data, split, seed, steps, …), values JSON can hold.

    Raises:
        FileExistsError: The folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists and is not overwritten; choose another folder")
    description = {
        "format": FORMAT,
        "method": detector.method,
        "config": asdict(detector.config),
        "calibration": None if detector.calibration is None else detector.calibration.to_dict(),
        "provenance": {**provenance, **detector.provenance()},
        "versions": {name: version(name) for name in ("subspect", "torch", "lightning")},
    }
    with complete_folder(folder) as made:
        weights = {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}
        save_file(weights, made / WEIGHTS)
        write_json(made / DESCRIPTION, description)


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a detector's ``detector.json``.

    Raises:
        StorageError: It is missing, no JSON, or of a newer format than this version knows.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise StorageError(_why_no_detector(folder) or f"{folder} is no detector: it has no {DESCRIPTION}")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        written = int(description["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}") from error
    if written > FORMAT:
        raise StorageError(f"{path} has format {written}; this version of subspect reads up to {FORMAT}")
    return description


def find_detector(path: Path) -> Path:
    """The folder of a detector, given that folder or the run's that made it."""
    inside = path / DETECTOR
    return inside if not (path / DESCRIPTION).is_file() and inside.is_dir() else path


def find_detectors(path: Path) -> list[Path]:
    """The folders of detectors, given one, the run's that made it, or one with several such runs.

    Raises:
        StorageError: There is none.
    """
    if (find_detector(path) / DESCRIPTION).is_file():
        return [find_detector(path)]
    inside = sorted(path.iterdir()) if path.is_dir() else []
    found = [find_detector(run) for run in inside if (find_detector(run) / DESCRIPTION).is_file()]
    if not found:
        nothing = f"{path} is no detector: neither it nor a folder in it has a {DESCRIPTION}"
        raise StorageError(_why_no_detector(path) or nothing)
    return found


def _why_no_detector(path: Path) -> str:
    return f"{path} is no detector, but an export: only `inspect` takes it" if is_export(path) else ""


def load_detector(folder: Path, device: torch.device | str = "cpu") -> Detector:
    """Reads a detector, in evaluation mode.

    Raises:
        StorageError: A file is missing or damaged, or weights and configuration do not fit.
    """
    description = read_description(folder)
    try:
        method = find_method(description["method"])
        detector = method.build(from_dict(method.config, description["config"]))
        calibration = description["calibration"]
        detector.calibration = None if calibration is None else Calibration.from_dict(calibration)
        detector.restore_provenance(description["provenance"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{folder / DESCRIPTION} is damaged: {error}") from error
    try:
        detector.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StorageError(f"{folder / WEIGHTS} cannot be used: {error}") from error
    return detector.to(device).eval()
