"""Rarity of codes against a count by hand in numpy, at the places of crops, and without an image's own fold."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from subspect.datasets.table import Sample
from subspect.detectors.dsr.folds import FOLDS, fold_of_each
from subspect.detectors.dsr.normal_codes import CELLS, NormalCodes, Origin, coordinates

GROUPS, CODES, GRID, IMAGES = 2, 5, (32, 48), 20
FOLD_OF = torch.arange(IMAGES) * FOLDS // IMAGES


def drawn(count: int = IMAGES, seed: int = 0, grid: tuple[int, int] = GRID) -> Tensor:
    """Codes that depend on the place: low ones at the left, high ones at the right, one never used."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.linspace(0, CODES - 2, grid[1]) + torch.rand(count, GROUPS, *grid, generator=generator) - 0.5
    return level.round().long().clamp(0, CODES - 2)


def fitted(indices: Tensor | None = None, folds: Tensor = FOLD_OF) -> NormalCodes:
    """From chunks of which the last is smaller."""
    normal, indices = NormalCodes(GROUPS, CODES), drawn() if indices is None else indices
    normal.fit(indices.short().split(7), folds.split(7))
    return normal


def cell_of(place: int, length: int) -> int:
    """The cell that a place's middle lies in."""
    return int((place + 0.5) / length * CELLS)


def counted(indices: np.ndarray) -> np.ndarray:
    """Negative logarithms of probabilities ``(G, K, CELLS, CELLS)``, position by position."""
    _, groups, height, width = indices.shape
    counts = np.zeros((groups, CODES, CELLS, CELLS))
    for row in range(height):
        for column in range(width):
            for group in range(groups):
                seen = np.bincount(indices[:, group, row, column], minlength=CODES)
                counts[group, :, cell_of(row, height), cell_of(column, width)] += seen
    counts /= height * width / CELLS**2  # in images
    near = np.zeros_like(counts)
    for row in range(CELLS):
        for column in range(CELLS):
            for down in range(-3, 4):
                for right in range(-3, 4):
                    weight = math.exp(-0.5 * (down**2 + right**2) / 0.7**2)
                    at = np.clip(row + down, 0, CELLS - 1), np.clip(column + right, 0, CELLS - 1)
                    near[:, :, row, column] += weight * counts[:, :, at[0], at[1]]
    usual = counts.sum((2, 3)) / counts.sum((1, 2, 3))[:, None]
    prior = 10 * (0.99 * usual + 0.01 / CODES)
    probabilities = (near + prior[:, :, None, None]) / (near.sum(1, keepdims=True) + 10)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    return -np.log(probabilities)


def test_rarity_is_that_of_a_count_by_hand():
    normal, known = fitted(), drawn().numpy()
    asked = drawn(2, seed=1)
    asked[0, 0, 3, 5] = CODES - 1  # never used
    expected = counted(known)
    found = normal(asked, None).groups.numpy()
    for image, group, row, column in np.ndindex(*found.shape):
        cell = cell_of(row, GRID[0]), cell_of(column, GRID[1])
        value = expected[group, asked[image, group, row, column], *cell]
        assert found[image, group, row, column] == pytest.approx(value, abs=5e-3)  # kept in float16
    assert found[0, 0, 3, 5] == found.max() > 5


def test_training_images_are_compared_with_the_other_folds():
    normal, known = fitted(), drawn()
    places = coordinates(GRID, known.device)[None]
    for fold in range(FOLDS):
        alone = fitted(known[fold != FOLD_OF], FOLD_OF[fold != FOLD_OF])
        image = known[fold == FOLD_OF][:1]
        found = normal(image, Origin(places, torch.tensor([fold]))).groups
        torch.testing.assert_close(found, alone(image, None).groups)
        assert found.mean() > normal(image, None).groups.mean() + 0.01
    uncounted = Origin(places, torch.tensor([FOLDS]))
    torch.testing.assert_close(normal(known[:1], uncounted).groups, normal(known[:1], None).groups)


