"""Workers in alternation, and what their times say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from comparisons import Case, Comparison
from environments import command, cores, worker_environment


@dataclass(frozen=True)
class Measured:
    """What came of a comparison; seconds are processor time on one core, wall-clock time on several.

    Attributes:
        ours: Seconds of each repetition.
        peer: Theirs, each taken right after ours of the same place; empty if there is no peer.
        our_memory: Most bytes our process had in memory, libraries included.
        peer_memory: Theirs.
        flops: Multiplications and additions of one of our repetitions, where they are known.
    """

    ours: list[float]
    peer: list[float]
    our_memory: int
    peer_memory: int | None
    flops: int | None

    def to_dict(self) -> dict[str, Any]:
        """Values JSON can hold."""
        ratios = [theirs / ours for ours, theirs in zip(self.ours, self.peer, strict=False)]
        return asdict(self) | {
            "our_median": median(self.ours),
            "peer_median": median(self.peer) if self.peer else None,
            "ratio": {"median": median(ratios), "least": min(ratios), "most": max(ratios)} if ratios else None,
        }


class Timer:
    """Runs comparisons.

    Args:
        peer_python: Of anomalib's environment.
        folder: For exports.
    """

    def __init__(self, peer_python: Path, folder: Path) -> None:
        self._peer_python = peer_python
        self._folder = folder
        self._counted: dict[str, int] = {}

    def measure(self, comparison: Comparison) -> Measured:
        """Times both sides in alternation, after a repetition of each that warms up."""
        ours, peer = self._ready(comparison.ours), comparison.peer
        flops = self._flops(comparison.ours)
        our_times, peer_times = [], []
        with self._worker(ours) as our_worker, self._worker(peer) as peer_worker:
            for repetition in range(comparison.repetitions + 1):
                mine, theirs = our_worker.repeat(), peer_worker and peer_worker.repeat()
                if repetition:
                    our_times.append(mine)
                    peer_times += [theirs] if theirs else []
            memories = our_worker.memory, peer_worker and peer_worker.memory
        return Measured(our_times, peer_times, *memories, flops)

    def peak(self) -> float:
        """Operations a second of the fastest of many matrix products in float32."""
        return float(self._told("peak", {"processor": cores() == 1})["peak"])

    def _ready(self, case: Case) -> Case:
        """The case with the export that it runs, made if it is not there, or with a folder for one."""
        if case.name == "write_export":
            return Case(case.worker, case.name, case.arguments | {"folder": str(self._folder / "timed")})
        if case.export is None:
            return case
        size = case.arguments.get("size", 256)
        folder = self._folder / "-".join(map(str, (*case.export, size)))
        if not folder.exists():
            names = ("method", "preset", "format", "precision", "fixed")
            arguments = dict(zip(names, case.export, strict=True)) | {"folder": str(folder), "size": size}
            with self._worker(Case("ours", "write_export", arguments)) as worker:
                worker.repeat()
        return Case(case.worker, case.name, case.arguments | {"folder": str(folder)})

    def _flops(self, case: Case) -> int | None:
        """Multiplications and additions of a repetition, counted once for equal work."""
        if case.flops is None:
            return None
        arguments = dict(zip(("method", "preset"), case.flops, strict=True))
        arguments |= {name: case.arguments[name] for name in ("size", "batch") if name in case.arguments}
        key = json.dumps(arguments)
        if key not in self._counted:
            self._counted[key] = int(self._told("flops", arguments)["flops"])
        return self._counted[key]

    def _told(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a process of ours says that measures nothing in alternation."""
        words = [*command("ours", self._peer_python), name, json.dumps(arguments)]
        ended = subprocess.run(words, env=worker_environment(), check=True, stdout=subprocess.PIPE, text=True)
        return _said(ended.stdout.splitlines()[-1])

    @contextmanager
    def _worker(self, case: Case | None) -> Iterator[Any]:
        if case is None:
            yield None
            return
        words = [*command(case.worker, self._peer_python), case.name, json.dumps(case.arguments)]
        process = subprocess.Popen(
            words, env=worker_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Worker(process, case)
        except BaseException:
            process.kill()
            raise
        finally:
            process.communicate("\n")


class Worker:
    """A process that does something once whenever it is asked to.

    Attributes:
        memory: Most bytes it had in memory so far.
    """

    def __init__(self, process: subprocess.Popen[str], case: Case) -> None:
        self.memory = 0
        self._process = process
        self._case = case
        self._answer()  # ready

    def repeat(self) -> float:
        """Seconds of one repetition."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.memory = int(answer["memory"])
        return float(answer["processor" if cores() == 1 else "wall"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return _said(line)
        raise RuntimeError(f"{self._case} ended with exit code {self._process.wait()}")


def _said(line: str) -> dict[str, Any]:
    return dict(json.loads(line.removeprefix("@")))
