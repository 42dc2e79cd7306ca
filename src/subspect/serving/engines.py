"""What runs exported graphs: ONNX Runtime, OpenVINO or PyTorch, each imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subspect.serving.description import (
    INPUTS,
    MODEL_FILES,
    OUTPUTS,
    Description,
    ExportError,
    Format,
    Precision,
)
from subspect.serving.silence import import_silently

FloatArray = npt.NDArray[np.float32]

_PACKAGES: dict[Format, str] = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# What OpenVINO computes in. Without the hint it would take bfloat16 wherever the processor has it.
_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}


class Outcome(NamedTuple):
    """What a graph gives for N pictures.

    Attributes:
        anomaly_maps: ``(N, H, W)``.
        scores: ``(N,)``.
        anomalous: ``(N,)``, bool.
    """

    anomaly_maps: FloatArray
    scores: FloatArray
    anomalous: npt.NDArray[np.bool_]


Engine = Callable[[FloatArray, float], Outcome]
"""From pictures ``(N, H, W, 3)``, RGB in [0, 1], and a threshold to the graph's outcome."""


def start_engine(folder: Path, description: Description, device: str) -> Engine:
    """Loads an exported graph.

    Raises:
        ExportError: What runs it is not installed, cannot read it, or does not know the device.
    """
    package = _PACKAGES[description.format]
    try:
        library = import_silently(package)
    except ImportError as error:
        raise ExportError(
            f"{folder} is run by {package}, which is not installed: pip install {package}"
        ) from error
    path = folder / MODEL_FILES[description.format]
    try:
        return _STARTERS[description.format](library, path, description, device)
    except ExportError:
        raise
    except Exception as error:  # each library has exceptions of its own
        raise ExportError(f"{path} cannot be loaded by {package} on {device!r}: {error}") from error


def float32_at_most(threshold: float) -> np.float32:
    """The largest float32 not above a threshold: float32 scores are above both or neither."""
    rounded = np.float32(threshold)
    return rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf))


def _threads() -> int:
    """How many threads ``OMP_NUM_THREADS`` allows, as PyTorch and Ray understand it; 0 if it says nothing."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdecimal() else 0


def _start_onnx(library: Any, path: Path, description: Description, device: str) -> Engine:
    if device not in _PROVIDERS or _PROVIDERS[device] not in library.get_available_providers():
        there = [name for name, provider in _PROVIDERS.items() if provider in library.get_available_providers()]
        raise ExportError(f"onnxruntime has no device {device!r} here; there are: {', '.join(there)}")
    options = library.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = _threads()  # 0: as many as there are cores
    session = library.InferenceSession(path, options, providers=[_PROVIDERS[device]])

    def run(pixels: FloatArray, threshold: float) -> Outcome:
        feed = dict(zip(INPUTS, (pixels, np.asarray(float32_at_most(threshold))), strict=True))
        return Outcome(*session.run(list(OUTPUTS), feed))

    return run


def _start_openvino(library: Any, path: Path, description: Description, device: str) -> Engine:
    core = library.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": _precision(core, description.precision, device.upper()),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if device.upper() == "CPU" and _threads():
        settings["INFERENCE_NUM_THREADS"] = str(_threads())
    model = core.compile_model(path, device.upper(), settings)

    def run(pixels: FloatArray, threshold: float) -> Outcome:
        found = model(dict(zip(INPUTS, (pixels, np.asarray(float32_at_most(threshold))), strict=True)))
        maps, scores, anomalous = (found[name] for name in OUTPUTS)
        return Outcome(maps, scores, anomalous.astype(np.bool_))

    return run


def _precision(core: Any, precision: Precision, device: str) -> str:
    """What OpenVINO is to compute in: the export's own precision, or float32 where the device lacks float16.

    Asked for float16 there, it would take bfloat16, which is eight times as coarse.
    """
    hint = _HINTS[precision]
    if hint == "f16" and "FP16" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return "f32"
    return hint


def _start_torch(library: Any, path: Path, description: Description, device: str) -> Engine:
    program = library.export.load(path)
    if device != "cpu":
        program = import_module("torch.export.passes").move_to_device_pass(program, device)
    module = program.module()

    def run(pixels: FloatArray, threshold: float) -> Outcome:
        with library.inference_mode():
            given = (library.from_numpy(pixels), library.tensor(float32_at_most(threshold)))
            found = module(*(tensor.to(device) for tensor in given))
        return Outcome(*(tensor.cpu().numpy() for tensor in found))

    return run


_STARTERS: dict[Format, Callable[[Any, Path, Description, str], Engine]] = {
    "onnx": _start_onnx,
    "openvino": _start_openvino,
    "torch": _start_torch,
}
