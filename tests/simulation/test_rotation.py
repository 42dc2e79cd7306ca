"""Rotation against quarter turns and SciPy's."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from subspect.simulation.rotation import rotate, rotate_some


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(9, 9), (8, 8), (10, 17), (16, 6)])
def test_no_angle_changes_nothing(size):
    images = noise(2, 3, *size)
    torch.testing.assert_close(rotate(images, torch.zeros(2)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [8, 9])
def test_quarter_turns_of_squares_are_exact(side):
    images = noise(4, 2, side, side)
    rotated = rotate(images, torch.tensor([90.0, -90.0, 180.0, 0.0]))
    for turned, image, quarters in zip(rotated, images, (1, -1, 2, 0), strict=True):
        torch.testing.assert_close(turned, torch.rot90(image, quarters, (1, 2)), atol=1e-5, rtol=0)


def test_a_quarter_turn_of_a_rectangle_keeps_pixels_square():
    images = noise(1, 3, 8, 20)
    rotated = rotate(images, torch.tensor([90.0]))
    middle = torch.rot90(images[..., 6:14], 1, (2, 3))
    torch.testing.assert_close(rotated[..., 6:14], middle, atol=1e-5, rtol=0)
    assert rotated[..., :6].abs().max() < 1e-4  # from above and below the picture
    assert rotated[..., 14:].abs().max() < 1e-4


@pytest.mark.parametrize("size", [(24, 24), (24, 40), (33, 20)])
@pytest.mark.parametrize("degrees", [17.0, -63.0, 88.0])
def test_interior_equals_scipys(size, degrees):
    image = noise(*size)
    ours = rotate(image[None, None], torch.tensor([degrees]))[0, 0].numpy()

    def scipys(array: np.ndarray) -> np.ndarray:
        return ndimage.rotate(array.astype(np.float64), degrees, reshape=False, order=1)

    inside = scipys(np.ones(size)) > 1 - 1e-9
    assert inside.mean() > 0.3
    np.testing.assert_allclose(ours[inside], scipys(image.numpy())[inside], atol=1e-4)


def test_outside_is_black():
    rotated = rotate(torch.ones(1, 1, 20, 20), torch.tensor([45.0]))[0, 0]
    assert [rotated[i, j] for i in (0, -1) for j in (0, -1)] == [0, 0, 0, 0]


def test_a_share_is_rotated_by_up_to_90_degrees_either_way():
    """The angle is read off a blob to the right of the centre."""
    rows, columns = np.mgrid[:33, :33] - 16.0
    blob = torch.from_numpy(np.exp(-(rows**2 + (columns - 11) ** 2) / 4)).float()
    images = blob.expand(3000, 1, 33, 33)
    rotated = rotate_some(images, 0.4, torch.Generator().manual_seed(1))[:, 0].numpy()
    mass = rotated.sum((1, 2))
    angles = np.degrees(
        np.arctan2(-(rotated * rows).sum((1, 2)) / mass, (rotated * columns).sum((1, 2)) / mass)
    )
    turned = np.abs(rotated - blob.numpy()).max((1, 2)) > 1e-5
    assert stats.binomtest(int(turned.sum()), len(images), 0.4).pvalue > 1e-4
    assert stats.kstest(angles[turned], stats.uniform(-90, 180).cdf).pvalue > 1e-4
    assert -90.5 <= angles.min() < -88.5
    assert 88.5 < angles.max() <= 90.5


def test_mixed_precision_moves_nothing():
    images = torch.rand(2, 1, 72, 320, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0.0, 33.0])
    with torch.autocast("cpu", torch.bfloat16):
        rotated = rotate(images, angles)
    torch.testing.assert_close(rotated, rotate(images, angles), rtol=0, atol=0)
    torch.testing.assert_close(rotated[0], images[0], atol=1e-4, rtol=0)  # places rounded to float32
