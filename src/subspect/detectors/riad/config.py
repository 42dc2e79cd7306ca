"""RIAD's configuration: the network, the erased cells, the training stage."""

from __future__ import annotations

from dataclasses import dataclass

from subspect.detectors.config import DetectorConfig, StageConfig
from subspect.simulation.erasure import cell_count


@dataclass(frozen=True)
class RiadConfig(DetectorConfig):
    """RIAD; defaults are the paper's.

    Attributes:
        width: Channels of the U-Net's first level.
        cell_sizes: k, sides of the erased cells in pixels; one is drawn for each training step, a detector
            uses all of them. A picture is cut into H/k x W/k cells. Read as a count, k = 2 would erase half of
            a picture in one piece and leave nothing to inpaint from; and the open implementations, which come
            to the paper's accuracy, have pixels.
        sets: n, disjoint sets of cells, erased one after the other.
        training_crop: Side of the square crops trained on, a multiple of 16; None trains on whole images.
        inpainting_stage: The schedule. The paper has 300 epochs with batches of 4: 18,150 steps for the
            average category of MVTec AD (3,629 images in 15 categories). Open implementations drop the rate
            to a tenth at epoch 250, which is 83 % of the training; the schedule ``step`` does so at 80 %.
    """

    width: int = 64
    cell_sizes: tuple[int, ...] = (2, 4, 8, 16)
    sets: int = 3
    training_crop: int | None = None
    inpainting_stage: StageConfig = StageConfig(steps=18_150, batch_size=4, learning_rate=1e-4, schedule="step")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"RIAD's network needs a width of at least one channel, got {self.width}")
        if not self.cell_sizes or min(self.cell_sizes) < 1:
            raise ValueError(f"RIAD needs cell sizes of at least one pixel, got {self.cell_sizes}")
        if self.sets < 2:
            raise ValueError(f"with fewer than 2 sets nothing is left to inpaint from, got {self.sets}")
        if self.training_crop is not None and (self.training_crop < 16 or self.training_crop % 16):
            raise ValueError(f"the training crop is a multiple of 16, got {self.training_crop}")
        height, width = (min(side, self.training_crop or side) for side in self.image_size)
        cell = max(self.cell_sizes)
        if (cells := cell_count((height, width), cell)) < self.sets:
            raise ValueError(
                f"{self.sets} sets need at least as many cells, but {height}x{width} pixels have {cells} of"
                f" {cell}x{cell}; take smaller cells, fewer sets, or larger images or crops"
            )


# ``paper``: 28.8 M parameters, 1,308 GFLOP an image of 256x256 (12 passes); ``fast``: 1.8 M and 83 GFLOP, 2.0
# processor seconds a training step (8 crops of 128x128, one thread of a busy Xeon).
PRESETS = {
    "paper": RiadConfig(),
    "fast": RiadConfig(
        width=16,
        training_crop=128,
        inpainting_stage=StageConfig(
            steps=3000, batch_size=8, learning_rate=1e-3, schedule="cosine", warmup=30
        ),
    ),
}
