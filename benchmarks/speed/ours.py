"""What is timed of subspect: python ours.py CASE ARGUMENTS."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from clock import Clock

# Exported detectors must be timed, and their memory taken, in a process that never imports PyTorch.
if TYPE_CHECKING:
    from subspect.detectors.base import Detector
    from subspect.serving.description import Format, Precision


def eager(clock: Clock, method: str, preset: str, size: int = 256, batch: int = 1) -> None:
    """A detector in PyTorch."""
    import torch

    detector, images = _build(method, preset, size).eval(), _random_images(batch, size)
    with torch.inference_mode():
        while clock():
            detector(images)


def exported(clock: Clock, folder: str, size: int = 256, batch: int = 1) -> None:
    """An export, from decoded pictures to verdicts, in a process without PyTorch."""
    from subspect.serving.description import read_description
    from subspect.serving.engines import start_engine

    engine = start_engine(Path(folder), read_description(Path(folder)), "cpu")
    pictures = np.random.default_rng(0).random((batch, size, size, 3), dtype=np.float32)
    while clock():
        engine(pictures, 0.5)
    assert "torch" not in sys.modules


def write_export(
    clock: Clock,
    method: str,
    preset: str,
    format: Format,
    precision: Precision,
    fixed: bool,
    folder: str,
    size: int = 256,
) -> None:
    """Writes an export for ``exported``, unchecked: with random weights verdicts mean nothing."""
    from subspect.datasets.surfaces import generate
    from subspect.export.checking import versions
    from subspect.export.combinations import ExportOptions
    from subspect.export.formats import write_model
    from subspect.files import content_digest, write_json
    from subspect.serving.description import DESCRIPTION, Description

    output = Path(folder)
    output.mkdir(parents=True)
    detector = _build(method, preset, size).eval()
    with tempfile.TemporaryDirectory() as pictures:
        root = Path(pictures) / "surfaces"
        generate(root, surfaces=("metal",), train=16, test_normal=1, per_defect=1)
        normal = tuple(sorted((root / "metal/train/good").iterdir())) if precision == "int8" else ()
        options = ExportOptions(format, precision, (size, size) if fixed else None, normal_images=normal)
        while clock():
            write_model(detector, output, options)
    digests = {path.name: content_digest(path) for path in sorted(output.iterdir())}
    description = Description(
        method,
        format,
        precision,
        options.picture_size,
        detector.config.image_size,
        None,
        None,
        digests,
        versions(),
        {},
    )
    write_json(output / DESCRIPTION, description.to_values())


def step(clock: Clock, preset: str, crop: int | None = None, size: int = 256, batch: int = 8) -> None:
    """A training step of DSR's detection stage as `subspect train` takes it, loading and logging included."""
    from dataclasses import replace

    from lightning.pytorch.callbacks import Callback

    from subspect.detectors.dsr.config import DsrConfig
    from subspect.training.fitting import run_briefly
    from subspect.training.options import FitOptions

    class Ticking(Callback):
        def on_train_start(self, *_: Any) -> None:
            clock()

        def on_train_batch_end(self, *_: Any) -> None:
            if not clock():
                sys.exit()

    detector = _build("dsr", preset, size)
    config = detector.config
    assert isinstance(config, DsrConfig)
    stage = replace(config.detection_stage, batch_size=batch)
    detector.config = replace(config, training_crop=crop, detection_stage=stage)
    options = FitOptions("cpu", precision="32-true", progress=False)
    detection = next(stage for stage in detector.stages(_images(detector), 0) if stage.name == "detection")
    run_briefly(detection, options, 1000, callbacks=[Ticking()])


def padim_fit(clock: Clock, images: int, size: int = 256) -> None:
    """Features of all images and the normal distributions."""
    import torch

    from subspect.detectors.padim.model import Padim
    from subspect.detectors.padim.statistics import MomentSums

    detector = _build("padim", "fast", size).eval()
    assert isinstance(detector, Padim)
    with torch.inference_mode():
        while clock():
            sums = MomentSums(*detector.distributions.mean.shape)
            for _ in range(max(1, images // 16)):
                features = detector.features(_random_images(min(16, images), size))
                sums.add(detector.distributions.kept(features))
            detector.distributions.conclude(sums)


def pixel_metrics(clock: Clock, images: int, size: int = 256) -> None:
    """Pixel AUROC, average precision and AUPRO of maps of noise with a square defect in every second."""
    from maps import make_maps

    from subspect.evaluation.metrics import PixelScores

    maps, masks = make_maps(images, size)
    while clock():
        pixels = PixelScores()
        for anomaly_map, mask in zip(maps, masks, strict=True):
            pixels.add(anomaly_map, mask)
        pixels.compute()


def peak(clock: Clock, processor: bool) -> None:
    """Prints operations a second of the fastest of many matrix products, by processor time or by the wall's."""
    import torch

    from subspect.profiling.peak import measure_peak

    seconds = time.process_time if processor else time.perf_counter
    print("@" + json.dumps({"peak": measure_peak(torch.float32, torch.device("cpu"), seconds)}), flush=True)


def flops(clock: Clock, method: str, preset: str, size: int = 256, batch: int = 1) -> None:
    """Prints the multiplications and additions of judging a batch."""
    import torch

    from subspect.profiling.recording import count_flops

    detector = _build(method, preset, size).eval()
    with torch.inference_mode():
        counted = count_flops(lambda: detector(torch.rand(batch, 3, size, size)))
    print("@" + json.dumps({"flops": counted.total}), flush=True)


def _build(method: str, preset: str, size: int) -> Detector:
    """A detector with random weights, `fast` of DSR with the latent model that ships."""
    from dataclasses import replace

    import torch

    from subspect.detectors.padim.model import Padim
    from subspect.detectors.registry import find_method, find_preset

    torch.manual_seed(0)
    detector = find_method(method).build(replace(find_preset(method, preset), image_size=(size, size)))
    if (method, preset) == ("dsr", "fast"):
        detector.start(None)
    if isinstance(detector, Padim):  # a factor a position, as once fitted; one that stands for all is slow
        detector.distributions.factor = detector.distributions.factor.contiguous()
    return detector


def _random_images(count: int, size: int) -> Any:
    """In channels-last, as detectors get them."""
    import torch

    return torch.rand(count, 3, size, size).contiguous(memory_format=torch.channels_last)


def _images(detector: Detector) -> Any:
    from subspect.datasets import read_table
    from subspect.datasets.loading import TrainingImages
    from subspect.datasets.surfaces import generate

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "surfaces"
        generate(root, surfaces=("metal",), train=16, test_normal=1, per_defect=1)
        samples = read_table(root, "mvtec_ad", category="metal").select(split="train").samples
        return TrainingImages(samples, detector.prepare, detector.config.image_size)


CASES = {
    case.__name__: case for case in (eager, exported, write_export, step, padim_fit, pixel_metrics, peak, flops)
}

if __name__ == "__main__":
    CASES[sys.argv[1]](Clock(), **json.loads(sys.argv[2]))
