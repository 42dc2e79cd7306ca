"""Gradient magnitude similarity against SciPy's Prewitt filters, piq, and values worked out by hand."""

import numpy as np
import piq
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from subspect.detectors.riad.gradient_similarity import gms_map, gradient_magnitude, msgms_loss, msgms_map

C = 0.0026


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scipy_gradient(image: np.ndarray) -> np.ndarray:
    down, right = (ndimage.prewitt(image, axis=axis, mode="nearest") / 3 for axis in (0, 1))
    return np.hypot(down, right)


def scipy_gms(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    g, h = scipy_gradient(image.mean(0)), scipy_gradient(target.mean(0))
    return (2 * g * h + C) / (g**2 + h**2 + C)


def halved(image: np.ndarray) -> np.ndarray:
    channels, height, width = image.shape
    return image.reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres at half-integer positions, the last pixel repeated beyond the border."""
    places = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(values.shape, size, strict=True)]
    return ndimage.map_coordinates(values, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")


def test_gradients_are_scipys_prewitt():
    image = pictures(1, 1, 9, 14)
    np.testing.assert_allclose(gradient_magnitude(image)[0, 0], scipy_gradient(image[0, 0].numpy()), atol=1e-9)


def test_the_gradient_of_a_slope_is_its_steepness():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    slope = (0.03 * rows + 0.04 * columns)[None, None]
    # Central differences span two pixels.
    torch.testing.assert_close(gradient_magnitude(slope)[..., 1:-1, 1:-1], torch.full((1, 1, 6, 7), 0.1))


def test_gms_is_its_formula_on_the_mean_of_the_channels():
    image, target = pictures(2, 3, 10, 13), pictures(2, 3, 10, 13, seed=1)
    for number in range(2):
        expected = scipy_gms(image[number].numpy(), target[number].numpy())
        np.testing.assert_allclose(gms_map(image, target)[number, 0], expected, atol=1e-8)


def test_gms_deviation_is_piqs():
    # piq halves first and has zeros around the image, as these images have themselves.
    image, target = (F.pad(pictures(3, 1, 20, 28, seed=seed), [4] * 4) for seed in range(2))
    expected = piq.gmsd(image, target, t=C, reduction="none")
    maps = gms_map(F.avg_pool2d(image, 2), F.avg_pool2d(target, 2))
    torch.testing.assert_close(maps.std((1, 2, 3), correction=0), expected, rtol=1e-5, atol=0)


def test_msgms_is_the_mean_of_four_scales():
    size = (24, 40)
    image, target = pictures(1, 3, *size), pictures(1, 3, *size, seed=1)
    a, b = image[0].numpy(), target[0].numpy()
    maps = [scipy_gms(a, b)]
    for _ in range(3):
        a, b = halved(a), halved(b)
        maps.append(scipy_gms(a, b))
    expected = np.mean([enlarged(each, size) for each in maps], axis=0)
    np.testing.assert_allclose(msgms_map(image, target)[0, 0], expected, atol=1e-8)
    loss = np.mean([(1 - each).mean() for each in maps])
    assert float(msgms_loss(image, target)) == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_resembles_itself_completely(dtype):
    image = pictures(2, 3, 16, 24).to(dtype)
    assert torch.equal(msgms_map(image, image), torch.ones(2, 1, 16, 24, dtype=dtype))
    assert float(msgms_loss(image, image)) == 0


def test_brightness_makes_no_difference_and_contrast_does():
    image = pictures(1, 3, 16, 24) * 0.5
    torch.testing.assert_close(msgms_map(image, image + 0.3), torch.ones(1, 1, 16, 24).double())
    assert float(msgms_loss(image, image + 0.3)) == pytest.approx(0, abs=1e-12)
    # Along an even slope g (over two pixels) and h = 2·g are known; halving the image doubles its steps.
    slope = (0.01 * torch.arange(64.0).double()).expand(1, 3, 64, 64)
    values = [(2 * g * 2 * g + C) / (g**2 + 4 * g**2 + C) for g in (0.02, 0.04, 0.08, 0.16)]
    middle = msgms_map(slope, 2 * slope)[0, 0, 24:40, 24:40]
    torch.testing.assert_close(middle, torch.full_like(middle, float(np.mean(values))), atol=1e-7, rtol=0)


def test_flat_images_have_finite_gradients_and_textured_ones_pull_towards_the_target():
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    msgms_loss(flat, pictures(1, 3, 16, 16).float()).backward()
    assert torch.isfinite(flat.grad).all()
    target = pictures(1, 3, 16, 16)
    faint = (0.5 + 0.5 * (target - 0.5)).requires_grad_()
    loss = msgms_loss(faint, target)
    loss.backward()
    assert msgms_loss(faint - 0.1 * faint.grad / faint.grad.norm(), target) < loss
