"""The weights and the input that the golden outputs of the authors' code were made with, given by formulas."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def reference_state(keys_file: str, checkpoint: str) -> dict[str, Tensor]:
    """The state dict of one of the reference's checkpoints."""
    shapes = json.loads((GOLDEN / keys_file).read_text())[checkpoint]
    counts = {name: torch.tensor(0) for name in shapes if name.endswith("num_batches_tracked")}
    return {
        name: torch.from_numpy(_weight(name, shapes[name])) for name in shapes.keys() - counts.keys()
    } | counts


def _weight(name: str, shape: list[int]) -> np.ndarray:
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if "running_var" in name:
        return np.abs(z) + 0.5
    if "running_mean" in name:
        return 0.1 * z
    if "_embedding" in name:
        return z
    if z.ndim > 1:
        return z * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    return 1 + 0.1 * z if name.endswith("weight") else 0.05 * z


def golden_input() -> Tensor:
    """One image ``(1, 3, 256, 256)``."""
    c, i, j = np.meshgrid(np.arange(3), np.arange(256), np.arange(256), indexing="ij")
    x = 0.5 + 0.25 * np.sin(0.05 * (c + 1) * i) + 0.25 * np.cos(0.07 * j + 0.03 * c * i)
    return torch.from_numpy(x.astype(np.float32))[None]
