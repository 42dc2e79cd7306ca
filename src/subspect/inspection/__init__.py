"""Inspection: pictures to verdicts, regions and outlines, by a detector or an export, here or on a cluster."""
