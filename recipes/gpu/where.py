"""Where the time of a training step of DSR goes on a GPU, and what CUDA graphs of its modules give.

    python recipes/gpu/where.py OUT [--presets paper fast] [--steps 48]

For each preset ``OUT/PRESET.txt`` gets the costliest operators of some steps, by time of the host and of the
device, and ``OUT/steps.txt`` milliseconds a step and how much of that the host was at work: as it is, and with
the trained modules as CUDA graphs (`torch.cuda.make_graphed_callables`, which needs no compiler).

The step is stage 2's without Lightning (loading, simulation ahead, losses, backward, clipping, optimiser),
in bfloat16. On a CPU it runs, too, without graphs, which says that it would run at all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.folds import Batch
from subspect.detectors.dsr.lessons import Lesson, LessonsAhead
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.stages import DetectionStage
from subspect.devices import true_float32
from subspect.spans import wait_for

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP = PROFILED = 16
"""Steps; a block of those that `fast` simulates ahead, and four of `paper`."""


class Loop:
    """Steps of stage 2, one at a time.

    Args:
        preset: Of DSR.
        surfaces: Folder of drawn surfaces to train on.
    """

    def __init__(self, preset: str, surfaces: Path) -> None:
        torch.manual_seed(0)
        config = PRESETS[preset]
        endless = replace(config.detection_stage, steps=10**6, warmup=0)
        config = replace(config, detection_stage=endless)
        detector = Dsr(config)
        detector.start(None)
        samples = read_table(surfaces, "mvtec_ad", category="metal").select(split="train").samples
        images = TrainingImages(samples, detector.prepare, config.image_size)
        self.stage = DetectionStage(detector, images, 0)
        self.stage.setup("fit")
        self.stage.to(DEVICE)
        self.stage.on_fit_start()
        optimizers: Any = self.stage.configure_optimizers()
        self.optimizer: torch.optim.Optimizer = optimizers["optimizer"]
        loader, ahead = self.stage.loader(0, 0, 1), self.stage.steps_ahead()
        self.lessons: Iterator[Lesson] = iter(LessonsAhead(loader, self._prepare, ahead, 0))

    def modules(self) -> tuple[nn.Module, ...]:
        """What is trained."""
        return tuple(self.stage.trained())

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        lesson = next(self.lessons)
        with in_bfloat16():
            losses = self.stage.losses(lesson, lesson.normal.sum())
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        self.stage.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()

    def _prepare(self, batch: Batch, step: int) -> Lesson:
        images, masks, folds = (values.to(DEVICE, non_blocking=True) for values in batch)
        with in_bfloat16():
            return self.stage.prepare((images, masks, folds), step)


def in_bfloat16() -> torch.autocast:
    """Autocast as graphs need it: what they captured is gone from a cache of weights."""
    return torch.autocast(DEVICE.type, torch.bfloat16, cache_enabled=False)


def as_graphs(loop: Loop) -> None:
    """Captures the trained modules, at the sizes of a step, as CUDA graphs of forward and backward."""
    seen: dict[nn.Module, tuple[Tensor, ...]] = {}
    hooks = [module.register_forward_pre_hook(seen.setdefault) for module in loop.modules()]
    loop()
    for hook in hooks:
        hook.remove()
    samples = tuple(
        tuple(torch.rand_like(given).requires_grad_(given.requires_grad) for given in seen[module])
        for module in loop.modules()
    )
    with in_bfloat16():
        torch.cuda.make_graphed_callables(loop.modules(), samples)


def milliseconds(step: Callable[[], None], steps: int) -> tuple[float, float]:
    """Of a step, and of its host alone, as means."""
    for _ in range(WARM_UP):
        step()
    wait_for(DEVICE)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    asked = time.perf_counter()
    wait_for(DEVICE)
    return 1e3 * (time.perf_counter() - start) / steps, 1e3 * (asked - start) / steps


def costliest(step: Callable[[], None]) -> str:
    """The profiler's tables of what takes most time of its own, on the host and on the device."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(PROFILED):
            step()
        wait_for(DEVICE)
    found = profiler.key_averages()
    return "\n".join(
        str(found.table(f"self_{side}_time_total", row_limit=60))
        for side in dict.fromkeys(("cpu", DEVICE.type))
    )


def measure(preset: str, steps: int, surfaces: Path, out: Path) -> None:
    """Profiles and times one preset; writes as it goes, so that what was measured remains."""
    loop = Loop(preset, surfaces)
    _note(out, f"{preset}, as it is", milliseconds(loop, steps))
    (out / f"{preset}.txt").write_text(costliest(loop))
    if DEVICE.type == "cuda":
        as_graphs(loop)
        _note(out, f"{preset}, modules as CUDA graphs", milliseconds(loop, steps))


def _note(out: Path, name: str, took: tuple[float, float]) -> None:
    line = f"{name}: {took[0]:.1f} ms a step, {took[1]:.1f} of the host"
    print(line, flush=True)
    with (out / "steps.txt").open("a") as notes:
        notes.write(f"{line}\n")


def main() -> None:
    """Measures one preset after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("--presets", nargs="+", default=["paper", "fast"], choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=48, help="timed; whole blocks of 16 are fair")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, true_float32():
        surfaces = Path(folder) / "surfaces"
        generate(surfaces, seed=0, surfaces=("metal",), size=256)
        for preset in given.presets:
            measure(preset, given.steps, surfaces, given.out)


if __name__ == "__main__":
    main()
