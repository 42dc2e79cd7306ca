"""Perlin noise against a scalar loop over pixels; masks against what was asked for."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from subspect.simulation.perlin import perlin_masks, perlin_noise, pool_mask


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixel_noise(angles: np.ndarray, y: float, x: float) -> float:
    """Ken Perlin's improved noise at one point of the lattice, gradients given by their angles."""
    row, column = int(y), int(x)
    total = 0.0
    for r in (row, row + 1):
        for c in (column, column + 1):
            dy, dx = y - r, x - c
            slope = math.cos(angles[r, c]) * dy + math.sin(angles[r, c]) * dx
            # The weight of a corner falls from 1 to 0 with the distance from it.
            weight = math.prod(1 - (6 * abs(t) ** 5 - 15 * abs(t) ** 4 + 10 * abs(t) ** 3) for t in (dy, dx))
            total += weight * slope
    return math.sqrt(2) * total


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (20, 12), (7, 9)])
def test_noise_is_gradient_noise(size):
    scales = torch.tensor([[1, 1], [4, 2], [2, 4], [32, 8]])
    noise = perlin_noise(scales, 32, size, generator(3))
    angles = 2 * np.pi * torch.rand(4, 33, 33, generator=generator(3)).double().numpy()
    height, width = size
    expected = [
        [
            [pixel_noise(angles[n], i * high / height, j * wide / width) for j in range(width)]
            for i in range(height)
        ]
        for n, (high, wide) in enumerate(scales.tolist())
    ]
    np.testing.assert_allclose(noise[:, 0].numpy(), expected, atol=2e-5)


def test_noise_vanishes_on_the_lattice_and_stays_within_one():
    noise = perlin_noise(torch.tensor([[4, 8]] * 20), 8, (64, 128), generator(0))
    assert noise[:, :, ::16, ::16].abs().max() < 1e-6
    assert 0.7 < noise.abs().max() <= 1 + 1e-6


def masks(seed: int, **options) -> torch.Tensor:
    return perlin_masks(200, (24, 40), generator(seed), **options)


def test_masks_are_binary_and_a_function_of_the_generator():
    drawn = masks(5)
    assert drawn.shape == (200, 1, 24, 40)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn, masks(5))
    assert not torch.equal(drawn, masks(6))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_normal_share_of_masks_is_emptied_and_the_others_stay(share):
    full, drawn = masks(1, normal_share=0.0), masks(1, normal_share=share)
    defective = full.flatten(1).any(1)
    emptied = defective & ~drawn.flatten(1).any(1)
    assert torch.equal(drawn[~emptied], full[~emptied])
    count, of = int(emptied.sum()), int(defective.sum())
    assert of > 80
    assert stats.binomtest(count, of, share).pvalue > 1e-4


def test_noise_is_rotated_before_the_threshold():
    drawn = perlin_masks(20, (32, 48), generator(7), normal_share=0.0, threshold=0.2)
    source = generator(7)
    noise = perlin_noise(2 ** torch.randint(0, 6, (20, 2), generator=source), 32, (32, 48), source)
    angles = 180 * torch.rand(20, generator=source) - 90
    for mask, picture, angle in zip(drawn[:, 0], noise[:, 0], angles, strict=True):
        rotated = ndimage.rotate(picture.double().numpy(), float(angle), reshape=False, order=1)
        # SciPy cuts the picture off at its outermost pixels' centres.
        assert ((rotated > 0.2) == mask.bool().numpy()).mean() > 0.97


def test_a_higher_threshold_leaves_less():
    low, high = masks(2, threshold=0.2), masks(2, threshold=0.6)
    assert (high <= low).all()
    assert 0 < high.sum() < low.sum()


def test_the_exponent_sets_the_size_of_defects():
    # Edges a defective pixel: about proportional to the lattice's density.
    def roughness(exponent: int) -> float:
        drawn = masks(4, exponents=(exponent, exponent + 1), normal_share=0.0, threshold=0.3)
        return float((drawn.diff(dim=3).abs().sum() + drawn.diff(dim=2).abs().sum()) / drawn.sum())

    assert 1.5 * roughness(1) < roughness(2) < 3 * roughness(1)


@pytest.mark.parametrize("stride", [4, 8])
def test_a_pooled_cell_is_defective_if_any_pixel_is(stride):
    mask = (torch.rand(2, 1, 16, 24, generator=generator(0)) < 0.03).float()
    pooled = pool_mask(mask, stride)
    assert 0 < pooled.mean() < 1
    for n, row, column in np.ndindex(2, 16 // stride, 24 // stride):
        cell = mask[n, 0, row * stride :, column * stride :][:stride, :stride]
        assert bool(pooled[n, 0, row, column]) == bool(cell.any())
