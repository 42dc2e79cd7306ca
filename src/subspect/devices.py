"""Devices of PyTorch: whether one that is named is there."""

from __future__ import annotations

import torch


def available_device(name: str) -> str:
    """The name of a device, as it was given.

    Raises:
        ValueError: This machine has no such device.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {name!r} on this machine: {str(error).splitlines()[0]}") from error
    return name
