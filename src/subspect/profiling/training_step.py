"""Where the time of a training step goes: loading, simulation, forward, backward, optimiser, the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler

from subspect.profiling.recording import Part, Recorder, count_flops, typical, with_flops
from subspect.profiling.results import Profile, Row
from subspect.spans import Span, waiting_for
from subspect.training.fitting import run_briefly
from subspect.training.options import FitOptions
from subspect.training.stage import Stage

_STEPS = 3
_PARTS = ("loading", "simulation", "forward", "backward", "optimiser")
_REST = "other"
# Actions of Lightning's by the end of their name; simulation is marked by the stages themselves.
_ACTIONS = {
    "train_dataloader_next": "loading",
    "batch_to_device": "loading",
    "Strategy.training_step": "forward",
    "Strategy.backward": "backward",
    ".optimizer_step": "optimiser",
}


def profile_stage(stage: Stage, options: FitOptions, device: torch.device) -> Profile:
    """Trains a few steps of a stage, which changes its detector.

    Args:
        stage: One that trains by steps.
        options: Precision and accelerator.
        device: That of the accelerator.
    """
    stage.config = replace(stage.config, steps=max(stage.config.steps, _STEPS + 1))
    stage.may_prepare_ahead = False
    counted = count_flops(lambda: run_briefly(stage, options, 1, profiler=_Marker()))
    with waiting_for(device), Recorder(_STEPS, device) as recorder:
        stepping = [_Stepping(recorder)]
        run_briefly(stage, options, _STEPS + 1, callbacks=stepping, profiler=_Marker())
    stage.to("cpu")
    recorded = typical(recorder.recorded)
    parts = with_flops(recorded.parts, counted)
    rows = [_own(parts[name]) for name in _PARTS if name in parts]
    rest = recorded.seconds - sum(row.seconds for row in rows)
    rows.append(Part(_REST, 1, rest, rest))
    return Profile(
        f"training step of stage {stage.name}",
        stage.config.batch_size,
        tuple(one.seconds for one in recorder.recorded),
        recorded.seconds,
        recorded.memory,
        sum(row.flops for row in rows),  # not those of preparations before the first step
        tuple(Row(row.name, row) for row in rows),
    )


def _own(part: Part) -> Part:
    """A part without those inside of it, which are rows of their own."""
    return Part(
        part.name,
        part.calls,
        part.own_seconds,
        part.own_seconds,
        part.memory,
        part.own_flops,
        part.own_flops,
    )


class _Stepping(Callback):
    """Tells a recorder where steps end."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._recorder.step()


class _Marker(Profiler):
    """Makes spans of what Lightning does."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, Span] = {}

    def start(self, action_name: str) -> None:
        """Begins an action."""
        part = next((part for end, part in _ACTIONS.items() if action_name.endswith(end)), None)
        if part is not None:
            self._open[action_name] = Span(part).__enter__()

    def stop(self, action_name: str) -> None:
        """Ends an action."""
        if action_name in self._open:
            self._open.pop(action_name).__exit__()

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Begins and ends an action."""
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)
