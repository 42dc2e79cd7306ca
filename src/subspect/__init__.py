"""Surface anomaly detection in industrial images.

Learns from normal images what a surface looks like, finds and outlines whatever deviates::

    inspector = subspect.load("runs/tiles/detector")
    inspection = inspector("photograph.png")
    print(inspection.verdict, inspection.score, inspection.regions)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspect.inspection import Inspector

__version__ = "0.1.0"
__all__ = ["load"]


def load(path: str | Path, *, device: str = "cpu", threshold: float | None = None) -> Inspector:
    """A detector from disk, ready for pictures.

    Args:
        path: Folder of a saved detector, or of the run that made it.
        device: For example ``cpu`` or ``cuda``.
        threshold: Replaces the calibrated one.

    Returns:
        An object that takes an array, a path or a list of those, and returns anomaly map, anomaly score,
        verdict and regions of each.

    Raises:
        StorageError: There is no detector, or it is damaged.
        ValueError: The detector has no calibration and no threshold is given.
    """
    from subspect.inspection import Inspector
    from subspect.storage import find_detector, load_detector

    return Inspector(load_detector(find_detector(Path(path))), device, threshold)
