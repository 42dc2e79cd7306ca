"""DRAEM's networks, what its training feeds them, and what the loss counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.textures import folder_textures
from subspect.detectors.draem.config import PRESETS, DraemConfig
from subspect.detectors.draem.model import Draem
from subspect.detectors.draem.modules import DiscriminativeNetwork, ReconstructiveNetwork
from subspect.detectors.draem.stages import JointStage
from subspect.losses import focal_loss, ssim_loss
from subspect.simulation.textures import AUGMENTATIONS
from subspect.training.fitting import fit
from tiny import DRAEM, QUIET, write_data_set, write_pictures

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")

WHOLE = replace(
    DRAEM, training_crop=None, simulation=replace(DRAEM.simulation, normal_share=1.0, rotation_share=0.0)
)
"""Images that nothing is done to."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("draem")
    write_data_set(folder / "data")
    write_pictures(folder / "textures", 7, seed=3)
    return folder


def build(config: DraemConfig = DRAEM) -> Draem:
    torch.manual_seed(0)
    return Draem(config)


def images_of(place: Path, detector: Draem) -> TrainingImages:
    table = read_table(place / "data", "folder").select(split="train")
    return TrainingImages(table.samples, detector.prepare, detector.config.image_size)


def stage_of(place: Path, config: DraemConfig = DRAEM) -> JointStage:
    detector = build(config)
    detector.use_textures(folder_textures(place / "textures"))
    (stage,) = detector.stages(images_of(place, detector), 0)
    stage.setup("fit")
    return stage


def pictures(count: int, size: tuple[int, int] = (96, 64), seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def as_bytes(images: Tensor) -> Tensor:
    return (images * 255).to(torch.uint8)


def convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def twice(module: nn.Module, features: Tensor) -> Tensor:
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for conv, norm in zip(convs(module), norms, strict=True):
        features = F.conv2d(features, conv.weight, conv.bias, padding=1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        features = (features - norm.running_mean[:, None, None]) * scale[:, None, None]
        features = F.relu(features + norm.bias[:, None, None])
    return features


def doubled(module: nn.Module, features: Tensor) -> Tensor:
    return twice(module, F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True))


def levels_of(module: nn.Module, features: Tensor, count: int) -> list[Tensor]:
    levels = [twice(module.encoder1, features)]
    for level in range(2, count + 1):
        levels.append(twice(getattr(module, f"encoder{level}"), F.max_pool2d(levels[-1], 2)))
    return levels


def settled(module: nn.Module) -> nn.Module:
    """Running means and variances that are not 0 and 1."""
    module.train()(torch.randn(4, convs(module)[0].in_channels, 64, 32) * 3 + 1)
    return module.eval()


@torch.no_grad()
def test_the_networks_are_an_hourglass_and_a_unet():
    torch.manual_seed(0)
    for module, count in ((ReconstructiveNetwork(3), 5), (DiscriminativeNetwork(3), 6)):
        settled(module)
        features = torch.randn(2, convs(module)[0].in_channels, 64, 96)
        levels = levels_of(module, features, count)
        hidden = levels.pop()
        for level in range(count - 1, 0, -1):
            hidden = doubled(getattr(module, f"up{level}"), hidden)
            skip = [levels.pop()] if isinstance(module, DiscriminativeNetwork) else []
            hidden = twice(getattr(module, f"decoder{level}"), torch.cat([hidden, *skip], 1))
        expected = F.conv2d(hidden, module.out.weight, module.out.bias, padding=1)
        torch.testing.assert_close(module(features), expected, atol=1e-5, rtol=1e-4)


def test_weights_start_small_and_normal():
    detector = build(replace(DRAEM, reconstructive_width=16, discriminative_width=16))
    for module in (detector.reconstructive, detector.discriminative):
        drawn = torch.cat([layer.weight.detach().flatten() for layer in convs(module)])
        norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        scales = torch.cat([layer.weight.detach() for layer in norms])
        assert float(drawn.std()) == pytest.approx(0.02, rel=0.02)
        assert float((drawn / 0.02).pow(4).mean()) == pytest.approx(3, rel=0.05)  # uniform: 1.8
        assert float(scales.mean()) == pytest.approx(1, abs=0.005)
        assert float(scales.std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("preset", "gigaflops", "reconstructive", "discriminative"),
    [("paper", 395.909, 69_048_579, 28_374_146), ("fast", 9.966, 1_083_171, 1_778_210)],
)
def test_the_presets_cost_what_the_documentation_says(preset, gigaflops, reconstructive, discriminative):
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        detector = Draem(PRESETS[preset]).eval()
        detector(torch.empty(1, 3, 256, 256))
    counts = [
        sum(value.numel() for value in module.parameters())
        for module in (detector.reconstructive, detector.discriminative)
    ]
    assert counts == [reconstructive, discriminative]
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.001)


@torch.no_grad()
@pytest.mark.parametrize("size", [(70, 101), (33, 64)])
def test_other_sizes_are_reflected_to_the_next_multiple_of_32(size):
    detector, images = build().eval(), pictures(2, size)
    settled(detector.reconstructive)
    padding = [(0, 0), (0, 0), (0, -size[0] % 32), (0, -size[1] % 32)]
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    anomaly_map, score = detector(images)
    assert torch.equal(anomaly_map, detector(padded).anomaly_map[..., : size[0], : size[1]])
    means = [uniform_filter(one, 21, mode="constant").max() for one in anomaly_map[:, 0].double().numpy()]
    np.testing.assert_allclose(score.numpy(), means, rtol=1e-5)


