"""Distributions and distances against a direct computation in float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

from subspect.detectors.padim import statistics
from subspect.detectors.padim.smoothing import gaussian_blur
from subspect.detectors.padim.statistics import MomentSums, mahalanobis

POSITIONS, CHANNELS = 7, 12


def features(count: int, seed: int = 0) -> torch.Tensor:
    """Correlated features far from zero, ``(N, C, P)`` float32."""
    rng = np.random.default_rng(seed)
    mixed = np.einsum("pcd,ndp->ncp", rng.normal(size=(POSITIONS, CHANNELS, CHANNELS)), rng.normal(
        size=(count, CHANNELS, POSITIONS)))  # fmt: skip
    return torch.from_numpy((mixed + 30 * rng.random((CHANNELS, POSITIONS))).astype(np.float32))


def direct(known: torch.Tensor, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at a position as the paper defines them."""
    values = known[:, :, position].double().numpy()
    return values.mean(0), np.cov(values, rowvar=False) + 0.01 * np.eye(CHANNELS)


@pytest.mark.parametrize("count", [2, 5, 40])  # also fewer images than channels
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_distances_are_those_of_a_direct_computation(monkeypatch, count, chunk):
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", chunk * 8 * CHANNELS**2)
    known, asked = features(count), features(3, seed=1)
    sums = MomentSums(POSITIONS, CHANNELS)
    for batch in known.split(3):
        sums.add(batch)
    mean, factor = sums.factorise()
    distances = mahalanobis(asked, mean, factor).numpy()
    assert mean.dtype == factor.dtype == torch.float32
    for position in range(POSITIONS):
        expected_mean, covariance = direct(known, position)
        np.testing.assert_allclose(mean[position], expected_mean, rtol=1e-6)
        lower = factor[position].double().numpy()
        assert np.array_equal(lower, np.tril(lower))
        np.testing.assert_allclose(lower @ lower.T, covariance, rtol=0, atol=1e-5 * covariance.max())
        precision = np.linalg.inv(covariance)
        expected = [scipy_mahalanobis(one, expected_mean, precision) for one in asked[:, :, position].numpy()]
        np.testing.assert_allclose(distances[:, position], expected, rtol=1e-4)


def test_batches_do_not_matter():
    known = features(11)
    results = []
    for size in (1, 4, 11):
        sums = MomentSums(POSITIONS, CHANNELS)
        for batch in known.split(size):
            sums.add(batch)
        assert sums.count == 11
        results.append(sums.factorise())
    for mean, factor in results[1:]:
        torch.testing.assert_close(mean, results[0][0], rtol=1e-6, atol=0)
        torch.testing.assert_close(factor, results[0][1], rtol=1e-5, atol=1e-6)


def test_one_image_has_no_covariance():
    sums = MomentSums(POSITIONS, CHANNELS)
    sums.add(features(1))
    with pytest.raises(ValueError, match="at least two images, got 1"):
        sums.factorise()


def test_the_blur_is_scipys():
    maps = torch.rand(2, 1, 40, 57, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [gaussian_filter(one[0].numpy(), 4.0, mode="mirror") for one in maps]
    np.testing.assert_allclose(gaussian_blur(maps, 4.0)[:, 0], expected, rtol=0, atol=1e-12)
