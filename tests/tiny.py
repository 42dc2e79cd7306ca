"""Whole trainings in a second or two: tiny data, tiny models, short schedules."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from subspect.codes import flatten_features
from subspect.detectors.backbones import Backbone
from subspect.detectors.base import Detector
from subspect.detectors.config import StageConfig
from subspect.detectors.draem.config import DraemConfig
from subspect.detectors.dsr.config import DsrConfig, LatentConfig, PretrainingConfig, SimulationConfig
from subspect.detectors.dsr.latent_model import DiscreteLatentModel
from subspect.detectors.dsr.latent_weights import save_latent_model
from subspect.detectors.dsr.normal_codes import NormalCodes
from subspect.detectors.dsr.pretraining import PretrainingRun, pretrain
from subspect.detectors.dsr.quantizer import Codebook
from subspect.detectors.padim.config import PadimConfig
from subspect.detectors.registry import find_method
from subspect.detectors.riad.config import RiadConfig
from subspect.detectors.uninformed_students.config import (
    NetworkConfig,
    TeacherConfig,
    UninformedStudentsConfig,
)
from subspect.detectors.uninformed_students.patch_network import PatchNetwork
from subspect.detectors.uninformed_students.pretraining import TeacherRun, pretrain_teacher
from subspect.detectors.uninformed_students.teacher_weights import filename, save_teacher
from subspect.runs.data import DataOptions
from subspect.runs.run import RunOptions, TrainingRun, train
from subspect.training.options import FitOptions

LATENT = LatentConfig(width=8, residual_width=4, codes=16)
DSR = DsrConfig(
    image_size=(64, 64),
    colour="rgb",
    latent=LATENT,
    subspace_width=4,
    light=True,
    detection_width=4,
    upsampling_width=8,
    training_crop=64,
    simulation=SimulationConfig(
        shapes=("perlin", "blobs", "strokes", "bands"),
        sampling="table",
        image_share=0.5,
        fills=("colour", "gain", "grain", "graft"),
    ),
    detection_stage=StageConfig(steps=3, batch_size=2, learning_rate=1e-3, gradient_norm=1.0),
    upsampling_stage=StageConfig(steps=2, batch_size=2, learning_rate=1e-3),
)
"""The make-up of preset ``fast``, a thousandth of its work."""

DRAEM = DraemConfig(
    image_size=(96, 64),
    colour="rgb",
    reconstructive_width=4,
    discriminative_width=4,
    training_crop=64,
    training=StageConfig(steps=3, batch_size=2, learning_rate=1e-3),
)
"""As ``fast``, but for the work."""

RIAD = RiadConfig(
    image_size=(64, 64),
    width=4,
    training_crop=48,
    inpainting_stage=StageConfig(steps=3, batch_size=2, learning_rate=1e-3),
)

PATCH_NETWORK = NetworkConfig(width=4, descriptor=6)
STUDENTS = UninformedStudentsConfig(
    image_size=(64, 64),
    network=PATCH_NETWORK,
    validation_share=0.3,
    student_stage=StageConfig(steps=3, batch_size=2, learning_rate=1e-3, weight_decay=1e-5),
)
"""The make-up of preset ``paper``: all three patch sizes, descriptors at every pixel."""

PADIM = PadimConfig(image_size=(64, 64), backbone="test_resnet", channels=20, batch_size=3)
"""With a network of timm's own tests, of 0.1 million parameters."""

QUIET = FitOptions(accelerator="cpu", precision="32-true", progress=False)
FREQUENT = replace(QUIET, checkpoint_every=2)


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> list[Path]:
    """Coloured noise over a slope, each picture different."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    slope = np.linspace(60, 160, size[1])[None, :, None]
    paths = [folder / f"{index:02d}.png" for index in range(count)]
    for path in paths:
        pixels = slope + rng.normal(0, 20, (*size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return paths


def write_data_set(root: Path, normal: int = 10, defective: int = 3) -> Path:
    """Layout ``folder``: pictures in ``normal`` and ``defective``, with masks of a square."""
    write_pictures(root / "normal", normal)
    (root / "masks").mkdir()
    for path in write_pictures(root / "defective", defective, seed=1):
        pixels, mask = np.array(Image.open(path)), np.zeros((64, 64), np.uint8)
        pixels[20:36, 24:40], mask[20:36, 24:40] = 255, 255
        Image.fromarray(pixels).save(path)
        Image.fromarray(mask).save(root / "masks" / path.name)
    return root


@torch.no_grad()
def latent_model(seed: int = 0) -> DiscreteLatentModel:
    """Random weights, but features of unit variance and codes among them, as far apart as training makes them.

    Codes of random weights alone nearly coincide, so that rounding would decide which is the nearest.
    """
    torch.manual_seed(seed)
    model, images = DiscreteLatentModel(LATENT), torch.rand(4, 3, 64, 64)
    for level in ("low", "high"):
        projection, codebook = getattr(model, f"{level}_projection"), getattr(model, f"{level}_codebook")
        spread, mean = torch.std_mean(getattr(model.encode(images), level), (0, 2, 3))
        projection.weight /= spread[:, None, None, None]
        projection.bias.sub_(mean).div_(spread)
        _take_codes(codebook, getattr(model.encode(images), level))
    return model


def _take_codes(codebook: Codebook, features: torch.Tensor) -> None:
    vectors = flatten_features(features)
    codebook.codes.copy_(vectors[torch.randperm(len(vectors))[: len(codebook.codes)]])


def write_latent_model(path: Path) -> str:
    """A latent model on disk, to be given as ``weights``."""
    save_latent_model(latent_model(), path, {"psnr": 20.0})
    return str(path)


def write_teachers(folder: Path) -> str:
    """Teachers with random weights on disk, to be given as ``weights``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    for size in STUDENTS.patch_sizes:
        save_teacher(PatchNetwork(size, PATCH_NETWORK), PATCH_NETWORK, folder / filename(size), {})
    return str(folder)


