"""The Python interface: train, calibrate and evaluate in one call each; `subspect.loading` has the fourth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from subspect.datasets.pictures import normal_pictures_in
from subspect.detectors.registry import find_preset
from subspect.devices import available_device
from subspect.evaluation.evaluating import evaluate as evaluate_detector
from subspect.evaluation.results import Protocol, Results
from subspect.inspection.inspecting import Inspector
from subspect.inspection.prediction import DetectorInspector
from subspect.runs.data import DataOptions, read_test_table
from subspect.runs.recalibration import recalibrate
from subspect.runs.run import RunOptions, TrainingRun, configured
from subspect.runs.run import train as train_run
from subspect.runs.starting import absolute_weights
from subspect.storage import find_detector, load_detector, read_description
from subspect.tiling import make_tiling


def train(
    root: str | Path,
    output: str | Path,
    *,
    layout: str = "folder",
    category: str | None = None,
    method: str = "dsr",
    preset: str = "fast",
    image_size: tuple[int, int] | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    seed: int = 0,
    weights: str | Path | None = None,
    textures: str | Path | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    resume: bool = False,
) -> Inspector:
    """Trains, calibrates and saves a detector; ``subspect train`` has every option.

    Args:
        root: The data set's folder.
        output: Folder of the run; the detector is in its ``detector``.
        layout: How the data set is laid out.
        category: Which product or surface, if there are several.
        method: Name of the method.
        preset: Name of its preset.
        image_size: Height and width that pictures, or their tiles, are resized to.
        steps: Length of the training; stages keep their proportions.
        settings: Single values of the configuration, ``FIELD=VALUE``.
        seed: Of splits, weights, order and simulation.
        weights: What to start from: a file or hub id, or the folder of a detector trained before; None for what
            suits the configuration.
        textures: Folder of pictures that methods which simulate defects with textures take them from.
        tile: Side, or height and width, of the tiles that large pictures are looked at in; None for whole ones.
        overlap: Pixels that tiles share; None for a quarter of their shorter side.
        resume: Continue a run that was stopped.

    Returns:
        The detector, ready for pictures.

    Raises:
        ValueError: The data or the configuration cannot be used; the message says why.
        FileExistsError: The output folder holds another run.
    """
    config = configured(
        find_preset(method, preset),
        settings=settings,
        image_size=image_size,
        steps=steps,
        tiling=make_tiling(tile, overlap),
    )
    data = DataOptions(str(Path(root).resolve()), layout, category, seed)
    folder = None if textures is None else str(Path(textures).resolve())
    start = None if weights is None else absolute_weights(str(weights))
    run = TrainingRun(method, config, data, seed, start, textures=folder)
    detector = train_run(run, Path(output), RunOptions(resume=resume))
    return DetectorInspector(detector)


def calibrate(
    detector: str | Path,
    pictures: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    false_alarm_rate: float | None = None,
    device: str = "cpu",
) -> Inspector:
    """Writes a detector with thresholds from other normal pictures, and otherwise the same.

    Args:
        detector: Folder of a saved detector, or of the run that made it.
        pictures: Files of normal ones that it was not trained on, or the folder that holds them; of a folder
            with defective ones beside, as `train` takes it, the normal ones count.
        output: Folder of the new detector.
        tile: Side, or height and width, of the tiles that pictures are looked at in from now on; None leaves it
            as it is.
        overlap: Pixels that tiles share; None for a quarter of their shorter side.
        false_alarm_rate: None takes 0.01, or the smallest rate that the pictures support.
        device: For example ``cpu`` or ``cuda``.

    Returns:
        The new detector, ready for pictures.

    Raises:
        FileExistsError: The output exists.
        StorageError: There is no detector, or it is damaged.
        ValueError: A picture cannot be read, there are too few, or no such device.
    """
    available_device(device)
    made = recalibrate(
        Path(detector),
        _picture_files(pictures),
        Path(output),
        tiling=make_tiling(tile, overlap),
        false_alarm_rate=false_alarm_rate,
        device=device,
    )
    return DetectorInspector(made, device)


def _picture_files(pictures: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files as they are given, or the normal ones in a folder."""
    if not isinstance(pictures, (str, Path)):
        return [Path(picture) for picture in pictures]
    path = Path(pictures)
    return normal_pictures_in(path) if path.is_dir() else [path]


def evaluate(
    detector: str | Path,
    root: str | Path,
    *,
    layout: str | None = None,
    category: str | None = None,
    protocol: Protocol = "whole",
    device: str = "cpu",
) -> Results:
    """Judges a saved detector on the test split of its data set, split as for its training.

    Args:
        detector: Folder of the detector, or of the run that made it.
        root: The data set's folder.
        layout: How the data set is laid out; None takes the layout of the training.
        category: Which product or surface; None takes the one that the detector was trained for.
        protocol: ``whole``, or ``paper`` (224 crop, strict masks).
        device: For example ``cpu`` or ``cuda``.

    Raises:
        StorageError: There is no detector, or it is damaged.
        ValueError: The data cannot be used, or there is no such device; the message says why.
    """
    available_device(device)
    folder = find_detector(Path(detector))
    table = read_test_table(read_description(folder)["provenance"], Path(root), layout, category)
    return evaluate_detector(load_detector(folder), table, protocol=protocol, device=device)
