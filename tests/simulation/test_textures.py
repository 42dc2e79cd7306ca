"""The ten augmentations against Pillow and colorsys, with strengths read off plain pictures."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from subspect.simulation import textures
from subspect.simulation.textures import AUGMENTATIONS, augment, choose_augmentations

LEVEL = 1 / 255


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(number: int, height: int = 24, width: int = 31, seed: int = 1) -> torch.Tensor:
    """8-bit pictures with a histogram far from flat."""
    noise = torch.rand(number, 3, height, width, generator=source(seed)) ** 2 * 0.7 + 0.1
    return (noise * 255).round() / 255


def pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def grey(number: int, level: float) -> torch.Tensor:
    return torch.full((number, 3, 4, 4), level)


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    assert stats.kstest(values.flatten().numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_gamma_is_a_power_of_each_channel():
    changed = textures.gamma(grey(500, 0.5), source())
    powers = changed[:, :, :1, :1].log() / math.log(0.5)
    assert_uniform(powers, 0.5, 2.0)
    assert torch.corrcoef(powers.flatten(1).T)[0, 1].abs() < 0.2
    images = pictures(500)
    torch.testing.assert_close(textures.gamma(images, source()), images**powers)


def test_brightness_changes_luma_and_keeps_colour():
    low, high = (textures.brightness(grey(500, level), source())[:, 0, 0, 0] for level in (0.4, 0.6))
    factor = (high - low) / 0.2
    assert_uniform(factor, 0.8, 1.2)
    assert_uniform(low - 0.4 * factor, -30 / 255, 30 / 255)
    image = torch.tensor([0.5, 0.4, 0.45]).view(1, 3, 1, 1).expand(500, 3, 2, 2)
    changed = textures.brightness(image, source())
    torch.testing.assert_close(changed - changed[:, :1], image - image[:, :1], atol=1e-6, rtol=0)
    luma = 0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.45
    weighted = (changed[:, :, 0, 0] * torch.tensor([0.299, 0.587, 0.114])).sum(1)
    torch.testing.assert_close(weighted, luma * factor + low - 0.4 * factor, atol=1e-5, rtol=0)


def test_sharpness_is_pillows():
    images = pictures(200)
    changed = textures.sharpness(images, source())
    smooth = torch.stack([from_pillow(ImageEnhance.Sharpness(pillow(image)).enhance(0)) for image in images])
    inside = (changed > 0) & (changed < 1) & ((images - smooth).abs() > 0.1)
    ratio = torch.where(inside, (changed - smooth) / (images - smooth), torch.nan)
    factors = ratio.flatten(1).nanmedian(1).values
    assert_uniform(factors, 0.0, 2.0)
    for image, factor, ours in zip(images[:20], factors[:20], changed, strict=False):
        theirs = from_pillow(ImageEnhance.Sharpness(pillow(image)).enhance(float(factor)))
        torch.testing.assert_close(ours, theirs, atol=2.5 * LEVEL, rtol=0)


def test_hsv_is_colorsys():
    images = pictures(1, 12, 12)
    images[0, :, 0, :3] = torch.tensor([[0.0, 0.5, 1.0]] * 3)  # black, grey, white
    ours = torch.cat(textures.to_hsv(images), 1)[0].permute(1, 2, 0).flatten(0, 1).tolist()
    for pixel, hsv in zip(images[0].permute(1, 2, 0).flatten(0, 1).tolist(), ours, strict=True):
        assert hsv == pytest.approx(colorsys.rgb_to_hsv(*pixel), abs=1e-5)
    torch.testing.assert_close(textures.from_hsv(*textures.to_hsv(images)), images, atol=1e-5, rtol=0)


def test_hue_and_saturation_are_shifted():
    colour = torch.tensor(colorsys.hsv_to_rgb(0.45, 0.5, 0.7)).view(1, 3, 1, 1).expand(500, 3, 2, 2)
    changed = textures.hue_saturation(colour, source())[:, :, 0, 0]
    hue, saturation, value = torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in changed.tolist()]).T
    assert_uniform(hue, 0.45 - 50 / 255, 0.45 + 50 / 255)
    assert_uniform(saturation, 0.5 - 50 / 255, 0.5 + 50 / 255)
    torch.testing.assert_close(value, torch.full_like(value, 0.7))


def test_solarising_inverts_what_is_bright_in_half_of_the_pictures():
    ramp = torch.linspace(0, 1, 1021).view(1, 1, 1, -1).expand(600, 3, 1, -1)
    changed = textures.solarise(ramp, source())
    inverted = (changed - (1 - ramp)).abs() < 1e-6
    solarised = inverted[:, 0, 0, -1]
    assert float(solarised.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert torch.equal(changed[~solarised], ramp[~solarised])
    first = inverted[solarised, 0, 0].float().argmax(1) / 1020
    assert_uniform(first, 32 / 255, 128 / 255)
    same = torch.where(inverted, 1 - ramp, ramp)
    torch.testing.assert_close(changed, same, atol=1e-6, rtol=0)


def test_posterising_is_pillows():
    images = pictures(300)
    changed = textures.posterise(images, source())
    bits = []
    for image, ours in zip(images, changed, strict=True):
        theirs = [from_pillow(ImageOps.posterize(pillow(image), bits)) for bits in range(1, 9)]
        matching = [bits for bits, one in enumerate(theirs, 1) if torch.allclose(one, ours, atol=1e-6)]
        assert matching
        bits.append(matching[0])
    assert stats.chisquare(np.bincount(bits, minlength=9)[1:]).pvalue > 1e-4


def test_autocontrast_is_pillows():
    images = pictures(60)
    images[0, 0] = 0.5  # a flat channel stays
    changed = textures.autocontrast(images, source())
    cutoffs = []
    for image, ours in zip(images, changed, strict=True):
        theirs = [from_pillow(ImageOps.autocontrast(pillow(image), cutoff)) for cutoff in range(21)]
        errors = [float((one - ours).abs().max()) for one in theirs]
        assert min(errors) < 1.01 * LEVEL  # Pillow rounds down
        cutoffs.append(int(np.argmin(errors)))
    assert min(cutoffs) <= 2
    assert max(cutoffs) >= 18
    assert torch.equal(changed[0, 0], torch.full_like(changed[0, 0], 0.5))


def test_equalising_and_inverting_are_pillows():
    images = pictures(5)
    for ours, kind in ((textures.equalise, ImageOps.equalize), (textures.invert, ImageOps.invert)):
        theirs = torch.stack([from_pillow(kind(pillow(image))) for image in images])
        torch.testing.assert_close(ours(images, source()), theirs, atol=1e-6, rtol=0)


def test_turning_is_by_up_to_45_degrees():
    images = torch.zeros(400, 3, 65, 65)
    images[:, :, 30:35, 58:63] = 1  # right of the centre
    turned = textures.turn(images, source())[:, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    mass = turned.sum((1, 2))
    down, right = (turned * rows).sum((1, 2)) / mass, (turned * columns).sum((1, 2)) / mass
    assert_uniform(torch.rad2deg(torch.atan2(down, right)), -45, 45)


def test_three_different_augmentations_are_chosen_each_as_often_at_each_place():
    chosen = choose_augmentations(4000, source())
    assert chosen.shape == (4000, 3)
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    for place in chosen.T:
        assert stats.chisquare(np.bincount(place.numpy(), minlength=10)).pvalue > 1e-4


def test_each_picture_gets_what_was_chosen_for_it_in_order():
    images = pictures(3)
    equalised, inverted = list(AUGMENTATIONS).index("equalise"), list(AUGMENTATIONS).index("invert")
    posterised = list(AUGMENTATIONS).index("posterise")
    chosen = torch.tensor(
        [[equalised, inverted, equalised], [inverted, inverted, inverted], [equalised, posterised, posterised]]
    )
    before = images.clone()
    changed = augment(images, chosen, source())
    assert torch.equal(images, before)
    first = ImageOps.equalize(ImageOps.invert(ImageOps.equalize(pillow(images[0]))))
    torch.testing.assert_close(changed[0], from_pillow(first), atol=1e-6, rtol=0)
    torch.testing.assert_close(changed[1], from_pillow(ImageOps.invert(pillow(images[1]))), atol=1e-6, rtol=0)
    assert len(changed[2].unique()) <= 256


@pytest.mark.parametrize("kind", range(len(AUGMENTATIONS)))
def test_values_stay_in_their_range_and_pictures_are_changed(kind):
    images = pictures(8, 32, 48)
    changed = augment(images, torch.full((8, 1), kind), source())
    assert changed.shape == images.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(changed, augment(images, torch.full((8, 1), kind), source()))
    assert not torch.equal(changed, images)
