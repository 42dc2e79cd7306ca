"""Galleries: what a detector made of single images, side by side with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subspect.datasets.table import NORMAL, Sample, Table
from subspect.evaluation.evaluating import read_truth
from subspect.evaluation.results import ImageRow, Results
from subspect.images import read_image
from subspect.inspection.prediction import DetectorInspector
from subspect.inspection.regions import outline_level
from subspect.pages import Row, Section, write_page
from subspect.pictures import Picture, as_rgb, draw_outline, grid, heat, overlay_heat, save_picture
from subspect.sizes import resize
from subspect.tiling import blend_tiles

FloatArray = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[np.generic]]
PAGE = "index.html"
_HEIGHT = 160


@dataclass(frozen=True, slots=True)
class Case:
    """One image with everything seen on the way to its verdict.

    Attributes:
        caption: Kind and name of the image, verdict, score and threshold.
        picture: The image.
        inner: Pictures of the detector's workings by name.
        heat: The anomaly map in colours.
        outline: The image with the defects found outlined.
        overlay: The image under the heat of its map.
        truth: Where it is defective.
    """

    caption: str
    picture: Picture
    inner: Arrays
    heat: Picture
    outline: Picture
    overlay: Picture
    truth: Picture


def examine_image(inspector: DetectorInspector, sample: Sample) -> Case:
    """Inspects one image and draws what was seen."""
    picture = read_image(sample.path)
    inspection = inspector(picture)
    level = outline_level(inspection.anomaly_map, inspector.map_threshold)
    inside = (inspection.anomaly_map >= level) & inspection.anomalous
    caption = (
        f"{sample.defect} {sample.path.stem}: {inspection.verdict}, score {inspection.score:.3g}"
        f" (threshold {inspection.threshold:.3g})"
    )
    return Case(
        caption,
        as_rgb(picture),
        _inner_pictures(inspector, picture),
        heat(inspection.anomaly_map, inspector.map_threshold),
        draw_outline(picture, inside),
        overlay_heat(picture, inspection.anomaly_map, inspector.map_threshold),
        as_rgb(read_truth(sample, picture.shape[:2])),
    )


def gallery_row(inspector: DetectorInspector, sample: Sample) -> Row:
    """One image as a row of a gallery, with its ground truth."""
    seen = examine_image(inspector, sample)
    pictures: Arrays = {
        "input": seen.picture,
        **seen.inner,
        "anomaly map": seen.heat,
        "outline": seen.outline,
        "ground truth": seen.truth,
    }
    return Row(seen.caption, pictures)


def telling_cases(results: Results, count: int) -> dict[str, list[ImageRow]]:
    """Images that say most of a detector, chosen by score alone.

    Args:
        results: Of an evaluation with a threshold.
        count: At most how many of each group.

    Returns:
        ``hits``: the middle ones by score of the anomalous images found; ``misses``: the anomalous images of
        lowest score that were not; ``false alarms``: the normal images of highest score that were called
        anomalous.
    """
    ordered = sorted(results.rows, key=lambda row: row.score)
    hits = [row for row in ordered if row.defect != NORMAL and row.verdict == "anomalous"]
    misses = [row for row in ordered if row.defect != NORMAL and row.verdict == "normal"]
    alarms = [row for row in reversed(ordered) if row.defect == NORMAL and row.verdict == "anomalous"]
    start = max(0, (len(hits) - count) // 2)
    return {
        "hits": hits[start : start + count],
        "misses": misses[:count],
        "false alarms": alarms[:count],
    }


def write_gallery(
    inspector: DetectorInspector, table: Table, results: Results, folder: Path, count: int = 6
) -> Path:
    """Writes a page of hits, misses and false alarms, and a picture of each group.

    Args:
        inspector: The detector that was evaluated.
        table: The data it was evaluated on.
        results: Its results.
        folder: Where to write; made if need be.
        count: At most how many images of each group.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = {str(sample.path): sample for sample in table}
    sections = []
    for name, rows in telling_cases(results, count).items():
        cases = [gallery_row(inspector, samples[row.path]) for row in rows]
        sections.append(Section(name.capitalize(), _EXPLANATIONS[name], [], cases))
        if cases:
            strips = [{**row.pictures} for row in cases]
            save_picture(folder / f"{name.replace(' ', '_')}.png", grid(strips, _HEIGHT))
    write_page(folder / PAGE, f"{results.category}: hits, misses, false alarms", sections)
    return folder / PAGE


_EXPLANATIONS = {
    "hits": "Anomalous images that were found; those in the middle by score.",
    "misses": "Anomalous images that were not found, lowest score first.",
    "false alarms": "Normal images that were called anomalous, highest score first.",
}


def _inner_pictures(inspector: DetectorInspector, picture: FloatArray) -> Arrays:
    """The detector's inner pictures, at the size of the picture that they belong to; those of tiles blended."""
    names: list[str] = []

    def look(parts: Sequence[FloatArray]) -> list[FloatArray]:
        drawn = [_drawn(inspector, part) for part in parts]
        names[:] = drawn[0]
        return [np.concatenate([*each.values()], axis=2) for each in drawn]

    tiling = inspector.tiling
    joined = look([picture])[0] if tiling is None else blend_tiles(look, picture, tiling)
    return {name: as_rgb(joined[..., 3 * place : 3 * place + 3]) for place, name in enumerate(names)}


def _drawn(inspector: DetectorInspector, picture: FloatArray) -> dict[str, FloatArray]:
    """The inner pictures ``(H, W, 3)`` of a picture or tile."""
    detector, size = inspector.detector, (picture.shape[0], picture.shape[1])
    drawn = detector.inner_pictures(detector.prepare(picture)[None].to(inspector.device))
    return {
        name: resize(images[0].cpu(), size, antialias=True).permute(1, 2, 0).numpy()
        for name, images in drawn.items()
    }
