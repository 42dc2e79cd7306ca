"""What several detectors make of the same anomalous test images, as one picture.

    python benchmarks/side_by_side.py ROOT OUTPUT.png RUN RUN … [--images 12] [--seed 0]

A row an image; in it the picture, its ground truth and, for each run, the anomaly map in colours (0 to twice
the level at which that detector outlines), outlined where the verdict is anomalous. The images are drawn by the
seed alone, spread over the kinds of defects, from those that every one of the detectors may be judged on. A
column has the name of its run's folder.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from subspect.datasets.table import Sample, Table
from subspect.images import read_image, read_mask
from subspect.inspection.prediction import DetectorInspector
from subspect.inspection.regions import outline_level
from subspect.pictures import PAPER, Picture, as_rgb, draw_outline, grid, heat, save_picture
from subspect.runs.data import read_test_table
from subspect.storage import find_detector, load_detector, read_description

SIDE = 160
CAPTION_FONT = 13  # of `subspect.pictures.side_by_side` at this size
Panels = dict[str, np.ndarray]  # by caption


def judged_by_all(tables: Sequence[Table]) -> list[Sample]:
    """The anomalous images with a mask that are in the test split of every table, in the order of the first."""
    shared = set.intersection(*({sample.path for sample in table.select(split="test")} for table in tables))
    test = tables[0].select(split="test")
    return [sample for sample in test if sample.path in shared and sample.anomalous and sample.mask_paths]


def spread(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Up to ``count`` samples drawn by the seed, every kind of defect in turn; sorted by kind."""
    rng = np.random.default_rng(seed)
    shuffled = [samples[place] for place in rng.permutation(len(samples))]
    kinds = {
        kind: [one for one in shuffled if one.defect == kind] for kind in sorted({s.defect for s in samples})
    }
    turns = range(max(map(len, kinds.values()), default=0))
    in_turn = [kinds[kind][turn] for turn in turns for kind in kinds if turn < len(kinds[kind])]
    return sorted(in_turn[:count], key=lambda sample: sample.defect)


def panels_of(inspector: DetectorInspector, name: str, samples: Sequence[Sample]) -> list[Panels]:
    """For each sample its anomaly map, outlined if anomalous, under the detector's name and verdict."""
    panels = []
    for sample in samples:
        found = inspector(read_image(sample.path))
        drawn = heat(found.anomaly_map, inspector.map_threshold)
        if found.anomalous:
            level = outline_level(found.anomaly_map, inspector.map_threshold)
            drawn = draw_outline(drawn, found.anomaly_map >= level)
        panels.append({f"{name}: {found.verdict}": drawn})
    return panels


def seen(sample: Sample) -> Panels:
    """A sample's picture and ground truth."""
    truth = read_mask(sample.mask_paths, sample.mask_level)
    return {f"{sample.defect}": as_rgb(read_image(sample.path)), "ground truth": as_rgb(truth)}


def in_columns(rows: Sequence[Mapping[str, Picture]]) -> Picture:
    """Rows of captioned pictures, each in a frame of the same size, so that columns stand below each other."""
    font = ImageFont.load_default(size=CAPTION_FONT)
    width = max(SIDE, *(math.ceil(font.getlength(caption)) for row in rows for caption in row))
    framed = [{caption: _framed(picture, (width, SIDE)) for caption, picture in row.items()} for row in rows]
    return grid(framed, SIDE)


def _framed(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture as large as fits into ``(width, height)``, its proportions kept, in the middle of white."""
    image = Image.fromarray(picture)
    scale = min(frame / side for frame, side in zip(size, image.size, strict=True))
    fitted = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    frame = Image.new("RGB", size, PAPER)
    left, top = ((outer - inner) // 2 for outer, inner in zip(size, fitted.size, strict=True))
    frame.paste(fitted, (left, top))
    return np.asarray(frame)


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("output", type=Path, help="picture to write, .png")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, a column each")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", help="default: as in training")
    parser.add_argument("--category", help="default: as in training")
    given = parser.parse_args()
    if given.output.exists():
        parser.error(f"{given.output} exists and is not overwritten; choose another name")
    folders = {run.name: find_detector(run) for run in given.runs}
    if len(folders) < len(given.runs):
        parser.error("two of the runs have the same folder name, which is to tell their columns apart")
    origins = [read_description(folder)["provenance"] for folder in folders.values()]
    tables = [read_test_table(origin, given.root, given.layout, given.category) for origin in origins]
    samples = spread(judged_by_all(tables), given.images, given.seed)
    if not samples:
        parser.error("there is no anomalous image with a mask that all of these detectors may be judged on")
    rows = [seen(sample) for sample in samples]
    for name, folder in folders.items():
        judged = panels_of(DetectorInspector(load_detector(folder)), name, samples)
        rows = [row | panel for row, panel in zip(rows, judged, strict=True)]
    save_picture(given.output, in_columns(rows))
    for sample in samples:
        print(f"{sample.defect}: {sample.path.name}")


if __name__ == "__main__":
    main()
