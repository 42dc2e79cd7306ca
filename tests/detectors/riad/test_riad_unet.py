"""RIAD's network layer by layer, and what the presets cost."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from subspect.detectors.riad.config import PRESETS
from subspect.detectors.riad.model import Riad
from subspect.detectors.riad.unet import InpaintingUNet


def normalised(values: Tensor) -> Tensor:
    """BatchNorm in training, at its start."""
    mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
    return (values - mean) / (variance + 1e-5).sqrt()


def level(block: nn.Sequential, features: Tensor, stride: int = 1) -> Tensor:
    first, second = (layer for layer in block if isinstance(layer, nn.Conv2d))
    features = F.relu(normalised(F.conv2d(features, first.weight, stride=stride, padding=1)))
    return F.relu(normalised(F.conv2d(features, second.weight, padding=1)))


@torch.no_grad()
def test_the_network_is_a_unet_of_strided_and_transposed_convolutions():
    torch.manual_seed(0)
    network, images = InpaintingUNet(4).double(), torch.rand(3, 3, 32, 48).double()
    levels = [level(network.first, images)]
    for down in network.down:
        levels.append(level(down, levels[-1], stride=2))
    assert [features.shape[1:] for features in levels] == [
        (4, 32, 48), (8, 16, 24), (16, 8, 12), (32, 4, 6), (32, 2, 3)
    ]  # fmt: skip
    hidden = levels.pop()
    for enlarge, up in zip(network.enlarge, network.up, strict=True):
        larger = F.conv_transpose2d(hidden, enlarge.weight, enlarge.bias, stride=2, padding=1)
        hidden = level(up, torch.cat((larger, levels.pop()), 1))
    expected = F.conv2d(hidden, network.last.weight, network.last.bias, padding=1)
    torch.testing.assert_close(network.train()(images), expected)


@pytest.mark.parametrize(("preset", "parameters"), [("paper", 28_800_835), ("fast", 1_802_707)])
def test_the_presets_have_the_parameters_that_the_documentation_says(preset, parameters):
    with FakeTensorMode():
        detector = Riad(PRESETS[preset])
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters


@pytest.mark.parametrize(("preset", "gigaflops"), [("paper", 1308.4), ("fast", 82.8)])
def test_an_image_costs_three_passes_for_each_size_of_cells(preset, gigaflops):
    with FakeTensorMode():
        detector = Riad(PRESETS[preset]).eval()
        with FlopCounterMode(display=False) as counter:
            detector.unet(torch.empty(1, 3, 256, 256))
    assert 3 * 4 * counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.1)
