"""DSR's blocks and modules against plain PyTorch, and what the presets cost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from subspect.detectors.dsr.blocks import (
    PreActivationBlock,
    ResidualBlock,
    ResidualStack,
    conv_norm_relu,
    up_conv,
)
from subspect.detectors.dsr.config import PRESETS, DsrConfig, LatentConfig
from subspect.detectors.dsr.light_modules import LightDetection, LightSubspaceRestriction, LightUNet
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.modules import SubspaceRestriction, UNet
from subspect.detectors.dsr.quantizer import Codebook


@pytest.fixture(autouse=True)
def _without_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def conv_norm_relu_of(conv: nn.Conv2d, features: Tensor) -> Tensor:
    norm = nn.InstanceNorm2d(conv.out_channels)
    return F.relu(norm(F.conv2d(features, conv.weight, conv.bias, padding=1)))


def convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def twice(module: nn.Module, features: Tensor) -> Tensor:
    for conv in convs(module):
        features = conv_norm_relu_of(conv, features)
    return features


def doubled(module: nn.Module, features: Tensor) -> Tensor:
    larger = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
    return twice(module, larger)


def test_conv_norm_relu_has_pytorchs_instance_norm():
    block, features = conv_norm_relu(5, 7), torch.randn(3, 5, 6, 10) * 4 + 2
    torch.testing.assert_close(block(features), conv_norm_relu_of(block[0], features))


def test_enlarging_aligns_corners():
    features = torch.randn(1, 1, 3, 4)
    enlarged = up_conv(1, 1)[0](features)[0, 0].numpy()
    rows, columns = np.linspace(0, 2, 6), np.linspace(0, 3, 8)
    by_row = np.stack([np.interp(rows, range(3), column) for column in features[0, 0].numpy().T], 1)
    expected = np.stack([np.interp(columns, range(4), row) for row in by_row])
    np.testing.assert_allclose(enlarged, expected, atol=1e-6)


def test_a_residual_block_has_the_references_in_place_relu():
    block, features = ResidualBlock(6, 4), torch.randn(2, 6, 5, 7)
    reference = nn.Sequential(nn.ReLU(inplace=True), block.spatial, nn.ReLU(inplace=True), block.pointwise)
    overwritten = features.clone()
    expected = overwritten + reference(overwritten)
    torch.testing.assert_close(block(features), expected)
    block.pointwise.weight.zero_()
    assert torch.equal(block(features), features.clamp(min=0))


def test_a_residual_stack_is_two_blocks_and_a_relu():
    stack, features = ResidualStack(6, 4), torch.randn(2, 6, 5, 7)
    first, second = stack.blocks
    torch.testing.assert_close(stack(features), second(first(features)).clamp(min=0))
    assert not torch.equal(stack(features), second(first(features)))


def test_subspace_restriction_is_an_hourglass_without_skips():
    module, features = SubspaceRestriction(6, 8), torch.randn(2, 6, 8, 12)
    hidden = F.max_pool2d(twice(module.encoder1, features), 2)
    hidden = F.max_pool2d(twice(module.encoder2, hidden), 2)
    hidden = twice(module.encoder3, hidden)
    hidden = twice(module.decoder2, doubled(module.up2, hidden))
    hidden = twice(module.decoder1, doubled(module.up1, hidden))
    expected = F.conv2d(hidden, module.out.weight, module.out.bias, padding=1)
    torch.testing.assert_close(module(features), expected, atol=1e-4, rtol=1e-4)
    assert [conv.out_channels for conv in convs(module)] == [8, 8, 16, 16, 32, 32, 16, 16, 16, 8, 8, 8, 6]


def pre_activation_of(block: PreActivationBlock, features: Tensor) -> Tensor:
    if isinstance(block.projection, nn.Conv2d):
        features = F.conv2d(features, block.projection.weight, block.projection.bias)
    normalised = isinstance(block.norm1, nn.GroupNorm)
    hidden = F.relu(F.instance_norm(features) if normalised else features)
    hidden = F.conv2d(hidden, block.conv1.weight, block.conv1.bias, padding=1)
    hidden = F.relu(F.instance_norm(hidden) if normalised else hidden)
    return features + F.conv2d(hidden, block.conv2.weight, block.conv2.bias, padding=1)


@pytest.mark.parametrize("channels_out", [6, 4])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_pre_activation_block_goes_round_its_convolutions(channels_out, normalised):
    block, features = PreActivationBlock(6, channels_out, normalised=normalised), torch.randn(2, 6, 9, 7)
    assert isinstance(block.norm1, nn.GroupNorm) is normalised
    torch.testing.assert_close(block(features), pre_activation_of(block, features), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (16, 28)])
def test_a_light_subspace_restriction_starts_as_the_identity_and_can_learn(size):
    module, features = LightSubspaceRestriction(6, 8), torch.randn(2, 6, *size)
    assert torch.equal(module(features), features)
    with torch.enable_grad():
        module(features).square().sum().backward()
    assert module.out.weight.grad.abs().max() > 0


def larger(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def test_a_light_subspace_restriction_is_an_hourglass_around_the_identity():
    module, features = LightSubspaceRestriction(6, 8), torch.randn(2, 6, 16, 24)
    nn.init.normal_(module.out.weight)
    hidden = features
    for block in (module.encoder1, module.encoder2):
        hidden = F.max_pool2d(pre_activation_of(block, hidden), 2)
    hidden = pre_activation_of(module.encoder3, hidden)
    for block in (module.decoder2, module.decoder1):
        hidden = pre_activation_of(block, larger(hidden))
    correction = F.conv2d(F.relu(hidden), module.out.weight, module.out.bias)
    torch.testing.assert_close(module(features), features + correction, atol=1e-3, rtol=1e-3)


def test_a_light_unet_is_a_unet_of_residual_blocks():
    module, evidence = LightUNet(5, 4), torch.randn(2, 5, 16, 24)
    levels = [pre_activation_of(module.encoder1, evidence)]
    for block in (module.encoder2, module.encoder3, module.encoder4):
        levels.append(pre_activation_of(block, F.max_pool2d(levels[-1], 2)))
    hidden = levels.pop()
    for block in (module.decoder3, module.decoder2, module.decoder1):
        hidden = pre_activation_of(block, torch.cat((larger(hidden), levels.pop()), 1))
    expected = F.conv2d(F.relu(hidden), module.out.weight, module.out.bias, padding=1)
    torch.testing.assert_close(module(evidence), expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_small_signal_is_the_same_in_a_crop_and_in_a_large_picture():
    module = LightUNet(2, 4)
    picture = torch.zeros(1, 2, 160, 160)
    picture[..., 78:81, 78:81] = 3.0
    crop = picture[..., 48:112, 48:112]
    in_picture, in_crop = module(picture)[..., 72:88, 72:88], module(crop)[..., 24:40, 24:40]
    # The crop's borders are just within sight.
    torch.testing.assert_close(in_picture, in_crop, atol=1e-2 * float(in_picture.std()), rtol=0)


def test_light_detection_begins_at_what_the_rarity_says_and_adds_a_unet():
    module, evidence, rarity = LightDetection(5, 4), torch.randn(2, 5, 16, 24), torch.randn(2, 2, 16, 24)
    total = (rarity[:, :1] + rarity[:, 1:] / 2 - 6.4) / 4
    torch.testing.assert_close(module(evidence, rarity), torch.cat((-total, total), 1))
    nn.init.normal_(module.unet.out.weight)
    learnt = module.unet(torch.cat((evidence, rarity), 1))
    torch.testing.assert_close(module(evidence, rarity), torch.cat((-total, total), 1) + learnt)
    half_trusted = torch.cat((-total, total), 1) + learnt / 2
    torch.testing.assert_close(module.eval()(evidence, rarity), half_trusted)


def test_unet_is_the_references():
    module, pictures = UNet(5, 4), torch.randn(2, 5, 16, 24)
    levels = [twice(module.encoder1, pictures)]
    for encoder in (module.encoder2, module.encoder3, module.encoder4):
        levels.append(twice(encoder, F.max_pool2d(levels[-1], 2)))
    hidden = levels.pop()
    for up, decoder in (
        (module.up3, module.decoder3),
        (module.up2, module.decoder2),
        (module.up1, module.decoder1),
    ):
        hidden = twice(decoder, torch.cat((doubled(up, hidden), levels.pop()), 1))
    expected = F.conv2d(hidden, module.out.weight, module.out.bias, padding=1)
    torch.testing.assert_close(module(pictures), expected, atol=1e-5, rtol=1e-4)


def test_detection_and_object_decoder_start_small_and_normal():
    config = DsrConfig(
        latent=LatentConfig(32, 16, codes=8), subspace_width=4, detection_width=24, upsampling_width=4
    )
    detector = Dsr(config)
    for module in (detector.detection, detector.object_decoder):
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        drawn = torch.cat([layer.weight.flatten() for layer in layers])
        assert float(drawn.std()) == pytest.approx(0.02, rel=0.02)
        assert abs(float(drawn.mean())) < 2e-4
        kurtosis = float((drawn / 0.02).pow(4).mean())
        assert kurtosis == pytest.approx(3, rel=0.05)  # a uniform distribution has 1.8


def gigaflops(preset: str) -> dict[str, float]:
    """Two per multiply-add, of one image of 256x256, by module; counted without computing."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        Dsr(PRESETS[preset]).eval()(torch.empty(1, 3, 256, 256))
    return {module: sum(counts.values()) / 1e9 for module, counts in counter.get_flop_counts().items()}


def test_the_paper_preset_costs_what_the_reference_does_less_its_detours():
    cost = gigaflops("paper")
    assert cost["Dsr.detection"] + cost["Dsr.upsampling"] == pytest.approx(0.66 * 272, rel=0.01)
    # The reference looks codes up by multiplying one-hot vectors, twice a level, and draws the general
    # reconstruction twice.
    lookups = 2 * (32 * 32 + 64 * 64) * 2 * 4096 * 128 / 1e9
    assert cost["Global"] + lookups + cost["Dsr.latent_model.decoder"] == pytest.approx(272, abs=0.5)


def test_the_fast_preset_costs_what_the_readme_says():
    assert gigaflops("fast")["Global"] == pytest.approx(10.495, abs=0.001)


@pytest.mark.parametrize(
    ("preset", "parameters", "codes"), [("paper", 38_201_610, 1_048_576), ("fast", 5_939_806, 147_456)]
)
def test_the_presets_have_the_readmes_parameters_and_codes(preset, parameters, codes):
    with FakeTensorMode():
        detector = Dsr(PRESETS[preset])
    books = [module for module in detector.modules() if isinstance(module, Codebook)]
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    assert sum(book.codes.numel() for book in books) == codes
