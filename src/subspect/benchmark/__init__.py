"""Benchmarks: grids of trainings, each cell a run folder, and what comes of them."""
