"""Grids as YAML: which methods, data sets, categories, seeds and variants a benchmark combines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from subspect.detectors.configuration import ConfigurationError
from subspect.results import Protocol

FULL = "full"
"""Name of the variant that changes nothing."""

_NAME = re.compile(r"[\w=+-][\w=.+ -]*")


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
        image_size: Height and width that pictures are resized to; None keeps the preset's.
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
        ConfigurationError: It is no YAML, or a field does not exist or a value does not fit it.
        FileNotFoundError: There is no such file.
    """
    text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
        if not isinstance(values, dict):
            raise ValueError("it is no mapping of datasets, methods, seeds")
        for setting in settings:
            _set(values, setting)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Grid, None)
        built = parser.instantiate(parser.parse_object(values))
        return Grid(**vars(built))
    except (ArgumentError, TypeError, ValueError, yaml.YAMLError) as error:
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
