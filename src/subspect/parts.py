"""Batches in parts, so that memory stays bounded, or the work in a processor's cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def parts_of(values: Tensor, length: int) -> Sequence[Tensor]:
    """Views of up to ``length`` rows of values ``(N, ...)``, in order; one view of them all in exported graphs.

    How many parts there are would depend on N, and a graph has the same operations whatever N is.
    """
    return (values,) if torch.compiler.is_exporting() else torch.split(values, length)
