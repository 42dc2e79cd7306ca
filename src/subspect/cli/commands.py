"""What each command does: it calls the room that does the work, and prints. Heavy imports wait until then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

if TYPE_CHECKING:
    from subspect.calibration import Calibration
    from subspect.detectors.base import Detector
    from subspect.inspection import InspectionSummary
    from subspect.results import Results
    from subspect.tiling import Tiling
    from subspect.training import FitOptions

EXIT_FAILED = 1
EXIT_PARTLY_FAILED = 2


def image_size(text: str) -> tuple[int, int]:
    """``S`` or ``HxW`` as height and width in pixels.

    Raises:
        ValueError: The text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"an image size is S or HxW in pixels, e.g. 256 or 640x232, got {text!r}")
    return int(parts[0]), int(parts[-1])


def _tiling(given: Namespace) -> Tiling | None:
    from subspect.tiling import make_tiling

    return make_tiling(_tile(given), given.overlap)


def _tile(given: Namespace) -> tuple[int, int] | None:
    return None if given.tile is None else image_size(given.tile)


def _fit_options(given: Namespace) -> FitOptions:
    from subspect.training import FitOptions

    return FitOptions(given.accelerator, given.devices, given.precision, progress=not given.quiet)


def _device(name: str) -> str:
    """The name of a device, which is there."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {name!r} on this machine: {str(error).splitlines()[0]}") from error
    return name


def _surfaces(given: Namespace) -> int:
    from subspect.datasets.surfaces import generate

    generate(given.output, seed=given.seed, surfaces=given.only, size=given.size)
    print(f"written: {given.output} (layout mvtec_ad)")
    return 0


def _check(given: Namespace) -> int:
    from subspect.datasets import read_table
    from subspect.datasets.checks import check_table

    report = check_table(read_table(given.root, given.layout, given.seed, given.category))
    print(report.render())
    return 0 if report.trainable else EXIT_FAILED


def _train(given: Namespace) -> int:
    from subspect.datasets import read_table
    from subspect.runs import DETECTOR

    categories = read_table(given.root, given.layout, given.seed, given.category).categories
    if len(categories) == 1:
        _train_one(given.category, given.output, given)
        return 0
    for category in categories:
        if given.resume and (given.output / category / DETECTOR).exists():
            print(f"{category} is finished")
        else:
            _train_one(category, given.output / category, given)
    return 0


def _train_one(category: str | None, output: Path, given: Namespace) -> None:
    """Trains the detector of one category."""
    from subspect.detectors.registry import find_preset
    from subspect.run_data import DataOptions
    from subspect.runs import DETECTOR, RunOptions, TrainingRun, configured, train

    config = configured(
        find_preset(given.method, given.preset),
        file=given.config,
        settings=given.set,
        image_size=None if given.image_size is None else image_size(given.image_size),
        steps=given.steps,
        tiling=_tiling(given),
    )
    data = DataOptions(
        root=str(given.root.resolve()),
        layout=given.layout,
        category=category,
        seed=given.seed,
        calibration_fraction=given.calibration_fraction,
        anomalies=given.anomalies,
    )
    run = TrainingRun(
        given.method,
        config,
        data,
        given.seed,
        given.weights,
        given.false_alarm_rate,
        textures=None if given.textures is None else str(given.textures.resolve()),
    )
    resume = given.resume and (output == given.output or output.exists())
    detector = train(run, output, RunOptions(_fit_options(given), resume, given.skip_unreadable))
    _print_threshold(detector.calibration)
    print(f"written: {output / DETECTOR}")


def _print_threshold(calibration: Calibration | None) -> None:
    if calibration is not None:
        rate = calibration.false_alarm_rate
        print(f"threshold {calibration.threshold:.4g} at a false alarm rate of {rate:.4g}")


def _evaluate(given: Namespace) -> int:
    from subspect.results import render_categories, write_results
    from subspect.storage import find_detectors

    folders = find_detectors(given.detector)
    place = folders[0].parent if len(folders) == 1 else given.detector
    output = given.output or place / f"evaluation-{given.protocol}"
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; choose another --output")
    results = [_evaluate_one(folder, output, given) for folder in folders]
    write_results(results, output)
    for result in results:
        print(result.render())
    if len(results) > 1:
        print(render_categories(results))
    print(f"written: {output / 'results.json'}, {output / 'images.csv'}")
    return 0


def _evaluate_one(folder: Path, output: Path, given: Namespace) -> Results:
    """Judges one detector, and draws its telling cases if asked to."""
    from subspect.evaluation import evaluate
    from subspect.gallery import write_gallery
    from subspect.prediction import DetectorInspector
    from subspect.run_data import read_test_table
    from subspect.storage import load_detector, read_description

    device = _device(given.device)
    detector = load_detector(folder)
    inspector = (
        DetectorInspector(detector, device) if given.pictures else None
    )  # fails early without a threshold
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
        print(f"written: {write_gallery(inspector, table, results, pictures, given.pictures)}")
    return results


def _inspect(given: Namespace) -> int:
    pictures = _pictures(given.pictures)
    summary = (_inspect_on_ray if _on_ray(given) else _inspect_here)(given, pictures)
    print(f"{summary.normal} normal, {summary.anomalous} anomalous, {summary.errors} could not be inspected")
    print(f"written: {summary.results}")
    return EXIT_PARTLY_FAILED if summary.errors else 0


def _inspect_here(given: Namespace, pictures: Sequence[Path]) -> InspectionSummary:
    from subspect.inspection import inspect_files
    from subspect.loading import load
    from subspect.serving.description import is_export

    inspector = load(
        given.detector,
        device=given.device if is_export(given.detector) else _device(given.device),
        threshold=given.threshold,
        false_alarm_rate=given.false_alarm_rate,
        tile=_tile(given),
        overlap=given.overlap,
    )
    return inspect_files(inspector, pictures, given.output, raw_maps=given.raw_maps)


def _inspect_on_ray(given: Namespace, pictures: Sequence[Path]) -> InspectionSummary:
    from subspect.cluster import Resources
    from subspect.distributed_inspection import Job, inspect_on_ray

    job = Job(
        given.detector.absolute(),
        given.output.absolute(),
        given.device,
        given.threshold,
        given.false_alarm_rate,
        given.raw_maps,
        _tile(given),
        given.overlap,
    )
    return inspect_on_ray(job, pictures, Resources(given.worker_cpus, given.worker_gpus))


def _on_ray(given: Namespace) -> bool:
    """Whether the work is for a cluster.

    Raises:
        ValueError: The executor is neither of the two.
    """
    if given.executor not in ("local", "ray"):
        raise ValueError(f"no executor {given.executor!r}; there are: local, ray")
    return bool(given.executor == "ray")


def _pictures(given: Sequence[Path]) -> list[Path]:
    """The files named, those in the folders named, and those that the ``.txt`` files named name, a line each.

    Raises:
        FileNotFoundError: Something named does not exist; the message lists all such.
    """
    from subspect.images import find_images

    named = [path for one in given for path in _named(one)]
    missing = [str(path) for path in named if not path.exists()]
    if missing:
        raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
    return [found for path in named for found in (find_images(path) if path.is_dir() else [path])]


def _named(path: Path) -> list[Path]:
    """What a list names, as if it stood on the command line, empty lines left out; of anything else itself."""
    if path.suffix.lower() != ".txt" or path.is_dir():
        return [path]
    return [Path(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _calibrate(given: Namespace) -> int:
    from subspect.recalibration import recalibrate

    detector = recalibrate(
        given.detector,
        _pictures(given.pictures),
        given.output,
        tiling=_tiling(given),
        false_alarm_rate=given.false_alarm_rate,
        device=_device(given.device),
    )
    _print_threshold(detector.calibration)
    print(f"written: {given.output}")
    return 0


def _probe(given: Namespace) -> int:
    from subspect.datasets import read_table
    from subspect.prediction import DetectorInspector
    from subspect.probe.probing import ProbeOptions, probe
    from subspect.storage import find_detector, load_detector, read_description

    folder = find_detector(given.detector)
    options = ProbeOptions(given.count, tuple(given.contrasts), given.seed)
    inspector = DetectorInspector(load_detector(folder), _device(given.device), given.threshold)
    table = read_table(given.root, given.layout, given.seed, given.category)
    result = probe(inspector, read_description(folder)["provenance"], table, given.output, options)
    print(result.render(), end="")
    print(f"written: {given.output}")
    return 0


def _profile(given: Namespace) -> int:
    # Before PyTorch is imported: its tracer would report every start and stop.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from subspect.files import write_json
    from subspect.profiling.profiling import ProfileOptions, profile_detector

    if given.output is not None and given.output.exists():
        raise FileExistsError(f"{given.output} exists and is not overwritten; choose another --output")
    if given.output is not None and not given.output.parent.is_dir():
        raise FileNotFoundError(f"{given.output.parent} is no folder: make it, or choose another --output")
    options = ProfileOptions(given.batch_size, given.precision, not given.inference_only, _device(given.device))
    detector, name = _to_profile(given)
    result = profile_detector(detector, name, options)
    print(result.render(), end="")
    if given.output is not None:
        write_json(given.output, result.to_dict())
        print(f"written: {given.output}")
    return 0


def _to_profile(given: Namespace) -> tuple[Detector, str]:
    """The detector named, or an untrained one, and what it is called."""
    from subspect.detectors.registry import find_preset
    from subspect.profiling.profiling import trained_detector, untrained_detector
    from subspect.runs import configured

    size = None if given.image_size is None else image_size(given.image_size)
    if given.detector is not None:
        if given.method or given.preset or given.config or given.set:
            raise ValueError(
                "a detector has its own method and configuration: leave out --method, --preset, --config and"
                " --set, or the detector"
            )
        return trained_detector(given.detector, size), str(given.detector)
    method, preset = given.method or "dsr", given.preset or "fast"
    config = configured(find_preset(method, preset), file=given.config, settings=given.set, image_size=size)
    return untrained_detector(method, config), f"{method}, preset {preset}, untrained"


def _export(given: Namespace) -> int:
    from subspect.export.combinations import ExportOptions
    from subspect.export.exporting import export_detector
    from subspect.storage import find_detector, load_detector, read_description

    options = ExportOptions(
        given.format,
        given.precision,
        None if given.size is None else image_size(given.size),
        tuple(_pictures(given.images)),
        tuple(_pictures(given.normal_images)),
    )
    folder = find_detector(given.detector)
    export_detector(load_detector(folder), read_description(folder)["provenance"], given.output, options)
    print(f"written: {given.output}")
    return 0


def _benchmark(given: Namespace) -> int:
    from subspect.benchmark.cells import list_cells
    from subspect.benchmark.execution import SUMMARY, run_grid
    from subspect.benchmark.grid import read_grid
    from subspect.benchmark.plan import make_plan

    cells = list_cells(read_grid(given.grid, given.set), given.output)
    options = _fit_options(given)
    if given.dry_run:
        print(make_plan(cells, given.output, options))
        return 0
    if _on_ray(given):
        from subspect.benchmark.distributed import run_grid_on_ray
        from subspect.cluster import Resources

        resources = Resources(given.cell_cpus, given.cell_gpus)
        counts = run_grid_on_ray(cells, given.output, options, resources)
    else:
        counts = run_grid(cells, given.output, options)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    print(f"written: {given.output / SUMMARY}")
    return EXIT_PARTLY_FAILED if set(counts) != {"finished"} else 0


def _report(given: Namespace) -> int:
    from subspect.report.writing import write_report

    page = write_report(given.runs, given.output, pictures=given.pictures, device=_device(given.device))
    print(f"written: {page}, and tables.md, tables.tex, tables.csv, intervals.csv, comparisons.csv beside it")
    return 0


def _pretrain(given: Namespace) -> int:
    from subspect.detectors.dsr.pretraining import PretrainingRun, pretrain

    run = PretrainingRun.from_preset(
        given.preset,
        folders=tuple(str(folder) for folder in given.folders),
        weights=given.weights,
        seed=given.seed,
        steps=given.steps,
        batch_size=given.batch_size,
        crop_size=given.crop_size,
    )
    report = pretrain(run, given.output, _fit_options(given), resume=given.resume)
    for name, value in report["held_out"].items():
        print(f"{name:18} {value:.6g}")
    print(f"written: {given.output / 'latent.safetensors'}")
    return 0


def _pretrain_teacher(given: Namespace) -> int:
    from subspect.detectors.uninformed_students.pretraining import TeacherRun, pretrain_teacher

    run = TeacherRun.from_preset(
        given.preset,
        patch_size=given.patch_size,
        folders=tuple(str(folder) for folder in given.folders),
        weights=given.weights,
        seed=given.seed,
        steps=given.steps,
        batch_size=given.batch_size,
        metric_weight=given.metric_weight,
    )
    report = pretrain_teacher(run, given.output, _fit_options(given), resume=given.resume)
    for name, value in report["held_out"].items():
        print(f"{name:18} {value:.6g}")
    print(f"written: {given.output}")
    return 0


def _import_dsr(given: Namespace) -> int:
    from subspect.detectors.dsr.reference import MODULES, import_reference
    from subspect.storage import save_detector

    detector = import_reference({module: given[module] for module in MODULES}, image_size(given.image_size))
    save_detector(detector, given.output, {})
    print(f"written: {given.output}; it has no threshold: give --threshold to inspect")
    return 0


def _import_draem(given: Namespace) -> int:
    from subspect.detectors.draem.reference import MODULES, import_reference
    from subspect.storage import save_detector

    detector = import_reference({module: given[module] for module in MODULES}, image_size(given.image_size))
    save_detector(detector, given.output, {})
    print(f"written: {given.output}; it has no threshold: give --threshold to inspect")
    return 0


def _config(given: Namespace) -> int:
    from subspect.detectors.configuration import configure, to_yaml
    from subspect.detectors.registry import find_preset

    print(to_yaml(configure(find_preset(given.method, given.preset), given.config, given.set)), end="")
    return 0


def _demo(given: Namespace) -> int:
    from subspect.demo import demo

    print(f"written: {demo(given.output, given.seed)}")
    return 0


COMMANDS = {
    "surfaces": _surfaces,
    "check": _check,
    "train": _train,
    "evaluate": _evaluate,
    "inspect": _inspect,
    "calibrate": _calibrate,
    "probe": _probe,
    "benchmark": _benchmark,
    "report": _report,
    "profile": _profile,
    "export": _export,
    "pretrain": _pretrain,
    "pretrain-teacher": _pretrain_teacher,
    "import-dsr": _import_dsr,
    "import-draem": _import_draem,
    "config": _config,
    "demo": _demo,
}
