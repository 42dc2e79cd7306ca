"""Commands that judge with a detector, or judge the detector: evaluate, inspect, calibrate, probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from subspect.cli.answers import EXIT_PARTLY_FAILED, print_threshold
from subspect.cli.values import chosen_tiling, on_ray, optional_size, picture_files

if TYPE_CHECKING:
    from subspect.evaluation.results import Results
    from subspect.inspection.inspecting import InspectionSummary


def do_evaluate(given: Namespace) -> int:
    """Judges detectors on the test split."""
    from subspect.evaluation.results import render_categories, write_results
    from subspect.files import complete_folder
    from subspect.storage import find_detectors

    if given.pictures < 0:
        raise ValueError(f"--pictures is at least 0, got {given.pictures}")
    folders = find_detectors(given.detector)
    _check_categories(folders, given)
    output = given.output or _place(folders, given.detector) / f"evaluation-{given.protocol}"
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; choose another --output")
    with complete_folder(output) as temporary:
        results = [_evaluate_one(folder, temporary, given) for folder in folders]
        write_results(results, temporary)
    for result in results:
        print(result.render())
    if len(results) > 1:
        print(render_categories(results))
    names = ["results.json", "images.csv"]
    if given.pictures:
        names += [f"pictures/{result.category}/index.html" for result in results]
    print(f"written: {', '.join(str(output / name) for name in names)}")
    return 0


def _place(folders: Sequence[Path], given: Path) -> Path:
    """Where results go: a run's own folder, a detector's own if it is in none, or that of several runs."""
    from subspect.storage import DETECTOR

    if len(folders) > 1:
        return given
    return folders[0].parent if folders[0].name == DETECTOR else folders[0]


def _check_categories(folders: Sequence[Path], given: Namespace) -> None:
    """Refuses, before any is judged, several detectors of one category: results are kept and averaged by it.

    Raises:
        ValueError: There are such; the message names two.
    """
    from subspect.storage import read_description

    taken: dict[str | None, Path] = {}
    for folder in folders:
        recorded = read_description(folder)["provenance"].get("run", {}).get("data", {})
        category = given.category or recorded.get("category")
        if category in taken:
            raise ValueError(
                f"{taken[category]} and {folder} are of one category"
                f"{f', {category}' if category else ''}; judge each alone, `subspect report` compares them"
            )
        taken[category] = folder


def _evaluate_one(folder: Path, output: Path, given: Namespace) -> Results:
    """Judges one detector, and draws its telling cases if asked to."""
    from subspect.devices import available_device
    from subspect.evaluation.evaluating import evaluate
    from subspect.evaluation.gallery import write_gallery
    from subspect.inspection.prediction import DetectorInspector
    from subspect.runs.data import read_test_table
    from subspect.storage import load_detector, read_description

    device = available_device(given.device)
    detector = load_detector(folder)
    # Made before anything is judged: it fails without a threshold.
    inspector = DetectorInspector(detector, device) if given.pictures else None
    table = read_test_table(
        read_description(folder)["provenance"],
        given.root,
        given.layout,
        given.category,
        skip_unreadable=given.skip_unreadable,
    )
    results = evaluate(detector, table, protocol=given.protocol, device=device)
    if inspector is not None:
        pictures = output / "pictures" / results.category
        write_gallery(inspector, table, results, pictures, given.pictures)
    return results


def do_inspect(given: Namespace) -> int:
    """Inspects pictures, here or on a cluster."""
    from subspect.datasets.pictures import pictures_in

    pictures = picture_files(given.pictures, pictures_in)
    summary = (_inspect_on_ray if on_ray(given) else _inspect_here)(given, pictures)
    print(f"{summary.normal} normal, {summary.anomalous} anomalous, {summary.errors} could not be inspected")
    print(f"written: {summary.results}")
    return EXIT_PARTLY_FAILED if summary.errors else 0


def _inspect_here(given: Namespace, pictures: Sequence[Path]) -> InspectionSummary:
    from subspect.inspection.inspecting import inspect_files
    from subspect.loading import load

    inspector = load(
        given.detector,
        device=given.device,
        threshold=given.threshold,
        false_alarm_rate=given.false_alarm_rate,
        tile=optional_size(given.tile),
        overlap=given.overlap,
    )
    return inspect_files(inspector, pictures, given.output, raw_maps=given.raw_maps)


def _inspect_on_ray(given: Namespace, pictures: Sequence[Path]) -> InspectionSummary:
    from subspect.cluster import Resources
    from subspect.inspection.distributed import Job, inspect_on_ray

    job = Job(
        given.detector.absolute(),
        given.output.absolute(),
        given.device,
        given.threshold,
        given.false_alarm_rate,
        given.raw_maps,
        optional_size(given.tile),
        given.overlap,
    )
    return inspect_on_ray(job, pictures, Resources(given.worker_cpus, given.worker_gpus))


def do_calibrate(given: Namespace) -> int:
    """Calibrates a detector anew."""
    from subspect.datasets.pictures import normal_pictures_in
    from subspect.devices import available_device
    from subspect.runs.recalibration import recalibrate

    detector = recalibrate(
        given.detector,
        picture_files(given.pictures, normal_pictures_in),
        given.output,
        tiling=chosen_tiling(given),
        false_alarm_rate=given.false_alarm_rate,
        device=available_device(given.device),
    )
    print_threshold(detector.calibration)
    print(f"written: {given.output}")
    return 0


def do_probe(given: Namespace) -> int:
    """Measures which sizes of planted defects a detector finds."""
    from subspect.datasets import read_table
    from subspect.devices import available_device
    from subspect.inspection.prediction import DetectorInspector
    from subspect.probe.probing import Probed, ProbeOptions, probe
    from subspect.runs.data import recorded_data
    from subspect.storage import find_detector, load_detector, read_description

    folder = find_detector(given.detector)
    options = ProbeOptions(given.count, tuple(given.contrasts), given.seed)
    inspector = DetectorInspector(load_detector(folder), available_device(given.device), given.threshold)
    probed = Probed(str(folder), inspector, read_description(folder)["provenance"])
    data = recorded_data(probed.provenance, given.root, given.layout, given.category)
    table = read_table(given.root, data.layout, data.seed, data.category)
    result = probe(probed, table, given.output, options)
    print(result.render(), end="")
    print(f"written: {given.output}")
    return 0
