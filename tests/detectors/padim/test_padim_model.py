"""The detector: what it looks at, what it learns from, and the weights it starts from."""

import copy
import json
import re
from dataclasses import replace
from pkgutil import resolve_name

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.backbones import Backbone
from subspect.detectors.configuration import ConfigurationError
from subspect.detectors.padim.config import PRESETS, PadimConfig
from subspect.detectors.padim.model import Padim
from subspect.detectors.pretrained import WeightsError
from subspect.runs.data import DataOptions
from subspect.runs.run import RunOptions, TrainingRun, configured, train
from subspect.storage import load_detector
from subspect.training.fitting import fit
from tiny import PADIM, QUIET, write_backbone, write_data_set

RESNET = "resnet18.tv_in1k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return write_backbone(tmp_path_factory.mktemp("weights") / "backbone.safetensors")


def detector(weights: str, config: PadimConfig = PADIM) -> Padim:
    made = Padim(config)
    made.start(weights)
    return made.eval()


def training_images(made: Padim, root, normal: int) -> TrainingImages:
    table = read_table(write_data_set(root, normal=normal), "folder")
    return TrainingImages(table.samples, made.prepare, made.config.image_size)


def fitted(weights: str, folder, config: PadimConfig = PADIM, seed: int = 0) -> tuple[Padim, TrainingImages]:
    made = detector(weights, config)
    images = training_images(made, folder / "data", normal=10)
    fit(made.stages(images, seed), folder / "run", QUIET)
    return made, images


@pytest.fixture(scope="module")
def learnt(weights, tmp_path_factory) -> tuple[Padim, TrainingImages]:
    return fitted(weights, tmp_path_factory.mktemp("learnt"))


def normal_ones(images: TrainingImages) -> torch.Tensor:
    return torch.stack([images[index][0] for index in images.normal_indices])


def test_every_normal_image_counts_once_and_no_other(learnt):
    made, images = learnt
    assert len(images.normal_indices) == 10  # of which the last batch of 3 has but one
    assert images.anomalous_indices
    kept = made.distributions.kept(made.features(normal_ones(images))).double().numpy()
    np.testing.assert_allclose(made.distributions.mean.T, kept.mean(0), rtol=1e-4, atol=1e-5)
    for position in (0, 17, kept.shape[2] - 1):
        lower = made.distributions.factor[position].double().numpy()
        expected = np.cov(kept[:, :, position], rowvar=False) + 0.01 * np.eye(PADIM.channels)
        np.testing.assert_allclose(lower @ lower.T, expected, rtol=0, atol=1e-5)


def test_a_map_is_the_direct_computation(learnt):
    made, images = learnt
    asked = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    kept, known = (
        made.distributions.kept(made.features(each)).double().numpy() for each in (asked, normal_ones(images))
    )
    distances = made.distributions(made.features(asked))
    for position in (0, 100, 255):
        covariance = np.cov(known[:, :, position], rowvar=False) + 0.01 * np.eye(PADIM.channels)
        deviations = kept[:, :, position] - known[:, :, position].mean(0)
        squares = np.einsum("nc,cd,nd->n", deviations, np.linalg.inv(covariance), deviations)
        np.testing.assert_allclose(distances[:, position], np.sqrt(squares), rtol=1e-4)
    anomaly_map, score = made(asked)
    assert torch.equal(score, anomaly_map.amax((1, 2, 3)))


