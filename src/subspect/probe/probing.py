"""The whole probe: a detector and a table of images, to curves on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspect.datasets.table import Table
from subspect.files import write_json, write_text
from subspect.inspection.prediction import DetectorInspector
from subspect.probe.charts import draw_curves, draw_scores
from subspect.probe.families import Family, make_families
from subspect.probe.hit_miss import fit_hit_miss
from subspect.probe.measuring import Finding, find_hosts, held_out, plant_and_score
from subspect.probe.results import FamilyResult, ProbeResult, findings_text
from subspect.probe.score_regression import fit_scores
from subspect.runs.records import check_output

logger = logging.getLogger("subspect")

RESULTS, TABLE, FINDINGS, CURVES, SCORES = "probe.json", "probe.md", "findings.csv", "curves.png", "scores.png"
LEAST_COUNT = 10


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """How a detector is probed.

    Attributes:
        count: Defects of each family; MIL-HDBK-1823A asks for 60 at least where only hits and misses are known.
        contrasts: Of spots and scratches, in (0, 1], of the range from black to white.
        seed: Of pictures, places and sizes.
    """

    count: int = 60
    contrasts: tuple[float, ...] = (0.1, 0.2, 0.4)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < LEAST_COUNT:
            raise ValueError(
                f"a curve needs {LEAST_COUNT} defects at least, better 60 or more, got {self.count}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """A detector that is probed.

    Attributes:
        name: For people, e.g. its folder.
        inspector: The detector and its threshold.
        provenance: Of its ``detector.json``, which names the images it has seen.
    """

    name: str
    inspector: DetectorInspector
    provenance: Mapping[str, Any]


def probe(probed: Probed, table: Table, output: Path, options: ProbeOptions | None = None) -> ProbeResult:
    """Plants defects into the held-out normal images of a table and fits how probably they are found.

    Writes ``findings.csv`` (a row a defect), ``curves.png``, ``scores.png``, ``probe.md`` and, last,
    ``probe.json``.

    Args:
        probed: The detector.
        table: Images of one category; the normal ones are used, whatever their split.
        output: Folder to make.
        options: None takes the defaults.

    Raises:
        FileExistsError: The output folder exists.
        ValueError: There are several categories, a contrast is out of range, the output folder lies among the
            images, or no image is left.
        ImageError: An image cannot be read.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; choose another folder")
    if len(table.categories) > 1:
        raise ValueError(f"one detector is probed on one category, choose from: {', '.join(table.categories)}")
    check_output(table.root, output)
    options = options or ProbeOptions()
    families, inspector = make_families(options.contrasts), probed.inspector
    paths = held_out([sample.path for sample in table.select(anomalous=False)], probed.provenance)
    order = np.random.default_rng(options.seed).permutation(len(paths))
    hosts = find_hosts(inspector, [paths[index] for index in order], options.count)
    logger.info("planting %d defects into %d pictures", len(families) * options.count, len(hosts.paths))
    findings = plant_and_score(inspector, hosts, families, options.count, options.seed)
    result = ProbeResult(
        tuple(_fit(family, findings, inspector.threshold) for family in families),
        {
            "detector": probed.name,
            "root": str(table.root),
            "layout": table.layout,
            "category": table.categories[0],
        },
        inspector.threshold,
        len(hosts.paths),
        hosts.false_alarms,
        options.count,
        options.seed,
    )
    _write(result, findings, output)
    return result


def _fit(family: Family, findings: Sequence[Finding], threshold: float) -> FamilyResult:
    own = tuple(finding for finding in findings if finding.family == family.name)
    sizes = [finding.size for finding in own]
    return FamilyResult(
        family,
        own,
        fit_hit_miss(sizes, [finding.found for finding in own]),
        fit_scores(sizes, [finding.score for finding in own], threshold),
    )


def _write(result: ProbeResult, findings: Sequence[Finding], output: Path) -> None:
    output.mkdir(parents=True)
    write_text(output / FINDINGS, findings_text(findings))
    draw_curves(result, output / CURVES)
    draw_scores(result, output / SCORES)
    write_text(output / TABLE, result.render())
    write_json(output / RESULTS, result.to_dict())
