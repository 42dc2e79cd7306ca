"""Inspection on a Ray cluster: workers with a loaded detector each, and exactly one row for every file.

The caller alone writes the table; workers hand it rows, and write pictures (and maps), whose names the caller
gave, in one step. So a file that a lost worker had begun is begun anew elsewhere and leaves nothing twice.
Imports no torch: workers that use an export need none.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspect.cluster import Resources, join_cluster, room_for
from subspect.files import remove_leftovers
from subspect.inspection.inspecting import (
    MAPS,
    PICTURES,
    InspectionSummary,
    Row,
    check_inspection,
    inspect_file,
    make_folders,
    unique_names,
    write_rows,
)
from subspect.loading import load

logger = logging.getLogger("subspect")
CHUNK = 8
"""Files handed to a worker at once, at most: what its loss can cost."""
LOST_WORKERS = 3
"""How many workers a file may lose before it counts as what loses them."""

_File = tuple[Path, str]


@dataclass(frozen=True)
class Job:
    """What every worker is told; all machines see the detector, the pictures and the output under these paths.

    Attributes:
        detector: Folder of a saved detector, of the run that made it, or of an export.
        output: Folder for the results.
        device: For example ``cpu`` or ``cuda``.
        threshold: Replaces the calibrated one.
        false_alarm_rate: Chooses the threshold anew from the calibration.
        raw_maps: Whether to write the raw maps, too.
        tile: Height and width of the tiles that pictures are looked at in; None for what the detector was
            calibrated for.
        overlap: Pixels that tiles share.
    """

    detector: Path
    output: Path
    device: str = "cpu"
    threshold: float | None = None
    false_alarm_rate: float | None = None
    raw_maps: bool = False
    tile: tuple[int, int] | None = None
    overlap: int | None = None


def inspect_on_ray(job: Job, paths: Sequence[Path], resources: Resources) -> InspectionSummary:
    """As `inspect_files`, the files spread over a cluster; the results are the same.

    A worker that is lost, with its machine or alone, is replaced as soon as there is room, and its files go to
    others. A file that loses `LOST_WORKERS` workers gets a row that says so.

    Args:
        job: What to inspect with, and how.
        paths: The image files.
        resources: What each worker needs.

    Raises:
        ValueError: There are no files, Ray is not installed, the cluster has no room for a worker, or the
            detector cannot be used (as `subspect.loading.load` says); nothing is written then.
        FileExistsError: The folder holds results of an earlier inspection.
        ChildProcessError: Workers are lost one after the other, and no file gets done.
    """
    check_inspection(paths, job.output)
    files = [(path.absolute(), name) for path, name in zip(paths, unique_names(paths), strict=True)]
    ray = join_cluster()
    crew = _Crew(ray, job, files, resources)
    ours: list[Path] = []
    try:
        crew.start()
        make_folders(job.output, job.raw_maps)
        ours = [job.output / PICTURES, job.output / MAPS]
        found = ({**row, "path": str(paths[place])} for place, row in _in_order(crew.rows()))
        return write_rows(found, job.output)
    finally:
        crew.dismiss()
        for folder in ours:  # not those of another command that made them meanwhile and is at work in them
            remove_leftovers(folder)


class _Worker:
    """A process somewhere in the cluster with a detector."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def start(self) -> list[Row]:
        """Loads the detector, and returns the rows of no files.

        Not done when it is made: what is wrong with the detector would reach the caller as a lost worker.
        """
        job = self.job
        self.inspector = load(
            job.detector,
            device=job.device,
            threshold=job.threshold,
            false_alarm_rate=job.false_alarm_rate,
            tile=job.tile,
            overlap=job.overlap,
        )
        return []

    def inspect(self, files: Sequence[_File]) -> list[Row]:
        """Inspects files, and returns their rows."""
        job = self.job
        return [inspect_file(self.inspector, path, name, job.output, job.raw_maps) for path, name in files]


class _Crew:
    """The workers, what each is at, and what is left to do; files go by their places in the list."""

    def __init__(self, ray: Any, job: Job, files: Sequence[_File], resources: Resources) -> None:
        self.ray, self.job, self.files = ray, job, files
        self.hire = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_Worker)
        self.number = min(room_for(ray, resources), len(files))
        size = min(CHUNK, -(-len(files) // self.number))
        places = range(len(files))
        self.left: deque[Sequence[int]] = deque(places[first : first + size] for first in places[::size])
        self.idle: list[Any] = []
        self.at_work: dict[Any, tuple[Any, Sequence[int]]] = {}
        self.lost_with: Counter[int] = Counter()
        self.lost_in_a_row = 0

    def start(self) -> None:
        """Hires the workers, and waits until one is ready."""
        logger.info("inspecting %d files with %d workers", len(self.files), self.number)
        for _ in range(self.number):
            self._hire()
        while not self.idle:
            self._await_one()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Place and row of every file, each once, in the order in which they get done."""
        waited_for = len(self.files)
        while waited_for:
            while self.idle and self.left:
                self._hand_out(self.idle.pop(), self.left.popleft())
            done = self._await_one()
            waited_for -= len(done)
            yield from done

    def dismiss(self) -> None:
        """Ends all workers."""
        for worker in [*self.idle, *(worker for worker, _ in self.at_work.values())]:
            self.ray.kill(worker)

    def _hire(self) -> None:
        """Asks for a worker; it is at work when there is room for it and it has loaded the detector."""
        worker = self.hire.remote(self.job)
        self.at_work[worker.start.remote()] = worker, ()

    def _hand_out(self, worker: Any, places: Sequence[int]) -> None:
        self.at_work[worker.inspect.remote([self.files[place] for place in places])] = worker, places

    def _await_one(self) -> list[tuple[int, Row]]:
        """Waits until a worker has done what it was given, or is lost; place and row of what is done."""
        (done,), _ = self.ray.wait(list(self.at_work))
        worker, places = self.at_work.pop(done)
        try:
            rows = self.ray.get(done)
        except self.ray.exceptions.RayTaskError as error:
            self.idle.append(worker)
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            return self._replace(worker, places, error)
        self.idle.append(worker)
        self.lost_in_a_row = 0
        return list(zip(places, rows, strict=True))

    def _replace(self, worker: Any, places: Sequence[int], error: Exception) -> list[tuple[int, Row]]:
        """Takes the files of a lost worker back, each for itself, so that one which loses workers is found."""
        logger.warning("a worker was lost, its %d files are begun anew", len(places))
        self.ray.kill(worker)  # where it is only out of reach
        self.lost_in_a_row += 1
        self.lost_with.update(places)
        given_up = [place for place in places if self.lost_with[place] == LOST_WORKERS]
        self.left.extendleft([place] for place in reversed(places) if place not in given_up)
        if given_up:
            self.lost_in_a_row = 0
        if self.lost_in_a_row > LOST_WORKERS * self.number:
            raise ChildProcessError(
                f"{self.lost_in_a_row} workers were lost and no file got done: {error}"
            ) from error
        self._hire()
        reason = f"{LOST_WORKERS} workers were lost while they inspected it, the last: {_one_line(error)}"
        return [(place, {"path": str(self.files[place][0]), "error": reason}) for place in given_up]


def _in_order(found: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """The same by place, each as soon as all before it are there."""
    early: dict[int, Row] = {}
    following = 0
    for place, row in found:
        early[place] = row
        while following in early:
            yield following, early.pop(following)
            following += 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
