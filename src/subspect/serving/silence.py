"""Importing libraries that otherwise report their use to a server: what is inspected is nobody's business."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, cast

_REPORTER = "openvino_telemetry"


def import_silently(name: str) -> Any:
    """Imports OpenVINO or NNCF as if the package by which they report were not installed.

    They report even that they are imported. Settings of the user's, and the package itself, stay as they are.
    """
    modules = cast(dict[str, ModuleType | None], sys.modules)
    there, before = _REPORTER in modules, modules.get(_REPORTER)
    modules[_REPORTER] = None  # an import of it fails
    try:
        return import_module(name)
    finally:
        del modules[_REPORTER]
        if there:
            modules[_REPORTER] = before
