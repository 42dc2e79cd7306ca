"""Any kind of saved detector, ready for pictures."""

from __future__ import annotations

from pathlib import Path

from subspect.calibration import check_retiling
from subspect.inspection.inspecting import Inspector
from subspect.serving.description import is_export
from subspect.tiling import make_tiling


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
) -> Inspector:
    """A detector from disk, ready for pictures; an exported one needs no torch (unless it is a torch export).

    Args:
        path: Folder of a saved detector, of the run that made it, or of an export.
        device: For example ``cpu`` or ``cuda``.
        threshold: Replaces the calibrated one.
        false_alarm_rate: Chooses the threshold anew from the calibration.
        tile: Side, or height and width, of the tiles that pictures are looked at in; None for what the detector
            was trained and calibrated for.
        overlap: Pixels that tiles share; None for a quarter of their shorter side.

    Returns:
        An object that takes an array, a path or a list of those, and returns anomaly map, anomaly score,
        verdict and regions of each.

    Raises:
        StorageError: There is no detector, or it is damaged.
        ExportError: The export is damaged, of a newer version, or cannot be run here.
        ValueError: There is no such device, the detector has no calibration and no threshold is given, both a
            threshold and a rate are, the calibration does not support the rate, or is for other tiles.
    """
    if threshold is not None and false_alarm_rate is not None:
        raise ValueError("a threshold and a false-alarm rate exclude each other; give one of them")
    tiling = make_tiling(tile, overlap)
    folder = Path(path)
    if is_export(folder):
        from subspect.serving.exported import load_export

        return load_export(folder, device, threshold, false_alarm_rate, tiling)
    from subspect.devices import available_device
    from subspect.inspection.prediction import DetectorInspector
    from subspect.storage import find_detector, load_detector

    available_device(device)
    detector = load_detector(find_detector(folder))
    if false_alarm_rate is not None:
        if detector.calibration is None:
            raise ValueError("a false-alarm rate needs a calibrated detector")
        detector.calibration = detector.calibration.with_rate(false_alarm_rate)
    if tiling is not None and tiling != detector.config.tiling:
        check_retiling(detector.calibration, detector.config.tiling, tiling, threshold)
        detector.retile(tiling)
    return DetectorInspector(detector, device, threshold)
