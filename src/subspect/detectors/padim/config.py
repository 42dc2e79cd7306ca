"""PaDiM's configuration: the backbone, what is kept of its features, where it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from subspect.detectors.config import DetectorConfig

_SMALLEST = 32  # the Gaussian that smooths maps is 33 pixels wide


@dataclass(frozen=True)
class PadimConfig(DetectorConfig):
    """PaDiM; defaults are the paper's best (section 4.2), but for the crop.

    The paper resizes to 256x256 and looks at the central 224x224 only, so that its pixel metrics leave the
    border out. Here the whole image is looked at and judged unless ``crop`` says otherwise. To repeat the
    published numbers set ``crop`` to 224 and evaluate by the protocol ``paper``, which counts that centre only.

    Attributes:
        image_size: Pictures, and images of any other size, are resized to this; the statistics are those of
            its positions.
        backbone: Name in timm; what follows the dot names the weights that are fetched by default.
        levels: The three feature levels, ascending, numbered as timm does; of a ResNet 1 to 3 are ``layer1`` to
            ``layer3``.
        channels: d, how many randomly drawn channels of those of the three levels together are kept.
        crop: Side of the central square that is looked at; None looks everywhere. Outside of it the map is 0:
            nothing is found where nothing is looked at.
        batch_size: Images that pass through the backbone together while fitting; without influence on the
            result but for rounding.
    """

    least_side: ClassVar[int] = _SMALLEST
    backbone: str = "wide_resnet50_2.tv_in1k"
    levels: tuple[int, int, int] = (1, 2, 3)
    channels: int = 550
    crop: int | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop is not None and not _SMALLEST <= self.crop <= min(self.image_size):
            raise ValueError(
                f"the crop is at least {_SMALLEST} and at most the smaller side of the image size"
                f" {self.image_size}, got {self.crop}"
            )
        if tuple(sorted(set(self.levels))) != self.levels:
            raise ValueError(f"the levels are different ones in ascending order, got {self.levels}")
        if min(self.channels, self.batch_size) < 1:
            raise ValueError(f"channels and batch size are at least 1, got {self}")

    @property
    def looked_at(self) -> tuple[int, int]:
        """Height and width of the part that is looked at, in pixels of the resized image."""
        return self.image_size if self.crop is None else (self.crop, self.crop)

    def with_steps(self, steps: int) -> Self:
        """There are no steps to choose.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"PaDiM sees every training image once; it takes no number of steps, got {steps}")


PRESETS = {
    "paper": PadimConfig(),
    "fast": PadimConfig(backbone="resnet18.tv_in1k", channels=100, batch_size=16),
}
