"""Training of the students (paper, section 3.2), between two passes that gather statistics.

1. The teacher's descriptors over the images that students learn from: mean and standard deviation.
2. The students of each patch size regress the standardised descriptors.
3. Errors and variances over the validation images: means and standard deviations, for the z-scores.

Validation images are a share of the training normals, drawn by seed, groups kept whole. They are not the images
held out for calibration: those set the threshold and must have touched nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from subspect.datasets.loading import StepSampler, TrainingImages, as_loaded
from subspect.datasets.table import draw_groups
from subspect.detectors.config import StageConfig
from subspect.detectors.uninformed_students.ensemble import Disagreement, Ensemble, disagreement
from subspect.detectors.uninformed_students.model import UninformedStudents
from subspect.detectors.uninformed_students.patch_network import enlarge, normalise
from subspect.detectors.uninformed_students.statistics import Statistics
from subspect.training.stage import Stage

_PREVIEWED = 4
_PASS_BATCH = 2
Images = Subset[tuple[Tensor, Tensor]]


def make_stages(detector: UninformedStudents, images: TrainingImages, seed: int) -> list[Stage]:
    """All stages in order.

    Raises:
        ValueError: There are too few normal images to hold any out.
    """
    taught, validation = split_normals(images, detector.config.validation_share, seed)
    students = (StudentStage(detector, ensemble, taught, seed) for ensemble in detector.each_ensemble())
    return [DescriptorPass(detector, taught, seed), *students, DisagreementPass(detector, validation, seed)]


def split_normals(images: TrainingImages, share: float, seed: int) -> tuple[Images, Images]:
    """The normal training images, those to learn from and those to validate on.

    Args:
        images: Annotated anomalous ones among them are left out.
        share: Share to validate on; at least one image.
        seed: Chooses which.

    Raises:
        ValueError: There are fewer than two images, or all belong to one group.
    """
    normals = [images.samples[index] for index in images.normal_indices]
    drawn = set(draw_groups(normals, max(1, round(share * len(normals))), seed))
    if not drawn:
        raise ValueError(
            "Uninformed Students needs at least two normal training images that do not show the same thing: one"
            f" to learn from and one to validate on; there are {len(normals)}"
        )
    places = {
        held_out: [i for i in images.normal_indices if (images.samples[i].path in drawn) == held_out]
        for held_out in (False, True)
    }
    return Subset(images, places[False]), Subset(images, places[True])


class StudentStage(Stage):
    """The students of one patch size, each for itself: ``‖S − (T − μ)/σ‖²``, mean over pixels (equation 6).

    Args:
        detector: Names and schedules.
        ensemble: Its students are trained here.
        images: To learn from.
        seed: Decides the order of the images.
    """

    def __init__(self, detector: UninformedStudents, ensemble: Ensemble, images: Images, seed: int) -> None:
        name = f"students_{ensemble.patch_size}"
        super().__init__(name, detector.config.student_stage, seed)
        self.detector = detector
        self.ensemble = ensemble
        self.images = images

    def trained(self) -> Sequence[nn.Module]:
        """The students."""
        return [self.ensemble.students]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Images to learn from."""
        size = self.config.batch_size // world_size
        count = len(self.images)
        sampler = StepSampler(count, size, self.config.steps, self.seed, start_step, rank, world_size)
        return DataLoader(self.images, batch_sampler=sampler, collate_fn=as_loaded)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of images ``(N, 3, H, W)``, summed over the students."""
        images = batch[0].float().contiguous(memory_format=torch.channels_last)
        target, answers = self.ensemble.compare(normalise(images))
        losses = (answers - target).square().sum(2).mean((1, 2, 3))
        with torch.no_grad():
            found = disagreement(target, answers)
        self.report({"loss": losses.mean(), "error": found.error.mean(), "variance": found.variance.mean()})
        return losses.sum()

    def preview(self) -> dict[str, Tensor]:
        """Normal images, error and variance on them, white where largest."""
        count = min(_PREVIEWED, len(self.images))
        images = torch.stack([self.images[place][0] for place in range(count)]).to(self.device)
        found = self.ensemble.disagree(normalise(images))
        return {"image": images, **_drawn(found, self.ensemble.stride, (images.shape[2], images.shape[3]))}


def _drawn(found: Disagreement, stride: int, size: tuple[int, int]) -> dict[str, Tensor]:
    names = ("student error", "predictive variance")
    return {
        name: enlarge(drawn / drawn.amax().clamp(min=1e-12), stride, size).expand(-1, 3, -1, -1)
        for name, drawn in zip(names, found, strict=True)
    }


class _Pass(Stage):
    """One pass over images that gathers statistics, in order, without gradients; it always begins anew."""

    def __init__(self, name: str, detector: UninformedStudents, images: Images, seed: int) -> None:
        super().__init__(name, StageConfig(-(-len(images) // _PASS_BATCH), _PASS_BATCH), seed)
        self.detector = detector
        self.images = images
        self.ensembles = detector.each_ensemble()

    @abstractmethod
    def trained(self) -> Sequence[Statistics]:
        """The statistics that are gathered."""

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Every image once."""
        return DataLoader(self.images, _PASS_BATCH, collate_fn=as_loaded)

    def on_fit_start(self) -> None:
        """Forgets what an earlier training gathered."""
        for statistics in self.trained():
            statistics.forget()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Takes images ``(N, 3, H, W)`` in."""
        with torch.no_grad():
            images = normalise(batch[0].float().contiguous(memory_format=torch.channels_last))
            for ensemble in self.ensembles:
                self.gather(ensemble, images)

    @abstractmethod
    def gather(self, ensemble: Ensemble, images: Tensor) -> None:
        """Adds what an ensemble says of normalised images to its statistics."""

    def preview(self) -> dict[str, Tensor]:
        """The images whose statistics are gathered."""
        count = min(_PREVIEWED, len(self.images))
        return {"image": torch.stack([self.images[place][0] for place in range(count)])}


class DescriptorPass(_Pass):
    """Mean and standard deviation of the teachers' descriptors.

    Args:
        detector: Its ensembles' ``descriptors`` are set.
        images: Those that the students will learn from.
        seed: Of the training.
    """

    def __init__(self, detector: UninformedStudents, images: Images, seed: int) -> None:
        super().__init__("descriptors", detector, images, seed)

    def trained(self) -> Sequence[Statistics]:
        """Statistics of the descriptors."""
        return [ensemble.descriptors for ensemble in self.ensembles]

    def gather(self, ensemble: Ensemble, images: Tensor) -> None:
        """Adds an ensemble's descriptors."""
        ensemble.descriptors.add(ensemble.describe(images))


class DisagreementPass(_Pass):
    """Mean and standard deviation of errors and variances.

    Args:
        detector: Its ensembles' ``errors`` and ``variances`` are set.
        images: Validation images.
        seed: Of the training.
    """

    def __init__(self, detector: UninformedStudents, images: Images, seed: int) -> None:
        super().__init__("disagreement", detector, images, seed)

    def trained(self) -> Sequence[Statistics]:
        """Statistics of errors and variances."""
        return [kept for ensemble in self.ensembles for kept in (ensemble.errors, ensemble.variances)]

    def gather(self, ensemble: Ensemble, images: Tensor) -> None:
        """Adds an ensemble's errors and variances."""
        found = ensemble.disagree(images)
        ensemble.errors.add(found.error)
        ensemble.variances.add(found.variance)
