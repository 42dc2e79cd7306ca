"""Inspecting with exported detectors: what this room imports needs neither torch nor lightning."""
