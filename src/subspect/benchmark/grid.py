"""Grids as YAML: which methods, data sets, categories, seeds and variants a benchmark combines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from subspect.detectors.configuration import ConfigurationError
from subspect.evaluation.results import Protocol

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EntryT = TypeVar("EntryT", bound="DataclassInstance")

FULL = "full"
"""Name of the variant that changes nothing."""

_NAME = re.compile(r"[\w=+-][\w=.+ -]*")
_EXPECTED = {
    "datasets": "data sets by name, e.g. {surfaces: {categories: [fabric]}}",
    "root": "a folder, e.g. data/mvtec_ad",
    "layout": "a name, e.g. mvtec_ad",
    "categories": "a list of names, e.g. [bottle, cable]",
    "size": "a whole number of pixels, e.g. 128",
    "methods": "methods by name, e.g. {dsr: {preset: fast}}",
    "method": "a name, e.g. dsr",
    "preset": "a name, e.g. fast",
    "image_size": "S or [H, W] in pixels, e.g. 256 or [640, 232]",
    "steps": "a whole number, e.g. 2400",
    "settings": "a list of FIELD=VALUE, e.g. [detection_stage.batch_size=4]",
    "weights": "a file or folder, e.g. latent.safetensors",
    "textures": "a folder, e.g. pictures",
    "anomalies": "a list of whole numbers, e.g. [0, 16]",
    "variants": "lists of FIELD=VALUE by name, e.g. {full: [], no upsampling: [refine=false]}",
    "seeds": "a list of whole numbers, e.g. [0, 1]",
    "protocol": "whole or paper",
    "calibration_fraction": "a number from 0 to below 1, e.g. 0.2",
}
"""What each field of a grid takes, for people."""


@dataclass(frozen=True)
class DataEntry:
    """A data set of a grid.

    Attributes:
        root: Its folder; None draws built-in surfaces into the benchmark's folder.
        layout: How it is laid out.
        categories: Which products or surfaces; None takes all.
        size: Side of the built-in surfaces in pixels.
    """

    root: str | None = None
    layout: str = "mvtec_ad"
    categories: tuple[str, ...] | None = None
    size: int = 128


@dataclass(frozen=True)
class MethodEntry:
    """A method of a grid, with everything that makes its configuration.

    Attributes:
        method: Name in the registry; empty takes the name of the entry.
        preset: Configuration to start from.
        image_size: Height and width that pictures are resized to (one number in the file for both); None keeps
            the preset's.
        steps: Length of the training; None keeps the preset's.
        settings: ``FIELD=VALUE`` on top of the preset.
        weights: What to start from, as ``train --weights``.
        textures: Folder of pictures, as ``train --textures``.
        anomalies: Numbers of annotated anomalous images to learn from, a cell each.
        variants: ``FIELD=VALUE`` on top of all that, by name; a cell each.
    """

    method: str = ""
    preset: str = "fast"
    image_size: tuple[int, int] | None = None
    steps: int | None = None
    settings: tuple[str, ...] = ()
    weights: str | None = None
    textures: str | None = None
    anomalies: tuple[int, ...] = (0,)
    variants: dict[str, tuple[str, ...]] = field(default_factory=lambda: {FULL: ()})


@dataclass(frozen=True)
class Grid:
    """Everything that a benchmark combines: each method's variants, on each category, with each seed.

    Attributes:
        datasets: Data sets by name.
        methods: Methods by name.
        seeds: Of splits, weights, order and simulation.
        protocol: How maps and masks are compared.
        calibration_fraction: Normals held out for the threshold.
    """

    datasets: dict[str, DataEntry]
    methods: dict[str, MethodEntry]
    seeds: tuple[int, ...] = (0,)
    protocol: Protocol = "whole"
    calibration_fraction: float = 0.2

    def __post_init__(self) -> None:
        named: list[tuple[str, Collection[object]]] = [
            ("datasets", self.datasets),
            ("methods", self.methods),
            ("seeds", self.seeds),
            *((f"anomalies of {name}", entry.anomalies) for name, entry in self.methods.items()),
            *((f"variants of {name}", entry.variants) for name, entry in self.methods.items()),
        ]
        for what, names in named:
            if not names:
                raise ValueError(f"a grid needs {what}; there are none")
            if len(set(names)) < len(names):
                raise ValueError(f"{what} are named twice: {', '.join(map(str, names))}")
        for what, lowest in (
            ("seeds", min(self.seeds)),
            ("numbers of anomalies", min(min(entry.anomalies) for entry in self.methods.values())),
        ):
            if lowest < 0:
                raise ValueError(f"{what} are 0 or more, got {lowest}")
        variants = (name for entry in self.methods.values() for name in entry.variants)
        for name in (*self.datasets, *self.methods, *variants):
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} names a folder: letters, digits, spaces and any of _=.+- only, and neither a dot"
                    " nor a space at its beginning"
                )

    @property
    def kept_out(self) -> int:
        """Anomalous images that no cell is judged on, so that all numbers of annotated ones are comparable."""
        return max(count for entry in self.methods.values() for count in entry.anomalies)


def read_grid(path: Path, settings: Sequence[str] = ()) -> Grid:
    """Reads a grid.

    Args:
        path: The YAML file.
        settings: ``FIELD=VALUE`` on top of it, e.g. ``methods.dsr.steps=500``, ``datasets.mvtec_ad.root=DIR``.

    Raises:
        ConfigurationError: It is no YAML, or a field does not exist or a value does not fit it; the message
            names the file, the field, what it takes and what it was given.
        FileNotFoundError: There is no such file.
    """
    content = path.read_bytes()  # a byte order mark tells YAML whether this is UTF-8 or UTF-16
    try:
        values = yaml.safe_load(content)
        if not isinstance(values, dict):
            raise ValueError("it is no mapping of datasets, methods, seeds")
        for setting in settings:
            _set(values, setting)
        return _build(Grid, {"datasets": {}, "methods": {}, **values}, "")
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _set(values: dict[str, Any], setting: str) -> None:
    """Puts one ``FIELD=VALUE`` into nested values; what a method or data set did not name before is added."""
    name, equals, text = setting.partition("=")
    *parents, last = name.split(".")
    if not equals:
        raise ValueError(f"expected FIELD=VALUE, got {setting!r}")
    place: Any = values
    for depth, parent in enumerate(parents):
        inside = place.get(parent) if isinstance(place, Mapping) else None
        if inside is None and depth == len(parents) - 1 and parent in place:
            inside = place[parent] = {}
        if not isinstance(inside, dict):
            raise ValueError(f"{setting!r}: there is no {'.'.join(parents[: depth + 1])}")
        place = inside
    place[last] = yaml.safe_load(text)


def _build(entry: type[EntryT], values: Any, place: str) -> EntryT:
    """A grid or an entry of it from the values of its fields.

    Args:
        entry: What to build.
        values: By field.
        place: Where they stand, e.g. ``methods.dsr``; empty for the grid itself.

    Raises:
        ValueError: A field does not exist, or a value does not fit it.
    """
    types = get_type_hints(entry)
    if not isinstance(values, Mapping):
        raise ValueError(f"{place} takes values of {', '.join(types)}; got {values!r}")
    prefix = place and f"{place}."
    for name in values:
        if name not in types:
            raise ValueError(f"there is no {prefix}{name}; there are: {', '.join(types)}")
    return entry(**{name: _fitted(name, value, types[name], prefix) for name, value in values.items()})


def _fitted(name: str, value: Any, wanted: Any, prefix: str) -> Any:
    """The value of a field in the field's type."""
    place = f"{prefix}{name}"
    entry = {"datasets": DataEntry, "methods": MethodEntry}.get(name)
    if entry is not None and isinstance(value, Mapping):
        return {str(key): _build(entry, one, f"{place}.{key}") for key, one in value.items()}
    if name == "image_size" and type(value) is int:
        value = [value, value]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=wanted)
    try:
        return parser.parse_object({"value": value}).value
    except ArgumentError as error:
        raise ValueError(f"{place} takes {_EXPECTED[name]}; got {value!r}") from error
