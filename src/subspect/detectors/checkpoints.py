"""Reading the checkpoints of methods' authors: their key names in ours, never their pickled code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

Renames = Sequence[tuple[str, str]]
"""Pairs of a regular expression on the reference's name and what it becomes, applied in order."""


def renamed(state: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """A reference's state dict under our names."""
    translated = {}
    for name, tensor in state.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        translated[name] = tensor
    return translated


def load_checkpoints(
    detector: nn.Module, checkpoints: Mapping[str, Path], renames: Mapping[str, Renames]
) -> None:
    """Fills modules of a detector with the weights of its authors.

    Args:
        detector: Has a module under each key of ``renames``.
        checkpoints: The file of each of these modules, its state dict.
        renames: Module -> how its keys translate.

    Raises:
        ValueError: A checkpoint does not hold the module it is given for, or one is missing.
    """
    missing = sorted(set(renames) - set(checkpoints))
    if missing:
        raise ValueError(f"no checkpoint given for: {', '.join(missing)}")
    for module, path in checkpoints.items():
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            getattr(detector, module).load_state_dict(renamed(state, renames[module]))
        except (RuntimeError, UnpicklingError, LookupError, AttributeError, TypeError, EOFError) as error:
            raise ValueError(f"{path} does not hold the reference's {module}") from error
