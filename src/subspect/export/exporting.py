"""Exporting a detector: write, describe, check, put in place."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from subspect.datasets.reading import listed
from subspect.detectors.base import Detector
from subspect.export.checking import Comparison, VerdictCheck, compare, report, versions
from subspect.export.combinations import TOLERANCES, ExportOptions, existing_in_words
from subspect.export.formats import write_model
from subspect.export.pictures import CheckPictures, check_pictures, choose_pictures
from subspect.files import complete_folder, content_digest, write_json
from subspect.inspection.prediction import DetectorInspector
from subspect.serving.description import (
    DESCRIPTION,
    REPORT,
    Description,
    ExportError,
)
from subspect.serving.engines import start_engine
from subspect.serving.exported import ExportInspector
from subspect.tiling import Tiling

logger = logging.getLogger("subspect")


def export_detector(
    detector: Detector, provenance: dict[str, Any], output: Path, options: ExportOptions
) -> None:
    """Writes an exported detector as a folder, checked and complete, or not at all.

    Args:
        detector: Moved to the CPU and put in evaluation mode.
        provenance: How the detector came about; stored with the export.
        output: Must not exist.
        options: What kind of export.

    Raises:
        FileExistsError: The output exists.
        ImageError: A picture cannot be read.
        ExportError: The export cannot be written, or is out of tolerance.
        ValueError: A picture, or a tile, has a size that it would not take.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; choose another --output")
    _check_libraries(options)
    options = _at_size_of_tiles(options, detector.config.tiling)
    wanted = None if detector.config.tiling else options.picture_size
    if options.normal_images:
        check_pictures(options.normal_images, wanted, "--normal-images")
    check_pictures(options.images, wanted, "--images")
    pictures = choose_pictures(options, provenance, wanted)
    detector = detector.cpu().eval()
    with complete_folder(output) as folder:
        _write(detector, folder, options)
        description = _describe(detector, provenance, folder, options)
        write_json(folder / DESCRIPTION, description.to_values())
        comparison, checked = _check(detector, folder, description, pictures)
        write_json(folder / REPORT, checked)
        _judge(comparison, options, checked)


def _at_size_of_tiles(options: ExportOptions, tiling: Tiling | None) -> ExportOptions:
    """The same for a graph of the tiles' size, if the detector looks at tiles; it is given nothing else.

    Raises:
        ValueError: The export is for another size than that of the detector's tiles.
    """
    size = options.picture_size
    if tiling is None:
        return options
    if size not in (None, tiling.tile):
        raise ValueError(
            f"the detector looks at {tiling}, so its export cannot be for {size[0]}x{size[1]} pixels only;"
            f" leave out --size, or give {tiling.tile[0]}x{tiling.tile[1]}"
        )
    return replace(options, picture_size=tiling.tile)


def _check_libraries(options: ExportOptions) -> None:
    needed = {
        "onnx": ("onnx", "onnxscript", "onnxruntime"),
        "openvino": ("onnx", "onnxscript", "openvino"),
        "torch": (),
    }
    quantising = ("nncf", "openvino") if options.precision == "int8" else ()  # NNCF makes use of OpenVINO
    names = dict.fromkeys((*needed[options.format], *quantising))
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"a {options.format} export in {options.precision} takes {', '.join(missing)}, not installed here:"
            " pip install 'subspect[export]'"
        )


def _write(detector: Detector, folder: Path, options: ExportOptions) -> None:
    """Writes the model's files.

    Raises:
        ExportError: It cannot be done; exporters, NNCF and protobuf each have exceptions of their own.
    """
    try:
        write_model(detector, folder, options)
    except Exception as error:
        cause = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ExportError(
            f"{detector.method} cannot be exported as {options.format} in {options.precision}: {cause}"
            f" (there are exports as {existing_in_words()})"
        ) from error


def _describe(
    detector: Detector, provenance: dict[str, Any], folder: Path, options: ExportOptions
) -> Description:
    return Description(
        method=detector.method,
        format=options.format,
        precision=options.precision,
        picture_size=options.picture_size,
        image_size=detector.config.image_size,
        tiling=detector.config.tiling,
        calibration=detector.calibration,
        files={path.name: content_digest(path) for path in sorted(folder.iterdir())},
        versions=versions(),
        detector={"config": asdict(detector.config), "provenance": provenance},
    )


def _check(
    detector: Detector, folder: Path, description: Description, pictures: CheckPictures
) -> tuple[Comparison, dict[str, Any]]:
    """Compares both, at the calibrated threshold or, without one, at the middle of the detector's scores."""
    threshold = None
    if detector.calibration is None:
        inspector = DetectorInspector(detector, threshold=0.0)
        scores = np.sort([inspector(picture).score for _, picture in pictures])
        threshold = float(scores[max(0, len(scores) // 2 - 1) :][:2].mean())  # never one of several scores
    engine = VerdictCheck(start_engine(folder, description, "cpu"))
    export = ExportInspector(description, engine, threshold)
    comparison = compare(DetectorInspector(detector, threshold=threshold), export, pictures)
    comparison.contradictions = engine.contradictions
    tolerance = TOLERANCES[description.precision]
    return comparison, report(comparison, tolerance, pictures.origin, export.threshold)


def _judge(comparison: Comparison, options: ExportOptions, checked: dict[str, Any]) -> None:
    """Says what came of the check, and warns of verdicts that changed.

    Raises:
        ExportError: The export is out of tolerance.
    """
    violations, origin = comparison.violations(TOLERANCES[options.precision]), checked["origin"]
    if violations:
        raise ExportError(
            f"the export in {options.precision} is not what the detector is, checked on {origin}:"
            f" {'; '.join(violations)}; nothing was written"
        )
    logger.info(
        "checked on %s: maps differ by %.2g at most and %.2g on average (highest value %.3g),"
        " scores by %.2g at most",
        origin,
        comparison.map_maximum,
        comparison.map_mean,
        comparison.map_scale,
        comparison.score_maximum,
    )
    if comparison.changed:
        logger.warning(
            "%d of %d verdicts changed at the threshold %.4g (the detector's score, the export's): %s",
            len(comparison.changed),
            comparison.pictures,
            checked["threshold"],
            listed(f"{name} ({before:.4g}, {after:.4g})" for name, before, after in comparison.changed),
        )
