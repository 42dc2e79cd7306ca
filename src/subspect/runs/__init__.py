"""Runs: from a data set to a calibrated detector on disk, with everything on record that a repetition needs."""
