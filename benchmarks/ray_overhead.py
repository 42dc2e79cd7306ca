"""What Ray adds to an image: processor time of `subspect inspect` with either executor, one worker.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/ray_overhead.py

Counted is this process and all that it started (Ray's own, the worker), between the rows of the first images,
by when the detector is loaded and warm, and the row of the last. Linux only.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray

from subspect.cli import main as subspect
from subspect.datasets.surfaces import generate
from subspect.detectors.registry import find_preset
from subspect.inspection import distributed as distributed_inspection
from subspect.inspection import inspecting as inspection
from subspect.inspection.inspecting import InspectionSummary, Row
from subspect.profiling.profiling import untrained_detector
from subspect.runs.run import configured
from subspect.storage import save_detector

IMAGES = 200
WARM_UP = distributed_inspection.CHUNK


def main() -> None:
    """Inspects the same images with each executor, once."""
    with tempfile.TemporaryDirectory() as folder:
        detector, pictures = Path(folder) / "detector", Path(folder) / "surfaces"
        config = configured(find_preset("dsr", "fast"), image_size=(64, 64))
        save_detector(untrained_detector("dsr", config), detector, {})
        generate(pictures, surfaces=("fabric",), size=256, train=IMAGES, test_normal=1, per_defect=1)
        words = ["inspect", str(detector), str(pictures / "fabric/train/good"), "--threshold=1"]
        _measure(inspection, [*words, f"--output={folder}/local"])
        ray.init(num_cpus=1, log_to_driver=False)  # by itself it counts cores that it may not use
        _measure(distributed_inspection, [*words, f"--output={folder}/ray", "--executor=ray"])


def _measure(module: Any, words: list[str]) -> None:
    """Prints what the images after the first ones took, each; the module writes the rows."""
    times: list[dict[int, float]] = []
    write_rows = module.write_rows

    def timed(rows: Iterable[Row], output: Path) -> InspectionSummary:
        return write_rows(_noting(rows, times), output)

    module.write_rows = timed
    try:
        if subspect(words):
            sys.exit("not all images could be inspected")
    finally:
        module.write_rows = write_rows
    first, last = times
    taken = sorted(1e3 * (last[one] - first.get(one, 0)) / (IMAGES - WARM_UP) for one in last)
    print(f"ms an image: {taken[-1]:.2f} in the process that inspects, {sum(taken[:-1]):.2f} in others")


def _noting(rows: Iterable[Row], times: list[dict[int, float]]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if number in (WARM_UP, IMAGES):
            times.append(_processor_times())
        yield row


def _processor_times() -> dict[int, float]:
    """Seconds of processor time of this process and of each below it, their ended children included."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        process = int(path.parent.name)
        parents[process] = int(fields[1])
        ticks[process] = sum(map(int, fields[11:15]))  # user and system, its own and its children's
    family = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    return {process: ticks[process] / os.sysconf("SC_CLK_TCK") for process in family}


if __name__ == "__main__":
    main()
