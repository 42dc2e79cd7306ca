"""DRAEM, the discriminatively trained reconstruction embedding (Zavrtanik, Kristan, Skočaj, ICCV 2021)."""

from subspect.detectors.base import Method
from subspect.detectors.draem.config import PRESETS, DraemConfig
from subspect.detectors.draem.model import Draem

METHOD = Method(Draem, DraemConfig, PRESETS)
