"""Any kind of saved detector, ready for pictures."""

from __future__ import annotations

from pathlib import Path

from subspect.inspection import Inspector
from subspect.serving.description import is_export


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
) -> Inspector:
    """A detector from disk, ready for pictures; an exported one needs no torch (unless it is a torch export).

    Args:
        path: Folder of a saved detector, of the run that made it, or of an export.
        device: For example ``cpu`` or ``cuda``.
        threshold: Replaces the calibrated one.
        false_alarm_rate: Chooses the threshold anew from the calibration.

    Returns:
        An object that takes an array, a path or a list of those, and returns anomaly map, anomaly score,
        verdict and regions of each.

    Raises:
        StorageError: There is no detector, or it is damaged.
        ExportError: The export is damaged, of a newer version, or cannot be run here.
        ValueError: The detector has no calibration and no threshold is given, both a threshold and a rate are,
            or the calibration does not support the rate.
    """
    if threshold is not None and false_alarm_rate is not None:
        raise ValueError("a threshold and a false-alarm rate exclude each other; give one of them")
    folder = Path(path)
    if is_export(folder):
        from subspect.serving.exported import load_export

        return load_export(folder, device, threshold, false_alarm_rate)
    from subspect.prediction import DetectorInspector
    from subspect.storage import find_detector, load_detector

    detector = load_detector(find_detector(folder))
    if false_alarm_rate is not None:
        if detector.calibration is None:
            raise ValueError("a false-alarm rate needs a calibrated detector")
        detector.calibration = detector.calibration.with_rate(false_alarm_rate)
    return DetectorInspector(detector, device, threshold)
