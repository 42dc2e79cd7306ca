"""The command line: parses, calls, prints. What a command does stands in the room it calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    from subspect.evaluation import Results
    from subspect.training import FitOptions

EXIT_FAILED = 1
EXIT_PARTLY_FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after ``subspect``; None takes those of the process.

    Returns:
        The exit code: 0 when all went well, 1 when nothing could be done, 2 when parts failed. Words that
        cannot be understood exit with 2, too, as command lines do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # tables and dots must not fail on an old terminal
    parsed = _parser().parse_args(arguments)
    command = str(parsed.subcommand)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("subspect").setLevel(logging.INFO)
    logging.getLogger("lightning").setLevel(logging.WARNING)  # adverts, and lists of absent hardware
    try:
        return int(_COMMANDS[command](parsed[command]))
    except (ValueError, OSError) as error:
        print(f"subspect {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"subspect {command}: stopped", file=sys.stderr)
        return EXIT_FAILED


def image_size(text: str) -> tuple[int, int]:
    """``S`` or ``HxW`` as height and width in pixels.

    Raises:
        ValueError: The text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"an image size is S or HxW in pixels, e.g. 256 or 640x232, got {text!r}")
    return int(parts[0]), int(parts[-1])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="subspect", description="Surface anomaly detection in industrial images.")
    parser.add_argument("--version", action="version", version=f"subspect {version('subspect')}")
    commands = parser.add_subcommands(required=True)
    for name, add, text in (
        ("surfaces", _add_surfaces, "write demo data: six surfaces with defects and exact masks"),
        ("check", _add_check, "look through a data set: would training start?"),
        ("train", _add_train, "train a detector on normal images"),
        ("evaluate", _add_evaluate, "judge a detector on the test split of its data set"),
        ("inspect", _add_inspect, "find and outline defects in pictures"),
        ("pretrain", _add_pretrain, "train DSR's discrete latent model on any folders of pictures"),
        ("import-dsr", _add_import_dsr, "make a detector of checkpoints of DSR's authors"),
        ("config", _add_config, "print a preset's configuration as YAML"),
        ("demo", _add_demo, "show it all on built-in surfaces: train, evaluate, inspect, a page of pictures"),
    ):
        command = ArgumentParser(description=text)
        add(command)
        commands.add_subcommand(name, command, help=text)
    return parser


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--layout", type=str, default="folder", help="how it is laid out (default: folder)")
    parser.add_argument("--category", type=str, help="which product or surface, if there are several")


def _add_configuration(parser: ArgumentParser, default_preset: str) -> None:
    parser.add_argument("--method", type=str, default="dsr", help="method (default: dsr)")
    parser.add_argument("--preset", type=str, default=default_preset, help=f"default: {default_preset}")
    parser.add_argument("--config", type=Path, help="YAML with values that replace the preset's")
    parser.add_argument("--set", type=str, action="append", default=[], help=_SET_HELP)


_SET_HELP = "FIELD=VALUE: one value of the configuration, e.g. simulation.nearest_share=0.1; may be repeated"


def _add_fit(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=0, help="of splits, weights, order, simulation")
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument("--devices", type=int, default=1, help="how many; several train by DDP")
    parser.add_argument("--precision", type=str, default="auto", help="auto, 32-true, bf16-mixed, ...")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


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


def _add_surfaces(parser: ArgumentParser) -> None:
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--only", type=str, nargs="+", help="some of the surfaces instead of all")


def _surfaces(given: Namespace) -> int:
    from subspect.datasets.surfaces import generate

    generate(given.output, seed=given.seed, surfaces=given.only, size=given.size)
    print(f"written: {given.output} (layout mvtec_ad)")
    return 0


def _add_check(parser: ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the splits")


def _check(given: Namespace) -> int:
    from subspect.datasets import read_table
    from subspect.datasets.checks import check_table

    report = check_table(read_table(given.root, given.layout, given.seed, given.category))
    print(report.render())
    return 0 if report.trainable else EXIT_FAILED


def _add_train(parser: ArgumentParser) -> None:
    _add_data(parser)
    _add_configuration(parser, "fast")
    _add_fit(parser)
    parser.add_argument("--steps", type=int, help="length of the training; stages keep their proportions")
    parser.add_argument("--image-size", type=str, help="S or HxW that pictures are resized to")
    parser.add_argument(
        "--weights", type=str, help="pretrained weights: a file or hub id, with #SHA256 if you like"
    )
    parser.add_argument(
        "--anomalies", type=int, default=0, help="annotated anomalous images that may be learnt from"
    )
    parser.add_argument(
        "--calibration-fraction", type=float, default=0.2, help="normals held out for the threshold"
    )
    parser.add_argument(
        "--false-alarm-rate", type=float, help="default: 0.01, or the smallest the images support"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="go on without files that cannot be used"
    )


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
    )
    data = DataOptions(
        root=str(given.root.resolve()),
        layout=given.layout,
        category=category,
        seed=given.seed,
        calibration_fraction=given.calibration_fraction,
        anomalies=given.anomalies,
    )
    run = TrainingRun(given.method, config, data, given.seed, given.weights, given.false_alarm_rate)
    resume = given.resume and (output == given.output or output.exists())
    detector = train(run, output, RunOptions(_fit_options(given), resume, given.skip_unreadable))
    if (calibration := detector.calibration) is not None:
        rate = calibration.false_alarm_rate
        print(f"threshold {calibration.threshold:.4g} at a false alarm rate of {rate:.4g}")
    print(f"written: {output / DETECTOR}")


