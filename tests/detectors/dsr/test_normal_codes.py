"""Statistics of normal codes against a direct computation in numpy, and at the places of crops."""

import numpy as np
import pytest
import torch
from torch import Tensor

from subspect.detectors.dsr.normal_codes import NormalCodes, coordinates, whitening
from subspect.sizes import resize

CHANNELS, GRID, IMAGES = 5, (4, 6), 30


def features(count: int = IMAGES, seed: int = 0) -> Tensor:
    """Correlated channels, another mean and another spread at each position."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(7))
    mean = 3 * torch.randn(CHANNELS, *GRID, generator=torch.Generator().manual_seed(8))
    spread = torch.linspace(0.2, 2.0, GRID[0] * GRID[1]).view(GRID)
    drawn = torch.randn(count, CHANNELS, *GRID, generator=generator)
    return mean + spread * torch.einsum("cd,ndhw->nchw", mixing, drawn)


def fitted() -> NormalCodes:
    """In chunks of which the last is smaller."""
    normal = NormalCodes(CHANNELS, GRID)
    normal.fit(lambda: features().split(7))
    return normal


def expected(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whitened deviations and distances of x from the statistics of ``features()``, position by position."""
    known = features().double().numpy()
    mean = known.mean(0)
    covariance = np.cov((known - mean).transpose(1, 0, 2, 3).reshape(CHANNELS, -1), bias=True)
    covariance = covariance + 0.01 * np.trace(covariance) / CHANNELS * np.eye(CHANNELS)
    variances, directions = np.linalg.eigh(covariance)
    w = directions @ np.diag(variances**-0.5) @ directions.T
    squares = ((np.einsum("cd,ndhw->nchw", w, known - mean)) ** 2).mean((0, 1))
    scale = np.sqrt(squares + 0.01 * squares.mean())
    whitened = np.einsum("cd,ndhw->nchw", w, x - mean) / scale
    return whitened, np.log((whitened**2).mean(1, keepdims=True))


def test_deviations_are_those_of_a_direct_computation():
    x = features(4, seed=1)
    found = fitted()(x, None)
    whitened, distance = expected(x.double().numpy())
    np.testing.assert_allclose(found.whitened, whitened, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found.distance, distance, atol=1e-4, rtol=1e-4)


def test_normal_images_have_a_mean_square_of_about_one_everywhere():
    normal = fitted()
    squares = normal(features(), None).distance.exp().mean((0, 1))
    regularised = 0.01 * (squares * normal.scale[0] ** 2).mean() / normal.scale[0] ** 2
    torch.testing.assert_close(squares + regularised, torch.ones(GRID), atol=1e-5, rtol=1e-5)
    assert squares.min() > 0.5


def test_a_crop_is_compared_with_its_own_part_of_the_image():
    normal, x = fitted(), features(2, seed=2)
    whole = normal(x, None)
    places = coordinates(GRID, x.device).expand(2, -1, -1, -1)
    found = normal(x[..., 1:3, 2:5], places[..., 1:3, 2:5])
    torch.testing.assert_close(found.whitened, whole.whitened[..., 1:3, 2:5], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.distance, whole.distance[..., 1:3, 2:5], atol=1e-4, rtol=1e-4)


def test_an_image_of_another_size_is_compared_with_resized_statistics():
    normal = fitted()
    resized = NormalCodes(CHANNELS, (8, 12))
    resized.whitening.copy_(normal.whitening)
    for name in ("mean", "scale"):
        getattr(resized, name).copy_(resize(getattr(normal, name), (8, 12), antialias=False))
    x = resize(features(1, seed=3), (8, 12), antialias=False)
    torch.testing.assert_close(normal(x, None).whitened, resized(x, None).whitened)


def test_coordinates_are_the_centres_of_pixels():
    places = coordinates((2, 4), torch.device("cpu"))
    assert places[0].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2
    assert places[1].tolist() == [[-0.5] * 4, [0.5] * 4]


@torch.no_grad()
def test_images_that_are_all_the_same_give_finite_deviations():
    normal, same = NormalCodes(CHANNELS, GRID), features(1).expand(4, -1, -1, -1)
    normal.fit(lambda: [same])
    for images in (features(2, seed=4), same):
        assert all(part.isfinite().all() for part in normal(images, None))


def test_where_nothing_ever_varied_a_difference_counts_ten_times_at_most():
    images = features()
    images[:, :, 0, 0] = images[0, :, 0, 0]
    normal = NormalCodes(CHANNELS, GRID)
    normal.fit(lambda: [images])
    mean = float(normal.scale.square().mean()) / 1.01
    # The mean in float32 leaves differences of 1e-7 there.
    assert float(normal.scale[0, 0, 0] ** 2) == pytest.approx(0.01 * mean, rel=0.02)


def test_whitening_gives_the_identity():
    x = features().transpose(0, 1).flatten(1).double()
    covariance = torch.cov(x)
    w = whitening(covariance)
    regularised = covariance + 0.01 * covariance.diagonal().mean() * torch.eye(CHANNELS, dtype=torch.float64)
    torch.testing.assert_close(w @ regularised @ w, torch.eye(CHANNELS, dtype=torch.float64))


@pytest.mark.parametrize("images", [2, 3])
def test_few_images_are_enough(images):
    normal = NormalCodes(CHANNELS, GRID)
    normal.fit(lambda: [features(images)])
    assert normal(features(2, seed=5), None).distance.isfinite().all()
