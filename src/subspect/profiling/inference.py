"""Where the time of judging a batch of images goes, module by module."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from subspect.detectors.base import Detector
from subspect.devices import true_float32
from subspect.profiling.recording import (
    Part,
    Parts,
    Recorder,
    count_flops,
    marked_modules,
    typical,
    with_flops,
)
from subspect.profiling.results import Profile, Row
from subspect.spans import wait_for, waiting_for

_REPETITIONS = 3
_SECONDS = 2.0  # of work that is fast is repeated for so long


def profile_inference(detector: Detector, batch: int, precision: torch.dtype, device: torch.device) -> Profile:
    """Judges a batch of images of noise again and again.

    Args:
        detector: Moved to the device and put in evaluation mode.
        batch: Number of images.
        precision: Of convolutions and matrix products.
        device: Where.
    """
    detector = detector.to(device).eval()
    images = torch.rand(batch, 3, *detector.config.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)  # as detectors get them

    @torch.inference_mode()
    def judge() -> None:
        with true_float32(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
            detector(images)
        wait_for(device)

    durations = _durations(judge)
    with marked_modules(detector), waiting_for(device):
        with Recorder(_REPETITIONS, device) as recorder:
            for _ in range(_REPETITIONS + 1):
                judge()
                recorder.step()
        counted = count_flops(judge)
    recorded = typical(recorder.recorded)
    parts = with_flops(recorded.parts, counted)
    rows = [_row(parts[name], module, parts) for name, module in detector.named_modules() if name in parts]
    return Profile("inference", batch, durations, recorded.seconds, recorded.memory, counted.total, tuple(rows))


def _durations(work: Callable[[], None]) -> tuple[float, ...]:
    """Seconds of each of several repetitions, after one that warms up."""
    work()
    durations: list[float] = []
    while len(durations) < _REPETITIONS or sum(durations) < _SECONDS:
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return tuple(durations)


def _row(part: Part, module: nn.Module, parts: Parts) -> Row:
    """A module's row below that of the module that it lies in; those that are never called have none."""
    path = part.name.split(".")
    around = [".".join(path[:length]) for length in range(1, len(path))]
    called = [name for name in around if name in parts]
    label = part.name.removeprefix(f"{called[-1]}.") if called else part.name
    return Row(label, part, len(called), sum(parameter.numel() for parameter in module.parameters()))