@pytest.mark.parametrize(
    ("preset", "gigaflops", "parameters", "gigabytes"),
    [("paper", 23.998, 24_862_528, 5.06), ("fast", 3.664, 2_782_784, 0.177)],
)
def test_the_presets_cost_what_the_documentation_says(preset, gigaflops, parameters, gigabytes):
    with torch.device("meta"):
        made = Padim(PRESETS[preset])
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        made.features(torch.empty(1, 3, 256, 256))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.001)
    assert sum(value.numel() for value in made.parameters()) == parameters
    stored = sum(value.numel() * value.itemsize for value in made.state_dict().values())
    assert stored / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize(
    ("backbone", "grid"), [("test_convnext", (8, 12)), ("test_efficientnet", (16, 24)), ("test_vit", (4, 6))]
)
def test_any_backbone_with_three_levels_serves(tmp_path, backbone, grid):
    config = replace(PADIM, backbone=backbone, image_size=(64, 96), channels=100)
    made, images = fitted(write_backbone(tmp_path / "weights.safetensors", backbone), tmp_path, config)
    assert made.grid == grid
    normal = normal_ones(images)
    kept = made.distributions.kept(torch.cat([made.features(image[None]) for image in normal]))
    np.testing.assert_allclose(made.distributions.mean.T, kept.mean(0), rtol=1e-4, atol=1e-5)
    assert (made(normal.flip(2)).score > made(normal).score).all()


def test_channels_are_drawn_by_the_seed(weights, learnt, tmp_path):
    drawn = learnt[0].distributions.channels
    assert drawn.unique().equal(drawn)
    assert len(drawn) == PADIM.channels
    same, _ = fitted(weights, tmp_path / "same")
    other, _ = fitted(weights, tmp_path / "other", seed=1)
    assert torch.equal(same.distributions.channels, drawn)
    assert torch.equal(same.distributions.factor, learnt[0].distributions.factor)
    assert not torch.equal(other.distributions.channels, drawn)


def test_features_of_coarser_levels_are_those_of_their_cell():
    made = Padim(PADIM)
    images = torch.rand(1, 3, 64, 64)
    levels = made.backbone(images)
    assert made.grid == levels[0].shape[2:] == (16, 16)
    joined = made.features(images).unflatten(2, made.grid)
    for row, column in ((0, 0), (5, 14), (15, 3)):
        expected = [
            level[0, :, row // stride, column // stride]
            for level, stride in zip(levels, (1, 2, 4), strict=True)
        ]
        assert torch.equal(joined[0, :, row, column], torch.cat(expected))


def test_a_crop_sees_the_centre_only_and_finds_nothing_outside(weights):
    made, whole = (
        detector(weights, replace(PADIM, crop=48)),
        detector(weights, replace(PADIM, image_size=(48, 48))),
    )
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    anomaly_map, score = made(images)
    inside, expected_score = whole(images[:, :, 8:56, 8:56])
    assert torch.equal(anomaly_map[:, :, 8:56, 8:56], inside)
    assert torch.equal(score, expected_score)
    assert anomaly_map.sum().isclose(inside.sum())  # 0 everywhere else


def test_the_backbone_keeps_its_statistics_while_others_train():
    assert not any(module.training for module in Backbone(PADIM.backbone, PADIM.levels).train().modules())


def test_a_detector_of_fewer_than_two_images_is_refused(weights, tmp_path):
    made = detector(weights)
    with pytest.raises(ValueError, match="at least two normal training images, got 1"):
        made.stages(training_images(made, tmp_path / "data", normal=1), seed=0)


@pytest.mark.parametrize(
    ("place", "call"), [("detectors.padim.stages.MomentSums.add", 2), ("runs.run.predict", 1)]
)
def test_a_run_stopped_within_the_pass_or_after_it_is_resumed_to_the_same(
    weights, tmp_path, monkeypatch, place, call
):
    root = write_data_set(tmp_path / "data", normal=12)
    run = TrainingRun("padim", PADIM, DataOptions(str(root), "folder"), weights=weights)
    left_alone = train(run, tmp_path / "alone", RunOptions(QUIET))
    with monkeypatch.context() as patch:
        stop_at(patch, f"subspect.{place}", call)
        with pytest.raises(RuntimeError, match="power failure"):
            train(run, tmp_path / "stopped", RunOptions(QUIET))
    resumed = train(run, tmp_path / "stopped", RunOptions(QUIET, resume=True))
    for name, value in left_alone.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert resumed.calibration == left_alone.calibration
    provenance = json.loads((tmp_path / "stopped/detector/detector.json").read_text())["provenance"]
    assert provenance["backbone_weights"] == weights
    assert load_detector(tmp_path / "stopped/detector").weights_source == weights


def stop_at(patch: pytest.MonkeyPatch, place: str, call: int) -> None:
    """Makes a function fail at its ``call``-th call."""
    function, calls = resolve_name(place), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise RuntimeError("power failure")
        return function(*arguments)

    patch.setattr(place, failing)


def test_the_pass_takes_no_number_of_steps():
    with pytest.raises(ValueError, match="every training image once"):
        configured(PADIM, steps=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet1"}, "has no network 'resnet1'"),
        ({"levels": (1, 2, 9)}, r"test_resnet cannot give the feature levels \(1, 2, 9\)"),
        ({"channels": 273}, "273 channels are to be kept.* have 272 together"),
    ],
)
def test_what_the_backbone_has_not_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        Padim(replace(PADIM, **change))


