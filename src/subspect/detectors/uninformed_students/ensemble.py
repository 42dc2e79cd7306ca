"""A teacher, its students, and what they disagree on: the ensemble of one patch size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from subspect.detectors.uninformed_students.config import NetworkConfig
from subspect.detectors.uninformed_students.patch_network import PatchNetwork, surround
from subspect.detectors.uninformed_students.statistics import Statistics


class Disagreement(NamedTuple):
    """How an ensemble errs on each pixel of its grid.

    Attributes:
        error: e, the squared distance of the students' mean from the teacher, ``(N, 1, rows, columns)``.
        variance: v, the students' predictive variance, ``(N, 1, rows, columns)``.
    """

    error: Tensor
    variance: Tensor


def disagreement(teacher: Tensor, students: Tensor) -> Disagreement:
    """Error and predictive variance (paper, equations 7 and 8).

    ``e = ‖mean_i S_i − T‖²`` and ``v = mean_i ‖S_i‖² − ‖mean_i S_i‖²``, the latter computed as
    ``mean_i ‖S_i − mean_i S_i‖²``, which is the same number without the cancellation.

    Args:
        teacher: T, standardised descriptors ``(N, D, rows, columns)``.
        students: S, ``(M, N, D, rows, columns)``.
    """
    mean = students.mean(0)
    error = (mean - teacher).square().sum(1, keepdim=True)
    variance = (students - mean).square().sum(2, keepdim=True).mean(0)
    return Disagreement(error, variance)


class Ensemble(nn.Module):
    """Teacher and students of one patch size.

    Args:
        patch_size: 17, 33 or 65.
        config: Of each of the networks.
        students: How many.
        stride: Grid of the descriptors.

    Attributes:
        descriptors: Statistics of the teacher's descriptors over the training images.
        errors: Statistics of e over validation images.
        variances: Statistics of v over validation images.
    """

    def __init__(self, patch_size: int, config: NetworkConfig, students: int, stride: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stride = stride
        self.teacher = PatchNetwork(patch_size, config)
        self.students = nn.ModuleList(PatchNetwork(patch_size, config) for _ in range(students))
        self.descriptors = Statistics(config.descriptor)
        self.errors = Statistics(1)
        self.variances = Statistics(1)

    def describe(self, images: Tensor) -> Tensor:
        """The teacher's descriptors ``(N, D, rows, columns)`` of normalised images ``(N, 3, H, W)``."""
        return self._at_least_float(self.teacher(surround(images, self.teacher, self.stride), self.stride))

    def compare(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised descriptors of the teacher, and what the students take them for.

        Args:
            images: ``(N, 3, H, W)``, normalised.

        Returns:
            ``(N, D, rows, columns)``, without gradient, and ``(M, N, D, rows, columns)``.
        """
        surrounded = surround(images, self.teacher, self.stride)
        with torch.no_grad():
            described = self._at_least_float(self.teacher(surrounded, self.stride))
            target = self.descriptors.standardise(described)
        answers = [self._at_least_float(student(surrounded, self.stride)) for student in self.students]
        return target, torch.stack(answers)

    def disagree(self, images: Tensor) -> Disagreement:
        """Both for normalised images ``(N, 3, H, W)``."""
        return disagreement(*self.compare(images))

    def standardise(self, found: Disagreement) -> Disagreement:
        """Both as z-scores."""
        return Disagreement(self.errors.standardise(found.error), self.variances.standardise(found.variance))

    def _at_least_float(self, descriptors: Tensor) -> Tensor:
        """Squares are summed in the precision of the weights, also where autocast convolves in another."""
        return descriptors.to(self.descriptors.mean.dtype)
