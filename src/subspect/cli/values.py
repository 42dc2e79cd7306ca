"""What words of the command line stand for: sizes, tiles, executors, files. Heavy imports wait until then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

if TYPE_CHECKING:
    from subspect.tiling import Tiling
    from subspect.training.options import FitOptions


def image_size(text: str) -> tuple[int, int]:
    """``S`` or ``HxW`` as height and width in pixels.

    Raises:
        ValueError: The text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"an image size is S or HxW in pixels, e.g. 256 or 640x232, got {text!r}")
    return int(parts[0]), int(parts[-1])


def optional_size(text: str | None) -> tuple[int, int] | None:
    """As `image_size`; None where nothing was said."""
    return None if text is None else image_size(text)


def chosen_tiling(given: Namespace) -> Tiling | None:
    """How ``--tile`` and ``--overlap`` cut pictures up; None without.

    Raises:
        ValueError: Pictures cannot be cut up so.
    """
    from subspect.tiling import make_tiling

    return make_tiling(optional_size(given.tile), given.overlap)


def check_folder(output: Path) -> None:
    """Makes sure that a folder can be, or is, at a path.

    Raises:
        NotADirectoryError: There is a file, or the path leads through one.
    """
    first = next(path for path in (output, *output.parents) if path.exists())
    if not first.is_dir():
        raise NotADirectoryError(f"{first} is a file; choose a folder for the output")


def fit_options(given: Namespace) -> FitOptions:
    """How a training runs on this machine."""
    from subspect.training.options import FitOptions

    return FitOptions(given.accelerator, given.devices, given.precision, progress=not given.quiet)


def on_ray(given: Namespace) -> bool:
    """Whether the work is for a cluster.

    Raises:
        ValueError: The executor is neither of the two.
    """
    if given.executor not in ("local", "ray"):
        raise ValueError(f"no executor {given.executor!r}; there are: local, ray")
    return bool(given.executor == "ray")


def picture_files(given: Sequence[Path], in_folder: Callable[[Path], list[Path]]) -> list[Path]:
    """The files named, those in the folders named, and those that the ``.txt`` files named name, a line each.

    Args:
        given: Files, folders, and lists of both.
        in_folder: What is taken of a folder, see `subspect.datasets.pictures`.

    Raises:
        FileNotFoundError: Something named does not exist; the message lists all such.
    """
    named = [path for one in given for path in _named(one)]
    missing = [str(path) for path in named if not path.exists()]
    if missing:
        raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
    return [found for path in named for found in (in_folder(path) if path.is_dir() else [path])]


def _named(path: Path) -> list[Path]:
    """What a list names, as if it stood on the command line, empty lines left out; of anything else itself."""
    if path.suffix.lower() != ".txt" or path.is_dir():
        return [path]
    lines = map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())  # a byte-order mark is no name
    return [Path(line) for line in lines if line]
