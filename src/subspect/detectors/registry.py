"""The methods by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.draem import config as draem_config
from subspect.detectors.draem.model import Draem
from subspect.detectors.dsr import config as dsr_config
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.padim import config as padim_config
from subspect.detectors.padim.model import Padim
from subspect.detectors.riad import config as riad_config
from subspect.detectors.riad.model import Riad
from subspect.detectors.uninformed_students import config as students_config
from subspect.detectors.uninformed_students.model import UninformedStudents


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
    "draem": Method(Draem, draem_config.DraemConfig, draem_config.PRESETS),
    "riad": Method(Riad, riad_config.RiadConfig, riad_config.PRESETS),
    "uninformed_students": Method(
        UninformedStudents, students_config.UninformedStudentsConfig, students_config.PRESETS
    ),
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
