"""What every detector is, an ``nn.Module`` from images to anomaly maps and scores; what every method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from subspect.sizes import resize

if TYPE_CHECKING:
    from subspect.calibration import Calibration
    from subspect.datasets.loading import TrainingImages
    from subspect.datasets.textures import Textures
    from subspect.detectors.config import DetectorConfig
    from subspect.tiling import Tiling
    from subspect.training.stage import Stage


class Prediction(NamedTuple):
    """What a detector says of a batch of images.

    Attributes:
        anomaly_map: ``(N, 1, H, W)``, the size of the images given; higher = more anomalous.
        score: ``(N,)``, one number an image; higher = more anomalous.
    """

    anomaly_map: Tensor
    score: Tensor


class Detector(nn.Module, ABC):
    """Base of all detectors.

    A detector never sees a path: it takes tensors of RGB images in [0, 1] and does everything after decoding
    itself (size, colour order, normalisation, padding), so that training, evaluation, inspection and every
    exported form give the same numbers.

    Attributes:
        method: Name in the registry, e.g. ``dsr``.
        learns_from_anomalies: Whether training makes use of annotated anomalous images.
        exact: Modules, by name, that exports in int8 leave as they are.
        config: The frozen configuration, stored beside the weights.
        calibration: Thresholds from normal images; None until calibrated.
    """

    method: ClassVar[str]
    learns_from_anomalies: ClassVar[bool] = False
    exact: tuple[str, ...] = ()
    config: DetectorConfig
    calibration: Calibration | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB, float in [0, 1]."""

    @abstractmethod
    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """The training stages, in order, over the given images."""

    @abstractmethod
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Pictures of the detector's workings by name, each ``(N, 3, H, W)`` in [0, 1]."""

    def prepare(self, image: npt.NDArray[np.float32]) -> Tensor:
        """A decoded picture ``(H, W, 3)``, RGB in [0, 1], as ``forward`` takes it: ``(3, h, w)``."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return resize(tensor, self.config.image_size, antialias=self.config.antialias)

    def retile(self, tiling: Tiling) -> None:
        """From now on looks at pictures in tiles; a calibration for looking in another way is given up."""
        if tiling != self.config.tiling:
            self.config, self.calibration = replace(self.config, tiling=tiling), None

    def exportable(self) -> Detector:
        """A detector that predicts the same by operations that exported graphs have; most are that already."""
        return self

    def start(self, weights: str | None) -> None:
        """Takes over the pretrained weights that training starts from; nothing for methods without any.

        Args:
            weights: A file or hub id that the user named; None takes the method's own choice.

        Raises:
            ValueError: The method cannot use such weights.
        """
        if weights is not None:
            raise ValueError(f"{self.method} starts from no pretrained weights, but {weights!r} was given")

    def use_textures(self, textures: Textures | None) -> None:
        """Takes the pictures that simulated defects are made of; nothing for methods without any.

        Args:
            textures: What the user named; None takes the method's own choice.

        Raises:
            ValueError: The method has no use for textures.
        """
        if textures is not None:
            raise ValueError(f"{self.method} uses no textures, but {textures.origin} was given; leave it out")

    def provenance(self) -> dict[str, Any]:
        """Where pretrained weights came from, for ``detector.json``; empty for methods without any."""
        return {}

    def restore_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Takes back what ``provenance`` gave, when a detector is read."""


class Method(NamedTuple):
    """A method of anomaly detection; each package of a method has one, named ``METHOD``.

    Attributes:
        build: Class of the detector; called with a configuration it gives one with random weights.
        config: Class of the configuration.
        presets: Configurations by name, ``paper`` and ``fast`` among them.
    """

    build: type[Detector]
    config: type[DetectorConfig]
    presets: Mapping[str, DetectorConfig]