def test_together_is_standardised_over_images_of_other_folds():
    normal, known = fitted(), drawn()
    origin = Origin(coordinates(GRID, known.device).expand(IMAGES, -1, -1, -1), FOLD_OF)
    found = normal(known, origin)
    assert float(found.together.mean()) == pytest.approx(0, abs=1e-3)
    assert float(found.together.std()) == pytest.approx(1, abs=1e-3)
    summed = found.groups[0].sum(0)
    middle = float(found.together[0, 0, 9, 9] * normal.spread + normal.centre)
    assert middle == pytest.approx(float(summed[8:11, 8:11].mean()), rel=1e-4)
    corner = float(found.together[0, 0, 0, 0] * normal.spread + normal.centre)
    assert corner == pytest.approx(float(summed[:2, :2].mean()), rel=1e-4)


def test_a_crop_is_compared_with_its_own_part_of_the_image():
    normal, asked = fitted(), drawn(2, seed=2)
    places = coordinates(GRID, asked.device).expand(2, -1, -1, -1)
    origin = Origin(places[..., 10:20, 20:30], torch.full((2,), FOLDS))
    whole = normal(asked, None).groups
    torch.testing.assert_close(normal(asked[..., 10:20, 20:30], origin).groups, whole[..., 10:20, 20:30])


@pytest.mark.parametrize("grid", [(16, 16), (8, 24), (40, 36)])
def test_images_of_another_size_are_looked_up_at_the_same_places(grid):
    normal, asked = fitted(), drawn(1, seed=3, grid=grid)
    found, expected = normal(asked, None).groups, counted(drawn().numpy())
    for group, row, column in np.ndindex(*found.shape[1:]):
        value = expected[group, asked[0, group, row, column], cell_of(row, grid[0]), cell_of(column, grid[1])]
        assert float(found[0, group, row, column]) == pytest.approx(value, abs=5e-3)


def test_a_single_codebook_needs_no_dimension_for_groups():
    normal, indices = NormalCodes(1, CODES), drawn()[:, 0]
    normal.fit([indices], [FOLD_OF])
    grouped = NormalCodes(1, CODES)
    grouped.fit([indices[:, None]], [FOLD_OF])
    torch.testing.assert_close(normal(indices, None), grouped(indices[:, None], None))


def test_groups_beyond_those_counted_are_ignored():
    known, asked = drawn(), drawn(2, seed=6)
    normal = NormalCodes(1, CODES)
    normal.fit([known], [FOLD_OF])
    alone = NormalCodes(1, CODES)
    alone.fit([known[:, :1]], [FOLD_OF])
    torch.testing.assert_close(normal(asked, None), alone(asked[:, :1], None))


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_are_enough(images):
    normal = fitted(drawn(images), torch.arange(images))
    assert all(part.isfinite().all() for part in normal(drawn(2, seed=5), None))


def test_images_of_a_single_fold_are_compared_with_all_of_them():
    """With nothing, every code would be equally rare, and new normal images thousands of spreads away."""
    known = drawn()
    normal = fitted(known, torch.ones(IMAGES, dtype=torch.long))
    expected = normal(known, None).together
    assert abs(float(expected.mean())) < 1e-3
    assert float(expected.std()) == pytest.approx(1, abs=1e-3)


def test_images_that_are_all_the_same_give_finite_rarity():
    normal = fitted(drawn(1).expand(IMAGES, -1, -1, -1))
    assert all(part.isfinite().all() for part in normal(drawn(2, seed=4), None))


def test_coordinates_are_the_centres_of_pixels():
    places = coordinates((2, 4), torch.device("cpu"))
    assert places[0].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2
    assert places[1].tolist() == [[-0.5] * 4, [0.5] * 4]


def samples(*groups: str, defect: str = "good") -> list[Sample]:
    return [
        Sample(Path(f"{defect}{place}.png"), "train", "c", defect, group=group)
        for place, group in enumerate(groups)
    ]


def test_folds_keep_groups_whole_and_leave_anomalous_images_out():
    mixed = [*samples(*"aabbbccddd"), *samples("a", defect="hole")]
    assert fold_of_each(mixed).tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, FOLDS]


@pytest.mark.parametrize("sizes", [(2, 2, 2, 94), (94, 2, 2, 2), (7, 93, 10, 10), (1, 1, 1, 997)])
def test_one_large_group_leaves_others_to_compare_it_with(sizes):
    names = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    assert len(set(fold_of_each(samples(*names)).tolist())) >= 2


def test_without_groups_neighbours_are_of_a_fold():
    assert fold_of_each(samples(*[""] * 8)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert fold_of_each(samples(*["one part"] * 8)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
