"""Uninformed Students as a detector: an ensemble for each patch size, their disagreements added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.uninformed_students.config import UninformedStudentsConfig
from subspect.detectors.uninformed_students.ensemble import Disagreement, Ensemble
from subspect.detectors.uninformed_students.patch_network import enlarge, normalise
from subspect.detectors.uninformed_students.teacher_weights import load_teachers
from subspect.parts import parts_of
from subspect.training.stage import Stage

# Descriptors computed at once: two images of 256x256, densely. More take memory and save no time.
_POSITIONS_AT_ONCE = 2 * 256**2
# Z-score that is drawn as white.
_WHITE = 10.0


class UninformedStudents(Detector):
    """Uninformed Students (paper, section 3).

    Anomaly map: the z-scores of e and v, added, mean over patch sizes; anomaly score: its maximum. Images of
    any size are taken; around them the picture is reflected.

    Args:
        config: The defaults are the paper's.
    """

    method = "uninformed_students"
    config: UninformedStudentsConfig

    def __init__(self, config: UninformedStudentsConfig) -> None:
        super().__init__()
        self.config = config
        self.ensembles = nn.ModuleList(
            Ensemble(size, config.network, config.students, config.stride) for size in config.patch_sizes
        )
        self.teacher_sources: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        found = self.disagree(images)
        anomaly_map = found.error + found.variance
        return Prediction(anomaly_map, anomaly_map.amax((1, 2, 3)))

    def disagree(self, images: Tensor) -> Disagreement:
        """Z-scores of e and v, each the mean over patch sizes, ``(N, 1, H, W)``."""
        height, width = images.shape[-2:]
        positions = height * width // self.config.stride**2
        chunks = parts_of(images, max(1, _POSITIONS_AT_ONCE // max(1, positions)))
        found = [self._disagree(normalise(chunk)) for chunk in chunks]
        errors, variances = (torch.cat(maps) for maps in zip(*found, strict=True))
        size = (height, width)
        return Disagreement(
            enlarge(errors, self.config.stride, size), enlarge(variances, self.config.stride, size)
        )

    def _disagree(self, images: Tensor) -> Disagreement:
        found = [ensemble.standardise(ensemble.disagree(images)) for ensemble in self.each_ensemble()]
        errors, variances = zip(*found, strict=True)
        return Disagreement(torch.stack(errors).mean(0), torch.stack(variances).mean(0))

    def each_ensemble(self) -> list[Ensemble]:
        """The ensembles, in the order of the patch sizes."""
        return [ensemble for ensemble in self.ensembles if isinstance(ensemble, Ensemble)]

    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """Descriptor statistics, the students of each patch size, statistics of their disagreement."""
        from subspect.detectors.uninformed_students.stages import make_stages

        return make_stages(self, images, seed)

    @torch.no_grad()
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Z-scores of error and predictive variance, black at 0 (the mean of normal images), white at 10."""
        found = self.disagree(images)
        pictures = {"student error": found.error, "predictive variance": found.variance}
        return {name: (drawn / _WHITE).clamp(0, 1).expand(-1, 3, -1, -1) for name, drawn in pictures.items()}

    def start(self, weights: str | None) -> None:
        """Takes over teachers: those named, see ``load_teachers``, or those shipped."""
        teachers = load_teachers(weights, self.config.patch_sizes, self.config.network)
        for ensemble, (state, source) in zip(self.each_ensemble(), teachers, strict=True):
            ensemble.teacher.load_state_dict(state)
            self.teacher_sources[str(ensemble.patch_size)] = source

    def provenance(self) -> dict[str, Any]:
        """Where the teachers come from, by patch size."""
        return {"teachers": self.teacher_sources}

    def restore_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Takes back where the teachers came from."""
        self.teacher_sources = dict(provenance.get("teachers", {}))
