"""Surface anomaly detection in industrial images.

Learns from normal images what a surface looks like, finds and outlines whatever deviates::

    inspector = subspect.train("photos/good", "runs/good")
    inspector = subspect.load("runs/good")
    inspection = inspector("photograph.png")
    print(inspection.verdict, inspection.score, inspection.regions)
    print(subspect.evaluate("runs/photos", "photos").overall)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspect.api import calibrate, evaluate, train
    from subspect.loading import load

__version__ = "0.1.0"
__all__ = ["calibrate", "evaluate", "load", "train"]
_MODULES = {
    "calibrate": "subspect.api",
    "evaluate": "subspect.api",
    "load": "subspect.loading",
    "train": "subspect.api",
}


def __getattr__(name: str) -> Any:
    """The functions, imported when first used: torch takes seconds to import, and may not be there."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'subspect' has no attribute {name!r}")
