"""Looking at every file of a data set before any work: counts, sizes, modes, and what is wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table as TextTable

from subspect.datasets.reading import listed
from subspect.datasets.table import Sample, Split, Table
from subspect.files import content_digest
from subspect.images import ImageError, decode, read_mask

logger = logging.getLogger("subspect")

_SPLITS: tuple[Split, ...] = ("train", "calibration", "test", "unused")
_FEW_SIZES = 5
_MOST_WARNINGS = 50

_Result = TypeVar("_Result")


class Problem(NamedTuple):
    """Something wrong with a file."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a data set.

    Attributes:
        table: The table that was checked.
        sizes: How many images there are of each ``(H, W)``.
        modes: How many images there are of each Pillow mode (``L``, ``RGB``, ``I;16``, …).
        errors: Files that cannot be used; training would not start.
        warnings: What is odd but stops nothing: defects without a mask, empty masks, files in several splits.
    """

    table: Table
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def trainable(self) -> bool:
        """Whether training would start; that there are normal images is seen to when a table is read."""
        return not self.errors

    def counts(self) -> Counter[tuple[str, str, Split]]:
        """How many images there are by category, kind of defect and split."""
        return Counter((sample.category, sample.defect, sample.split) for sample in self.table)

    def render(self) -> str:
        """The report as plain text."""
        parts = [
            f"{len(self.table)} images in {self.table.root}, layout {self.table.layout}",
            _render_counts(self),
            f"sizes (height x width): {_render_sizes(self.sizes)}",
            "modes: " + ", ".join(f"{mode} ({count})" for mode, count in self.modes.most_common()),
            _render_problems("cannot be used", self.errors),
            _render_problems("worth a look", self.warnings, _MOST_WARNINGS),
            "training would start" if self.trainable else "training would not start",
        ]
        return "\n".join(part for part in parts if part)


class _Finding(NamedTuple):
    """What one sample's files hold; no size and mode if the image cannot be read."""

    size: tuple[int, int] | None = None
    mode: str | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    empty_masks: tuple[Problem, ...] = ()


def check_table(table: Table) -> Report:
    """Decodes every image and mask of a table and compares all images with one another."""
    findings = _in_parallel(_examine, table.samples)
    return Report(
        table=table,
        sizes=Counter(finding.size for finding in findings if finding.size),
        modes=Counter(finding.mode for finding in findings if finding.mode),
        errors=tuple(problem for finding in findings for problem in finding.errors),
        warnings=(
            *(problem for finding in findings for problem in (*finding.warnings, *finding.empty_masks)),
            *_duplicates_across_splits(table.samples),
        ),
    )


def usable(table: Table, *, skip_unreadable: bool) -> Table:
    """Makes sure that every file can be used before any work starts.

    Args:
        table: The samples that are about to be used.
        skip_unreadable: Whether to go on without the samples whose image or mask cannot be used; they are
            named in a warning to the logger ``subspect``.

    Returns:
        The table, without unusable samples and without masks that mark nothing.

    Raises:
        ImageError: Files that cannot be used; the message lists all of them.
        ValueError: Without them, a category has no normal training images left.
    """
    findings = _in_parallel(_examine, table.samples)
    errors = [problem for finding in findings for problem in finding.errors]
    table = _without_empty_masks(table, findings)
    if not errors:
        return table
    lines = "\n".join(f"  {problem}" for problem in errors)
    if not skip_unreadable:
        raise ImageError(
            f"{len(errors)} files cannot be used:\n{lines}\nrepair or remove them, or pass --skip-unreadable"
        )
    logger.warning("going on without %d files that cannot be used:\n%s", len(errors), lines)
    kept = table.with_samples(s for s, finding in zip(table, findings, strict=True) if not finding.errors)
    _check_normals_left(table, kept)
    return kept


def _without_empty_masks(table: Table, findings: Sequence[_Finding]) -> Table:
    """The table without masks that mark nothing, which a warning names: such a defect is not annotated."""
    empty = {found.path: found for finding in findings for found in finding.empty_masks}
    if not empty:
        return table
    named = listed(empty.values())
    logger.warning("%d masks mark nothing, so that their images count as not annotated: %s", len(empty), named)
    return table.with_samples(
        replace(sample, mask_paths=tuple(path for path in sample.mask_paths if path not in empty))
        for sample in table
    )


