"""Error, variance and z-scores against float64 numpy, from the students' answers to the finished map."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from subspect.detectors.uninformed_students.config import PRESETS
from subspect.detectors.uninformed_students.ensemble import disagreement
from subspect.detectors.uninformed_students.model import UninformedStudents
from subspect.detectors.uninformed_students.patch_network import normalise, surround
from subspect.detectors.uninformed_students.statistics import Statistics
from tiny import STUDENTS


def test_error_and_variance_are_the_published_formulas():
    rng = np.random.default_rng(0)
    teacher, students = rng.normal(size=(2, 5, 4, 3)), rng.normal(1.0, 2.0, size=(3, 2, 5, 4, 3))
    mean = students.mean(0)
    error = ((mean - teacher) ** 2).sum(1)
    variance = (students**2).sum(2).mean(0) - (mean**2).sum(1)
    found = disagreement(torch.from_numpy(teacher), torch.from_numpy(students))
    np.testing.assert_allclose(found.error[:, 0], error, rtol=1e-12)
    np.testing.assert_allclose(found.variance[:, 0], variance, rtol=1e-10)


def test_statistics_are_those_of_all_pixels_whatever_the_batches():
    values = torch.from_numpy(np.random.default_rng(1).normal(50, 0.1, (7, 3, 4, 5)))
    values[:, 2] = 4.0
    gathered = Statistics(3)
    for batch in (values[:1], values[1:5], values[5:]):
        gathered.add(batch.float())
    double = values.float().double().numpy()  # what single precision holds of them
    mean, spread = double.mean((0, 2, 3)), double.std((0, 2, 3))
    assert int(gathered.count) == 7 * 4 * 5
    np.testing.assert_allclose(gathered.mean, mean, rtol=1e-6)
    found = gathered.standardise(values.float())
    expected = (double - mean[:, None, None]) / np.where(spread == 0, 1, spread)[:, None, None]
    np.testing.assert_allclose(found, expected, atol=2e-3)  # 50 ± 0.1 in single precision
    assert (found[:, 2] == 0).all()


def test_before_anything_is_seen_values_stay_as_they_are():
    values = torch.rand(2, 3, 4, 5)
    assert torch.equal(Statistics(3).standardise(values), values)


@pytest.fixture
def detector() -> UninformedStudents:
    """With random statistics."""
    torch.manual_seed(0)
    made = UninformedStudents(STUDENTS).double().eval()
    for ensemble in made.each_ensemble():
        for statistics in (ensemble.descriptors, ensemble.errors, ensemble.variances):
            statistics.add(torch.rand(2, len(statistics.mean), 3, 3) * 3)
    return made


@torch.no_grad()
def test_the_map_is_the_mean_over_patch_sizes_of_added_z_scores(detector):
    images = torch.rand(2, 3, 40, 37, dtype=torch.float64)
    maps, errors = [], []
    for ensemble in detector.each_ensemble():
        padded = surround(normalise(images), ensemble.teacher, 1)
        moments = {}
        for name in ("descriptors", "errors", "variances"):
            kept = getattr(ensemble, name)
            deviation = np.sqrt(kept.squares.numpy() / int(kept.count))
            moments[name] = kept.mean.numpy()[:, None, None], deviation[:, None, None]
        mean, deviation = moments["descriptors"]
        teacher = (ensemble.teacher(padded, 1).numpy() - mean) / deviation
        students = np.stack([student(padded, 1).numpy() for student in ensemble.students])
        error = ((students.mean(0) - teacher) ** 2).sum(1)
        variance = (students**2).sum(2).mean(0) - (students.mean(0) ** 2).sum(1)
        scored = [
            (values - moments[name][0][0]) / moments[name][1][0]
            for name, values in (("errors", error), ("variances", variance))
        ]
        errors.append(scored[0])
        maps.append(scored[0] + scored[1])
    anomaly_map, score = detector(images)
    np.testing.assert_allclose(anomaly_map[:, 0], np.mean(maps, 0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(score, np.mean(maps, 0).max((1, 2)), rtol=1e-9, atol=1e-9)
    drawn = detector.inner_pictures(images)["student error"]
    np.testing.assert_allclose(drawn[:, 1], np.clip(np.mean(errors, 0) / 10, 0, 1), atol=1e-9)


@torch.no_grad()
def test_autocast_changes_the_map_by_rounding_only(detector):
    detector, images = detector.float(), torch.rand(1, 3, 64, 64)
    expected = detector(images).anomaly_map
    with torch.autocast("cpu", torch.bfloat16):
        found = detector(images).anomaly_map
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("preset", "gigaflops", "parameters"), [("paper", 3401.62, 23_996_416), ("fast", 45.584, 2_150_912)]
)
def test_the_presets_cost_what_the_documentation_says(preset, gigaflops, parameters):
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        made = UninformedStudents(PRESETS[preset]).eval()
        with torch.no_grad():
            made(torch.empty(1, 3, 256, 256))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.01)
    assert sum(value.numel() for value in made.parameters()) == parameters
