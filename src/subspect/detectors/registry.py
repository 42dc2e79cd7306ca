"""The methods by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.dsr import config as dsr_config
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.padim import config as padim_config
from subspect.detectors.padim.model import Padim


class Method(NamedTuple):
    """A method of anomaly detection.

    Attributes:
        build: A detector with random weights from a configuration.
        config: Class of the configuration.
        presets: Configurations by name.
    """

    build: Callable[[Any], Detector]
    config: type[DetectorConfig]
    presets: Mapping[str, DetectorConfig]


METHODS: dict[str, Method] = {
    "dsr": Method(Dsr, dsr_config.DsrConfig, dsr_config.PRESETS),
    "padim": Method(Padim, padim_config.PadimConfig, padim_config.PRESETS),
}


def find_method(name: str) -> Method:
    """The method of a name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]


def find_preset(method: str, preset: str) -> DetectorConfig:
    """The configuration of a preset.

    Raises:
        ValueError: There is no such method or preset; the message lists those there are.
    """
    presets = find_method(method).presets
    if preset not in presets:
        raise ValueError(f"no preset {preset!r} of {method}; there are: {', '.join(presets)}")
    return presets[preset]
