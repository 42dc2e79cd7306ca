"""Int8: the ranges of values are taken from normal pictures, after training (NNCF)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subspect.images import read_image
from subspect.serving.description import INPUTS

# Everything else stays in float32, at little cost: distances from codes, norms and the comparison of pictures
# live on small differences of large numbers.
_QUANTISED = {"Conv", "ConvTranspose", "Convolution", "ConvolutionBackpropData", "GroupConvolution"}


def quantise_onnx(path: Path, pictures: Sequence[Path]) -> None:
    """Rewrites an ONNX file with its convolutions in int8."""
    import onnx

    model = onnx.load(path)
    quantised = _quantise(model, {node.op_type for node in model.graph.node}, pictures)
    onnx.save(quantised, path)


def quantise_openvino(model: Any, pictures: Sequence[Path]) -> Any:
    """An OpenVINO model with its convolutions in int8."""
    return _quantise(model, {operation.get_type_name() for operation in model.get_ops()}, pictures)


def _quantise(model: Any, operations: Collection[str], pictures: Sequence[Path]) -> Any:
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    kept = nncf.IgnoredScope(types=sorted(set(operations) - _QUANTISED), validate=False)
    dataset = nncf.Dataset(pictures, _as_inputs)
    return nncf.quantize(model, dataset, subset_size=len(pictures), ignored_scope=kept)


def _as_inputs(path: Path) -> dict[str, Any]:
    return dict(zip(INPUTS, (read_image(path)[None], np.zeros((), np.float32)), strict=True))
