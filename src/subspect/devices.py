"""Devices: whether one of PyTorch's is there, how exactly it computes, and what processor this machine has."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def true_float32() -> Iterator[None]:
    """Convolutions in float32 that deserve the name: by itself PyTorch lets NVIDIA's GPUs round to TF32.

    Its ten bits of fraction spoil small differences: variances in SSIM, distances to codes, z-scores.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def processor_name() -> str:
    """The processor's name as Linux tells it, or what little the standard library knows."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
