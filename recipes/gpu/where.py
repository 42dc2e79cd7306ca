"""Where a GPU's time goes in DSR, and what the likeliest remedies would give, in one call of some minutes.

    python recipes/gpu/where.py OUT [--presets paper fast] [--batch 32] [--repetitions 10]

For each preset ``OUT/PRESET.txt`` gets the costliest operators of judging a batch, and ``OUT/rates.txt`` images
a second in bfloat16, with the largest difference of an anomaly map:

- as it is;
- InstanceNorm as a mean, a variance and one multiply-add, in the memory format and precision of its input:
  PyTorch's GroupNorm, which stands for it, turns channels-last into channels-first on GPUs (unless it is newer
  than August 2026), and autocast makes it float32;
- compiled, and compiled with CUDA graphs.

Weights are random but for the latent model, and rounding exchanges codes, so that maps may differ much.

On a CPU it runs, too, which says that it would run at all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.detectors.dsr.model import Dsr

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Judge = Callable[[Tensor], Tensor]


def made(preset: str) -> tuple[Dsr, Tensor]:
    """A detector with the latent model that ships and otherwise random weights, and noise of one image."""
    torch.manual_seed(0)
    config = PRESETS[preset]
    detector = Dsr(config)
    detector.adopt_latent_model(*load_latent_model(None, config.latent))
    detector = detector.eval().to(DEVICE).to(memory_format=torch.channels_last)
    return detector, torch.rand(1, 3, *config.image_size, device=DEVICE)


def with_direct_norms(judge: Judge) -> Judge:
    """The same, with InstanceNorms computed in their input's own format and precision."""

    def direct(norm: nn.GroupNorm, features: Tensor) -> Tensor:
        variance, mean = torch.var_mean(features, (2, 3), correction=0, keepdim=True)
        scale = (variance.float() + norm.eps).rsqrt()
        return torch.addcmul((-mean.float() * scale).to(features), features, scale.to(features))

    def judged(images: Tensor) -> Tensor:
        with patch.object(nn.GroupNorm, "forward", direct):
            return judge(images)

    return judged


def rate(judge: Judge, images: Tensor, repetitions: int) -> float:
    """Images judged a second, median, after three batches that warm up."""
    took = []
    for _ in range(3 + repetitions):
        start = time.perf_counter()
        judge(images)[0, 0, 0, 0].item()  # waits for the device
        took.append(time.perf_counter() - start)
    return len(images) / sorted(took[3:])[repetitions // 2]


def costliest(judge: Judge, images: Tensor) -> str:
    """The profiler's table of the operators that take most time of their own."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        judge(images)[0, 0, 0, 0].item()
    key = f"self_{DEVICE.type}_time_total"
    return str(profiler.key_averages(group_by_input_shape=True).table(key, row_limit=40))


def measure(preset: str, batch: int, repetitions: int, out: Path) -> None:
    """Profiles one preset, and times it in every way."""
    detector, image = made(preset)
    images = image.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)

    def judge(batch: Tensor) -> Tensor:
        return detector(batch).anomaly_map

    ways = {
        "as it is": judge,
        "InstanceNorm direct": with_direct_norms(judge),
        "compiled": torch.compile(judge),
        "compiled, CUDA graphs": torch.compile(judge, mode="reduce-overhead"),
    }
    expected = judge(images).clone()
    (out / f"{preset}.txt").write_text(costliest(judge, images))
    for name, judged in ways.items():
        images_a_second = rate(judged, images, repetitions)
        difference = (judged(images) - expected).abs().max().item()
        line = f"{preset}, {name}: {images_a_second:.1f} images a second, maps differ by up to {difference:.4f}"
        print(line, flush=True)
        with (out / "rates.txt").open("a") as rates:
            rates.write(f"{line}\n")


def main() -> None:
    """Writes as it goes, so that what was measured remains whatever stops it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("--presets", nargs="+", default=["paper", "fast"], choices=list(PRESETS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=10)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16):
        for preset in given.presets:
            measure(preset, given.batch, given.repetitions, given.out)


if __name__ == "__main__":
    main()
