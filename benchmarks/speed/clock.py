"""A worker's side of the measuring: one repetition whenever the parent asks, and what it took.

Runs in both environments, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path


class Clock:
    """Calls of it stand between repetitions: ``while clock(): work()``."""

    def __init__(self) -> None:
        self._started: tuple[float, float] | None = None

    def __call__(self) -> bool:
        """Reports the repetition that has ended, if one was begun, and waits; False when there is none left."""
        if self._started is not None:
            wall, processor = self._started
            taken = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
            self._say(taken | {"memory": peak_memory()})
        else:
            self._say({"ready": True})
        go = bool(sys.stdin.readline().strip())
        self._started = (time.perf_counter(), time.process_time())
        return go

    def _say(self, values: Mapping[str, object]) -> None:
        print("@" + json.dumps(values), flush=True)


def peak_memory() -> int:
    """Most bytes this process had in memory so far, libraries included."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
