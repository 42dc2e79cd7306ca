"""What each command takes: names, types and help of its arguments."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt

_SET_HELP = "FIELD=VALUE: one value of the configuration, e.g. simulation.nearest_share=0.1; may be repeated"


def build_parser() -> ArgumentParser:
    """The parser of the whole command line."""
    parser = ArgumentParser(prog="subspect", description="Surface anomaly detection in industrial images.")
    parser.add_argument("--version", action="version", version=f"subspect {version('subspect')}")
    commands = parser.add_subcommands(required=True)
    for name, add, text in (
        ("surfaces", add_surfaces, "write demo data: six surfaces with defects and exact masks"),
        ("check", add_check, "look through a data set: would training start?"),
        ("train", add_train, "train a detector on normal images"),
        ("evaluate", add_evaluate, "judge a detector on the test split of its data set"),
        ("inspect", add_inspect, "find and outline defects in pictures"),
        ("calibrate", add_calibrate, "set a detector's thresholds anew, from other normal pictures"),
        ("probe", add_probe, "plant graded defects into normal pictures: how small may they be to be found?"),
        ("benchmark", add_benchmark, "train and judge a grid of methods, data sets, seeds and variants"),
        ("report", add_report, "write tables, intervals and a page of judged runs"),
        (
            "profile",
            add_profile,
            "where a detector's time, memory and arithmetic go, beside the machine's peak",
        ),
        ("export", add_export, "write a detector for other runtimes, checked against the detector"),
        ("pretrain", add_pretrain, "train DSR's discrete latent model on any folders of pictures"),
        ("pretrain-teacher", add_pretrain_teacher, "train a teacher of Uninformed Students on pictures"),
        ("import-dsr", add_import_dsr, "make a detector of checkpoints of DSR's authors"),
        ("import-draem", add_import_draem, "make a detector of checkpoints of DRAEM's authors"),
        ("config", add_config, "print a preset's configuration as YAML"),
        ("demo", add_demo, "show it all on built-in surfaces: train, evaluate, inspect, a page of pictures"),
    ):
        command = ArgumentParser(description=text)
        add(command)
        commands.add_subcommand(name, command, help=text)
    return parser


def add_data(parser: ArgumentParser) -> None:
    """Which data set."""
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--layout", type=str, default="folder", help="how it is laid out (default: folder)")
    parser.add_argument("--category", type=str, help="which product or surface, if there are several")


def add_recorded_data(parser: ArgumentParser) -> None:
    """Which data set a detector is taken to."""
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--layout", type=str, help="how it is laid out (default: as in training)")
    parser.add_argument("--category", type=str, help="which product or surface (default: as in training)")


def add_configuration(parser: ArgumentParser, default_preset: str) -> None:
    """Which method, preset and values."""
    parser.add_argument("--method", type=str, default="dsr", help="method (default: dsr)")
    parser.add_argument("--preset", type=str, default=default_preset, help=f"default: {default_preset}")
    parser.add_argument("--config", type=Path, help="YAML with values that replace the preset's")
    parser.add_argument("--set", type=str, action="append", default=[], help=_SET_HELP)


def add_fit(parser: ArgumentParser, output: str = "folder of the run") -> None:
    """Where and how a training runs."""
    parser.add_argument("--output", type=Path, required=True, help=output)
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of splits, weights, order, simulation")
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    add_machine(parser)


def add_machine(parser: ArgumentParser) -> None:
    """What a training runs on."""
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument("--devices", type=int, default=1, help="how many; several train by DDP")
    parser.add_argument("--precision", type=str, default="auto", help="auto, 32-true or bf16-mixed")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_tiles(parser: ArgumentParser, default: str) -> None:
    """How pictures are cut up."""
    parser.add_argument(
        "--tile", type=str, help=f"S or HxW of the tiles that large pictures are looked at in ({default})"
    )
    parser.add_argument(
        "--overlap", type=int, help="pixels that tiles share (default: a quarter of their shorter side)"
    )


def add_executor(parser: ArgumentParser, unit: str) -> None:
    """Whether to work on this machine or on a cluster, of whose machines each ``unit`` takes a part."""
    parser.add_argument(
        "--executor", type=str, default="local", help="local, or ray: a cluster (see docs/scale.md)"
    )
    parser.add_argument(f"--{unit}-cpus", type=float, default=1, help=f"with ray: cores for each {unit}")
    parser.add_argument(f"--{unit}-gpus", type=float, default=0, help=f"with ray: GPUs for each {unit}")


def add_surfaces(parser: ArgumentParser) -> None:
    """Arguments of ``surfaces``."""
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="the same seed gives the same pictures")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--only", type=str, nargs="+", help="some of the surfaces instead of all")


def add_check(parser: ArgumentParser) -> None:
    """Arguments of ``check``."""
    add_data(parser)
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the splits")


def add_train(parser: ArgumentParser) -> None:
    """Arguments of ``train``."""
    add_data(parser)
    add_configuration(parser, "fast")
    add_fit(parser)
    parser.add_argument("--steps", type=int, help="length of the training; stages keep their proportions")
    parser.add_argument("--image-size", type=str, help="S or HxW that pictures, or their tiles, are resized to")
    add_tiles(parser, "default: they are looked at whole")
    parser.add_argument(
        "--weights",
        type=str,
        help="to start from: a detector's folder, or weights (file, folder or hub id; #SHA256 if you like)",
    )
    parser.add_argument(
        "--textures", type=Path, help="folder of pictures that draem paints its training defects with"
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


def add_evaluate(parser: ArgumentParser) -> None:
    """Arguments of ``evaluate``."""
    parser.add_argument("detector", type=Path, help="folder of a detector, of its run, or of several runs")
    add_recorded_data(parser)
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


def add_inspect(parser: ArgumentParser) -> None:
    """Arguments of ``inspect``."""
    parser.add_argument("detector", type=Path, help="folder of a detector, of its run, or of an export")
    parser.add_argument(
        "pictures", type=Path, nargs="+", help="image files, folders of them, or .txt files that name them"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for pictures and results.jsonl")
    parser.add_argument("--threshold", type=float, help="instead of the calibrated one")
    parser.add_argument("--false-alarm-rate", type=float, help="re-choose the threshold for this rate")
    add_tiles(parser, "default: as it was calibrated")
    parser.add_argument("--raw-maps", action="store_true", help="write anomaly maps as .npy, too")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")
    add_executor(parser, "worker")


def add_calibrate(parser: ArgumentParser) -> None:
    """Arguments of ``calibrate``."""
    parser.add_argument("detector", type=Path, help="folder of a detector, or of the run that made it")
    parser.add_argument("pictures", type=Path, nargs="+", help="normal image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, help="folder of the detector to make")
    add_tiles(parser, "default: as it was")
    parser.add_argument(
        "--false-alarm-rate", type=float, help="default: 0.01, or the smallest the images support"
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")


def add_probe(parser: ArgumentParser) -> None:
    """Arguments of ``probe``."""
    parser.add_argument("detector", type=Path, help="folder of a detector, or of the run that made it")
    add_recorded_data(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--threshold", type=float, help="instead of the calibrated one")
    parser.add_argument("--count", type=int, default=60, help="defects of each family (default: 60)")
    parser.add_argument(
        "--contrasts",
        type=float,
        nargs="+",
        default=[0.1, 0.2, 0.4],
        help="of spots and scratches; 1 = from black to white",
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of pictures, places and sizes")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")


def add_benchmark(parser: ArgumentParser) -> None:
    """Arguments of ``benchmark``."""
    parser.add_argument("grid", type=Path, help="YAML file of what to combine; ready ones are in recipes/")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; the same goes on")
    parser.add_argument(
        "--set",
        type=str,
        action="append",
        default=[],
        help="FIELD=VALUE: one value of the grid, e.g. datasets.mvtec_ad.root=DIR; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the plan and the time it will take")
    add_executor(parser, "cell")
    add_machine(parser)


def add_report(parser: ArgumentParser) -> None:
    """Arguments of ``report``."""
    parser.add_argument("runs", type=Path, nargs="+", help="folders with judged runs, e.g. of a benchmark")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--pictures", type=int, default=1, help="best, median, worst images to show of each detector; 0: none"
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")


def add_profile(parser: ArgumentParser) -> None:
    """Arguments of ``profile``."""
    parser.add_argument(
        "detector",
        type=Path,
        nargs="?",
        help="folder of a detector, or of the run that made it (default: untrained, of --method and --preset)",
    )
    parser.add_argument("--method", type=str, help="method of an untrained detector (default: dsr)")
    parser.add_argument("--preset", type=str, help="its preset (default: fast)")
    parser.add_argument("--config", type=Path, help="YAML with values that replace the preset's")
    parser.add_argument("--set", type=str, action="append", default=[], help=_SET_HELP)
    parser.add_argument("--image-size", type=str, help="S or HxW of the images (default: the detector's)")
    parser.add_argument("--batch-size", type=int, default=1, help="images judged at a time (default: 1)")
    parser.add_argument("--precision", type=str, default="float32", help="float32 or bfloat16")
    parser.add_argument("--inference-only", action="store_true", help="leave training steps out")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, ...")
    parser.add_argument(
        "--output", type=Path, help="JSON file to write everything to, modules of all depths, too"
    )


def add_export(parser: ArgumentParser) -> None:
    """Arguments of ``export``."""
    parser.add_argument("detector", type=Path, help="folder of a detector, or of the run that made it")
    parser.add_argument("--format", type=str, default="onnx", help="onnx, openvino or torch (default: onnx)")
    parser.add_argument(
        "--precision", type=str, default="float32", help="float32, float16, bfloat16 or int8 (default: float32)"
    )
    parser.add_argument(
        "--size", type=str, help="S or HxW of the pictures that it takes (default: any, or that of the tiles)"
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        help="files or folders of pictures that the export is checked on (default: those held out in training)",
    )
    parser.add_argument(
        "--normal-images",
        type=Path,
        nargs="+",
        default=[],
        help="files or folders of normal pictures that int8 is calibrated with",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the export to make")


def add_pretrain(parser: ArgumentParser) -> None:
    """Arguments of ``pretrain``."""
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pictures, searched with subfolders")
    parser.add_argument("--preset", type=str, default="fast", help="fast or paper (default: fast)")
    parser.add_argument(
        "--weights", type=str, help="of fast's ImageNet ResNet-18: a file or hub id (default: timm's)"
    )
    parser.add_argument(
        "--start", type=str, help="latent model to go on from: a file or hub id, or 'shipped' (default: none)"
    )
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument(
        "--set", type=str, action="append", default=[], help="FIELD=VALUE: one value, e.g. stage.batch_size=8"
    )
    add_fit(parser)


def add_pretrain_teacher(parser: ArgumentParser) -> None:
    """Arguments of ``pretrain-teacher``."""
    parser.add_argument("folders", type=Path, nargs="+", help="folders of pictures, searched with subfolders")
    parser.add_argument("--patch-size", type=int, required=True, help="17, 33 or 65 pixels")
    parser.add_argument("--preset", type=str, default="fast", help="fast or paper (default: fast)")
    parser.add_argument(
        "--weights", type=str, help="of the ImageNet ResNet-18 to distil: a file or hub id (default: timm's)"
    )
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--metric-weight", type=float, help="of the triplet loss (default: 0, without)")
    add_fit(parser, "teacher to write (.safetensors); its logs go into a folder of that name beside it")


def add_import_dsr(parser: ArgumentParser) -> None:
    """Arguments of ``import-dsr``."""
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


def add_import_draem(parser: ArgumentParser) -> None:
    """Arguments of ``import-draem``."""
    parser.add_argument("--reconstructive", type=Path, required=True, help="the reference's NAME.pckl")
    parser.add_argument("--discriminative", type=Path, required=True, help="the reference's NAME_seg.pckl")
    parser.add_argument("--image-size", type=str, default="256", help="S or HxW (default: 256)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the detector to make")


def add_config(parser: ArgumentParser) -> None:
    """Arguments of ``config``."""
    add_configuration(parser, "fast")


def add_demo(parser: ArgumentParser) -> None:
    """Arguments of ``demo``."""
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of everything")
