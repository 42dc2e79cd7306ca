"""DSR, the dual subspace re-projection network (Zavrtanik, Kristan, Skočaj, ECCV 2022)."""

from subspect.detectors.base import Method
from subspect.detectors.dsr.config import PRESETS, DsrConfig
from subspect.detectors.dsr.model import Dsr

METHOD = Method(Dsr, DsrConfig, PRESETS)
