"""InstanceNorm in graphs for other runtimes, which DSR writes as a GroupNorm of one channel a group.

PyTorch is faster so; but exporters make of it a reshaping around the norm, for which OpenVINO laid every map
out anew: 30 % of the time of DSR's preset ``paper``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

_GROUP_NORM = torch.ops.aten.group_norm.default
_INSTANCE_NORM = torch.ops.aten.instance_norm.default
_FROM_INPUT = True  # its statistics, not running ones
_MOMENTUM = 0.0  # of running ones, of which there are none


def name_instance_norms(program: torch.export.ExportedProgram) -> None:
    """Turns the GroupNorms that are InstanceNorms without affine parameters into what they are.

    Args:
        program: Changed in place; it computes the same.
    """
    for module in program.graph_module.modules():  # what autocast is on or off for has a graph of its own
        if isinstance(module, GraphModule):
            for node in module.graph.find_nodes(op="call_function", target=_GROUP_NORM):
                _name(node)
            module.recompile()


def _name(node: Node) -> None:
    images, groups, weight, bias, epsilon, _ = node.args
    if weight is None and bias is None and _channels(images) == groups:
        node.target = _INSTANCE_NORM
        node.args = (images, None, None, None, None, _FROM_INPUT, _MOMENTUM, epsilon, False)


def _channels(node: Any) -> int:
    return int(node.meta["val"].shape[1])
