"""What the configurations of all detectors share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from subspect.tiling import Tiling

Schedule = Literal["constant", "step", "two_steps", "cosine"]


@dataclass(frozen=True)
class DetectorConfig:
    """How a picture becomes the tensor that a detector sees.

    Attributes:
        image_size: Height and width that pictures, or their tiles, are resized to.
        antialias: Whether shrinking a picture averages over the pixels that fall together. OpenCV's
            bilinear resize, which the reference implementations use, does not.
        tiling: How pictures are cut into tiles, each of which is looked at like a picture; None if they are
            looked at whole.
        least_side: What neither height nor width may be below; of the method, not a setting.
    """

    least_side: ClassVar[int] = 1
    image_size: tuple[int, int] = (256, 256)
    antialias: bool = True
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        least, (height, width) = self.least_side, self.image_size
        if min(height, width) < least:
            raise ValueError(
                f"images of at least {least}x{least} pixels are needed, got image size {height}x{width}; the"
                f" nearest that works is {max(height, least)}x{max(width, least)}"
            )

    def trained_stages(self) -> dict[str, StageConfig]:
        """The training stages by field name; all of them unless a method leaves some out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, StageConfig)}

    def with_steps(self, steps: int) -> Self:
        """The same configuration with ``steps`` of training in all, shared among its stages as before.

        Raises:
            ValueError: That is not at least one step.
        """
        if steps < 1:
            raise ValueError(f"a training needs at least one step, got {steps}")
        stages = self.trained_stages()
        before = sum(stage.steps for stage in stages.values())
        scaled: dict[str, Any] = {
            name: stage.scaled_to(round(stage.steps * steps / before)) for name, stage in stages.items()
        }
        return replace(self, **scaled)


@dataclass(frozen=True)
class StageConfig:
    """The schedule of one training stage.

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step, over all devices together.
        learning_rate: Adam's rate after warm-up.
        schedule: ``constant``; ``step``: a tenth after 80 % of the steps; ``two_steps``: a fifth after 80 %
            and a fifth of that after 90 %; ``cosine``: down to zero.
        warmup: Steps in which the rate rises linearly from zero.
        weight_decay: Share of the weights that Adam adds to their gradients.
        gradient_norm: What the norm of all gradients together is limited to; None leaves them as they are.
    """

    steps: int
    batch_size: int
    learning_rate: float = 2e-4
    schedule: Schedule = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    gradient_norm: float | None = None

    def scaled_to(self, steps: int) -> StageConfig:
        """The same stage in ``steps`` steps, at least one, of which the warm-up is a quarter at most."""
        steps = max(1, steps)
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 4))

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1:
            raise ValueError(f"a training stage needs at least one step and one image a step, got {self}")
        if not self.learning_rate > 0:
            raise ValueError(f"a training stage needs a learning rate above 0, got {self.learning_rate}")
        if not (self.warmup >= 0 and self.weight_decay >= 0):
            raise ValueError(f"warm-up and weight decay of a training stage are at least 0, got {self}")
        if self.gradient_norm is not None and not self.gradient_norm > 0:
            raise ValueError(f"the norm that gradients are limited to is above 0, got {self.gradient_norm}")
