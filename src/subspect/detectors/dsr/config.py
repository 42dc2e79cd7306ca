"""DSR's configuration: the discrete latent model, the modules around it, the training stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from subspect.detectors.colour import Colour
from subspect.detectors.config import DetectorConfig, StageConfig
from subspect.simulation.overlay import Fill
from subspect.simulation.shapes import Shape

Sampling = Literal["table", "exact", "uniform"]


@dataclass(frozen=True)
class LatentConfig:
    """The discrete latent model (paper, section 3.1); defaults are the paper's.

    Attributes:
        width: Channels of encoders, codes and decoder; with a backbone, of the decoder.
        residual_width: Channels inside a residual block.
        codes: Entries in each codebook.
        low_groups: Parts of a low feature, each with a codebook of its own (product quantisation). The paper
            has one.
        high_groups: The same of high features.
        drawing_groups: How many of the groups of high features only draw. A code learnt for long draws whatever
            comes and is surprised by nothing; so where there are such groups, the channels that are trained to
            draw are there twice, as they were early in training and as they became, and the codes of the
            former are counted as normal or not (docs/experiments.md).
        backbone: Name in timm of a network pretrained on ImageNet whose levels are the features, see
            `subspect.detectors.dsr.perceptual_model`; None trains encoders, as the paper.
    """

    width: int = 128
    residual_width: int = 64
    codes: int = 4096
    low_groups: int = 1
    high_groups: int = 1
    drawing_groups: int = 0
    backbone: str | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.residual_width, self.low_groups, self.high_groups) < 1 or self.codes < 2:
            raise ValueError(f"widths and groups are at least 1, codes at least 2, got {self}")
        if not 0 <= self.drawing_groups < self.high_groups or (self.drawing_groups and self.backbone is None):
            raise ValueError(f"drawing groups are fewer than high groups, and need a backbone, got {self}")

    @property
    def counted_groups(self) -> int:
        """Groups of high features, the first, whose codes tell how usual they are."""
        return self.high_groups - self.drawing_groups


@dataclass(frozen=True)
class PretrainingConfig:
    """Stage 1, the discrete latent model on natural images (paper, section 3.6).

    Attributes:
        stage: The schedule.
        crop_size: Side of the square training crops.
        reconstruction_weight: Weight of the image's squared error against the commitment loss. The paper
            has 1; dividing by the variance of natural images (0.06), as VQ-VAE's authors do, converges
            better in short runs.
        commitment: Weight of the commitment loss.
        decay: Of the codebooks' exponential moving averages.
        quantise_from: Steps trained as a plain autoencoder before k-means sets the codebooks.
        early_steps: Steps after which the channels that draw are copied, where a model counts the codes of an
            early copy (`LatentConfig.drawing_groups`).
        colour: Channel order that the model is to expect, as in `DsrConfig`.
    """

    stage: StageConfig = StageConfig(steps=200_000, batch_size=32)
    crop_size: int = 256
    reconstruction_weight: float = 1.0
    commitment: float = 0.25
    decay: float = 0.99
    quantise_from: int = 200
    early_steps: int = 2000
    colour: Colour = "bgr"

    def __post_init__(self) -> None:
        if self.crop_size < 8 or self.crop_size % 8:
            raise ValueError(f"the crop size is a multiple of 8, got {self.crop_size}")


@dataclass(frozen=True)
class SimulationConfig:
    """How training anomalies are made (paper, section 3.5; reference where they differ).

    Attributes:
        shapes: Shapes of the anomalies; see `subspect.simulation.shapes`.
        image_share: Share of the anomalies painted onto the image before it is encoded, instead of made in
            the quantised feature space; 1 is an ablation.
        fills: What the painted ones consist of; see `subspect.simulation.overlay.paint`.
        sampling: Where replacement codes come from. ``table``: neighbours of the code itself; ``exact``:
            neighbours of the unquantised feature, as the reference; ``uniform``: the whole codebook
            (an ablation).
        nearest_share: λs, the share of the codebook, nearest first, that is never drawn.
        minimum_strength: Lower bound of the share of the codebook that an image draws from.
        normal_share: Share of samples left normal.
        rotation_share: Share of images rotated by up to 90° either way, in stage 2.
        smudge_rotation_share: The same in stage 3.
        annotated_share: Share of a stage 2 batch taken by annotated anomalous images where there are any
            (the supervised extension, paper, section 4.2; its share is not published).
    """

    shapes: tuple[Shape, ...] = ("perlin",)
    image_share: float = 0.0
    fills: tuple[Fill, ...] = ("colour",)
    sampling: Sampling = "exact"
    nearest_share: float = 0.05
    minimum_strength: float = 0.2
    normal_share: float = 0.5
    rotation_share: float = 0.4
    smudge_rotation_share: float = 0.3
    annotated_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.nearest_share < 1 or not 0 <= self.minimum_strength < 1:
            raise ValueError(f"nearest_share and minimum_strength lie in [0, 1), got {self}")
        shares = ("image_share", "normal_share", "rotation_share", "smudge_rotation_share", "annotated_share")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies in [0, 1], got {getattr(self, name)}")
        if not self.shapes or not self.fills:
            raise ValueError(f"simulated anomalies need at least one shape and one fill, got {self}")


@dataclass(frozen=True)
class DsrConfig(DetectorConfig):
    """DSR; defaults are the reference implementation's, which made the published numbers.

    Attributes:
        colour: Channel order the weights expect; the reference reads BGR.
        latent: The discrete latent model.
        subspace_width: Channels of the subspace restriction modules' first level.
        light: Modules made for short trainings: pre-activation residual blocks at feature resolution,
            which begin where both reconstructions agree (the object-specific decoder is a copy of the
            general one, the subspace modules are residuals around the identity), and a detection module
            that sees the change of the features beside the pictures. The paper's are larger and start from
            random weights.
        detection_width: Channels of the detection module's first level.
        upsampling_width: Channels of the upsampling module's first level.
        refine: Whether there is an upsampling module. The paper has one, and without is its ablation; ``fast``
            has none, since it cost outlines or changed nothing (docs/experiments.md).
        training_crop: Side of the square crops trained on, a multiple of 32; None trains on whole images.
        feature_loss_weight: Of the squared error of the restricted features, with ``light`` in units of the
            codes' variance; 0 is an ablation.
        image_loss_weight: Of the squared error of the object-specific reconstruction; at 0, an ablation,
            the decoder learns from the detection loss instead.
        simulation: Training anomalies.
        detection_stage: Stage 2, the schedule of everything but the upsampling module.
        upsampling_stage: Stage 3, the upsampling module's schedule (the paper has 20,000 steps).
    """

    least_side: ClassVar[int] = 64
    antialias: bool = False
    colour: Colour = "bgr"
    latent: LatentConfig = LatentConfig()
    subspace_width: int = 128
    light: bool = False
    detection_width: int = 64
    upsampling_width: int = 64
    refine: bool = True
    training_crop: int | None = None
    feature_loss_weight: float = 1.0
    image_loss_weight: float = 10.0
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    detection_stage: StageConfig = StageConfig(steps=100_000, batch_size=8, schedule="step")
    upsampling_stage: StageConfig = StageConfig(steps=50_000, batch_size=8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.subspace_width, self.detection_width, self.upsampling_width) < 1:
            raise ValueError(
                f"DSR's modules need widths of at least one channel, got subspace_width {self.subspace_width},"
                f" detection_width {self.detection_width} and upsampling_width {self.upsampling_width}"
            )
        if self.training_crop is not None and (self.training_crop < 64 or self.training_crop % 32):
            raise ValueError(f"the training crop is a multiple of 32, at least 64, got {self.training_crop}")

    def trained_stages(self) -> dict[str, StageConfig]:
        """Stages 2 and 3; without the upsampling module stage 2 alone."""
        stages = super().trained_stages()
        return stages if self.refine else {"detection_stage": stages["detection_stage"]}


_FAST_LATENT = LatentConfig(
    width=64,
    residual_width=32,
    codes=256,
    low_groups=12,
    high_groups=12,
    drawing_groups=4,
    backbone="resnet18.tv_in1k",
)

PRESETS = {
    "paper": DsrConfig(),
    "fast": DsrConfig(
        antialias=True,
        colour="rgb",
        latent=_FAST_LATENT,
        light=True,
        subspace_width=32,
        detection_width=40,
        upsampling_width=16,
        refine=False,
        training_crop=128,
        simulation=SimulationConfig(
            shapes=("perlin", "blobs", "strokes", "bands"),
            sampling="table",
            image_share=0.5,
            fills=("colour", "gain", "grain", "graft"),
            normal_share=0.4,
            rotation_share=0.0,
            smudge_rotation_share=0.0,
        ),
        detection_stage=StageConfig(
            steps=4000,
            batch_size=8,
            learning_rate=5e-4,
            schedule="cosine",
            warmup=30,
            gradient_norm=1.0,  # single steps were large enough to ruin the detection module for good
        ),
        upsampling_stage=StageConfig(steps=400, batch_size=8, learning_rate=5e-4, schedule="cosine", warmup=20),
    ),
}

PRETRAINING = {
    "paper": PretrainingConfig(),
    "fast": PretrainingConfig(
        stage=StageConfig(steps=22_000, batch_size=16, learning_rate=1e-3, schedule="cosine", warmup=50),
        crop_size=128,
        reconstruction_weight=16.0,
        quantise_from=300,
        colour="rgb",
    ),
}
