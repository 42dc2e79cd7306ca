"""Detectors as files for other runtimes: the graph, its formats and precisions, the check of every export."""
