"""Inspection: pictures as people have them, to verdicts, regions and outlined pictures.

Imports no torch: what scores the pictures is a detector (`subspect.inspection.prediction`) or an exported one
(`subspect.serving`), and the latter needs none.
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from subspect.calibration import Calibration
from subspect.files import storable, write_atomically
from subspect.images import ImageError, read_image
from subspect.inspection.regions import Region, find_regions, outline_level
from subspect.pictures import Picture, as_rgb, draw_outline, overlay_heat, save_picture, side_by_side
from subspect.tiling import Tiling, pictures_at_once

FloatArray = npt.NDArray[np.float32]
Source = npt.NDArray[np.generic] | str | Path
Row = dict[str, Any]
"""What ``results.jsonl`` says of one file."""

_LONGEST = 200  # bytes of a picture's name; file systems take 255
RESULTS, PICTURES, MAPS = "results.jsonl", "pictures", "maps"


class DetectorError(ValueError):
    """A detector gave something that cannot be judged."""


class Scored(NamedTuple):
    """What a detector says of one picture: its anomaly map and its score."""

    anomaly_map: FloatArray
    score: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """The outcome of inspecting one picture.

    Attributes:
        anomaly_map: ``(H, W)`` float32 at the picture's own size; higher = more anomalous.
        score: Anomaly score of the whole picture.
        anomalous: Whether the score is above the threshold.
        threshold: The threshold it was compared with.
        regions: Where the defects are, the highest peak first; at least one if anomalous, none if normal.
    """

    anomaly_map: FloatArray
    score: float
    anomalous: bool
    threshold: float
    regions: tuple[Region, ...]

    @property
    def verdict(self) -> str:
        """``anomalous`` or ``normal``."""
        return "anomalous" if self.anomalous else "normal"


@dataclass(frozen=True, slots=True)
class InspectionSummary:
    """What came of inspecting many files.

    Attributes:
        normal: Pictures found normal.
        anomalous: Pictures found anomalous.
        errors: Files that could not be inspected.
        results: The file with one row a picture.
    """

    normal: int
    anomalous: int
    errors: int
    results: Path


class Inspector(ABC):
    """Something that scores pictures, with a threshold.

    Attributes:
        threshold: A picture with a higher score is anomalous.
        map_threshold: Level of the anomaly map at which defects are outlined.
        tiling: How pictures are cut up; None if they are looked at whole.
    """

    def __init__(
        self, calibration: Calibration | None, threshold: float | None, tiling: Tiling | None = None
    ) -> None:
        """Chooses the thresholds.

        Args:
            calibration: Of what scores; None if it has none.
            threshold: Replaces the calibrated one. Without a calibration defects are outlined at this level,
                too.
            tiling: How pictures are cut up.

        Raises:
            ValueError: There is neither calibration nor threshold, or the threshold is NaN.
        """
        if threshold is None:
            if calibration is None:
                raise ValueError(
                    "the detector has no calibration, so nothing says which scores are anomalous;"
                    " calibrate it with normal images or give a threshold"
                )
            threshold = calibration.threshold
        if math.isnan(threshold):
            raise ValueError("the threshold is not a number: no score is above it, so all would be normal")
        self.threshold = float(threshold)
        self.map_threshold = self.threshold if calibration is None else calibration.map_threshold
        self.tiling = tiling

    @abstractmethod
    def score(self, pictures: Sequence[FloatArray]) -> list[Scored]:
        """Scores pictures ``(H, W, 3)``, RGB in [0, 1]; the maps have the pictures' own sizes.

        Raises:
            DetectorError: A map or score is not a finite number, or a picture has a size that cannot be taken.
        """

    @overload
    def __call__(self, source: Source) -> Inspection: ...

    @overload
    def __call__(self, source: list[Source]) -> list[Inspection]: ...

    def __call__(self, source: Source | list[Source]) -> Inspection | list[Inspection]:
        """Inspects one picture or a list of them (in batches, where their sizes agree and they are not tiled).

        Args:
            source: A path, or an array ``(H, W)`` or ``(H, W, 3)`` RGB: uint8, uint16, float in [0, 1].

        Raises:
            ImageError: A file cannot be read.
            ValueError: An array is none of these; the message says what it is.
            DetectorError: The detector gave values that are not numbers.
        """
        if not isinstance(source, (list, tuple)):
            return self._inspect([source])[0]
        size = pictures_at_once(self.tiling)
        batches = [source[start : start + size] for start in range(0, len(source), size)]
        return [inspection for batch in batches for inspection in self._inspect(batch)]

    def _inspect(self, sources: Sequence[Source]) -> list[Inspection]:
        pictures = [
            unit_rgb(source) if isinstance(source, np.ndarray) else read_image(Path(source))
            for source in sources
        ]
        return [self._judge(*scored) for scored in self.score(pictures)]

    def _judge(self, anomaly_map: FloatArray, score: float) -> Inspection:
        anomalous = score > self.threshold
        level = outline_level(anomaly_map, self.map_threshold)
        regions = find_regions(anomaly_map, level) if anomalous else ()
        return Inspection(anomaly_map, score, anomalous, self.threshold, regions)


def inspect_files(
    inspector: Inspector, paths: Sequence[Path], output: Path, *, raw_maps: bool = False
) -> InspectionSummary:
    """Inspects files one after the other and writes what it finds as it goes.

    ``results.jsonl`` gets a row a picture: path, verdict, score, threshold, regions (box, area, peak) and the
    picture drawn (and raw map), relative to the output folder; a file that cannot be inspected gets a row
    with its path and the error, and the rest goes on. ``pictures`` gets each picture outlined and with its
    heat, ``maps`` the raw anomaly maps (``.npy``, float32, the picture's size).

    Args:
        inspector: What judges.
        paths: The image files.
        output: Folder for the results; made if need be.
        raw_maps: Whether to write the raw maps, too.

    Raises:
        ValueError: There are no files.
        FileExistsError: The folder holds results of an earlier inspection.
    """
    check_inspection(paths, output)
    make_folders(output, raw_maps)
    named = zip(paths, unique_names(paths), strict=True)
    return write_rows((inspect_file(inspector, *one, output, raw_maps) for one in named), output)


def check_inspection(paths: Sequence[Path], output: Path) -> None:
    """Makes sure, before any work, that there are files and that no earlier results would be overwritten.

    Raises:
        ValueError: There are no files.
        FileExistsError: The folder holds results of an earlier inspection.
    """
    if not paths:
        raise ValueError("no image files to inspect")
    earlier = [name for name in (RESULTS, PICTURES, MAPS) if (output / name).exists()]
    if earlier:
        raise FileExistsError(
            f"{output} already holds {', '.join(earlier)}, which would be overwritten; choose another folder"
        )


def make_folders(output: Path, raw_maps: bool) -> None:
    """Makes the folders of the pictures and, if wanted, of the raw maps."""
    (output / PICTURES).mkdir(parents=True)
    if raw_maps:
        (output / MAPS).mkdir()


def write_rows(rows: Iterable[Row], output: Path) -> InspectionSummary:
    """Writes ``results.jsonl``, each row as it comes, and counts."""
    counts = {"normal": 0, "anomalous": 0, "error": 0}
    with (output / RESULTS).open("x", encoding="utf-8") as results:
        for row in rows:
            counts[row.get("verdict", "error")] += 1
            results.write(storable(json.dumps(row, ensure_ascii=False)) + "\n")
            results.flush()
    return InspectionSummary(counts["normal"], counts["anomalous"], counts["error"], output / RESULTS)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its stem; with its folder's name before it, then numbered, where another has it.

    Letters in another case count as the same name, since some file systems take them for it. Long names are
    cut, so that there is room for numbers and suffixes, and bytes that are no letters left out.
    """
    shared = Counter(path.stem.casefold() for path in paths)
    taken: set[str] = set()
    names = []
    for path in paths:
        first = path.stem if shared[path.stem.casefold()] == 1 else f"{path.parent.name}_{path.stem}"
        first = os.fsencode(first)[:_LONGEST].decode("utf-8", "ignore") or "picture"
        name, number = first, 1
        while name.casefold() in taken:
            number += 1
            name = f"{first}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def draw_inspection(picture: FloatArray, inspection: Inspection, map_threshold: float) -> Picture:
    """The picture outlined and with heat, side by side at its own size, with verdict and score above.

    Args:
        picture: ``(H, W, 3)``, RGB in [0, 1].
        inspection: The outcome for it.
        map_threshold: Level of the anomaly map that the colours of the heat are relative to.
    """
    outlined, heated = as_rgb(picture), overlay_heat(picture, inspection.anomaly_map, map_threshold)
    if inspection.anomalous:
        inside = inspection.anomaly_map >= outline_level(inspection.anomaly_map, map_threshold)
        outlined, heated = draw_outline(picture, inside), draw_outline(heated, inside)
    numbers = f"score {inspection.score:.4g}, threshold {inspection.threshold:.4g}"
    return side_by_side({inspection.verdict: outlined, numbers: heated})


def inspect_file(inspector: Inspector, path: Path, name: str, output: Path, raw_maps: bool) -> Row:
    """Inspects one file, writes its picture (and map) under a name, and returns its row."""
    try:
        picture = read_image(path)
        inspection = inspector(picture)
    except (ImageError, DetectorError) as error:
        return {"path": str(path), "error": str(error)}
    drawn = f"{PICTURES}/{name}.png"
    save_picture(output / drawn, draw_inspection(picture, inspection, inspector.map_threshold))
    row: Row = {
        "path": str(path),
        "verdict": inspection.verdict,
        "score": inspection.score,
        "threshold": inspection.threshold,
        "regions": [{"box": r.box, "area": r.area, "peak": r.peak} for r in inspection.regions],
        "picture": drawn,
    }
    if raw_maps:
        row["map"] = f"{MAPS}/{name}.npy"
        write_atomically(
            output / row["map"],
            lambda temporary: np.save(temporary, inspection.anomaly_map),
            durable=False,
        )
    return row


def unit_rgb(array: npt.NDArray[np.generic]) -> FloatArray:
    """A user's array as ``(H, W, 3)`` float32 in [0, 1].

    Args:
        array: ``(H, W)`` or ``(H, W, 3)`` RGB: uint8, uint16, float in [0, 1].

    Raises:
        ValueError: It is none of these.
    """
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)) or not array.size:
        raise ValueError(f"a picture is (H, W) or (H, W, 3), got {array.shape}; give several as a list")
    if array.ndim == 3:
        array = array[..., 0] if array.shape[2] == 1 else array[..., :3]  # alpha is dropped, as from files
    if array.dtype in (np.uint8, np.uint16):
        scaled = array.astype(np.float32) / np.float32(255 if array.dtype == np.uint8 else 65535)
    elif np.issubdtype(array.dtype, np.floating):
        scaled = array.astype(np.float32, copy=False)
        if not (scaled.min() >= 0 and scaled.max() <= 1):
            raise ValueError(f"a float picture lies in [0, 1], got {scaled.min():g} to {scaled.max():g}")
    else:
        raise ValueError(f"a picture is uint8, uint16 or float in [0, 1], got {array.dtype}")
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)
