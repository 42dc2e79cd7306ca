"""What commands answer: exit codes, and what several of them print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspect.calibration import Calibration

EXIT_FAILED = 1
EXIT_PARTLY_FAILED = 2


def print_threshold(calibration: Calibration | None) -> None:
    """Prints the threshold of a detector, if it has one."""
    if calibration is not None:
        rate = calibration.false_alarm_rate
        print(f"threshold {calibration.threshold:.4g} at a false alarm rate of {rate:.4g}")
