"""Mean filters and scores, against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from subspect.detectors.scoring import image_score, mean_filter


def maps(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(height))


def filtered(values: torch.Tensor, side: int) -> np.ndarray:
    return ndimage.uniform_filter(values.double().numpy(), (1, 1, side, side), mode="constant")


@pytest.mark.parametrize(("side", "size"), [(21, (40, 33)), (21, (30, 9)), (3, (5, 8))])
def test_means_over_squares(side, size):
    values = maps(*size)
    share_inside = filtered(torch.ones_like(values), side)
    with_zeros = mean_filter(values, side, zeros_around=True)
    cut_off = mean_filter(values, side, zeros_around=False)
    np.testing.assert_allclose(with_zeros, filtered(values, side), atol=1e-6)
    np.testing.assert_allclose(cut_off, filtered(values, side) / share_inside, atol=1e-6)


def test_the_score_is_the_highest_mean():
    values = maps(50, 60)
    np.testing.assert_allclose(image_score(values), filtered(values, 21).max((1, 2, 3)), atol=1e-6)