def _add_evaluate(parser: ArgumentParser) -> None:
    parser.add_argument("detector", type=Path, help="folder of a detector, of its run, or of several runs")
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--layout", type=str, help="how it is laid out (default: as in training)")
    parser.add_argument("--category", type=str, help="which product or surface (default: as in training)")
    parser.add_argument(
        "--protocol", type=str, default="whole", help="whole, or paper (224 crop, strict masks)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for results.json and images.csv (default: the run's)"
    )
    parser.add_argument("--pictures", type=int, default=0, help="hits, misses, false alarms to draw of each")
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="go on without files that cannot be used"
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")


def _evaluate(given: Namespace) -> int:
    from subspect.evaluation import render_categories, write_results
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
    from subspect.inspection import Inspector
    from subspect.run_data import read_test_table
    from subspect.storage import load_detector, read_description

    device = _device(given.device)
    detector = load_detector(folder)
    inspector = Inspector(detector, device) if given.pictures else None  # fails early without a threshold
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


def _add_inspect(parser: ArgumentParser) -> None:
    parser.add_argument("detector", type=Path, help="folder of a detector, or of the run that made it")
    parser.add_argument("pictures", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, help="folder for pictures and results.jsonl")
    parser.add_argument("--threshold", type=float, help="instead of the calibrated one")
    parser.add_argument("--false-alarm-rate", type=float, help="re-choose the threshold for this rate")
    parser.add_argument("--raw-maps", action="store_true", help="write anomaly maps as .npy, too")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")


def _inspect(given: Namespace) -> int:
    from subspect.inspection import Inspector, inspect_files
    from subspect.storage import find_detector, load_detector

    detector = load_detector(find_detector(given.detector))
    if given.false_alarm_rate is not None:
        if given.threshold is not None or detector.calibration is None:
            raise ValueError("--false-alarm-rate needs a calibrated detector and excludes --threshold")
        detector.calibration = detector.calibration.with_rate(given.false_alarm_rate)
    inspector = Inspector(detector, _device(given.device), given.threshold)
    summary = inspect_files(inspector, _pictures(given.pictures), given.output, raw_maps=given.raw_maps)
    print(f"{summary.normal} normal, {summary.anomalous} anomalous, {summary.errors} could not be inspected")
    print(f"written: {summary.results}")
    return EXIT_PARTLY_FAILED if summary.errors else 0


def _pictures(given: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named.

    Raises:
        FileNotFoundError: Something named does not exist; the message lists all such.
    """
    from subspect.images import find_images

    missing = [str(path) for path in given if not path.exists()]
    if missing:
        raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
    return [found for path in given for found in (find_images(path) if path.is_dir() else [path])]


def _add_pretrain(parser: ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pictures, searched with subfolders")
    parser.add_argument("--preset", type=str, default="fast", help="fast or paper (default: fast)")
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--crop-size", type=int, help="instead of the preset's")
    _add_fit(parser)


def _pretrain(given: Namespace) -> int:
    from subspect.detectors.dsr.pretraining import PretrainingRun, pretrain

    run = PretrainingRun.from_preset(
        given.preset,
        folders=tuple(str(folder) for folder in given.folders),
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


def _add_import_dsr(parser: ArgumentParser) -> None:
    for module in (
        "latent-model",
        "low-subspace",
        "high-subspace",
        "object-decoder",
        "detection",
        "upsampling",
    ):
        parser.add_argument(
            f"--{module}", type=Path, required=True, help="the reference's .pckl of this module"
        )
    parser.add_argument("--image-size", type=str, default="256", help="S or HxW (default: 256)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the detector to make")


def _import_dsr(given: Namespace) -> int:
    from subspect.detectors.dsr.reference import MODULES, import_reference
    from subspect.storage import save_detector

    detector = import_reference({module: given[module] for module in MODULES}, image_size(given.image_size))
    save_detector(detector, given.output, {})
    print(f"written: {given.output}; it has no threshold: give --threshold to inspect")
    return 0


def _add_config(parser: ArgumentParser) -> None:
    _add_configuration(parser, "fast")


def _config(given: Namespace) -> int:
    from subspect.detectors.configuration import configure, to_yaml
    from subspect.detectors.registry import find_preset

    print(to_yaml(configure(find_preset(given.method, given.preset), given.config, given.set)), end="")
    return 0


def _add_demo(parser: ArgumentParser) -> None:
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="of everything")


def _demo(given: Namespace) -> int:
    from subspect.demo import demo

    print(f"written: {demo(given.output, given.seed)}")
    return 0


_COMMANDS = {
    "surfaces": _surfaces,
    "check": _check,
    "train": _train,
    "evaluate": _evaluate,
    "inspect": _inspect,
    "pretrain": _pretrain,
    "import-dsr": _import_dsr,
    "config": _config,
    "demo": _demo,
}
