"""PaDiM, patch distribution modelling (Defard, Setkov, Loesch, Audigier, ICPR workshops 2020)."""

from subspect.detectors.base import Method
from subspect.detectors.padim.config import PRESETS, PadimConfig
from subspect.detectors.padim.model import Padim

METHOD = Method(Padim, PadimConfig, PRESETS)
