"""What holds for every method in the registry; a method gets a tiny configuration here and is tested."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector
from subspect.detectors.configuration import configure, from_dict, to_yaml
from subspect.detectors.registry import METHODS, find_method, find_preset
from subspect.storage import load_detector, save_detector
from subspect.training import fit
from tiny import QUIET, STARTS, TINY, settle, write_data_set

SIZES = [(64, 64), (70, 101), (96, 64), (33, 129)]

pytestmark = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    return {method: write(tmp_path_factory.mktemp("weights")) for method, write in STARTS.items()}


@pytest.fixture
def detector(method, weights) -> Detector:
    torch.manual_seed(0)
    made = find_method(method).build(TINY[method])
    made.start(weights.get(method))
    settle(made)
    return made.eval()


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predict(detector: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(detector(images))


@pytest.mark.parametrize("size", SIZES)
def test_predictions_are_finite_repeatable_and_of_the_images_size(detector, size):
    images = pictures(2, size)
    anomaly_map, score = predict(detector, images)
    assert anomaly_map.shape == (2, 1, *size)
    assert score.shape == (2,)
    assert torch.isfinite(anomaly_map).all()
    assert torch.isfinite(score).all()
    assert torch.equal(images, pictures(2, size)), "the images given were changed"
    again = predict(detector, images)
    assert torch.equal(anomaly_map, again[0])
    assert torch.equal(score, again[1])


@pytest.mark.parametrize("size", SIZES)
def test_an_image_is_judged_apart_from_its_batch_mates(detector, size):
    detector, images = detector.double(), pictures(3, size).double()  # to see beyond rounding
    anomaly_map, score = predict(detector, images)
    others = torch.cat((pictures(1, size, seed=5), images[1:2], pictures(2, size, seed=6).mul(0.1)))
    for batch, place in ((images[1:2], 0), (others, 1)):
        other_map, other_score = predict(detector, batch)
        torch.testing.assert_close(other_map[place], anomaly_map[1], rtol=0, atol=1e-9)
        torch.testing.assert_close(other_score[place], score[1], rtol=0, atol=1e-9)


def test_the_map_depends_on_the_image(detector):
    maps, scores = predict(detector, pictures(2, (64, 64)))
    assert not torch.equal(maps[0], maps[1])
    assert scores[0] != scores[1]


def test_prepared_pictures_have_the_configured_size(detector):
    picture = pictures(1, (50, 80))[0].permute(1, 2, 0).numpy()
    assert detector.prepare(picture).shape == (3, *detector.config.image_size)


def test_inner_pictures_can_be_drawn(detector):
    for drawn in detector.inner_pictures(pictures(2, (70, 101))).values():
        assert drawn.shape == (2, 3, 70, 101)
        assert 0 <= drawn.min() <= drawn.max() <= 1


def training_images(detector: Detector, root: Path) -> TrainingImages:
    table = read_table(write_data_set(root), "folder")
    return TrainingImages(table.select(split="train").samples, detector.prepare, detector.config.image_size)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_each_stage_moves_what_it_trains_and_nothing_else(detector, tmp_path):
    images = training_images(detector, tmp_path / "data")
    for number, stage in enumerate(detector.stages(images, seed=0)):
        before = snapshot(detector)
        # Parameters and buffers: a stage may fill statistics instead of following gradients.
        owned = {
            id(value) for module in stage.trained() for value in module.state_dict(keep_vars=True).values()
        }
        named = detector.state_dict(keep_vars=True)
        trained = {name for name, value in named.items() if id(value) in owned}
        assert trained
        losses = record_losses(stage)
        fit([stage], tmp_path / str(number), QUIET)
        assert len(losses) == (0 if stage.gathers else stage.config.steps)
        assert torch.isfinite(torch.tensor(losses)).all()
        after = detector.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved <= trained, "frozen weights moved"
        assert len(moved) > 0.8 * len(trained), f"trained weights stood still: {sorted(trained - moved)}"


def record_losses(stage) -> list[float]:
    """The losses of a stage, as it is trained; none of one that gathers."""
    losses, step = [], stage.training_step

    def recorded(*arguments):
        loss = step(*arguments)
        if loss is not None:
            losses.append(float(loss.detach()))
        return loss

    stage.training_step = recorded
    return losses


def test_a_saved_detector_predicts_the_same_bit_for_bit(detector, tmp_path):
    fit(detector.stages(training_images(detector, tmp_path / "data"), seed=0), tmp_path / "run", QUIET)
    save_detector(detector.eval(), tmp_path / "detector", {})
    loaded = load_detector(tmp_path / "detector")
    assert loaded.config == detector.config
    for size in SIZES:
        before, after = predict(detector, pictures(2, size)), predict(loaded, pictures(2, size))
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_every_preset_goes_through_yaml_and_back(method, tmp_path):
    presets = find_method(method).presets
    assert {"paper", "fast"} <= presets.keys()
    for name, preset in presets.items():
        assert find_preset(method, name) is preset
        (tmp_path / "config.yaml").write_text(to_yaml(preset))
        for start in presets.values():
            assert configure(start, tmp_path / "config.yaml") == preset


def test_a_configuration_goes_through_values_and_back(method):
    for config in (TINY[method], *find_method(method).presets.values()):
        assert from_dict(type(config), json.loads(json.dumps(asdict(config)))) == config
