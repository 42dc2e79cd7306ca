"""Every method as an ONNX file, against the detector in PyTorch, on pictures that the check did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subspect.calibration import calibrate
from subspect.detectors.registry import METHODS
from subspect.detectors.riad.model import Riad
from subspect.export.combinations import ExportOptions
from subspect.export.exporting import export_detector
from subspect.inspection.prediction import DetectorInspector
from subspect.loading import load
from subspect.serving.description import read_description
from subspect.serving.engines import start_engine
from tiny import settled_detector, write_pictures


def noise(count: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    slope = np.linspace(0.2, 0.6, size[1], dtype=np.float32)[None, :, None]
    return [(slope + rng.random((*size, 3), dtype=np.float32) * 0.4) for _ in range(count)]


@pytest.fixture(scope="module", params=METHODS)
def both(request, tmp_path_factory) -> tuple[DetectorInspector, Path]:
    """A detector and the folder of its export."""
    folder = tmp_path_factory.mktemp(request.param)
    detector = settled_detector(request.param, folder)
    if isinstance(detector, Riad):  # each cell size is a network in the graph, all alike
        detector.config = replace(detector.config, cell_sizes=(4, 16))
    scored = DetectorInspector(detector, threshold=0.0)(noise(9, (64, 64), seed=1))
    detector.calibration = calibrate([one.score for one in scored], [one.anomaly_map for one in scored], 0.5)
    images = (
        *write_pictures(folder / "one", 2, (64, 64)),
        *write_pictures(folder / "other", 1, (80, 70), seed=3),
    )
    export_detector(detector, {"seed": 0}, folder / "export", ExportOptions(images=images))
    return DetectorInspector(detector), folder / "export"


def test_maps_scores_and_verdicts_are_the_detectors(both):
    detector, folder = both[0].detector, both[1]
    assert load(folder).threshold == both[0].threshold
    assert load(folder).map_threshold == both[0].map_threshold
    pictures = [*noise(4, (64, 64), seed=5), *noise(2, (90, 41), seed=6), *noise(1, (30, 200), seed=7)]
    threshold = in_the_widest_gap([both[0](picture).score for picture in pictures])
    expected = [DetectorInspector(detector, threshold=threshold)(picture) for picture in pictures]
    assert {one.verdict for one in expected} == {"normal", "anomalous"}
    got = load(folder, threshold=threshold)(pictures)  # in batches of one size
    for one, other in zip(expected, got, strict=True):
        scale = np.abs(one.anomaly_map).max()
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, rtol=0, atol=1e-4 * scale)
        assert other.score == pytest.approx(one.score, rel=1e-4)
        assert other.verdict == one.verdict


def in_the_widest_gap(scores: list[float]) -> float:
    """A threshold that rounding cannot carry a score across."""
    ordered = np.sort(scores)
    place = int(np.argmax(np.diff(ordered)))
    return float(ordered[place : place + 2].mean())


def test_the_verdict_in_the_graph_follows_the_threshold_given(both):
    description = read_description(both[1])
    engine = start_engine(both[1], description, "cpu")
    pixels = np.stack(noise(5, (64, 64), seed=8))
    scores = engine(pixels, 0.0).scores
    for threshold in (*scores.tolist(), *(scores.astype(float) - 1e-12)):
        np.testing.assert_array_equal(engine(pixels, threshold).anomalous, scores.astype(float) > threshold)
