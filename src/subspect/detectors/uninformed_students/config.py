"""Configuration of Uninformed Students: the patch networks, the ensemble, the training of both."""

from __future__ import annotations

from dataclasses import dataclass

from subspect.detectors.config import DetectorConfig, StageConfig

PATCH_SIZES = (17, 33, 65)


@dataclass(frozen=True)
class NetworkConfig:
    """A patch network, teacher and students alike; defaults are the paper's.

    Attributes:
        width: Channels of the first layer; the layers after it have this many or twice as many.
        descriptor: Length of the descriptor of a patch.
    """

    width: int = 128
    descriptor: int = 128

    def __post_init__(self) -> None:
        if min(self.width, self.descriptor) < 1:
            raise ValueError(f"a patch network needs at least one channel everywhere, got {self}")


@dataclass(frozen=True)
class TeacherConfig:
    """Training of a teacher on natural images (paper, section 3.1); "?" marks what the paper does not say.

    Attributes:
        network: The teacher.
        stage: The schedule.
        distillation_weight: λ_k.
        compactness_weight: λ_c.
        metric_weight: λ_m; 0 for MVTec AD, where the paper leaves metric learning out.
        margin: δ of the triplet loss ?.
        noise: Standard deviation of the noise on a triplet's second patch, of images in [0, 1] ?.
        luminance: Its brightness is multiplied by 1 ± up to this much ?.
        backbone: Name in timm of the network that is distilled.
        backbone_size: Side that patches are enlarged to before the backbone sees them ?.
    """

    network: NetworkConfig = NetworkConfig()
    stage: StageConfig = StageConfig(steps=50_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5)
    distillation_weight: float = 1.0
    compactness_weight: float = 1.0
    metric_weight: float = 0.0
    margin: float = 1.0
    noise: float = 0.1
    luminance: float = 0.2
    backbone: str = "resnet18.tv_in1k"
    backbone_size: int = 64


@dataclass(frozen=True)
class UninformedStudentsConfig(DetectorConfig):
    """Uninformed Students; defaults are the paper's (sections 3.2, 3.3 and 4).

    Attributes:
        patch_sizes: Receptive fields, an ensemble each; their maps are averaged.
        network: Teacher and students.
        students: M, students in an ensemble.
        stride: Descriptors are computed at every such pixel of every such row, and maps enlarged bilinearly;
            1, at every pixel, is the paper's.
        validation_share: Share of the training normals held out of training; errors and variances are
            z-scored by their statistics on them. The paper takes MVTec AD's validation images.
        student_stage: Schedule of the students of one patch size. 100 epochs of one image a step, over the
            242 training images that a category of MVTec AD has on average.
    """

    patch_sizes: tuple[int, ...] = PATCH_SIZES
    network: NetworkConfig = NetworkConfig()
    students: int = 3
    stride: int = 1
    validation_share: float = 0.1
    student_stage: StageConfig = StageConfig(steps=24_200, batch_size=1, learning_rate=1e-4, weight_decay=1e-5)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = set(self.patch_sizes) <= set(PATCH_SIZES)
        if not (self.patch_sizes and known and len(set(self.patch_sizes)) == len(self.patch_sizes)):
            raise ValueError(f"patch sizes are different ones of {PATCH_SIZES}, got {self.patch_sizes}")
        if self.students < 1:
            raise ValueError(f"an ensemble needs at least one student, got {self.students}")
        if self.stride not in (1, 2, 4, 8):
            raise ValueError(f"the stride is 1, 2, 4 or 8 pixels, got {self.stride}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"the validation share lies between 0 and 1, got {self.validation_share}")

    def with_steps(self, steps: int) -> UninformedStudentsConfig:
        """The same configuration with ``steps`` of training in all, shared among the patch sizes.

        Raises:
            ValueError: That is not at least one step.
        """
        return super().with_steps(-(-steps // len(self.patch_sizes)))


_NARROW = NetworkConfig(width=64)

PRESETS = {
    "paper": UninformedStudentsConfig(),
    "fast": UninformedStudentsConfig(
        patch_sizes=(33,),
        network=_NARROW,
        stride=4,
        student_stage=StageConfig(
            steps=2500, batch_size=1, learning_rate=1e-3, schedule="cosine", warmup=30, weight_decay=1e-5
        ),
    ),
}

TEACHERS = {
    "paper": TeacherConfig(),
    "fast": TeacherConfig(
        network=_NARROW,
        stage=StageConfig(
            steps=10_000, batch_size=64, learning_rate=1e-3, schedule="cosine", warmup=100, weight_decay=1e-5
        ),
        # As published it is least, among others, where all dimensions say the same, half of them with the other
        # sign; trainings end there (docs/uninformed_students.md).
        compactness_weight=0.0,
    ),
}
