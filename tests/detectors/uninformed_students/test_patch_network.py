"""Dense descriptors are those of the patch network on the patch around each pixel, in all places."""

import numpy as np
import pytest
import torch
from torch import nn

from subspect.detectors.uninformed_students.config import PRESETS, NetworkConfig
from subspect.detectors.uninformed_students.patch_network import PatchNetwork, enlarge, surround

CONFIG = NetworkConfig(width=3, descriptor=5)
# The paper's table: kernels with multiples of the width (0: the descriptor), "pool" for 2x2 maximum pooling.
PUBLISHED = {
    17: [(6, 1), (5, 2), (5, 2), (4, 0)],
    33: [(5, 1), "pool", (5, 2), "pool", (2, 2), (4, 0)],
    65: [(5, 1), "pool", (5, 1), "pool", (5, 1), "pool", (4, 2), (1, 0)],
}
SIZES = sorted(PUBLISHED)


def published(patch_size: int, config: NetworkConfig) -> nn.Sequential:
    """The patch network as the paper has it, for one patch: plain layers, strided pooling."""
    layers, channels = [], 3
    for layer in PUBLISHED[patch_size]:
        if layer == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        outputs = layer[1] * config.width or config.descriptor
        layers += [nn.Conv2d(channels, outputs, layer[0]), nn.LeakyReLU(5e-3)]
        channels = outputs
    return nn.Sequential(*layers[:-1])


def twins(patch_size: int) -> tuple[PatchNetwork, nn.Sequential]:
    """Ours and the published network with the same weights, in double precision."""
    torch.manual_seed(patch_size)
    network, reference = PatchNetwork(patch_size, CONFIG).double(), published(patch_size, CONFIG).double()
    convolutions = [layer for layer in reference if isinstance(layer, nn.Conv2d)]
    for ours, theirs in zip(network.convolutions, convolutions, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return network, reference


def patches(images: np.ndarray, size: int, positions: list[tuple[int, int]], mode: str) -> torch.Tensor:
    """The patches around pixels of one image ``(3, H, W)``, by numpy's padding."""
    half = size // 2
    extended = np.pad(images, ((0, 0), (half, half), (half, half)), mode=mode)
    return torch.from_numpy(np.stack([extended[:, y : y + size, x : x + size] for y, x in positions]))


def image(size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("patch_size", SIZES)
@pytest.mark.parametrize("size", [(47, 40), (40, 47)])
@torch.no_grad()
def test_every_pixel_has_the_descriptor_of_the_patch_around_it(patch_size, size):
    network, reference = twins(patch_size)
    picture = image(size)
    dense = network(surround(picture, network, 1), 1)
    assert dense.shape == (1, CONFIG.descriptor, *size)
    # Corners and borders, and every remainder by the pooling's 8 in both directions.
    positions = [
        (0, 0),
        (0, size[1] - 1),
        (size[0] - 1, 0),
        (size[0] - 1, size[1] - 1),
        (1, 20),
        (size[0] - 2, 7),
    ]
    positions += [(11 + place, 12 + place * 3 % 8) for place in range(8)]
    positions += [(20, 0), (0, 20), (17, size[1] - 1), (size[0] - 1, 18)]
    expected = reference(patches(picture[0].numpy(), patch_size, positions, "reflect"))
    assert expected.shape[2:] == (1, 1)
    found = torch.stack([dense[0, :, y, x] for y, x in positions])
    torch.testing.assert_close(found, expected.flatten(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("patch_size", SIZES)
@pytest.mark.parametrize("stride", [2, 4, 8])
@torch.no_grad()
def test_a_coarser_grid_has_the_same_descriptors_at_its_pixels(patch_size, stride):
    network, reference = twins(patch_size)
    picture = image((50, 77))
    grid = network(surround(picture, network, stride), stride)
    rows, columns = (range(0, (n - 2) // stride * stride + stride + 1, stride) for n in (50, 77))
    assert grid.shape[2:] == (len(rows), len(columns))
    inside = [(y, x) for y in rows for x in columns if y < 50 and x < 77][::7]
    expected = reference(patches(picture[0].numpy(), patch_size, inside, "reflect")).flatten(1)
    found = torch.stack([grid[0, :, y // stride, x // stride] for y, x in inside])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_images_smaller_than_half_a_patch_are_surrounded_by_their_last_pixels():
    network, reference = twins(65)
    picture = image((9, 20))
    dense = network(surround(picture, network, 1), 1)
    positions = [(0, 0), (4, 7), (8, 19)]
    expected = reference(patches(picture[0].numpy(), 65, positions, "edge")).flatten(1)
    found = torch.stack([dense[0, :, y, x] for y, x in positions])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("patch_size", "reach"), [(17, 17), (33, 32), (65, 60)])
def test_a_descriptor_depends_on_its_patch_as_far_as_pooling_reaches(patch_size, reach):
    network, _ = twins(patch_size)
    patch = image((patch_size, patch_size)).requires_grad_()
    network(patch).square().sum().backward()
    seen = patch.grad[0].abs().sum(0) > 0
    assert network.reach == reach
    assert not seen[reach:].any()
    assert not seen[:, reach:].any()
    assert seen[0].any()
    assert seen[:, reach - 1].any()


def test_the_networks_have_the_published_sizes():
    config = PRESETS["paper"].network
    for size in SIZES:
        counts = [
            sum(value.numel() for value in module.parameters())
            for module in (PatchNetwork(size, config), published(size, config))
        ]
        assert counts[0] == counts[1]
    # C6-128, C5-256, C5-256, C4-128 with biases, by hand.
    by_hand = 3 * 36 * 128 + 128 * 25 * 256 + 256 * 25 * 256 + 256 * 16 * 128 + (128 + 256 + 256 + 128)
    assert sum(value.numel() for value in PatchNetwork(17, config).parameters()) == by_hand


@pytest.mark.parametrize("stride", [2, 4])
def test_enlarging_keeps_the_pixels_of_the_grid_and_is_linear_between(stride):
    height, width = 11, 14
    rows, columns = (torch.arange(0, n - 1 + stride, stride, dtype=torch.float64) for n in (height, width))
    plane = (3 * rows[:, None] - 2 * columns)[None, None]
    expected = 3 * torch.arange(height)[:, None] - 2 * torch.arange(width)
    enlarged = enlarge(plane, stride, (height, width))
    torch.testing.assert_close(enlarged[0, 0], expected.double())