@torch.no_grad()
def test_channels_in_the_references_order_are_those_of_a_flipped_image(place):
    rgb, bgr, other = (stage_of(place, replace(WHOLE, colour=colour)) for colour in ("rgb", "bgr", "bgr"))
    images, flipped = pictures(2), pictures(2).flip(1)
    losses = [
        float(stage.training_step((shown, as_bytes(shown)), 0))
        for stage, shown in ((rgb, images), (bgr, flipped), (other, images))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)
    for stage in (rgb, bgr):
        stage.eval()
    assert torch.equal(rgb.detector(images).anomaly_map, bgr.detector(flipped).anomaly_map)
    inner = rgb.detector.inner_pictures(images)["reconstruction"]
    assert torch.equal(inner, bgr.detector.inner_pictures(flipped)["reconstruction"].flip(1))


@torch.no_grad()
def test_the_loss_is_squared_error_ssim_and_focal_loss_of_one_weight_each(place):
    stage, images = stage_of(place, WHOLE), pictures(2)
    loss = stage.training_step((images, as_bytes(images)), 0)
    compared = stage.detector.compare(images)
    assert stage.detector.reconstructive.training, "BatchNorm learns from the batch"
    expected = (
        (compared.reconstruction - images).square().mean()
        + ssim_loss(compared.reconstruction, images)
        + focal_loss(compared.logits.softmax(1), torch.zeros(2, 1, 96, 64))
    )
    torch.testing.assert_close(loss, expected)


def test_the_focal_loss_reaches_both_networks(place):
    stage = stage_of(place, WHOLE)
    compared = stage.detector.compare(pictures(2))
    focal_loss(compared.logits.softmax(1), torch.ones(2, 1, 96, 64)).backward()
    for module in stage.trained():
        assert any(value.grad.abs().max() > 0 for value in module.parameters() if value.grad is not None)


@pytest.mark.parametrize("size", [(96, 64), (70, 101)])
def test_defects_are_textures_blended_in_under_the_mask(place, size):
    stage = stage_of(place, WHOLE)
    images, textures = pictures(40, size), as_bytes(pictures(40, size, seed=1))
    mask = torch.zeros(40, 1, *size)
    mask[:, :, 20:50, 10:40] = 1
    chosen = torch.full((40, 3), list(AUGMENTATIONS).index("invert"))
    simulated = stage.simulate(images, textures, mask, chosen, torch.Generator().manual_seed(0))
    assert simulated.normal.shape[2:] == tuple(-(-side // 32) * 32 for side in size)
    defective, normal, marked = (part[..., : size[0], : size[1]] for part in simulated)
    assert torch.equal(normal, images)
    assert torch.equal(marked, mask)
    assert torch.equal(torch.where(mask > 0, images, defective), images)
    texture = 1 - textures[..., 20:50, 10:40].double() / 255
    image, blended = (part[..., 20:50, 10:40].double() for part in (images, defective))
    # β by least squares from blended - texture = β (image - texture).
    beta = ((blended - texture) * (image - texture)).sum((1, 2, 3)) / (image - texture).square().sum((1, 2, 3))
    rebuilt = torch.lerp(texture, image, beta[:, None, None, None])
    torch.testing.assert_close(blended, rebuilt, atol=1e-5, rtol=0)
    assert beta.min() > 0
    assert beta.max() < 0.8
    assert beta.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize(
    "changes", [{"normal_share": 0.0}, {"rotation_share": 1.0}], ids=["defects", "rotation"]
)
def test_every_switch_of_the_simulation_is_connected(place, changes):
    batch = (pictures(4), as_bytes(pictures(4, seed=1)))
    changed = replace(WHOLE, simulation=replace(WHOLE.simulation, **changes))
    losses = [float(stage_of(place, config).training_step(batch, 0)) for config in (WHOLE, changed)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_training_on_from_an_imported_detector_keeps_where_it_came_from(place):
    detector = build()
    imported = {"reconstructive": "a.pckl"}
    detector.restore_provenance({"imported_from": imported, "textures": {"origin": "others"}})
    textures = folder_textures(place / "textures")
    detector.use_textures(textures)
    assert detector.provenance() == {"imported_from": imported, "textures": textures.describe()}


def test_crops_are_of_the_configured_side(place):
    stage = stage_of(place)
    images, textures = stage._varied(pictures(3), as_bytes(pictures(3, seed=1)))
    assert images.shape == textures.shape == (3, 3, 64, 64)


def test_every_image_meets_other_textures(place):
    stage = stage_of(place, replace(DRAEM, training=replace(DRAEM.training, steps=200)))
    batches = list(stage.loader(0, 0, 1).batch_sampler)
    assert batches[50:] == list(stage.loader(50, 0, 1).batch_sampler)
    pairs = [pair for batch in batches for pair in batch]
    assert {texture for _, texture in pairs} == set(range(7))
    assert {image for image, _ in pairs} == set(range(len(stage.images.normal_indices)))
    assert len({texture for image, texture in pairs if image == 0}) > 4
    image, texture = stage.loader(0, 0, 1).dataset[pairs[0]]
    assert torch.equal(image, stage.images[stage.images.normal_indices[pairs[0][0]]][0])
    assert torch.equal(texture, stage.textures[pairs[0][1]])


def fitted(place: Path, folder: Path, options=QUIET, **more) -> dict[str, Tensor]:
    stage = stage_of(place)
    fit([stage], folder, options, **more)
    assert not stage.detector.training
    return stage.detector.state_dict()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_previews_teach_batch_norm_nothing(place, tmp_path):
    often = fitted(place, tmp_path / "often", replace(QUIET, preview_every=1))
    assert_same(often, fitted(place, tmp_path / "never", replace(QUIET, preview_every=1000)))
    assert len(list((tmp_path / "often/previews/joint").iterdir())) == 3
