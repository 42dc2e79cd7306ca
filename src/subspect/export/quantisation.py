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


def quantise_onnx(path: Path, pictures: Sequence[Part], exact: Sequence[str]) -> None:
    """Rewrites an ONNX file with its convolutions in int8, except in the detector's modules ``exact``.

    Args:
        path: The file.
        pictures: What the ranges of values are taken from, read one by one.
        exact: Names of modules with convolutions, see `subspect.detectors.base.Detector`.

    Raises:
        ValueError: The graph has no convolution with the name of one of these modules.
    """
    import onnx

    import_silently("openvino")
    nncf = import_silently("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = onnx.load(path)
    scope = nncf.IgnoredScope(names=kept_nodes(model, exact), validate=False)
    dataset = nncf.Dataset(pictures, _as_inputs)
    onnx.save(nncf.quantize(model, dataset, subset_size=len(pictures), ignored_scope=scope), path)


def kept_nodes(model: Any, exact: Sequence[str]) -> list[str]:
    """Names of the nodes of an ONNX model that stay in float32.

    Those are all but the convolutions, and of these the ones in ``exact`` modules and the filters of maps, with
    one channel, where no time is to be saved (and OpenVINO 2026.4 computes something else).

    Raises:
        ValueError: No convolution has the name of one of the ``exact`` modules.
    """
    convolved = [node.input[1] for node in model.graph.node if node.op_type in _QUANTISED]
    parameters = tuple(f"detector.{module}." for module in exact)
    for module, start in zip(exact, parameters, strict=True):
        if not any(name.startswith(start) for name in convolved):
            raise ValueError(f"{module} is to stay exact, but no convolution in the graph bears its name")
    weights = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in _QUANTISED
        or weights.get(node.input[1], [0, 0])[:2] == [1, 1]
        or node.input[1].startswith(parameters)
    ]


def _as_inputs(part: Part) -> dict[str, Any]:
    return dict(zip(INPUTS, (read_part(part)[None], np.zeros((), np.float32)), strict=True))