def write_backbone(path: Path, name: str = PADIM.backbone, levels: Sequence[int] = PADIM.levels) -> str:
    """A backbone with random weights on disk, to be given as ``weights``."""
    torch.manual_seed(0)
    save_file(dict(Backbone(name, levels).network.get_submodule("model").state_dict()), path)
    return str(path)


def tiny_run(root: Path, weights: str, config: DsrConfig = DSR, **data: object) -> TrainingRun:
    """DSR on a data set of ``write_data_set``."""
    return TrainingRun("dsr", config, DataOptions(str(root), "folder", **data), weights=weights)


LONG = replace(
    DSR,
    detection_stage=StageConfig(30, 2, learning_rate=1e-3, schedule="cosine", warmup=5),
    upsampling_stage=StageConfig(30, 2, learning_rate=1e-3, schedule="step"),
)
"""Long enough to be killed on the way."""


def train_long(root: str, weights: str, output: str, *, resume: bool = False) -> None:
    """A training of ``LONG`` with a checkpoint every second step."""
    train(tiny_run(Path(root), weights, LONG), Path(output), RunOptions(FREQUENT, resume))


def pretraining_run(pictures: str, **changes: object) -> PretrainingRun:
    """130 steps: k-means at step 30, revivals at 50 and 100."""
    stage = StageConfig(130, 4, learning_rate=1e-3, schedule="cosine", warmup=5)
    config = PretrainingConfig(stage, crop_size=32, reconstruction_weight=16.0, quantise_from=30, colour="rgb")
    return replace(PretrainingRun(LATENT, config, (pictures,), held_out=0.2), **changes)


def pretrain_long(pictures: str, output: str, *, resume: bool = False) -> None:
    """A pretraining with a checkpoint every second step."""
    pretrain(pretraining_run(pictures), Path(output), FREQUENT, resume=resume)


TEACHER = TeacherConfig(PATCH_NETWORK, StageConfig(24, 4, learning_rate=1e-3), backbone_size=16)


def teacher_run(pictures: str, backbone: str, **changes: object) -> TeacherRun:
    """24 steps, with triplets."""
    return replace(
        TeacherRun(17, replace(TEACHER, metric_weight=0.5), (pictures,), backbone, held_out=0.2), **changes
    )


def pretrain_teacher_long(pictures: str, backbone: str, output: str, *, resume: bool = False) -> None:
    """A teacher's training with a checkpoint every second step."""
    pretrain_teacher(teacher_run(pictures, backbone), Path(output), FREQUENT, resume=resume)


LONG_STUDENTS = replace(
    STUDENTS,
    patch_sizes=(33,),
    stride=4,
    student_stage=StageConfig(30, 2, learning_rate=1e-3, schedule="cosine", warmup=5, weight_decay=1e-5),
)


def train_students_long(root: str, weights: str, output: str, *, resume: bool = False) -> None:
    """Uninformed Students with a checkpoint every second step."""
    run = TrainingRun("uninformed_students", LONG_STUDENTS, DataOptions(root, "folder"), weights=weights)
    train(run, Path(output), RunOptions(FREQUENT, resume))


TINY = {"dsr": DSR, "draem": DRAEM, "riad": RIAD, "padim": PADIM, "uninformed_students": STUDENTS}
"""A tiny configuration of every method."""
STARTS = {
    "dsr": lambda folder: write_latent_model(folder / "latent.safetensors"),
    "padim": lambda folder: write_backbone(folder / "backbone.safetensors"),
    "uninformed_students": lambda folder: write_teachers(folder / "teachers"),
}
"""What a method starts from, written into a folder; methods without pretrained weights are not in it."""


@torch.no_grad()
def settle(detector: Detector) -> None:
    """Gives BatchNorm, if any, the statistics of a batch, and codes, if any, rarities: else maps are flat."""
    for module in detector.modules():
        if isinstance(module, NormalCodes):
            drawn = torch.rand(module.rarity.shape, generator=torch.Generator().manual_seed(8))
            module.rarity.copy_(10 * drawn.square())
    norms = [layer for layer in detector.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        detector.train()(torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(9)))
    for norm in norms:
        norm.momentum = 0.1


def settled_detector(method: str, folder: Path) -> Detector:
    """A detector with random weights in evaluation mode, whose maps depend on the image."""
    torch.manual_seed(0)
    detector = find_method(method).build(TINY[method])
    detector.start(STARTS[method](folder) if method in STARTS else None)
    settle(detector)
    return detector.eval()
