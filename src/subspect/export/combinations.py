"""Which formats exist in which precisions, why the others do not, and how exact each has to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from subspect.serving.description import Format, Precision


class Tolerance(NamedTuple):
    """How far an export may be from the detector, as shares of the detector's highest map value on the images.

    Attributes:
        mean_map: Bound on the mean difference of the maps.
        score: Bound on the differences of nine in ten scores, relative to the highest score.
        any_score: Bound on the difference of any score, relative to the highest score.
    """

    mean_map: float
    score: float
    any_score: float


TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(1e-3, 2e-3, 2e-2),
    "float16": Tolerance(1e-2, 2e-2, 2e-2),
    "bfloat16": Tolerance(2e-2, 1e-1, 1e-1),
    "int8": Tolerance(3e-2, 1e-1, 1e-1),
}
"""Float32 differs by the order of its sums, 1e-6 and less. But where two codes of a codebook are equally near,
rounding decides which one is taken, and the map around that place follows: hence 1e-3, and no bound on a single
pixel. A score that hangs on that place follows, too: by 9e-3 with one of 17 images and a ``paper`` detector, by
1e-3 and less with the others (docs/performance.md). Float16 carries 11 bits, so that one operation rounds by
up to 5e-4; some twenty layers with norms in between add up to some ten times that. Bfloat16 carries 8 bits, and
int8 has 256 levels for all values of a layer; the bound on their scores keeps out exports that went wrong,
not ones that are coarse: verdicts are what counts there, and the report lists those that changed."""

_MISSING: dict[tuple[Format, Precision], str] = {
    ("onnx", "bfloat16"): "ONNX Runtime has no bfloat16 convolution for processors, so it could not be checked",
    ("torch", "int8"): "NNCF's int8 for PyTorch only simulates int8; it is not faster",
}


@dataclass(frozen=True)
class ExportOptions:
    """What kind of export.

    Attributes:
        format: ``onnx``, ``openvino`` or ``torch``.
        precision: ``float32``, ``float16``, ``bfloat16`` or ``int8``.
        picture_size: Height and width of the pictures that it takes; None for any, or for the detector's tiles.
        images: Pictures to check it on; without any, some are looked for, see `subspect.export.pictures`.
        normal_images: Normal pictures that int8 is calibrated with.

    Raises:
        ValueError: There is no such export, or int8 has no pictures; the message says what there is.
    """

    format: Format = "onnx"
    precision: Precision = "float32"
    picture_size: tuple[int, int] | None = None
    images: tuple[Path, ...] = ()
    normal_images: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_combination(self.format, self.precision)
        if self.precision == "int8" and not self.normal_images:
            raise ValueError(
                "int8 takes its ranges from normal pictures: name some that the detector was trained on, or"
                " others like them, by --normal-images"
            )


def check_combination(format_: str, precision: str) -> None:
    """Makes sure that an export of this kind exists.

    Raises:
        ValueError: It does not; the message says which do.
    """
    if (format_, precision) in existing():
        return
    why = next((f" ({why})" for names, why in _MISSING.items() if names == (format_, precision)), "")
    raise ValueError(f"there is no {format_} export in {precision}{why}; there are: {existing_in_words()}")


def existing() -> list[tuple[Format, Precision]]:
    """All combinations that exist, of every method."""
    formats: tuple[Format, ...] = ("onnx", "openvino", "torch")
    return [
        (format_, precision)
        for format_ in formats
        for precision in TOLERANCES
        if (format_, precision) not in _MISSING
    ]


def existing_in_words() -> str:
    """The same in words."""
    by_format: dict[str, list[str]] = {}
    for format_, precision in existing():
        by_format.setdefault(format_, []).append(precision)
    return "; ".join(f"{format_} in {', '.join(precisions)}" for format_, precisions in by_format.items())
