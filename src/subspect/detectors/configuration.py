"""Configurations as YAML and as dotted settings, checked field by field (jsonargparse)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, Namespace

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from subspect.detectors.config import DetectorConfig

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")  # a detector's, or a pretraining's


class ConfigurationError(ValueError):
    """A configuration that cannot be: the message names the field and what it takes."""


def configure(preset: ConfigT, file: Path | None = None, settings: Sequence[str] = ()) -> ConfigT:
    """A preset with a file's values and single settings on top, in that order.

    Args:
        preset: Where to start from.
        file: YAML with any of the fields.
        settings: ``FIELD=VALUE``, dotted for nested fields, e.g. ``simulation.nearest_share=0.1``.

    Raises:
        ConfigurationError: A field does not exist or a value does not fit it.
    """
    arguments = [] if file is None else [f"--config={file}"]
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigurationError(f"expected FIELD=VALUE, got {setting!r}")
        arguments.append(f"--{name}={value}")
    return _instantiate(preset, lambda parser: parser.parse_args(arguments))


def from_dict(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """The configuration that ``dataclasses.asdict`` turned into values, also after a round trip through JSON.

    Raises:
        ConfigurationError: A field does not exist or a value does not fit it.
    """
    return _instantiate(config_class(), lambda parser: parser.parse_object(dict(values)))


def to_yaml(config: DetectorConfig) -> str:
    """The configuration as YAML that ``configure`` reads."""
    parser = _parser(config)
    return str(parser.dump(parser.get_defaults(), skip_unset=False))


def _instantiate(preset: ConfigT, parse: Any) -> ConfigT:
    parser = _parser(preset)
    try:
        built: Namespace = parser.instantiate(parse(parser))
        values = {name: value for name, value in vars(built).items() if name != "config"}
        return type(preset)(**values)
    except (ArgumentError, TypeError, ValueError) as error:
        raise ConfigurationError(f"configuration of {type(preset).__name__}: {error}") from error


def _parser(preset: DataclassInstance) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(type(preset), None, default=preset)
    return parser
