"""Time of a training step and of judging an image, for DSR's presets, on whatever machine this is.

    python benchmarks/dsr_speed.py [--presets fast paper] [--batch 8] [--steps 20] [--size 256]
        [--judged 1 32] [--compiled] [--precision bf16-mixed]

A step is timed as training takes it (simulation, forward, backward, optimiser, loading), but for logs and
checkpoints, as the mean over all after some that warm up; judging as ``forward`` on images that lie on the
device already, in bfloat16 on a GPU. A step has the precision that training chooses by itself if none is given.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.dsr.config import PRESETS, DsrConfig
from subspect.detectors.dsr.model import Dsr
from subspect.spans import wait_for
from subspect.training.fitting import run_briefly
from subspect.training.options import FitOptions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP = 40
"""Steps before timing on a GPU: some blocks of those simulated at a time."""


class Clock(Callback):
    """Takes the time at the end of the warm-up and at the end of all steps."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Notes the time once the device has done what it was given."""
        if trainer.global_step == self.warm_up:
            self._note()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As above."""
        self._note()

    def _note(self) -> None:
        wait_for(DEVICE)
        self.times.append(time.perf_counter())


def step_seconds(config: DsrConfig, root: Path, steps: int, precision: str) -> float:
    """Seconds of a step of stage 2, of a training of the length that the configuration has."""
    torch.manual_seed(0)
    detector = Dsr(config)
    table = read_table(root, "mvtec_ad", category="metal").select(split="train")
    images = TrainingImages(table.samples, detector.prepare, config.image_size)
    stage = next(one for one in detector.stages(images, 0) if one.name == "detection")
    clock = Clock(WARM_UP if DEVICE.type == "cuda" else 2)
    run_briefly(stage, FitOptions(precision=precision), clock.warm_up + steps, callbacks=[clock])
    return (clock.times[1] - clock.times[0]) / steps


@torch.inference_mode()
def images_a_second(config: DsrConfig, batch: int, *, compiled: bool) -> float:
    """Images judged a second, median of ten batches."""
    detector = Dsr(config).eval().to(DEVICE).to(memory_format=torch.channels_last)
    judge = torch.compile(detector) if compiled else detector
    images = torch.rand(batch, 3, *config.image_size, device=DEVICE).contiguous(
        memory_format=torch.channels_last
    )
    half = torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else contextlib.nullcontext()
    took = []
    with half:
        for _ in range(13):
            start = time.perf_counter()
            judge(images).score.cpu()  # waits for the device
            took.append(time.perf_counter() - start)
    return batch / sorted(took[3:])[5]


def main() -> None:
    """Prints one line a preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["fast"], choices=list(PRESETS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--judged", type=int, nargs="+", default=[1, 32], help="sizes of batches judged")
    parser.add_argument("--compiled", action="store_true", help="judge with torch.compile")
    parser.add_argument("--precision", default="auto", help="of a step, as `train` takes it")
    parser.add_argument("--crop", type=int, help="side of the training crops; the preset's if not given")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "surfaces", seed=0, surfaces=("metal",), size=given.size)
        for preset in given.presets:
            config = replace(PRESETS[preset], image_size=(given.size, given.size))
            config = replace(config, detection_stage=replace(config.detection_stage, batch_size=given.batch))
            if given.crop:
                config = replace(config, training_crop=given.crop)
            step = step_seconds(config, Path(folder) / "surfaces", given.steps, given.precision)
            rates = ", ".join(
                f"{images_a_second(config, n, compiled=given.compiled):.1f}/s in batches of {n}"
                for n in given.judged
            )
            peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
            note = f", peak {peak:.1f} GiB" if peak else ""
            trained = f"{given.batch} " + (
                f"crops of {config.training_crop}" if config.training_crop else "images"
            )
            print(f"{preset} on {name}, {given.size}x{given.size}: {step * 1e3:.0f} ms a step of {trained},")
            print(f"    judging {rates}{note}", flush=True)


if __name__ == "__main__":
    main()
