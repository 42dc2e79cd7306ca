"""Training of teachers on natural images (paper, section 3.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subspect.datasets.crops import (
    NumberSampler,
    check_readable,
    crop_loader,
    find_pictures,
    held_out_text,
    split_held_out,
)
from subspect.detectors.backbones import Backbone, MissingLevelError
from subspect.detectors.uninformed_students.config import PATCH_SIZES, TEACHERS, TeacherConfig
from subspect.detectors.uninformed_students.patch_network import PatchNetwork, normalise
from subspect.detectors.uninformed_students.patches import (
    Patches,
    cut_centre,
    cut_shifted,
    disturb,
    translation_margin,
)
from subspect.detectors.uninformed_students.teacher_losses import (
    compactness_loss,
    distillation_loss,
    effective_dimensions,
    triplet_loss,
)
from subspect.detectors.uninformed_students.teacher_weights import save_teacher
from subspect.files import write_json
from subspect.runs.records import Claim, check_output
from subspect.sizes import resize
from subspect.training.fitting import fit
from subspect.training.options import FitOptions, check_options, conditions
from subspect.training.stage import Stage

_GREY_SHARE = 0.1
_LAST_LEVEL, _THIRD_LEVEL = 4, 3
_JUDGED, _JUDGED_AT_ONCE = 512, 128  # patches


class Distilled(nn.Module):
    """The pretrained network P that a teacher learns from: its deepest level, averaged over positions.

    Args:
        backbone: With one level.
        size: Side that patches are enlarged to.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.channels = backbone.channels[0]

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Features ``(N, C)`` of patches ``(N, 3, p, p)`` in [0, 1]."""
        enlarged = resize(patches, (self.size, self.size), antialias=True)
        return self.backbone(enlarged)[0].mean((2, 3))


def load_distilled(config: TeacherConfig, weights: str | None) -> Distilled:
    """The network to distil: its last level (512 features in ResNet-18) or, without weights for it, its third.

    Raises:
        ValueError: The weights cannot be had, or there is no such network.
    """
    backbone = Backbone(config.backbone, (_LAST_LEVEL,))
    try:
        backbone.load_weights(weights)
    except MissingLevelError:
        backbone = Backbone(config.backbone, (_THIRD_LEVEL,))
        backbone.load_weights(weights)
    return Distilled(backbone, config.backbone_size)


class TeacherStage(Stage):
    """Trains a teacher, and a linear decoder that is thrown away after.

    Loss: λ_k · distillation + λ_m · triplets + λ_c · compactness (paper, equation 5).

    Args:
        teacher: What is trained.
        distilled: What it learns from.
        paths: Pictures to cut patches from.
        config: Schedule and weights.
        seed: Decides patches and triplets.
    """

    def __init__(
        self,
        teacher: PatchNetwork,
        distilled: Distilled,
        paths: Sequence[Path],
        config: TeacherConfig,
        seed: int,
    ) -> None:
        super().__init__("teacher", config.stage, seed)
        self.teacher = teacher
        self.distilled = distilled
        self.teaching = config
        self.decoder = nn.Linear(config.network.descriptor, distilled.channels)
        margin = translation_margin(teacher.patch_size) if config.metric_weight else 0
        self.patches = Patches(paths, teacher.patch_size + 2 * margin, seed, _GREY_SHARE)

    def trained(self) -> Sequence[nn.Module]:
        """Teacher and decoder."""
        return [self.teacher, self.decoder]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Tensor]:
        """Batches of patches from ``start_step`` on, with room around them where triplets are made."""
        sampler = NumberSampler(self.config.batch_size, self.config.steps, start_step, rank, world_size)
        return crop_loader(self.patches, sampler, self.device)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """The loss of a batch of patches ``(N, 3, S, S)``."""
        surrounded = batch.contiguous(memory_format=torch.channels_last)
        patches = cut_centre(surrounded, self.teacher.patch_size)
        descriptors = self.describe(patches)
        losses = {
            "distillation": self.teaching.distillation_weight * self._distillation(patches, descriptors),
            "compactness": self.teaching.compactness_weight * compactness_loss(descriptors),
        }
        if self.teaching.metric_weight:
            losses["triplet"] = self.teaching.metric_weight * self._metric(surrounded, descriptors)
        self.report(losses)
        return torch.stack(list(losses.values())).sum()

    def describe(self, patches: Tensor) -> Tensor:
        """The teacher's descriptors ``(N, D)``, float32, of patches ``(N, 3, p, p)`` in [0, 1]."""
        return self.teacher(normalise(patches)).flatten(1).float()

    def _distillation(self, patches: Tensor, descriptors: Tensor) -> Tensor:
        return distillation_loss(self.decoder(descriptors).float(), self.distilled(patches).float())

    def _metric(self, surrounded: Tensor, anchor: Tensor) -> Tensor:
        """Triplets: the same patch moved and disturbed, and that of the next picture in the batch."""
        generator = self.step_generator("triplets")
        moved = cut_shifted(surrounded, self.teacher.patch_size, generator)
        moved = disturb(moved, self.teaching.luminance, self.teaching.noise, generator)
        return triplet_loss(anchor, self.describe(moved), anchor.roll(1, 0), self.teaching.margin)

    def preview(self) -> dict[str, Tensor]:
        """Four patches."""
        return {"patch": torch.stack([self.patches[number] for number in range(4)])}

    @torch.no_grad()
    def judge(self, paths: Sequence[Path]) -> dict[str, Any]:
        """How well the teacher describes 512 patches of pictures it has not seen.

        Args:
            paths: Held-out pictures; the same patches of them every time.

        Returns:
            ``distillation`` and ``compactness``, the unweighted losses; ``explained``, the share of the
            variance of the distilled features that the decoded descriptors explain; ``effective_dimensions`` of
            the descriptors.
        """
        held_out = Patches(paths, self.teacher.patch_size, self.seed, _GREY_SHARE)
        described, decoded, targets = [], [], []
        for first in range(0, _JUDGED, _JUDGED_AT_ONCE):
            batch = torch.stack([held_out[first + place] for place in range(_JUDGED_AT_ONCE)])
            described.append(self.describe(batch))
            decoded.append(self.decoder(described[-1]))
            targets.append(self.distilled(batch))
        target, descriptors = torch.cat(targets), torch.cat(described)
        distillation = float(distillation_loss(torch.cat(decoded), target))
        return {
            "pictures": len(paths),
            "patches": len(target),
            "distillation": distillation,
            "explained": 1 - distillation / float(target.var(0, correction=0).sum()),
            "compactness": float(compactness_loss(descriptors)),
            "effective_dimensions": float(effective_dimensions(descriptors)),
        }


