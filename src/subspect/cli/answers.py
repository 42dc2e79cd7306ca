"""What commands answer: exit codes, and what several of them print."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspect.calibration import Calibration

EXIT_FAILED = 1
EXIT_PARTLY_FAILED = 2
EXIT_TERMINATED = 128 + signal.SIGTERM
"""As shells report a process that SIGTERM ended."""

_RESUMED = ("train", "pretrain", "pretrain-teacher")


def how_to_go_on(command: str) -> str:
    """What to say of a command that was stopped, after the word "stopped"; nothing if it begins anew."""
    if command in _RESUMED:
        return "; the same command with --resume continues it"
    return "; the same command continues it" if command == "benchmark" else ""


def print_threshold(calibration: Calibration | None) -> None:
    """Prints the threshold of a detector, if it has one."""
    if calibration is not None:
        rate = calibration.false_alarm_rate
        print(f"threshold {calibration.threshold:.4g} at a false alarm rate of {rate:.4g}")
