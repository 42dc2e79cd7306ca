"""Galleries: which cases are shown, and that the pictures show them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.datasets.table import Sample, Table
from subspect.evaluation.evaluating import evaluate
from subspect.evaluation.gallery import telling_cases, write_gallery
from subspect.inspection.prediction import DetectorInspector

SPOTS = {"good": (0.0, 0.05, 0.3, 0.2), "spot": (0.05, 0.02, 0.2, 0.25, 0.3, 0.35, 0.4)}
"""How much brighter a spot is than the rest, for each image of a kind."""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    samples = []
    for kind, contrasts in SPOTS.items():
        for index, contrast in enumerate(contrasts):
            pixels = np.full((40, 40), 128, np.uint8)
            pixels[10:20, 5:25] += round(contrast * 255)
            path = tmp_path / f"{kind}{index}.png"
            Image.fromarray(pixels).save(path)
            masks = ()
            if kind != "good":
                masks = (tmp_path / f"{kind}{index}_mask.png",)
                Image.fromarray((pixels > 128).astype(np.uint8) * 255).save(masks[0])
            samples.append(Sample(path, "test", "spots", kind, masks))
    return Table(tuple(samples), "folder", tmp_path)


def test_cases_are_chosen_by_score(table: Table) -> None:
    results = evaluate(BrightnessDetector(), table)
    assert results.threshold == pytest.approx(0.099)
    cases = {name: [Path(row.path).stem for row in rows] for name, rows in telling_cases(results, 3).items()}
    assert cases == {
        "hits": ["spot3", "spot4", "spot5"],  # the middle three of five
        "misses": ["spot1", "spot0"],  # lowest score first
        "false alarms": ["good2", "good3"],  # highest score first
    }


def test_a_gallery_is_one_page_and_a_picture_a_group(table: Table, tmp_path: Path) -> None:
    detector = BrightnessDetector()
    page = write_gallery(DetectorInspector(detector), table, evaluate(detector, table), tmp_path / "out", 2)
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html", "hits.png", "misses.png", "false_alarms.png"
    }  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert text.index("spot3") < text.index("good2")
    assert text.count("data:image/png;base64,") >= 6 * 4