@dataclass(frozen=True)
class TeacherRun:
    """Everything that decides what a teacher's training gives.

    Attributes:
        patch_size: 17, 33 or 65.
        teacher: Network, schedule, weights.
        folders: Where the pictures are.
        weights: Of the backbone: a file or hub id; None for timm's own.
        held_out: Share of the pictures kept for the report.
        seed: Of weights, patches and held-out pictures.
    """

    patch_size: int
    teacher: TeacherConfig
    folders: tuple[str, ...]
    weights: str | None = None
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patch_size not in PATCH_SIZES:
            sizes = ", ".join(str(size) for size in PATCH_SIZES)
            raise ValueError(f"there are teachers for patches of {sizes} pixels, not of {self.patch_size}")

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        patch_size: int,
        folders: tuple[str, ...],
        weights: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        batch_size: int | None = None,
        metric_weight: float | None = None,
    ) -> TeacherRun:
        """The run of a preset, None leaving its own value.

        Raises:
            ValueError: There is no such preset (the message lists those there are), or a value cannot be.
        """
        if preset not in TEACHERS:
            raise ValueError(f"no preset {preset!r} of teachers; there are: {', '.join(TEACHERS)}")
        teacher = TEACHERS[preset]
        if steps is not None and steps < 1:
            raise ValueError(f"a training needs at least one step, got {steps}")
        stage = teacher.stage if steps is None else teacher.stage.scaled_to(steps)
        stage = stage if batch_size is None else replace(stage, batch_size=batch_size)
        weight = teacher.metric_weight if metric_weight is None else metric_weight
        return cls(patch_size, replace(teacher, stage=stage, metric_weight=weight), folders, weights, seed=seed)


def pretrain_teacher(
    run: TeacherRun, output: Path, options: FitOptions, *, resume: bool = False
) -> dict[str, Any]:
    """Trains a teacher on folders of pictures, judges it on held-out ones, writes it.

    Args:
        run: What to train on what.
        output: The safetensors file to write, with its checksum beside it. Beside it, too, a folder of its name
            without the ending receives ``run.json``, ``split.csv``, logs and checkpoints.
        options: How to run.
        resume: Continue from the newest checkpoint.

    Returns:
        The report, which the file holds, too: the run, the number of pictures, and under ``held_out`` what
        ``TeacherStage.judge`` says.

    Raises:
        ImageError: There are too few pictures, or some cannot be read; the message lists them.
        WeightsError: The backbone's weights cannot be had.
        FileExistsError: The file exists, or its folder holds a run and ``resume`` is not set.
        BlockingIOError: Another process is at work in that folder.
        ValueError: The run to resume was another one, the output lies among the pictures, or this machine
            cannot train so.
    """
    values = json.loads(json.dumps(asdict(run)))
    check_options(options)
    if output.suffix != ".safetensors":
        raise ValueError(f"a teacher is written as a .safetensors file, got --output {output}")
    folder = output.with_suffix("")
    for root in run.folders:
        check_output(Path(root), folder)
    claim = Claim(values, folder, output, resume)
    claim.check()
    distilled = load_distilled(run.teacher, run.weights)
    paths = find_pictures(run.folders)
    check_readable(paths)
    trained, judged = split_held_out(paths, run.held_out, run.seed)
    torch.manual_seed(run.seed)
    teacher = PatchNetwork(run.patch_size, run.teacher.network)
    stage = TeacherStage(teacher, distilled, trained, run.teacher, run.seed)
    with claim.begun({"split.csv": held_out_text(trained, judged)}, conditions(options)):
        fit([stage], folder, options, resume=resume)
        report = {"run": values, "pictures": len(trained), "held_out": stage.judge(judged)}
        report["features"] = distilled.channels
        write_json(folder / "report.json", report)
        save_teacher(teacher, run.teacher.network, output, report)
    return report
