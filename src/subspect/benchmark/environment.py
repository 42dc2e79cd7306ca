"""What a cell ran on: versions, processor, devices; recorded beside its results."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from subspect.devices import processor_name
from subspect.training.options import FitOptions

_LIBRARIES = ("subspect", "torch", "torchvision", "lightning", "timm", "numpy", "scipy", "pillow")


def environment(options: FitOptions) -> dict[str, Any]:
    """Values JSON can hold."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "accelerator": options.accelerator,
        "devices": options.devices,
        "precision": options.precision,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }
