"""RIAD, reconstruction by inpainting (Zavrtanik, Kristan, Skočaj, Pattern Recognition 2021)."""

from subspect.detectors.base import Method
from subspect.detectors.riad.config import PRESETS, RiadConfig
from subspect.detectors.riad.model import Riad

METHOD = Method(Riad, RiadConfig, PRESETS)
