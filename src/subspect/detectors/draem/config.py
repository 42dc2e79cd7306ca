"""DRAEM's configuration: the two networks, the simulated anomalies, the training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from subspect.detectors.colour import Colour
from subspect.detectors.config import DetectorConfig, StageConfig


@dataclass(frozen=True)
class SimulationConfig:
    """How training anomalies are made (paper, section 3.3; shares of the reference).

    Attributes:
        normal_share: Share of samples left normal.
        rotation_share: Share of images rotated by up to 90° either way.
    """

    normal_share: float = 0.5
    rotation_share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.normal_share <= 1 or not 0 <= self.rotation_share <= 1:
            raise ValueError(f"normal_share and rotation_share lie in [0, 1], got {self}")


@dataclass(frozen=True)
class DraemConfig(DetectorConfig):
    """DRAEM; defaults are the reference implementation's, which made the published numbers.

    Attributes:
        colour: Channel order the weights expect; the reference reads BGR.
        reconstructive_width: Channels of the reconstructive network's first level.
        discriminative_width: Channels of the discriminative network's first level.
        training_crop: Side of the square crops trained on, a multiple of 32; None trains on whole images.
        simulation: Training anomalies.
        training: The schedule. The paper's 700 epochs are 21,000 steps of 8 images on MVTec AD, whose
            categories have 242 images to train on in the mean. The reference's rate falls to a fifth at 80 %
            and at 90 % (the paper's: to a tenth after 400 and 600 epochs).
    """

    least_side: ClassVar[int] = 64
    antialias: bool = False
    colour: Colour = "bgr"
    reconstructive_width: int = 128
    discriminative_width: int = 64
    training_crop: int | None = None
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    training: StageConfig = StageConfig(21_000, batch_size=8, learning_rate=1e-4, schedule="two_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.reconstructive_width, self.discriminative_width) < 1:
            raise ValueError(
                "DRAEM's networks need widths of at least one channel, got reconstructive_width"
                f" {self.reconstructive_width} and discriminative_width {self.discriminative_width}"
            )
        if self.training_crop is not None and (self.training_crop < 64 or self.training_crop % 32):
            raise ValueError(f"the training crop is a multiple of 32, at least 64, got {self.training_crop}")


PRESETS = {
    "paper": DraemConfig(),
    "fast": DraemConfig(
        antialias=True,
        colour="rgb",
        reconstructive_width=16,
        discriminative_width=16,
        training_crop=128,
        training=StageConfig(5000, batch_size=8, learning_rate=1e-3, schedule="cosine", warmup=30),
    ),
}
