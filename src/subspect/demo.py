"""The demo: a texture and an object from built-in surfaces to outlined defects and a page of pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from subspect.datasets.surfaces import NEAR_DISTRIBUTION, generate
from subspect.datasets.table import Sample, Table
from subspect.detectors.base import Detector
from subspect.detectors.registry import find_preset
from subspect.evaluation.evaluating import evaluate
from subspect.evaluation.gallery import gallery_row
from subspect.evaluation.results import HEADINGS, Metrics, Results
from subspect.evaluation.statistics import metrics_of_kinds
from subspect.inspection.inspecting import inspect_files
from subspect.inspection.prediction import DetectorInspector
from subspect.pages import MetricsTable, Row, Section, write_page
from subspect.runs.data import DataOptions
from subspect.runs.run import RunOptions, TrainingRun, train
from subspect.storage import DETECTOR

CATEGORIES = ("fabric", "flange")
"""One texture, one object."""

IMAGE_SIZE = 256
STEPS = 120
_EXAMPLES = 2  # pictures of each kind of defect on the page


def demo(output: Path, seed: int = 0) -> Path:
    """Makes surfaces, trains ``fast`` on two of them, evaluates, inspects, and writes a page.

    Args:
        output: Folder to make.
        seed: Of everything.

    Returns:
        The page.

    Raises:
        FileExistsError: The folder exists.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists and is not overwritten; remove it or choose another folder")
    surfaces = output / "surfaces"
    print(f"drawing {' and '.join(CATEGORIES)} …")
    generate(surfaces, seed=seed, surfaces=CATEGORIES, size=IMAGE_SIZE)
    sections = [_section(category, surfaces, output / category, seed) for category in CATEGORIES]
    page = output / "index.html"
    write_page(page, "subspect: what the demo found", sections)
    return page


def _section(category: str, surfaces: Path, output: Path, seed: int) -> Section:
    """Trains, evaluates and inspects one category."""
    config = replace(find_preset("dsr", "fast"), image_size=(IMAGE_SIZE, IMAGE_SIZE)).with_steps(STEPS)
    data = DataOptions(str(surfaces), "mvtec_ad", category, seed)
    print(f"{category}: training {STEPS} steps …")
    detector = train(TrainingRun("dsr", config, data, seed), output, RunOptions())
    table = data.read()
    results = evaluate(detector, table)
    results.write(output / "evaluation")
    print(results.render())
    inspect_files(
        DetectorInspector(detector),
        [sample.path for sample in table.select(split="test")],
        output / "inspection",
    )
    trained = len(table.select(split="train"))
    text = (
        f"Trained on {trained} normal pictures of {IMAGE_SIZE}x{IMAGE_SIZE} for {STEPS} steps; detector in"
        f" {output / DETECTOR}, every test picture outlined in {output / 'inspection'}."
    )
    return Section(category, text, _tables(results), _rows(detector, table.select(split="test")))


def _tables(results: Results) -> list[MetricsTable]:
    """All defects, then those foreign to the surface and those near its normal look apart."""
    near = [name for name in results.by_defect if name in NEAR_DISTRIBUTION]
    foreign = [name for name in results.by_defect if name not in NEAR_DISTRIBUTION]
    groups = {
        "All defects": {"all": results.overall},
        "Foreign to the surface": _of_group(results, foreign),
        "Near its normal look (in-distribution parts, wrongly arranged)": _of_group(results, near),
    }
    return [
        MetricsTable(
            caption,
            list(HEADINGS.values()),
            {name: [getattr(metrics, field) for field in HEADINGS] for name, metrics in group.items()},
        )
        for caption, group in groups.items()
    ]


def _of_group(results: Results, kinds: list[str]) -> dict[str, Metrics]:
    """The metrics of some kinds of defects, together and each."""
    return {"together": metrics_of_kinds(results, kinds), **{kind: results.by_defect[kind] for kind in kinds}}


def _rows(detector: Detector, table: Table) -> list[Row]:
    """The first few pictures of every kind of defect, and of none."""
    inspector = DetectorInspector(detector)
    shown: dict[str, list[Sample]] = {}
    for sample in table:
        shown.setdefault(sample.defect, []).append(sample)
    return [gallery_row(inspector, sample) for kind in shown.values() for sample in kind[:_EXAMPLES]]
