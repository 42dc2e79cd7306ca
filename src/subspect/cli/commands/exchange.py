"""Commands that bring detectors and configurations into other forms, or from them: export, imports, config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from subspect.cli.values import image_size, optional_size, picture_files

if TYPE_CHECKING:
    from subspect.detectors.base import Detector


def do_export(given: Namespace) -> int:
    """Writes a detector in the format of a runtime, and checks it."""
    from subspect.datasets.pictures import normal_pictures_in, pictures_in
    from subspect.export.combinations import ExportOptions
    from subspect.export.exporting import export_detector
    from subspect.storage import find_detector, load_detector, read_description

    options = ExportOptions(
        given.format,
        given.precision,
        optional_size(given.size),
        _pictures("--images", given.images, pictures_in),
        _pictures("--normal-images", given.normal_images, normal_pictures_in),
    )
    folder = find_detector(given.detector)
    export_detector(load_detector(folder), read_description(folder)["provenance"], given.output, options)
    print(f"written: {given.output}")
    return 0


def _pictures(option: str, named: Sequence[Path], in_folder: Callable[[Path], list[Path]]) -> tuple[Path, ...]:
    """The pictures that an option names.

    Raises:
        ValueError: It names folders or lists without any.
    """
    found = picture_files(named, in_folder)
    if named and not found:
        raise ValueError(f"{option}: no image files in {', '.join(map(str, named))}")
    return tuple(found)


def do_import_dsr(given: Namespace) -> int:
    """Makes a detector of the authors' DSR checkpoints."""
    from subspect.detectors.dsr.reference import MODULES, import_reference

    return _import(MODULES, import_reference, given)


def do_import_draem(given: Namespace) -> int:
    """Makes a detector of the authors' DRAEM checkpoints."""
    from subspect.detectors.draem.reference import MODULES, import_reference

    return _import(MODULES, import_reference, given)


def _import(modules: Iterable[str], read: Callable[..., Detector], given: Namespace) -> int:
    """Saves the detector that is read from a checkpoint for each of its modules."""
    from subspect.storage import save_detector

    detector = read({module: given[module] for module in modules}, image_size(given.image_size))
    save_detector(detector, given.output, {})
    print(f"written: {given.output}; it has no threshold: give --threshold to inspect")
    return 0


def do_config(given: Namespace) -> int:
    """Prints a configuration as YAML."""
    from subspect.detectors.configuration import configure, to_yaml
    from subspect.detectors.registry import find_preset

    print(to_yaml(configure(find_preset(given.method, given.preset), given.config, given.set)), end="")
    return 0
