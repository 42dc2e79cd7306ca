"""What a cell ran on: versions, processor, devices; recorded beside its results."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from subspect.training.options import FitOptions

_LIBRARIES = ("subspect", "torch", "torchvision", "lightning", "timm", "numpy", "scipy", "pillow")


def environment(options: FitOptions) -> dict[str, Any]:
    """Values JSON can hold."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "accelerator": options.accelerator,
        "devices": options.devices,
        "precision": options.precision,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    """The processor's name as Linux tells it, or what little the standard library knows."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