def _check_normals_left(before: Table, after: Table) -> None:
    trained = [set(table.select(split="train", anomalous=False).categories) for table in (before, after)]
    lost = sorted(trained[0] - trained[1])
    if lost:
        raise ValueError(f"{before.root}: no normal training image of {', '.join(lost)} can be read")


def _in_parallel(work: Callable[[Sample], _Result], samples: Sequence[Sample]) -> list[_Result]:
    with ThreadPoolExecutor() as pool:  # decoding and hashing leave the interpreter to the other threads
        return list(pool.map(work, samples))


def _examine(sample: Sample) -> _Finding:
    try:
        pixels, mode = decode(sample.path)
    except ImageError as error:
        return _Finding(errors=(_problem(sample.path, error), *_examine_masks(sample, None).errors))
    size = (pixels.shape[0], pixels.shape[1])
    return _examine_masks(sample, size)._replace(size=size, mode=mode)


def _examine_masks(sample: Sample, size: tuple[int, int] | None) -> _Finding:
    """Problems with the masks of a sample whose image has the given size, if that is known."""
    if sample.anomalous and not sample.mask_paths:
        return _Finding(warnings=(Problem(sample.path, f"shows a defect ({sample.defect}) but has no mask"),))
    errors, empty = [], []
    for path in sample.mask_paths:
        try:
            mask = read_mask([path], sample.mask_level)
        except ImageError as error:
            errors.append(_problem(path, error))
            continue
        if size and mask.shape != size:
            what = f"the mask is {_size_text(mask.shape)}, its image {_size_text(size)}"
            errors.append(Problem(path, what))
        if not mask.any():
            empty.append(Problem(path, _emptiness(path, sample.mask_level)))
    return _Finding(errors=tuple(errors), empty_masks=tuple(empty))


def _emptiness(path: Path, level: int) -> str:
    """What is to be said of a mask that marks nothing."""
    brightest = decode(path).pixels.max()
    reason = f": its values reach {brightest}, and those above {level} are defective" if brightest else ""
    return f"the mask is empty{reason}"


def _problem(path: Path, error: ImageError) -> Problem:
    """An error that begins with the file's name, as all of ``images`` do, taken apart."""
    return Problem(path, str(error).removeprefix(f"{path}: "))


def _duplicates_across_splits(samples: Sequence[Sample]) -> list[Problem]:
    """Images that are in several splits, byte for byte."""
    first: dict[str, Sample] = {}
    problems = []
    for sample, digest in zip(samples, _in_parallel(_digest, samples), strict=True):
        if digest is None:
            continue
        other = first.setdefault(digest, sample)
        if other.split != sample.split:
            what = f"in split {sample.split}, but the same file as {other.path} in split {other.split}"
            problems.append(Problem(sample.path, what))
    return problems


def _digest(sample: Sample) -> str | None:
    """Hash of a file's content; None if there is nothing to compare (reported as unreadable)."""
    try:
        return content_digest(sample.path) if sample.path.stat().st_size else None
    except OSError:
        return None


def _render_counts(report: Report) -> str:
    counts = report.counts()
    splits = [split for split in _SPLITS if any(key[2] == split for key in counts)]
    table = TextTable("category", "defect", box=box.ASCII)
    for split in splits:
        table.add_column(split, justify="right")
    for category, defect in sorted({key[:2] for key in counts}):
        table.add_row(category, defect, *(str(counts[category, defect, split] or "") for split in splits))
    text = StringIO()
    Console(file=text, width=110, color_system=None).print(table)
    return text.getvalue().rstrip()


def _render_sizes(sizes: Counter[tuple[int, int]]) -> str:
    if len(sizes) <= _FEW_SIZES:
        return ", ".join(f"{_size_text(size)} ({count})" for size, count in sizes.most_common())
    widths = [width for _, width in sizes.elements()]
    heights = [height for height, _ in sizes.elements()]
    return ", ".join(
        f"{name} {min(sides)} to {max(sides)}, median {median(sides):g}"
        for name, sides in (("height", heights), ("width", widths))
    )


def _render_problems(title: str, problems: Sequence[Problem], most: int | None = None) -> str:
    """The problems under a title, at most so many of them; nothing if there are none."""
    if not problems:
        return ""
    lines = [f"  {problem}" for problem in problems[:most]]
    more = [f"  … and {len(problems) - len(lines)} more"] if len(problems) > len(lines) else []
    return "\n".join([f"{title}: {len(problems)}", *lines, *more])


def _size_text(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
