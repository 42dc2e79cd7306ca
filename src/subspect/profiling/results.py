"""What profiling found, as a table to read and as values JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from subspect.profiling.recording import Part

_SHOWN_SHARE = 0.005
_HEADINGS = ("", "calls", "ms", "own ms", "share", "GFLOP", "GFLOP/s", "of peak", "MB", "parameters")


@dataclass(frozen=True)
class Row:
    """A line of a profile.

    Attributes:
        label: Of the part, within that of the row that it lies in.
        part: What was recorded.
        depth: In how many rows it lies.
        parameters: Of the module.
    """

    label: str
    part: Part
    depth: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class Profile:
    """Where the time of one kind of work goes.

    Attributes:
        work: What was done.
        batch: Images at a time.
        durations: Seconds of each repetition; of inference without a profiler.
        recorded_seconds: Of the repetition that the rows belong to.
        memory: Most bytes of tensors held at once, above what was held before (weights, images).
        flops: Multiplications and additions of convolutions and matrix products.
        rows: Modules, or parts of a step.
    """

    work: str
    batch: int
    durations: tuple[float, ...]
    recorded_seconds: float
    memory: int
    flops: int
    rows: tuple[Row, ...]

    @property
    def seconds(self) -> float:
        """The median duration."""
        return median(self.durations)

    def to_dict(self, peak: float) -> dict[str, Any]:
        """Values JSON can hold; shares are of ``peak`` operations a second."""
        return {
            "work": self.work,
            "batch": self.batch,
            "seconds": self.seconds,
            "durations": self.durations,
            "recorded_seconds": self.recorded_seconds,
            "memory": self.memory,
            "flops": self.flops,
            "share_of_peak": self.flops / self.seconds / peak,
            "parts": [
                asdict(row.part) | {"parameters": row.parameters, "share_of_peak": _rate(row.part) / peak}
                for row in self.rows
            ],
        }

    def render(self, peak: float) -> str:
        """Text: the whole in a sentence, and a table down to the second level, of what takes some time."""
        least = _SHOWN_SHARE * self.recorded_seconds
        shown = [row for row in self.rows if row.depth == 0 or (row.depth == 1 and row.part.seconds >= least)]
        rate = self.flops / self.seconds
        whole = (
            f"{self.work}, {self.batch} at a time: {_milliseconds(self.seconds)} ms"
            f" ({_milliseconds(min(self.durations))} to {_milliseconds(max(self.durations))} in"
            f" {len(self.durations)}), {self.flops / 1e9:.4g} GFLOP, {rate / 1e9:.3g} GFLOP/s ="
            f" {rate / peak:.0%} of the peak, at most {self.memory / 1e6:.0f} MB of tensors"
        )
        return "\n".join((whole, *_table([_HEADINGS, *(self._cells(row, peak) for row in shown)])))

    def _cells(self, row: Row, peak: float) -> tuple[str, ...]:
        part = row.part
        return (
            "  " * row.depth + row.label,
            str(part.calls),
            _milliseconds(part.seconds),
            _milliseconds(part.own_seconds),
            f"{part.seconds / self.recorded_seconds:.0%}",
            f"{part.flops / 1e9:.4g}" if part.flops else "",
            f"{_rate(part) / 1e9:.3g}" if part.flops else "",
            f"{_rate(part) / peak:.0%}" if part.flops else "",
            f"{part.memory / 1e6:.0f}",
            f"{row.parameters:,}" if row.parameters else "",
        )


@dataclass(frozen=True)
class DetectorProfile:
    """All that profiling a detector found.

    Attributes:
        subject: What was profiled, in words.
        machine: What it ran on.
        precision: Of convolutions and matrix products.
        peak: Operations a second of a matrix product in this precision.
        process_memory: Most bytes the process had in memory, PyTorch itself included.
        profiles: Of inference, and of a step of each training stage.
        skipped: Stages that do not train by steps.
    """

    subject: str
    machine: dict[str, Any]
    precision: str
    peak: float
    process_memory: int
    profiles: tuple[Profile, ...]
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Values JSON can hold."""
        return {
            "subject": self.subject,
            "machine": self.machine,
            "precision": self.precision,
            "peak": self.peak,
            "process_memory": self.process_memory,
            "profiles": [profile.to_dict(self.peak) for profile in self.profiles],
            "skipped": self.skipped,
        }

    def render(self) -> str:
        """Text to read."""
        where = ", ".join(self.machine["gpus"]) if self.machine["accelerator"] == "gpu" else self._processor()
        lines = [
            f"{self.subject}, {self.precision}, on {where}",
            f"peak: {self.peak / 1e9:.4g} GFLOP/s, the best of many matrix products in {self.precision}",
        ]
        for profile in self.profiles:
            lines += ["", profile.render(self.peak)]
        if self.skipped:
            lines += ["", f"not trained by steps: {', '.join(self.skipped)}"]
        lines += ["", f"memory of the process: at most {self.process_memory / 1e6:.0f} MB, PyTorch included"]
        return "\n".join(lines) + "\n"

    def _processor(self) -> str:
        return f"{self.machine['processor']}, {self.machine['threads']} thread(s)"


def _rate(part: Part) -> float:
    return part.flops / part.seconds if part.seconds else 0.0


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
