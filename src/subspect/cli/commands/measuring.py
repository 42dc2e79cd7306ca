"""Commands that measure and compare: benchmark, report, profile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from subspect.cli.answers import EXIT_PARTLY_FAILED
from subspect.cli.values import fit_options, on_ray, optional_size

if TYPE_CHECKING:
    from subspect.detectors.base import Detector


def do_benchmark(given: Namespace) -> int:
    """Trains and judges all cells of a grid, here or on a cluster."""
    from subspect.benchmark.cells import list_cells
    from subspect.benchmark.execution import SUMMARY, run_grid
    from subspect.benchmark.grid import read_grid
    from subspect.benchmark.plan import make_plan

    cells = list_cells(read_grid(given.grid, given.set), given.output)
    options = fit_options(given)
    if given.dry_run:
        print(make_plan(cells, given.output, options))
        return 0
    if on_ray(given):
        from subspect.benchmark.distributed import run_grid_on_ray
        from subspect.cluster import Resources

        resources = Resources(given.cell_cpus, given.cell_gpus)
        counts = run_grid_on_ray(cells, given.output, options, resources)
    else:
        counts = run_grid(cells, given.output, options)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    print(f"written: {given.output / SUMMARY}")
    return EXIT_PARTLY_FAILED if set(counts) != {"finished"} else 0


def do_report(given: Namespace) -> int:
    """Writes the page and tables of judged runs."""
    from subspect.devices import available_device
    from subspect.report.writing import write_report

    page = write_report(
        given.runs, given.output, pictures=given.pictures, device=available_device(given.device)
    )
    print(f"written: {page}, and tables.md, tables.tex, tables.csv, intervals.csv, comparisons.csv beside it")
    return 0


def do_profile(given: Namespace) -> int:
    """Shows where the time of a detector goes."""
    # Before PyTorch is imported: its tracer would report every start and stop.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from subspect.devices import available_device
    from subspect.files import write_json
    from subspect.profiling.profiling import ProfileOptions, profile_detector

    if given.output is not None and given.output.exists():
        raise FileExistsError(f"{given.output} exists and is not overwritten; choose another --output")
    if given.output is not None and not given.output.parent.is_dir():
        raise FileNotFoundError(f"{given.output.parent} is no folder: make it, or choose another --output")
    options = ProfileOptions(
        given.batch_size, given.precision, not given.inference_only, available_device(given.device)
    )
    detector, name = _to_profile(given)
    result = profile_detector(detector, name, options)
    print(result.render(), end="")
    if given.output is not None:
        write_json(given.output, result.to_dict())
        print(f"written: {given.output}")
    return 0


def _to_profile(given: Namespace) -> tuple[Detector, str]:
    """The detector named, or an untrained one, and what it is called."""
    from subspect.detectors.registry import find_preset
    from subspect.profiling.profiling import trained_detector, untrained_detector
    from subspect.runs.run import configured

    size = optional_size(given.image_size)
    if given.detector is not None:
        if given.method or given.preset or given.config or given.set:
            raise ValueError(
                "a detector has its own method and configuration: leave out --method, --preset, --config and"
                " --set, or the detector"
            )
        return trained_detector(given.detector, size), str(given.detector)
    method, preset = given.method or "dsr", given.preset or "fast"
    config = configured(find_preset(method, preset), file=given.config, settings=given.set, image_size=size)
    return untrained_detector(method, config), f"{method}, preset {preset}, untrained"
