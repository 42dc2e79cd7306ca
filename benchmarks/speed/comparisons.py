"""What is compared with what: cases of `ours.py` and `peer.py` with their arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DSR, PADIM = ("dsr", "paper"), ("padim", "fast")


@dataclass(frozen=True)
class Case:
    """Something that a worker repeats.

    Attributes:
        worker: ``ours`` or ``peer``.
        name: Of the function in the worker's module.
        arguments: Of that function.
        export: Method, preset, format, precision of the export that the case runs, if it runs one, and whether
            it is for pictures of one size.
        flops: Method and preset whose multiplications and additions the case does.
    """

    worker: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    export: tuple[str, str, str, str, bool] | None = None
    flops: tuple[str, str] | None = None


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
        group: Which table.
        name: What is measured.
        ours: Timed against ``peer``, in alternation.
        peer: The same of anomalib's; None where only the machine's peak is compared with.
        repetitions: Pairs that count.
    """

    group: str
    name: str
    ours: Case
    peer: Case | None
    repetitions: int = 5


def eager(method: str, preset: str, **arguments: Any) -> Case:
    """A detector of ours in PyTorch."""
    return Case("ours", "eager", {"method": method, "preset": preset, **arguments}, flops=(method, preset))


def exported(
    method: str, preset: str, format: str, precision: str = "float32", fixed: bool = False, **arguments: Any
) -> Case:
    """An export of ours, for pictures of any size or of the detector's own."""
    return Case("ours", "exported", arguments, (method, preset, format, precision, fixed), (method, preset))


def peer(name: str, **arguments: Any) -> Case:
    """A case of anomalib's."""
    return Case("peer", name, arguments)


def step(preset: str, batch: int = 8, **arguments: Any) -> Case:
    """A training step of ours."""
    return Case("ours", "step", {"preset": preset, "batch": batch, **arguments})


def fit(worker: str, images: int) -> Case:
    """PaDiM's fit."""
    return Case(worker, "padim_fit", {"images": images})


def _inference() -> list[Comparison]:
    group, dsr, padim = "inference", peer("dsr_inference"), peer("padim_inference")
    return [
        Comparison(group, "DSR `paper`, PyTorch", eager(*DSR), dsr),
        Comparison(group, "DSR `paper`, ONNX Runtime", exported(*DSR, "onnx"), dsr),
        Comparison(group, "DSR `paper`, OpenVINO", exported(*DSR, "openvino"), dsr),
        Comparison(group, "DSR `paper`, OpenVINO bfloat16", exported(*DSR, "openvino", "bfloat16"), dsr),
        Comparison(group, "DSR `paper`, OpenVINO int8", exported(*DSR, "openvino", "int8"), dsr),
        Comparison(group, "DSR `fast`, PyTorch", eager("dsr", "fast"), dsr),
        Comparison(group, "DSR `fast`, ONNX Runtime", exported("dsr", "fast", "onnx"), dsr),
        Comparison(
            group, "DSR `fast`, ONNX Runtime, size fixed", exported("dsr", "fast", "onnx", fixed=True), dsr
        ),
        Comparison(group, "DSR `fast`, OpenVINO", exported("dsr", "fast", "openvino"), dsr),
        Comparison(
            group, "DSR `fast`, OpenVINO, size fixed", exported("dsr", "fast", "openvino", fixed=True), dsr
        ),
        Comparison(
            group, "DSR `fast`, OpenVINO bfloat16", exported("dsr", "fast", "openvino", "bfloat16"), dsr
        ),
        Comparison(group, "DSR `fast`, OpenVINO int8", exported("dsr", "fast", "openvino", "int8"), dsr),
        Comparison(group, "PaDiM `fast`, PyTorch", eager(*PADIM), padim, 10),
        Comparison(group, "PaDiM `fast`, OpenVINO", exported(*PADIM, "openvino"), padim, 10),
    ]


def _training() -> list[Comparison]:
    dsr = peer("dsr_step", batch=8)
    return [
        Comparison("training", "step of DSR `paper`, stage 2, 8 images", step("paper"), dsr, 2),
        Comparison("training", "step of DSR `fast`, stage 2, 8 images", step("fast"), dsr, 2),
        Comparison("training", "step of DSR `fast`, stage 2, 8 crops of 128", step("fast", crop=128), None, 5),
        Comparison("training", "fit of PaDiM `fast`, 96 images", fit("ours", 96), fit("peer", 96), 3),
    ]


def _other() -> list[Comparison]:
    maps = {"images": 40}
    padim = {"method": "padim", "preset": "fast", "format": "onnx", "precision": "float32", "fixed": False}
    written = Case("ours", "write_export", padim)
    return [
        Comparison("export", "PaDiM `fast` to ONNX", written, peer("padim_export"), 2),
        Comparison(
            "metrics",
            "pixel AUROC, AP, AUPRO of 40 maps",
            Case("ours", "pixel_metrics", maps),
            peer("pixel_metrics", **maps),
            3,
        ),
    ]


def _scaling() -> list[Comparison]:
    lines = [
        Comparison(
            "scaling",
            f"DSR `fast`, OpenVINO, {size}x{size}",
            exported("dsr", "fast", "openvino", size=size),
            peer("dsr_inference", size=size) if size < 256 else None,
            3,
        )
        for size in (128, 256, 512)
    ]
    for batch in (1, 4, 16):
        one = exported("dsr", "fast", "openvino", batch=batch)
        lines.append(Comparison("scaling", f"DSR `fast`, OpenVINO, batches of {batch}", one, None, 3))
        one = eager(*PADIM, batch=batch)
        other = peer("padim_inference", batch=batch)
        lines.append(Comparison("scaling", f"PaDiM `fast`, PyTorch, batches of {batch}", one, other, 3))
    lines += [
        Comparison(
            "scaling", f"fit of PaDiM `fast`, {images} images", fit("ours", images), fit("peer", images), 2
        )
        for images in (48, 192)
    ]
    return lines


COMPARISONS = [*_inference(), *_training(), *_other(), *_scaling()]
