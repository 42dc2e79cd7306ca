"""What an export costs in accuracy: a detector and exports of it, judged on the same test images.

    python benchmarks/export_quality.py RUN ROOT EXPORT [EXPORT …]

Each goes through ``subspect.load``, as users would run it, so maps are compared at the pictures' own sizes.
Verdicts are those at the detector's calibrated threshold.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import subspect
from subspect.datasets.table import Sample
from subspect.evaluation.evaluating import align, read_truth
from subspect.evaluation.metrics import PixelScores, image_metrics
from subspect.images import read_image
from subspect.inspection.inspecting import Inspector
from subspect.runs.data import read_test_table
from subspect.storage import find_detector, read_description


class Judged(NamedTuple):
    """Metrics of the test images, and what was found of each."""

    image_auroc: float
    pixel_ap: float
    scores: list[float]
    verdicts: list[bool]


def judge(inspector: Inspector, samples: tuple[Sample, ...]) -> Judged:
    """Image AUROC, pixel AP, scores and verdicts."""
    pixels, scores = PixelScores(), []
    for sample in samples:
        picture = read_image(sample.path)
        (found,) = inspector.score([picture])
        mask = read_truth(sample, picture.shape[:2])
        if mask.any() or not sample.anomalous:
            pixels.add(*align(found.anomaly_map, mask, "whole"))
        scores.append(found.score)
    auroc = image_metrics(scores, [sample.anomalous for sample in samples])[0]
    return Judged(auroc, pixels.compute()[1], scores, [score > inspector.threshold for score in scores])


def main() -> None:
    """Prints a line for the detector and one for each export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run or detector")
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("exports", type=Path, nargs="+", help="folders of exports")
    given = parser.parse_args()
    provenance = read_description(find_detector(given.run))["provenance"]
    inspectors = {folder.name: subspect.load(folder) for folder in (given.run, *given.exports)}
    samples = read_test_table(provenance, given.root).select(split="test").samples
    first: Judged | None = None
    print("| | image AUROC | pixel AP | largest difference of a score | verdicts changed |")
    print("|---|---:|---:|---:|---:|")
    for name, inspector in inspectors.items():
        judged = judge(inspector, samples)
        first = first or judged
        difference = max(abs(one - other) for one, other in zip(first.scores, judged.scores, strict=True))
        changed = sum(one != other for one, other in zip(first.verdicts, judged.verdicts, strict=True))
        print(
            f"| {name} | {100 * judged.image_auroc:.2f} | {100 * judged.pixel_ap:.2f} | {difference:.4f}"
            f" | {changed} of {len(samples)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
