"""Painted defects against their closed forms, with strengths read off plain pictures."""

import math

import pytest
import torch
from scipy import stats

from subspect.simulation.overlay import paint, smudge


def smudged(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return smudge(images, mask, torch.Generator().manual_seed(0))


def test_images_are_blended_with_one_colour_under_the_mask():
    source = torch.Generator().manual_seed(1)
    images = torch.rand(600, 3, 6, 10, generator=source)
    mask = (torch.rand(600, 1, 6, 10, generator=source) < 0.5).float()
    everywhere = torch.ones_like(mask)
    black = smudged(torch.zeros_like(images), everywhere)  # (1 - β)·colour
    white = smudged(torch.ones_like(images), everywhere)  # β + (1 - β)·colour
    beta = (white - black)[:, :1, :1, :1]
    torch.testing.assert_close(white - black, beta.expand_as(images), atol=1e-6, rtol=0)
    colour = (black / (1 - beta))[:, :, :1, :1]
    torch.testing.assert_close(black, ((1 - beta) * colour).expand_as(images), atol=1e-6, rtol=0)

    expected = torch.where(mask > 0, beta * images + (1 - beta) * colour, images)
    torch.testing.assert_close(smudged(images, mask), expected, atol=1e-6, rtol=0)

    assert stats.kstest(beta.flatten().numpy(), stats.uniform(0, 0.8).cdf).pvalue > 1e-4
    for channel in colour.flatten(1).T:
        assert stats.kstest(channel.numpy(), stats.uniform(0, 1).cdf).pvalue > 1e-4
    drawn = torch.cat((colour.flatten(1), beta.flatten(1)), 1).T
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < 0.2  # all drawn for themselves


def test_an_empty_mask_leaves_images_as_they_are():
    images = torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(smudged(images, torch.zeros(3, 1, 5, 4)), images)


def source() -> torch.Generator:
    return torch.Generator().manual_seed(4)


FILLS = ("colour", "gain", "grain", "graft")


@pytest.mark.parametrize("fill", FILLS)
def test_painting_changes_what_lies_under_the_mask_and_its_edge_only(fill):
    images = torch.rand(20, 3, 32, 32, generator=source()) * 0.4 + 0.3
    mask = torch.zeros(20, 1, 32, 32)
    mask[:, :, 8:20, 10:24] = 1
    painted = paint(images, mask, source(), (fill,))
    touched = (painted != images).any(1)
    assert not touched[:, :7].any()
    assert not touched[:, 21:].any()
    assert touched[:, 8:20, 10:24].flatten(1).any(1).all()
    soft = touched[:, 7, 10:24].any(1)  # a row outside: only where the edge is soft
    assert 2 < int(soft.sum()) < 18
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert torch.equal(paint(images, torch.zeros_like(mask), source(), (fill,)), images)


def test_gains_are_log_uniform_both_ways():
    low, high = (
        paint(torch.full((4000, 3, 4, 4), level), torch.ones(4000, 1, 4, 4), source(), ("gain",))
        for level in (0.2, 0.4)
    )
    gain = (high - low)[:, 0, 0, 0] / 0.2  # the offset, the same in both, falls out
    assert float((gain > 1).float().mean()) == pytest.approx(0.5, abs=0.03)
    strength = (gain - 1).abs().log().numpy()
    expected = stats.uniform(math.log(0.03), math.log(0.6 / 0.03))
    assert stats.kstest(strength, expected.cdf).pvalue > 1e-4
    offset = low[:, 0, 0, 0] - 0.2 * gain
    assert stats.kstest(offset.numpy(), stats.uniform(-0.03, 0.06).cdf).pvalue > 1e-4


def test_colours_are_one_an_image_and_grey_half_the_time():
    black = paint(torch.zeros(2000, 3, 2, 2), torch.ones(2000, 1, 2, 2), source(), ("colour",))
    white = paint(torch.ones(2000, 3, 2, 2), torch.ones(2000, 1, 2, 2), source(), ("colour",))
    opacity = 1 - (white - black)[:, 0, 0, 0]
    expected = stats.uniform(math.log(0.05), math.log(20))
    assert stats.kstest(opacity.log().numpy(), expected.cdf).pvalue > 1e-4
    grey = (black.amax(1) - black.amin(1)).flatten(1).amax(1) < 1e-7
    assert float(grey.float().mean()) == pytest.approx(0.5, abs=0.04)


def test_grafts_come_from_the_neighbour_in_the_batch():
    """Of two images, one flat: the flat one gets structure, the other becomes flat."""
    textured = torch.rand(1, 3, 16, 16, generator=source()) * 0.3 + 0.35
    images = torch.cat((torch.full_like(textured, 0.5), textured))
    painted = paint(images, torch.ones(2, 1, 16, 16), source(), ("graft",))
    assert float(painted[1].std()) < 1e-6
    contrast = float(painted[0].std() / textured.std())
    assert 0.5 <= contrast <= 1.5
    values = ((painted[0] - painted[0].mean((1, 2), keepdim=True)) / contrast).flatten(1).sort().values
    expected = (textured[0] - textured[0].mean((1, 2), keepdim=True)).flatten(1).sort().values
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-2)  # moved, but all there


def test_every_fill_is_drawn():
    images = torch.full((400, 3, 16, 16), 0.5)
    painted = paint(images, torch.ones(400, 1, 16, 16), source(), ("gain", "grain"))
    rough = painted.flatten(1).std(1) > 1e-6
    assert 140 < int(rough.sum()) < 260  # flat pictures stay flat under a gain
