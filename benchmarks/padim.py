"""Memory of fitting PaDiM, beyond what its backbone takes, and time to judge one image.

Times are processor time of one thread.
The budgets at 224x224 are 1 GB for ResNet-18 with 100 channels and 9 GB for Wide-ResNet-50-2 with 550, for any
number of images. Run ``python benchmarks/padim.py PRESET [IMAGES [SIZE]]``; weights are random.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from subspect.detectors.padim.config import PRESETS
from subspect.detectors.padim.model import Padim
from subspect.detectors.padim.statistics import MomentSums


@torch.inference_mode()
def main(preset: str, images: int = 32, size: int = 224) -> None:
    """Fits noise and judges noise."""
    torch.set_num_threads(1)
    config = replace(PRESETS[preset], image_size=(size, size))
    detector = Padim(config).eval()
    batch = torch.rand(config.batch_size, 3, size, size)
    detector.backbone(batch)
    before = _peak()
    start = time.process_time()
    sums = MomentSums(*detector.distributions.mean.shape)
    for _ in range(images // config.batch_size):
        sums.add(detector.distributions.kept(detector.features(torch.rand_like(batch))))
    added = time.process_time()
    detector.distributions.conclude(sums)
    concluded = time.process_time()
    print(f"{preset} at {size}x{size}, {images} images in batches of {config.batch_size}: ")
    print(f"gathered in {added - start:.1f} s, factorised in {concluded - added:.1f} s,")
    print(f"peak memory {_peak() - before:.2f} GB above the backbone's {before:.2f} GB;")
    one = batch[:1]
    print(f"one image: {_best(lambda: detector(one)):.0f} ms, of which backbone", end=" ")
    print(f"{_best(lambda: detector.features(one)):.0f} ms")


def _best(call: Callable[[], object], times: int = 10) -> float:
    """The shortest of several times, in milliseconds."""
    durations = []
    for _ in range(times):
        start = time.process_time()
        call()
        durations.append(time.process_time() - start)
    return 1000 * min(durations)


def _peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
