"""The latent model that sees with a pretrained network: against the network itself, and through training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from subspect.codes import flatten_features
from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.config import LatentConfig, SimulationConfig
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.perceptual_model import PerceptualLatentModel, make_latent_model
from subspect.detectors.dsr.pretraining import PretrainingRun, pretrain
from subspect.detectors.dsr.simulation import AnomalousLatents, LatentSimulator
from subspect.detectors.pretrained import WeightsError
from subspect.runs.run import RunOptions, train
from subspect.storage import load_detector
from tiny import (
    DSR,
    LATENT,
    QUIET,
    pretraining_run,
    tiny_run,
    write_backbone,
    write_data_set,
    write_latent_model,
    write_pictures,
)

CONFIG = LatentConfig(
    width=8,
    residual_width=4,
    codes=12,
    low_groups=4,
    high_groups=10,
    drawing_groups=4,
    backbone="test_resnet.r160_in1k",
)
PLAIN = replace(CONFIG, high_groups=6, drawing_groups=0)
"""As detectors made before there was an early copy."""
EARLY = 20
NEAREST = 3
NONE_PAINTED = torch.empty(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "backbone.safetensors", CONFIG.backbone)


@pytest.fixture
def model(backbone) -> PerceptualLatentModel:
    torch.manual_seed(0)
    made = make_latent_model(CONFIG)
    made.backbone.load_weights(backbone)
    return made.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_features_are_the_backbones_levels_and_trained_pixels(model, images):
    latents = model.encode(images)
    network = model.backbone.network
    levels = network((images - model.backbone.mean) / model.backbone.std)
    enlarged = F.interpolate(levels[2], (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(latents.low, torch.cat((levels[1], enlarged), 1))
    channels = model.early_pixels(images), levels[0], model.pixels(images)
    torch.testing.assert_close(latents.high, torch.cat(channels, 1))
    assert latents.low.shape[1:] == (model.low_width, 8, 12)
    assert latents.high.shape[1:] == (model.high_width, 16, 24)


@torch.no_grad()
def test_the_early_copy_is_counted_and_not_drawn(model, images):
    plain = make_latent_model(PLAIN).eval()
    learnt = {name: value for name, value in model.state_dict().items() if "codebook" not in name}
    left_over = plain.load_state_dict(learnt, strict=False)
    assert all("codebook" in name for name in left_over.missing_keys)
    assert all("early_pixels" in name for name in left_over.unexpected_keys)
    width = plain.high_width
    plain.low_codebook.load_state_dict(model.low_codebook.state_dict())
    for ours, theirs in zip(plain.high_codebook.parts, model.high_codebook.parts[-6:], strict=True):
        ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(model.encode(images).high[:, -width:], plain.encode(images).high)
    torch.testing.assert_close(model(images), plain(images))


@torch.no_grad()
@pytest.mark.parametrize("config", [CONFIG, PLAIN, replace(PLAIN, high_groups=1)])
def test_nearest_codes_are_joined_as_those_of_all_groups_would_be(config):
    torch.manual_seed(0)
    made = make_latent_model(config).eval()
    low, high = torch.randn(2, made.low_width, 8, 12), torch.randn(2, made.high_width, 16, 24)
    expected = made.join(made.low_codebook(low).features, made.high_codebook(high).features)
    assert torch.equal(made.join_nearest(low, high), expected)


@torch.no_grad()
def test_the_early_copy_says_what_the_drawing_channels_said(model, images):
    before = model.encode(images).quantized_high.indices
    assert not torch.equal(before[:, :4], before[:, -4:])
    model.keep_early()
    torch.nn.init.normal_(model.pixels[0].weight)
    after = model.encode(images).quantized_high.indices
    assert torch.equal(after[:, :4], before[:, -4:])
    assert not torch.equal(after[:, -4:], before[:, -4:])
    assert CONFIG.counted_groups == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drawing_groups": 5}, "64 of 160 high channels draw only"),
        ({"drawing_groups": 10}, "fewer than high groups"),
        ({"drawing_groups": -1}, "fewer than high groups"),
        ({"backbone": None}, "need a backbone"),
    ],
)
def test_groups_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_latent_model(replace(CONFIG, **changes))


@torch.no_grad()
def test_other_low_features_leave_the_high_ones_alone(model, images):
    encoded, low = model.low_features(images)
    assert torch.equal(model.high_features(encoded, low), model.high_features(encoded, 1 - low))


@torch.no_grad()
def test_every_group_is_exchanged_for_neighbours_of_its_own(model, images):
    latents = model.encode(images)
    for level, features in ((model.low_codebook, latents.low), (model.high_codebook, latents.high)):
        for book, part, _ in level.books(features, level(features).indices):
            vectors = flatten_features(part)
            book.codes.copy_(vectors[torch.randperm(len(vectors))[: CONFIG.codes]])
    latents = model.encode(images)
    config = SimulationConfig(sampling="table", nearest_share=NEAREST / CONFIG.codes)
    mask, generator = torch.ones(4, 1, 64, 96), torch.Generator().manual_seed(1)
    anomalous = LatentSimulator(model, config)(images, latents, mask, NONE_PAINTED, generator)
    for level, normal, changed in (
        (model.low_codebook, latents.quantized_low, anomalous.low.features),
        (model.high_codebook, latents.quantized_high, anomalous.high.features),
    ):
        other = level(changed)
        torch.testing.assert_close(other.features, changed)
        images_changed = (other.indices != normal.indices).flatten(1).any(1)
        assert images_changed.any()
        for book, _, before, after in zip_books(level, changed, normal.indices, other.indices):
            distances = torch.cdist(book.codes.double(), book.codes.double())
            ranks = distances.argsort(dim=1).argsort(dim=1)
            assert ranks[before[images_changed], after[images_changed]].min() >= NEAREST - 1  # ties apart


@torch.no_grad()
@pytest.mark.parametrize("sampling", ["table", "exact"])
def test_high_codes_that_no_low_ones_change_are_not_searched_again(model, images, sampling, monkeypatch):
    latents, mask = model.encode(images), torch.ones(4, 1, 64, 96)
    searched = []
    model.high_codebook.register_forward_hook(lambda *_: searched.append(1))

    def simulate() -> AnomalousLatents:
        simulator = LatentSimulator(model, SimulationConfig(sampling=sampling))
        return simulator(images, latents, mask, NONE_PAINTED, torch.Generator().manual_seed(1))

    ours = simulate()
    assert not searched
    monkeypatch.setattr(PerceptualLatentModel, "high_follows_low", True)
    searched_anew = simulate()
    assert searched
    for quick, slow in zip(ours, searched_anew, strict=True):
        quick, slow = (value if isinstance(value, tuple) else (value,) for value in (quick, slow))
        assert all(torch.equal(one, other) for one, other in zip(quick, slow, strict=True))


def zip_books(level, features, before, after):
    pairs = zip(level.books(features, before), level.books(features, after), strict=True)
    return [(book, part, first, second) for (book, part, first), (_, _, second) in pairs]


def run(pictures: str, backbone: str | None, steps: int = 60) -> PretrainingRun:
    tiny = pretraining_run(pictures)
    stage = StageConfig(steps, 4, learning_rate=3e-3)
    pretraining = replace(tiny.pretraining, stage=stage, quantise_from=10, early_steps=EARLY)
    return replace(tiny, latent=CONFIG, weights=backbone, pretraining=pretraining)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, backbone):
    folder = tmp_path_factory.mktemp("pretrained")
    write_pictures(folder / "pictures", 10)
    report = pretrain(run(str(folder / "pictures"), backbone), folder / "run", QUIET)
    return folder, report


def test_pretraining_leaves_the_backbone_and_teaches_the_rest(pretrained, model):
    folder, report = pretrained
    trained, source = load_latent_model(str(folder / "run/latent.safetensors"), CONFIG)
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(trained.backbone.state_dict()[name], value, rtol=1e-3, atol=1e-4)  # half
    torch.manual_seed(0)
    fresh = make_latent_model(CONFIG)
    for name, value in fresh.state_dict().items():
        if name.startswith(("pixels", "decoder", "low_projection", "high_projection")):
            assert not torch.allclose(trained.state_dict()[name], value, atol=1e-3), name
    assert report["held_out"]["psnr"] > 12
    assert 0 < report["held_out"]["low_used"] <= CONFIG.codes * CONFIG.low_groups
    assert 1 <= report["held_out"]["high_perplexity"] <= CONFIG.codes
    assert source["report"]["held_out"] == report["held_out"]


def test_what_is_counted_stays_as_it_was_early(pretrained, backbone, tmp_path):
    """As a training gives that ends there; also when a later one goes on."""
    folder, _ = pretrained
    short = run(str(folder / "pictures"), backbone, EARLY)
    pretrain(short, tmp_path / "short", QUIET)
    more = replace(run(str(folder / "pictures"), None, EARLY + 5), start=str(folder / "run/latent.safetensors"))
    pretrain(more, tmp_path / "more", QUIET)
    paths = [run / "latent.safetensors" for run in (folder / "run", tmp_path / "short", tmp_path / "more")]
    long, short, more = (load_latent_model(str(path), CONFIG)[0] for path in paths)
    torch.testing.assert_close(long.early_pixels.state_dict(), short.pixels.state_dict())
    torch.testing.assert_close(more.early_pixels.state_dict(), long.early_pixels.state_dict())
    assert not torch.allclose(long.pixels[0].weight, short.pixels[0].weight, atol=1e-3)
    assert not torch.allclose(more.pixels[0].weight, long.pixels[0].weight, atol=1e-3)


def test_a_detector_on_it_trains_and_is_read_back(pretrained, tmp_path):
    folder, _ = pretrained
    root = write_data_set(tmp_path / "data")
    config = replace(DSR, latent=CONFIG)
    train(tiny_run(root, str(folder / "run/latent.safetensors"), config), tmp_path / "run", RunOptions(QUIET))
    detector = load_detector(tmp_path / "run/detector").eval()
    images = torch.rand(2, 3, 70, 101)
    with torch.no_grad():
        first, second = detector(images), detector(images)
    assert first.anomaly_map.shape == (2, 1, 70, 101)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    fresh = Dsr(config)
    fresh.start(str(folder / "run/latent.safetensors"))
    for name, value in fresh.latent_model.state_dict().items():
        if "average" in name:  # what only stage 1 needs
            continue
        torch.testing.assert_close(detector.latent_model.state_dict()[name], value, msg=name)


def test_weights_of_a_backbone_are_had_before_anything_is_written(tmp_path):
    write_pictures(tmp_path / "pictures", 4)
    pictures = str(tmp_path / "pictures")
    missing = run(pictures, str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        pretrain(missing, tmp_path / "run", QUIET)
    unused = replace(run(pictures, "weights.safetensors"), latent=LATENT)
    with pytest.raises(ValueError, match="without a backbone starts from no weights"):
        pretrain(unused, tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_a_model_of_the_other_kind_is_refused(tmp_path):
    path = write_latent_model(tmp_path / "latent.safetensors")
    with pytest.raises(WeightsError, match="but the detector needs"):
        load_latent_model(path, CONFIG)
