"""The picture of detectors side by side shows images that all may be judged on, spread over the kinds."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brightness import BrightnessDetector
from subspect.datasets.table import Sample, Table
from subspect.inspection.prediction import DetectorInspector
from subspect.pictures import OUTLINE_COLOUR
from subspect.runs.run import RunOptions, train
from tiny import QUIET, tiny_run, write_data_set, write_latent_model

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/side_by_side.py"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def sample(kind: str, number: int, split: str = "test", masked: bool = True) -> Sample:
    path = Path(f"{kind}{number}.png")
    return Sample(path, split, "tile", kind, (Path(f"{path.stem}_mask.png"),) if masked else ())


def test_images_are_those_that_all_may_be_judged_on(script):
    everything = [sample("crack", number) for number in range(4)] + [sample("good", 0, masked=False)]
    everything += [sample("crack", 9, masked=False)]
    seen = [*everything[:2], sample("crack", 2, split="unused"), *everything[3:]]
    tables = [Table(tuple(samples), "folder", Path()) for samples in (everything, seen)]
    assert script["judged_by_all"](tables) == [everything[place] for place in (0, 1, 3)]


def test_images_are_spread_over_the_kinds_of_defects(script):
    samples = [sample(kind, number) for kind, many in (("a", 30), ("b", 2), ("c", 9)) for number in range(many)]
    chosen = script["spread"](samples, 12, 0)
    assert [one.defect for one in chosen] == ["a"] * 5 + ["b"] * 2 + ["c"] * 5
    assert len({one.path for one in chosen}) == 12
    assert chosen == script["spread"](samples, 12, 0) != script["spread"](samples, 12, 1)
    assert len(script["spread"](samples[:3], 12, 0)) == 3


def test_maps_are_outlined_where_the_verdict_is_anomalous(script, tmp_path):
    for number, spot in enumerate((255, 129)):
        pixels = np.full((40, 40), 128, np.uint8)
        pixels[10:20, 5:25] = spot
        Image.fromarray(pixels).save(tmp_path / f"spot{number}.png")
    samples = [Sample(tmp_path / f"spot{number}.png", "test", "tile", "spot") for number in range(2)]
    panels = script["panels_of"](DetectorInspector(BrightnessDetector()), "mine", samples)
    assert [list(panel) for panel in panels] == [["mine: anomalous"], ["mine: normal"]]
    outlined = [(next(iter(panel.values())) == OUTLINE_COLOUR).all(2) for panel in panels]
    assert outlined[0].any()
    assert not outlined[0][11:19, 6:24].any()
    assert not outlined[1].any()


def test_columns_stand_below_each_other(script):
    blacks = [np.zeros(size, np.uint8) for size in ((50, 20, 3), (20, 50, 3), (400, 300, 3))]
    captions = ["x", "short", "a caption far longer than a frame is wide"]
    drawn = script["in_columns"](
        [{f"{caption} 1": black, caption: black} for caption, black in zip(captions, blacks, strict=True)]
    )
    strips = [strip[-168:-8] for strip in np.split(np.pad(drawn, ((0, 8), (0, 0), (0, 0))), 3)]
    for strip, black in zip(strips, blacks, strict=True):
        dark = (strip == 0).all(2)
        halves = np.array_split(dark, 2, axis=1)
        for half in halves:
            columns = np.flatnonzero(half.any(0))
            assert abs(columns.mean() - (half.shape[1] - 1) / 2) < 6  # half the gap between the columns
            height, width = half.any(1).sum(), len(columns)
            assert height / width == pytest.approx(black.shape[0] / black.shape[1], rel=0.02)


def test_two_runs_become_one_picture(tmp_path, monkeypatch, capsys):
    data = write_data_set(tmp_path / "data")
    weights = write_latent_model(tmp_path / "latent.safetensors")
    for name in ("one", "two"):
        train(tiny_run(data, weights), tmp_path / name, RunOptions(QUIET))
    output = tmp_path / "compared.png"
    words = [str(SCRIPT), str(data), str(output), str(tmp_path / "one"), str(tmp_path / "two"), "--images=2"]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.count("defective: ") == 2
    width, height = Image.open(output).size
    assert width > 4 * 160
    assert height > 2 * 160
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "is not overwritten" in capsys.readouterr().err
