"""Writing a traced graph as the files of a format."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subspect.detectors.base import Detector
from subspect.export.argmin import spell_out_argmin
from subspect.export.combinations import ExportOptions
from subspect.export.graph import InspectionGraph, trace
from subspect.export.instance_norm import name_instance_norms
from subspect.export.pictures import list_parts
from subspect.export.quantisation import quantise_onnx
from subspect.serving.description import INPUTS, MODEL_FILES, OUTPUTS, Precision
from subspect.serving.silence import import_silently

_DTYPES: dict[Precision, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# Values up to which constants are worked out when an ONNX file is written: 4 million hold the codebooks, whose
# norms and transposes would be made for every image otherwise (and NNCF cannot quantise around the norms).
_FOLDED = 2**22
_LARGEST_MESSAGE = 2**31 - 1  # bytes
# What autocast leaves in float32 stays so; these layers hold the weights of everything else. BatchNorm goes
# with the convolutions that it follows: ONNX knows no norm of float16 values by float32 statistics.
_HALVED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)


def write_model(detector: Detector, folder: Path, options: ExportOptions) -> None:
    """Writes a detector as the model's files of a format.

    OpenVINO computes in any precision, whatever that of the graph: its float16 is weights of half the size, and
    its bfloat16 is up to the runtime.

    Args:
        detector: On the CPU, in evaluation mode.
        folder: Where to; it exists.
        options: Which format and precision, and for which pictures.

    Raises:
        ValueError: The detector is too large for int8, or names a module ``exact`` that it does not have.
    """
    if unknown := sorted(set(detector.exact) - dict(detector.named_modules()).keys()):
        raise ValueError(f"{detector.method} has no modules {', '.join(unknown)}, which it wants to stay exact")
    path = folder / MODEL_FILES[options.format]
    dtype = None if options.format == "openvino" else _DTYPES.get(options.precision)
    exportable = detector.exportable()
    if options.precision == "int8":
        _check_message_size(exportable)
    with _quiet():
        program = trace(InspectionGraph(_halved(exportable, dtype), dtype, options.picture_size))
        if options.format == "torch":
            torch.export.save(program, path)
        elif options.format == "onnx":
            _write_onnx(program, path, options, detector)
        else:
            _write_openvino(program, path, options, detector)


def _check_message_size(detector: Detector) -> None:
    """Makes sure that NNCF could hold the graph, before it is traced."""
    weights = (*detector.parameters(), *detector.buffers())
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    if size > _LARGEST_MESSAGE:
        raise ValueError(
            f"its weights take {size / 1e9:.1f} GB, and NNCF needs the whole graph in one protobuf message,"
            f" which holds {_LARGEST_MESSAGE / 1e9:.1f} GB at most"
        )


def _halved(detector: Detector, dtype: torch.dtype | None) -> Detector:
    """The detector with the weights of ``_HALVED`` in a data type, if one is given."""
    if dtype is None:
        return detector
    halved = copy.deepcopy(detector)
    for module in halved.modules():
        if isinstance(module, _HALVED):
            module.to(dtype)
    return halved


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, options: ExportOptions, detector: Detector
) -> None:
    from onnxscript import optimizer

    name_instance_norms(program)
    written = torch.onnx.export(program, dynamo=True, input_names=INPUTS, output_names=OUTPUTS, verbose=False)
    assert written is not None
    optimizer.optimize(written.model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    written.save(path)  # weights of more than 2 GB go into a file beside it
    if options.precision == "int8":
        exact = [name for name in detector.exact if _convolves(detector.get_submodule(name))]
        quantise_onnx(path, list_parts(options.normal_images, detector.config.tiling), exact)


def _convolves(module: nn.Module) -> bool:
    return any(isinstance(one, (nn.Conv2d, nn.ConvTranspose2d)) for one in module.modules())


def _write_openvino(
    program: torch.export.ExportedProgram, path: Path, options: ExportOptions, detector: Detector
) -> None:
    openvino = import_silently("openvino")
    with tempfile.TemporaryDirectory() as folder:  # by way of ONNX, which keeps the names of inputs and outputs
        intermediate = Path(folder) / "model.onnx"
        _write_onnx(program, intermediate, options, detector)
        model: Any = openvino.Core().read_model(intermediate)
        spell_out_argmin(model)
        openvino.save_model(model, path, compress_to_fp16=options.precision == "float16")


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
