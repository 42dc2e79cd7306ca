"""What the machine can do at best, measured: the rate of a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from subspect.spans import wait_for

_SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
_SECONDS = 0.3


def measure_peak(
    dtype: torch.dtype, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Operations a second of the fastest of many matrix products; one is an addition or a multiplication.

    Args:
        dtype: What is multiplied.
        device: Where.
        clock: Gives the seconds that count.
    """
    return max(_rate(side, dtype, device, clock) for side in _SIDES.get(device.type, _SIDES["cpu"]))


def _rate(side: int, dtype: torch.dtype, device: torch.device, clock: Callable[[], float]) -> float:
    left, right = torch.rand(2, side, side, device=device).to(dtype)
    product = left @ right
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        wait_for(device)
        started = clock()
        torch.mm(left, right, out=product)
        wait_for(device)
        best = min(best, clock() - started)
    return 2 * side**3 / best
