"""Compiling what a stage computes at every step, where that pays: on GPUs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LEAST_STEPS = 500
"""Compiling takes about as long as some hundred steps save by it."""


def compiled(
    function: Callable[Arguments, Result], device: torch.device, steps: int
) -> Callable[Arguments, Result]:
    """The function compiled by PyTorch, or itself where that does not pay.

    On a GPU it fuses what normalises, activates and converts between convolutions, and asks less of the host;
    on a CPU it gains a step nothing (docs/performance.md).

    Args:
        function: Of tensors, without host decisions that depend on their values.
        device: Where it runs.
        steps: How often it will be called.
    """
    if device.type != "cuda" or steps < _LEAST_STEPS or importlib.util.find_spec("triton") is None:
        return function
    return torch.compile(function)
