"""Smudges against their closed form, with colour and opacity read off black and white pictures."""

import torch
from scipy import stats

from subspect.simulation.overlay import smudge


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
