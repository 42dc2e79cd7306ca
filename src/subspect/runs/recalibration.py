"""Calibrating a detector anew: other normal pictures, other conditions, or tiles instead of whole pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from subspect.calibration import check_rate
from subspect.detectors.base import Detector
from subspect.files import content_digest
from subspect.images import decode
from subspect.runs.run import calibrate_detector
from subspect.storage import find_detector, load_detector, read_description, save_detector
from subspect.tiling import Tiling

logger = logging.getLogger("subspect")


def recalibrate(
    source: Path,
    pictures: Sequence[Path],
    output: Path,
    *,
    tiling: Tiling | None = None,
    false_alarm_rate: float | None = None,
    device: str = "cpu",
) -> Detector:
    """Writes a detector with thresholds from other normal pictures, and otherwise the same.

    Args:
        source: Folder of the detector, or of the run that made it.
        pictures: Normal ones that it was not trained on; of equal files one counts.
        output: Folder of the new detector.
        tiling: How pictures are cut up from now on; None leaves it as it is.
        false_alarm_rate: None takes 0.01, or the smallest rate that the pictures support.
        device: For example ``cpu`` or ``cuda``.

    Returns:
        The new detector, in evaluation mode.

    Raises:
        FileExistsError: The output exists.
        StorageError: There is no detector, or it is damaged.
        ImageError: A picture cannot be read.
        ValueError: There are no pictures, or too few for the rate.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; choose another --output")
    if not pictures:
        raise ValueError("no pictures to calibrate with")
    folder = find_detector(source)
    detector, provenance = load_detector(folder), read_description(folder)["provenance"]
    for path in pictures:
        decode(path)
    distinct = {content_digest(path): path for path in pictures}
    check_rate(false_alarm_rate, len(distinct))
    seen = set(provenance.get("not_to_judge", ()))
    if known := len(seen & distinct.keys()):
        logger.warning(
            "%d of %d pictures were used in the detector's training or calibration; those that it was trained"
            " on have scores that are too low, so that the threshold may be, too",
            known,
            len(distinct),
        )
    if tiling is not None:
        detector.retile(tiling)
    detector.calibration = calibrate_detector(detector, list(distinct.values()), false_alarm_rate, device)
    provenance = {
        **provenance,
        "calibrated_on": len(distinct),
        "not_to_judge": sorted(seen | distinct.keys()),
    }
    save_detector(detector.to("cpu"), output, provenance)
    return detector
