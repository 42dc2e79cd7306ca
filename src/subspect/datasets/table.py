"""The table of samples: what every layout reads its folder into, and how it is split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

Split = Literal["train", "calibration", "test", "unused"]
NORMAL = "good"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set.

    Attributes:
        path: The image file.
        split: ``train`` fits, ``calibration`` sets thresholds (normal images only), ``test`` judges,
            ``unused`` does none of these.
        category: The product or surface, e.g. ``bottle``; one detector is trained a category.
        defect: ``good`` for a normal image, otherwise the kind of defect.
        mask_paths: Mask files; several are united. Empty for normal images and for unannotated defects.
        mask_level: A mask pixel above this value (0 to 255) is defective.
        group: Images that must not be torn apart by a split, e.g. shots of one part. Empty: on its own.
        part: Images of one and the same part, which are no independent outcomes. Empty: the group.
    """

    path: Path
    split: Split
    category: str
    defect: str = NORMAL
    mask_paths: tuple[Path, ...] = ()
    mask_level: int = 127
    group: str = ""
    part: str = ""

    @property
    def anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != NORMAL


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of a data set, in a fixed order.

    Attributes:
        samples: One entry an image.
        layout: Name of the layout that read them.
        root: The folder they were read from.
    """

    samples: tuple[Sample, ...]
    layout: str
    root: Path

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories in the table, sorted."""
        return tuple(sorted({sample.category for sample in self.samples}))

    def select(
        self, *, category: str | None = None, split: Split | None = None, anomalous: bool | None = None
    ) -> Table:
        """The part of the table that fits every condition given.

        Raises:
            ValueError: The category does not exist; the message lists those that do.
        """
        if category is not None and category not in self.categories:
            raise ValueError(f"no category {category!r} in {self.root}; it has: {', '.join(self.categories)}")
        return self.with_samples(
            sample
            for sample in self.samples
            if (category is None or sample.category == category)
            and (split is None or sample.split == split)
            and (anomalous is None or sample.anomalous == anomalous)
        )

    def with_samples(self, samples: Iterable[Sample]) -> Table:
        """The same table with other samples."""
        return replace(self, samples=tuple(samples))


def hold_out_calibration(table: Table, fraction: float, seed: int) -> Table:
    """Moves part of the training normals to the split ``calibration``, groups kept whole.

    Args:
        table: A table of one category.
        fraction: Share of the training normals to hold out, in [0, 1); at least one group stays in training.
        seed: Chooses which; the same seed gives the same split.

    Returns:
        The table, with ``split="calibration"`` on the held-out samples.
    """
    normals = [sample for sample in table if sample.split == "train" and not sample.anomalous]
    count = max(1, round(fraction * len(normals))) if fraction else 0
    chosen = set(draw_groups(normals, count, seed))
    return table.with_samples(
        replace(sample, split="calibration") if sample.path in chosen else sample for sample in table
    )


def draw_groups(samples: list[Sample], count: int, seed: int) -> list[Path]:
    """Paths of whole groups drawn by seed until ``count`` samples are reached, one group always left."""
    drawn: list[Path] = []
    for members in _shuffled_groups(samples, seed)[:-1]:
        if len(drawn) >= count:
            break
        drawn.extend(members)
    return drawn


def _shuffled_groups(samples: list[Sample], seed: int) -> list[list[Path]]:
    """Paths by group, the groups in an order drawn by seed; a sample without a group is one by itself."""
    groups: dict[str, list[Path]] = {}
    for sample in samples:
        groups.setdefault(sample.group or str(sample.path), []).append(sample.path)
    members = list(groups.values())
    return [members[index] for index in np.random.default_rng(seed).permutation(len(members))]


def take_anomalies(table: Table, count: int, seed: int) -> Table:
    """Draws annotated anomalous images for the supervised extension (DSR paper, section 4.2).

    They come from the training split where it has anomalous images (KSDD2), the rest of which goes unused;
    otherwise they are moved out of the test split, where every other image of their group becomes unused, so
    that none is ever both learnt from and judged on. Groups are drawn one after the other, all annotated images
    of each before the next, so that few are spoilt: those left over of the last group, and unannotated ones.

    Args:
        table: A table of one category.
        count: How many to take; 0 leaves normal images only in the training split.
        seed: Chooses which; a smaller number takes a part of what a larger one takes.

    Raises:
        ValueError: There are fewer annotated anomalous images than asked for.
    """
    in_training = [s for s in table if s.split == "train" and s.anomalous]
    source: Split = "train" if in_training else "test"
    annotated = [s for s in table if s.split == source and s.anomalous and s.mask_paths]
    if count > len(annotated):
        raise ValueError(
            f"{count} annotated anomalous images asked for, but {table.root} has {len(annotated)} in its"
            f" {source} split; ask for at most that many"
        )
    drawn = [path for members in _shuffled_groups(annotated, seed) for path in members]
    paths = set(drawn[:count])
    groups = {sample.group for sample in annotated if sample.path in paths and sample.group}

    def split_of(sample: Sample) -> Split:
        if sample.path in paths:
            return "train"
        spoilt = sample.split == "test" and sample.group in groups
        return "unused" if spoilt or (sample.split == "train" and sample.anomalous) else sample.split

    return table.with_samples(replace(sample, split=split_of(sample)) for sample in table)
