"""Crops against slices of the pictures."""

import torch
from scipy import stats

from subspect.simulation.cropping import crop_randomly

HEIGHT, WIDTH = 12, 9


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Pictures whose pixels are their own addresses."""
    pixels = torch.arange(height * width).view(1, 1, height, width)
    return pixels.expand(number, 2, -1, -1) + 1000 * torch.arange(number).view(-1, 1, 1, 1)


def crops(images: torch.Tensor, mask: torch.Tensor, side: int) -> torch.Tensor:
    return crop_randomly(images, mask, side, torch.Generator().manual_seed(0))


def test_crops_are_slices_and_begin_everywhere():
    images = numbered(3000)
    cut = crops(images, torch.zeros(3000, 1, HEIGHT, WIDTH), 4)
    first = cut[:, 0, 0, 0] - 1000 * torch.arange(3000)
    rows, columns = first // WIDTH, first % WIDTH
    for index in range(0, 3000, 97):
        row, column = int(rows[index]), int(columns[index])
        assert torch.equal(cut[index], images[index, :, row : row + 4, column : column + 4])
    for places, count in ((rows, HEIGHT - 3), (columns, WIDTH - 3)):
        assert stats.chisquare(torch.bincount(places, minlength=count).numpy()).pvalue > 1e-4


def test_crops_are_as_likely_about_any_pixel_of_a_defect():
    mask = torch.zeros(2000, 1, HEIGHT, WIDTH)
    for row, column in ((0, 0), (0, 8), (11, 4)):
        mask[:, :, row, column] = 1
    cut = crops(numbered(2000), mask, 4)
    first = cut[:, 0, 0, 0] - 1000 * torch.arange(2000)
    corner = torch.where(first // WIDTH == HEIGHT - 4, 2, (first % WIDTH > 2).long())
    assert stats.chisquare(torch.bincount(corner, minlength=3).numpy()).pvalue > 1e-4


def test_a_crop_of_a_picture_with_a_defect_holds_some_of_it():
    mask = torch.zeros(400, 1, HEIGHT, WIDTH)
    defects = torch.randint(HEIGHT * WIDTH, (400,), generator=torch.Generator().manual_seed(1))
    mask.flatten(1)[torch.arange(400), defects] = 1
    cut = crops(numbered(400), mask, 4)
    assert (
        ((cut[:, 0] - 1000 * torch.arange(400)[:, None, None]) == defects[:, None, None])
        .flatten(1)
        .any(1)
        .all()
    )


def test_a_picture_smaller_than_the_crop_is_kept_whole():
    images = numbered(3)
    assert torch.equal(crops(images, torch.zeros(3, 1, HEIGHT, WIDTH), 32), images)
    assert crops(images, torch.zeros(3, 1, HEIGHT, WIDTH), 10).shape == (3, 2, 10, WIDTH)