def test_of_an_image_size_that_the_backbone_refuses_those_that_work_are_named():
    config = replace(PADIM, backbone="test_vit", image_size=(100, 300))
    with pytest.raises(
        ValueError, match=r"test_vit cannot take images of 100x300.*\(what works: (.*)\)"
    ) as caught:
        Padim(config)
    sizes = re.findall(r"(\d+)x(\d+)", str(caught.value).split("what works")[1])
    assert sizes == [("96", "288"), ("160", "160")]
    for height, width in sizes:
        made = Padim(replace(config, image_size=(int(height), int(width))))
        assert made(torch.rand(1, 3, 100, 300)).anomaly_map.shape == (1, 1, 100, 300)


def test_crops_that_cannot_be_are_said():
    with pytest.raises(ConfigurationError, match="crop is at least 32 and at most the smaller side"):
        configured(PADIM, settings=["crop=80"])


def test_while_the_sums_are_gathered_no_factors_take_room(learnt):
    made, images = learnt
    again = copy.deepcopy(made)
    assert again.distributions.factor.is_contiguous()  # as also after a move to another device
    (stage,) = again.stages(images, seed=0)
    stage.on_fit_start()
    factor = again.distributions.factor
    assert factor.untyped_storage().nbytes() == 4 * PADIM.channels**2
    assert torch.equal(factor[-1], 0.1 * torch.eye(PADIM.channels))


@pytest.mark.parametrize("levels", ["[1,1,2]", "[3,2,1]"])
def test_levels_are_named_once_and_in_order(levels):
    with pytest.raises(ConfigurationError, match="different ones in ascending order"):
        configured(PADIM, settings=[f"levels={levels}"])


def test_weights_that_do_not_fit_are_said(weights, tmp_path):
    tensors = load_file(weights)
    del tensors["bn1.weight"]
    save_file(tensors, tmp_path / "folded.safetensors")
    with pytest.raises(
        WeightsError, match=r"lacks 1 of the \d+ tensors.*bn1.weight.*norm layers must be there"
    ):
        Padim(PADIM).start(str(tmp_path / "folded.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no safetensors file"):
        Padim(PADIM).start(str(tmp_path / "broken.safetensors"))


def test_without_network_the_error_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    made = Padim(replace(PADIM, backbone=RESNET))
    with pytest.raises(WeightsError) as caught:
        made.start(None)
    said = str(caught.value)
    assert re.search("model.safetensors of timm/resnet18.tv_in1k", said)
    assert "--weights" in said
    assert "copy the file here by hand" in said


def test_real_weights_give_timms_own_features(shared):
    path = shared / "weights/resnet18_imagenet_to_layer3.safetensors"
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).eval()
    reference.load_state_dict(load_file(path), strict=False)
    backbone = Backbone(RESNET, (1, 2, 3))
    assert sum(backbone.channels) == 448
    backbone.load_weights(str(path))
    images = torch.rand(1, 3, 64, 96)
    shift, scale = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = reference((images - shift[:, None, None]) / scale[:, None, None])
    for level, reference_level in zip(backbone(images), expected, strict=True):
        torch.testing.assert_close(level, reference_level)
