"""Profiling a detector: what is profiled, on which images, inference and then every training stage."""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from subspect.benchmark.environment import environment
from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.registry import find_method
from subspect.profiling.inference import profile_inference
from subspect.profiling.peak import measure_peak
from subspect.profiling.results import DetectorProfile
from subspect.profiling.training_step import profile_stage
from subspect.storage import find_detector, load_detector
from subspect.training.options import FitOptions, silence_adverts
from subspect.training.stage import Stage

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TRAINERS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
_IMAGES = 16


@dataclass(frozen=True)
class ProfileOptions:
    """How a detector is profiled.

    Attributes:
        batch: Images at a time in inference; training has its own batch sizes.
        precision: Name in ``PRECISIONS``.
        training: Whether training steps are profiled, too.
        device: ``cpu``, ``cuda``, ….
    """

    batch: int = 1
    precision: str = "float32"
    training: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}")
        if self.batch < 1:
            raise ValueError(f"at least one image is judged at a time, got a batch size of {self.batch}")


def trained_detector(folder: Path, image_size: tuple[int, int] | None) -> Detector:
    """A detector on disk; at another image size than its own one of its configuration with random weights.

    Raises:
        StorageError: There is no detector that can be read.
        ValueError: It cannot take the size.
    """
    detector = load_detector(find_detector(folder))
    if image_size in (None, detector.config.image_size):
        return detector
    assert image_size is not None
    return untrained_detector(detector.method, replace(detector.config, image_size=image_size))


def untrained_detector(method: str, config: DetectorConfig) -> Detector:
    """A detector with random weights, always the same ones, in the memory that a trained one takes."""
    torch.manual_seed(0)
    detector = find_method(method).build(config)
    # PaDiM has one factor for all positions until it learns, which would be copied at every call.
    detector.load_state_dict(detector.state_dict())
    return detector


def profile_detector(detector: Detector, name: str, options: ProfileOptions) -> DetectorProfile:
    """Profiles a detector, training it for some steps if its training is to be profiled.

    The peak is measured before and after, and the higher counts: other work on the machine only lowers it.

    Args:
        detector: With whatever weights.
        name: What to call it.
        options: How.
    """
    device, precision = torch.device(options.device), PRECISIONS[options.precision]
    silence_adverts()
    peak = measure_peak(precision, device)
    profiles = [profile_inference(detector, options.batch, precision, device)]
    accelerator = "gpu" if device.type == "cuda" else device.type
    fit_options = FitOptions(accelerator, precision=_TRAINERS[options.precision], progress=False)
    stages = _stages(detector) if options.training else []
    profiles += [profile_stage(stage, fit_options, device) for stage in stages if not stage.gathers]
    return DetectorProfile(
        subject=f"{name}, {'x'.join(map(str, detector.config.image_size))}",
        machine=environment(fit_options),
        precision=options.precision,
        peak=max(peak, measure_peak(precision, device)),
        process_memory=_process_memory(),
        profiles=tuple(profiles),
        skipped=tuple(stage.name for stage in stages if stage.gathers),
    )


def _stages(detector: Detector) -> list[Stage]:
    """The training stages, over a few pictures of a built-in surface, which training reads once and keeps."""
    detector.to("cpu")
    detector.use_textures(None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "surfaces"
        generate(root, surfaces=("metal",), size=64, train=_IMAGES, test_normal=1, per_defect=1)
        samples = read_table(root, "mvtec_ad", category="metal").select(split="train").samples
        return list(detector.stages(TrainingImages(samples, detector.prepare, detector.config.image_size), 0))


def _process_memory() -> int:
    """Most bytes the process had in memory so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
