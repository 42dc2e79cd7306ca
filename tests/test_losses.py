"""The losses against loops over pixels, other libraries and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from subspect.losses import excess_certainty, focal_loss, ssim_loss, ssim_map


def focal_loss_by_pixel(probabilities: np.ndarray, mask: np.ndarray, gamma: float) -> float:
    losses = []
    for n, i, j in np.ndindex(mask.shape[0], *mask.shape[2:]):
        target = [1 - mask[n, 0, i, j], mask[n, 0, i, j]]
        target = [min(max(t, 1e-5), 1 - 1e-5) for t in target]
        p = sum(t * float(q) for t, q in zip(target, probabilities[n, :, i, j], strict=True)) + 1e-5
        losses.append(-((1 - p) ** gamma) * math.log(p))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("gamma", [2.0, 1.0, 4.0])
def test_focal_loss_is_its_formula_pixel_by_pixel(gamma):
    source = torch.Generator().manual_seed(0)
    probabilities = torch.randn(2, 2, 5, 7, generator=source).mul(4).softmax(1).double()
    mask = (torch.rand(2, 1, 5, 7, generator=source) < 0.3).double()
    expected = focal_loss_by_pixel(probabilities.numpy(), mask.numpy(), gamma)
    assert float(focal_loss(probabilities, mask, gamma)) == pytest.approx(expected, rel=1e-9)


def certain(anomalous: float) -> torch.Tensor:
    """Probabilities that are sure of one class everywhere."""
    return torch.tensor([1 - anomalous, anomalous]).double().view(1, 2, 1, 1).expand(1, 2, 4, 4)


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_certainty_costs_the_same_in_both_classes(truth):
    mask = torch.full((1, 1, 4, 4), truth).double()
    # The true class is 1e-5 certain by the clamped target and 1e-5 by the smoothing.
    wrong = -((1 - 2e-5) ** 2) * math.log(2e-5)
    assert float(focal_loss(certain(1 - truth), mask)) == pytest.approx(wrong, rel=1e-9)
    assert float(focal_loss(certain(truth), mask)) == pytest.approx(0, abs=1e-12)
    assert float(focal_loss(certain(0.5), mask)) == pytest.approx(0.25 * math.log(2), rel=1e-4)


def test_the_gradient_is_finite_at_certainty_and_points_to_the_truth():
    logits = torch.tensor([[60.0, -60.0]]).view(1, 2, 1, 1).requires_grad_()
    focal_loss(logits.softmax(1), torch.ones(1, 1, 1, 1)).backward()
    assert torch.isfinite(logits.grad).all()
    logits = torch.zeros(1, 2, 1, 1, requires_grad=True)
    focal_loss(logits.softmax(1), torch.ones(1, 1, 1, 1)).backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]


def test_certainty_costs_what_lies_beyond_log_odds_of_50_against_the_truth():
    anomalous = torch.tensor([60.0, -60.0, 40.0, -40.0, 70.0, -80.0])
    logits = torch.stack((-anomalous / 2, anomalous / 2))[None, :, None]
    normal, defective = torch.zeros(1, 1, 1, 6), torch.ones(1, 1, 1, 6)
    assert float(excess_certainty(logits, normal)) == pytest.approx((10 + 20) / 6)
    assert float(excess_certainty(logits, defective)) == pytest.approx((10 + 30) / 6)


def test_a_network_certain_of_what_is_wrong_learns_again():
    def trained(*losses):
        logits = torch.nn.Parameter(torch.tensor([300.0, -300.0]).view(1, 2, 1, 1))
        mask, optimiser = torch.ones(1, 1, 1, 1), torch.optim.Adam([logits], lr=10.0)
        for _ in range(100):
            optimiser.zero_grad()
            sum(loss(logits, mask) for loss in losses).backward()
            optimiser.step()
        return float(logits.detach().softmax(1)[0, 1])

    def focal(logits, mask):
        return focal_loss(logits.softmax(1), mask)

    assert trained(focal) == 0.0
    assert trained(focal, excess_certainty) > 0.99


def test_ssim_is_that_of_scikit_image_and_beyond_the_border_the_image_is_black():
    rng = np.random.default_rng(0)
    image = rng.random((2, 40, 47))
    target = (image + rng.normal(0, 0.1, image.shape)).clip(0, 1)
    blackened = [np.pad(picture, ((0, 0), (10, 10), (10, 10))) for picture in (image, target)]
    _, expected = structural_similarity(
        *blackened,
        channel_axis=0,
        win_size=11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    actual = ssim_map(torch.from_numpy(image)[None], torch.from_numpy(target)[None])[0]
    np.testing.assert_allclose(actual, expected[:, 10:-10, 10:-10], atol=1e-12)


def test_ssim_of_an_image_with_itself_is_one():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(ssim_map(image, image), torch.ones_like(image), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("darkest", "value_range"), [(-0.4, 1.0), (-0.6, 2.0)])
def test_the_ssim_loss_takes_a_range_of_2_where_reconstructions_are_far_below_0(darkest, value_range):
    source = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 40, 40, generator=source).double()
    drawn = (target + torch.rand(2, 3, 40, 40, generator=source) * 0.2).clamp(min=0.05)
    drawn[1, 0, 20, 20] = darkest
    border = ((0, 0), (10, 10), (10, 10))
    blackened = [np.pad(part.flatten(0, 1).numpy(), border) for part in (drawn, target)]
    _, expected = structural_similarity(
        *blackened,
        channel_axis=0,
        win_size=11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=value_range,
        full=True,
    )
    assert float(ssim_loss(drawn, target)) == pytest.approx(1 - expected[:, 10:-10, 10:-10].mean(), abs=1e-9)


def test_ssim_keeps_its_precision_under_autocast():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.02 + 0.9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ssim_map(image, image), torch.ones_like(image), rtol=0, atol=1e-5)
