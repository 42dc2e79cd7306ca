"""Writing a traced graph as the files of a format."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subspect.detectors.base import Detector
from subspect.export.graph import InspectionGraph, Size, trace
from subspect.serving.description import INPUTS, MODEL_FILES, OUTPUTS, Format, Precision

_DTYPES: dict[Precision, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# What autocast leaves in float32 stays so; these layers hold the weights of everything else. BatchNorm goes
# with the convolutions that it follows: ONNX knows no norm of float16 values by float32 statistics.
_HALVED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)


def write_model(
    detector: Detector, folder: Path, format_: Format, precision: Precision, picture_size: Size | None
) -> None:
    """Writes a detector as the model's files of a format, in float32, float16 or bfloat16.

    Args:
        detector: On the CPU, in evaluation mode.
        folder: Where to; it exists.
        format_: Which format.
        precision: Of convolutions and matrix products. OpenVINO computes in any precision, whatever that of the
            graph: there float16 halves the weights, and the rest is up to the runtime.
        picture_size: Height and width of the pictures; None for any.
    """
    path = folder / MODEL_FILES[format_]
    in_graph = precision if format_ != "openvino" else "float32"
    with _quiet():
        program = trace(_graph(detector.exportable(), in_graph), picture_size)
        if format_ == "torch":
            torch.export.save(program, path)
        elif format_ == "onnx":
            _write_onnx(program, path)
        else:
            _write_openvino(program, path, halved=precision == "float16")


def _graph(detector: Detector, precision: Precision) -> InspectionGraph:
    dtype = _DTYPES.get(precision)
    if dtype is None:
        return InspectionGraph(detector)
    halved = copy.deepcopy(detector)
    for module in halved.modules():
        if isinstance(module, _HALVED):
            module.to(dtype)
    return InspectionGraph(halved, dtype)


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    written = torch.onnx.export(program, dynamo=True, input_names=INPUTS, output_names=OUTPUTS, verbose=False)
    assert written is not None
    written.save(path)  # weights of more than 2 GB go into a file beside it


def _write_openvino(program: torch.export.ExportedProgram, path: Path, *, halved: bool) -> None:
    import openvino

    # By way of ONNX, which keeps the names of inputs and outputs.
    intermediate = path.with_name("intermediate.onnx")
    _write_onnx(program, intermediate)
    model: Any = openvino.convert_model(intermediate)
    openvino.save_model(model, path, compress_to_fp16=halved)
    for file in path.parent.glob(f"{intermediate.name}*"):
        file.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on their own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
