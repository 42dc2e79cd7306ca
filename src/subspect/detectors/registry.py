"""The methods by name: the one place that knows them all."""

from __future__ import annotations

from importlib import import_module

from subspect.detectors.base import Method
from subspect.detectors.config import DetectorConfig

METHODS = (
    "dsr",
    "draem",
    "riad",
    "uninformed_students",
    "padim",
)
"""Each is the name of a package beside this file, whose ``METHOD`` says what the method is."""


def find_method(name: str) -> Method:
    """The method of a name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; there are: {', '.join(METHODS)}")
    method: Method = import_module(f"subspect.detectors.{name}").METHOD
    return method


def find_preset(method: str, preset: str) -> DetectorConfig:
    """The configuration of a preset.

    Raises:
        ValueError: There is no such method or preset; the message lists those there are.
    """
    presets = find_method(method).presets
    if preset not in presets:
        raise ValueError(f"no preset {preset!r} of {method}; there are: {', '.join(presets)}")
    return presets[preset]
