"""Time of a training step and of judging an image, for DSR's presets, on whatever machine this is.

    python benchmarks/dsr_speed.py [--presets fast paper] [--batch 8] [--steps 20] [--size 256]
        [--judged 1 32] [--precision bf16-mixed]

A step is timed as training takes it (simulation, forward, backward, optimiser, loading), as the difference of a
longer and a shorter training; judging as ``forward`` on images that lie on the device already, in
bfloat16 on a GPU. A step has the precision that training chooses by itself, if none is given.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.dsr.config import PRESETS, DsrConfig
from subspect.detectors.dsr.model import Dsr
from subspect.training.fitting import fit
from subspect.training.options import FitOptions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHORT = 5


def step_seconds(config: DsrConfig, root: Path, steps: int, precision: str) -> float:
    """Seconds of a step of stage 2."""
    options = FitOptions(precision=precision, progress=False, preview_every=10**6, checkpoint_every=10**6)
    took = []
    for length in (SHORT, SHORT, SHORT + steps):  # the first warms up
        torch.manual_seed(0)
        timed = replace(config, detection_stage=replace(config.detection_stage, steps=length, warmup=0))
        detector = Dsr(timed)
        table = read_table(root, "mvtec_ad", category="metal").select(split="train")
        images = TrainingImages(table.samples, detector.prepare, timed.image_size)
        stage = next(one for one in detector.stages(images, 0) if one.name == "detection")
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            fit([stage], Path(folder), options)
            took.append(time.perf_counter() - start)
    return (took[2] - took[1]) / steps


@torch.inference_mode()
def images_a_second(config: DsrConfig, batch: int) -> float:
    """Images judged a second, median of ten batches."""
    detector = Dsr(config).eval().to(DEVICE).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, *config.image_size, device=DEVICE).contiguous(
        memory_format=torch.channels_last
    )
    half = torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else contextlib.nullcontext()
    took = []
    with half:
        for _ in range(13):
            start = time.perf_counter()
            detector(images).score.cpu()  # waits for the device
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
            rates = ", ".join(f"{images_a_second(config, n):.1f}/s in batches of {n}" for n in given.judged)
            peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
            note = f", peak {peak:.1f} GiB" if peak else ""
            trained = f"{given.batch} " + (
                f"crops of {config.training_crop}" if config.training_crop else "images"
            )
            print(f"{preset} on {name}, {given.size}x{given.size}: {step * 1e3:.0f} ms a step of {trained},")
            print(f"    judging {rates}{note}", flush=True)


if __name__ == "__main__":
    main()
