"""Int8: the ranges of values are taken from normal pictures, after training (NNCF)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subspect.export.pictures import Part, read_part
from subspect.serving.description import INPUTS
from subspect.serving.silence import import_silently

# Everything else stays in float32, at little cost: distances from codes, norms and the comparison of pictures
# live on small differences of large numbers.
_QUANTISED = {"Conv", "ConvTranspose"}
# Where PyTorch's exporter notes the modules that a node stems from, outermost first.
_SCOPES = "pkg.torch.onnx.name_scopes"


def quantise_onnx(path: Path, pictures: Sequence[Part], exact: Sequence[str]) -> None:
    """Rewrites an ONNX file with its convolutions in int8, except in the detector's modules ``exact``."""
    import onnx

    model = onnx.load(path)
    onnx.save(_quantise(model, kept_nodes(model, exact), pictures), path)


def quantise_openvino(model: Any, source: Path, pictures: Sequence[Part], exact: Sequence[str]) -> Any:
    """An OpenVINO model, made of an ONNX file, with its convolutions in int8; as ``quantise_onnx``."""
    import onnx

    kept = set(kept_nodes(onnx.load(source, load_external_data=False), exact))
    names = {operation.get_friendly_name() for operation in model.get_ops()}
    return _quantise(model, sorted(kept & names), pictures)


def kept_nodes(model: Any, exact: Sequence[str]) -> list[str]:
    """Names of the nodes of an ONNX model that stay in float32.

    Those are all but the convolutions, and of these the ones in ``exact`` modules and the filters of maps, with
    one channel, where no time is to be saved (and OpenVINO 2026.4 computes something else).
    """
    weights = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in _QUANTISED
        or weights.get(node.input[1], [0, 0])[:2] == [1, 1]
        or any(f"detector.{module}" in _modules(node) for module in exact)
    ]


def _modules(node: Any) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")


def _quantise(model: Any, kept: Sequence[str], pictures: Sequence[Part]) -> Any:
    import_silently("openvino")
    nncf = import_silently("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset(pictures, _as_inputs)
    scope = nncf.IgnoredScope(names=list(kept), validate=False)
    return nncf.quantize(model, dataset, subset_size=len(pictures), ignored_scope=scope)


def _as_inputs(part: Part) -> dict[str, Any]:
    return dict(zip(INPUTS, (read_part(part)[None], np.zeros((), np.float32)), strict=True))
