"""Uninformed Students (Bergmann, Fauser, Sattlegger and Steger, CVPR 2020)."""

from subspect.detectors.base import Method
from subspect.detectors.uninformed_students.config import PRESETS, UninformedStudentsConfig
from subspect.detectors.uninformed_students.model import UninformedStudents

METHOD = Method(UninformedStudents, UninformedStudentsConfig, PRESETS)
