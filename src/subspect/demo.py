"""The demo: a texture and an object from built-in surfaces to outlined defects and a page of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subspect.datasets.surfaces import NEAR_DISTRIBUTION, generate
from subspect.datasets.table import Sample, Table
from subspect.detectors.base import Detector
from subspect.detectors.registry import find_preset
from subspect.evaluation import HEADINGS, Results, evaluate
from subspect.images import read_image, read_mask
from subspect.inspection import Inspector, inspect_files
from subspect.pages import MetricsTable, Row, Section, write_page
from subspect.pictures import as_rgb, draw_outline, heat
from subspect.regions import outline_level
from subspect.runs import DETECTOR, DataOptions, RunOptions, TrainingRun, train

CATEGORIES = ("fabric", "flange")
"""One texture, one object."""

IMAGE_SIZE = 128
STEPS = 250
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
    table = data.read().select(split="test")
    results = evaluate(detector, table)
    results.write(output / "evaluation")
    print(results.render())
    inspect_files(Inspector(detector), [sample.path for sample in table], output / "inspection")
    text = (
        f"Trained on {len(data.read().select(split='train'))} normal pictures of {IMAGE_SIZE}x{IMAGE_SIZE} for"
        f" {STEPS} steps; detector in {output / DETECTOR}, every test picture outlined in"
        f" {output / 'inspection'}."
    )
    return Section(category, text, _tables(results), _rows(detector, table))


def _tables(results: Results) -> list[MetricsTable]:
    """All defects, then those foreign to the surface and those near its normal look apart."""
    columns = list(HEADINGS.values())

    def values(name: str) -> list[float | None]:
        metrics = results.overall if name == "all" else results.by_defect[name]
        return [getattr(metrics, field) for field in HEADINGS]

    near = [name for name in results.by_defect if name in NEAR_DISTRIBUTION]
    foreign = [name for name in results.by_defect if name not in NEAR_DISTRIBUTION]
    groups = {
        "All defects": ["all"],
        "Foreign to the surface": foreign,
        "Near its normal look (in-distribution parts, wrongly arranged)": near,
    }
    return [
        MetricsTable(caption, columns, {name: values(name) for name in names})
        for caption, names in groups.items()
        if names
    ]


def _rows(detector: Detector, table: Table) -> list[Row]:
    """The first few pictures of every kind of defect, and of none."""
    inspector = Inspector(detector)
    shown: dict[str, list[Sample]] = {}
    for sample in table:
        shown.setdefault(sample.defect, []).append(sample)
    return [_row(inspector, sample) for kind in shown.values() for sample in kind[:_EXAMPLES]]


def _row(inspector: Inspector, sample: Sample) -> Row:
    picture = read_image(sample.path)
    inspection = inspector(picture)
    level = outline_level(inspection.anomaly_map, inspector.map_threshold)
    inside = (inspection.anomaly_map >= level) & inspection.anomalous
    truth = np.zeros(picture.shape[:2], dtype=np.bool_)
    if sample.anomalous:
        truth = read_mask(sample.mask_paths, sample.mask_level)
    pictures: Mapping[str, npt.NDArray[np.generic]] = {
        "input": as_rgb(picture),
        **_inner_pictures(inspector.detector, picture),
        "anomaly map": heat(inspection.anomaly_map, inspector.map_threshold),
        "outline": draw_outline(picture, inside),
        "ground truth": as_rgb(truth),
    }
    caption = (
        f"{sample.defect} {sample.path.stem}: {inspection.verdict}, score {inspection.score:.3g}"
        f" (threshold {inspection.threshold:.3g})"
    )
    return Row(caption, pictures)


def _inner_pictures(detector: Detector, picture: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.generic]]:
    drawn = detector.inner_pictures(detector.prepare(picture)[None])
    return {name: as_rgb(images[0].permute(1, 2, 0).numpy()) for name, images in drawn.items()}
