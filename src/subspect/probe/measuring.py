"""Planted defects before a detector: which pictures they go into, and what score each one gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from subspect.datasets.surfaces.drawing import Picture
from subspect.files import content_digest
from subspect.images import read_image
from subspect.inspection.prediction import DetectorInspector, predict
from subspect.probe.families import Family
from subspect.probe.planting import SMALLEST_SIDE, Planted
from subspect.tiling import pictures_at_once

logger = logging.getLogger("subspect")


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one planted defect.

    Attributes:
        family: Name of its family.
        path: The picture it was planted into.
        size: In pixels, in the terms of the family.
        score: Anomaly score of the picture with it.
        found: Whether the score is above the threshold.
    """

    family: str
    path: Path
    size: float
    score: float
    found: bool


@dataclass(frozen=True, slots=True)
class Hosts:
    """Normal pictures to plant defects into.

    Attributes:
        paths: Those that the detector calls normal.
        side: Shortest side among them, in pixels.
        false_alarms: How many pictures it called anomalous as they were until enough had passed.
    """

    paths: tuple[Path, ...]
    side: int
    false_alarms: int


class _Job(NamedTuple):
    """A defect to plant: numbers of its family, of its host, and of itself within the family."""

    family: int
    host: int
    number: int
    size: float


def held_out(paths: Sequence[Path], provenance: Mapping[str, Any]) -> list[Path]:
    """The images that the detector has not seen, told by content.

    Args:
        paths: Normal images.
        provenance: Of ``detector.json``.

    Raises:
        ValueError: The detector has been trained or calibrated on all of them.
    """
    if "not_to_judge" not in provenance:
        logger.warning(
            "the detector does not say which images it was trained on; make sure that none is among these"
        )
    seen = set(provenance.get("not_to_judge", ()))
    rest = [path for path in paths if content_digest(path) not in seen]
    if not rest:
        raise ValueError(
            f"the detector was trained or calibrated on all {len(paths)} images, so none can be probed with;"
            " give normal images that were held out"
        )
    if len(rest) < len(paths):
        logger.warning(
            "%d of %d images were used in training or calibration and are left out",
            len(paths) - len(rest),
            len(paths),
        )
    return rest


def find_hosts(inspector: DetectorInspector, paths: Sequence[Path], count: int) -> Hosts:
    """The first pictures that pass as they are: where there is a false alarm already, no defect can be told.

    Args:
        inspector: What judges.
        paths: In the order in which they are tried.
        count: How many are enough.

    Raises:
        ValueError: None passes, or one is too small.
        ImageError: A file cannot be read.
    """
    passed: list[Path] = []
    sides: list[int] = []
    false_alarms = 0
    at_once = pictures_at_once(inspector.tiling)
    for start in range(0, len(paths), at_once):
        if len(passed) >= count:
            break
        batch = paths[start : start + at_once]
        pictures = [read_image(path) for path in batch]
        scores = [scored.score for scored in predict(inspector.detector, pictures, inspector.device)]
        for path, picture, score in zip(batch, pictures, scores, strict=True):
            if (side := min(picture.shape[:2])) < SMALLEST_SIDE:
                raise ValueError(f"{path}: {side} pixels at its shorter side; a probe needs {SMALLEST_SIDE}")
            if score > inspector.threshold:
                false_alarms += 1
            else:
                passed.append(path)
                sides.append(side)
    if not passed:
        raise ValueError(
            f"all {len(paths)} pictures are called anomalous as they are at a threshold of"
            f" {inspector.threshold:.4g}, so nothing can be said of planted defects"
        )
    return Hosts(tuple(passed[:count]), min(sides[:count]), false_alarms)


def plant_and_score(
    inspector: DetectorInspector, hosts: Hosts, families: Sequence[Family], count: int, seed: int
) -> list[Finding]:
    """Plants ``count`` defects of each family, one a picture, and has each picture scored.

    The sizes of a family are spread over the pictures at random, each picture as often as any other.
    """
    findings: dict[tuple[int, int], Finding] = {}
    jobs, at_once = _jobs(hosts, families, count, seed), pictures_at_once(inspector.tiling)
    for host, path in enumerate(hosts.paths):
        todo = [job for job in jobs if job.host == host]
        if not todo:
            continue
        pictures = (read_image(path), read_image(hosts.paths[(host + 1) % len(hosts.paths)]))
        for start in range(0, len(todo), at_once):
            batch = todo[start : start + at_once]
            planted = [_plant(families[job.family], job, pictures, seed) for job in batch]
            scored = predict(inspector.detector, [one.picture for one in planted], inspector.device)
            for job, one, (_, score) in zip(batch, planted, scored, strict=True):
                findings[job.family, job.number] = Finding(
                    families[job.family].name, path, one.size, score, score > inspector.threshold
                )
    return [findings[key] for key in sorted(findings)]


def _plant(family: Family, job: _Job, pictures: tuple[Picture, Picture], seed: int) -> Planted:
    """Plants one defect into the first of two pictures; its randomness depends on seed, family and number."""
    rng = np.random.default_rng((seed, job.family, job.number))
    return family.plant(*pictures, job.size, rng)


def _jobs(hosts: Hosts, families: Sequence[Family], count: int, seed: int) -> list[_Job]:
    jobs = []
    for number, family in enumerate(families):
        rng = np.random.default_rng((seed, number))
        rounds = -(-count // len(hosts.paths))
        order = np.concatenate([rng.permutation(len(hosts.paths)) for _ in range(rounds)])[:count]
        ladder = rng.permutation(family.ladder(hosts.side, count))
        jobs += [_Job(number, int(order[place]), place, float(ladder[place])) for place in range(count)]
    return jobs
