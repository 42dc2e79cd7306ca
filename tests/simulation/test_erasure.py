"""Erased cells: every pixel once, whole cells at a time, every way to share them out equally likely."""

from itertools import combinations

import pytest
import torch
from scipy import stats

from subspect.simulation.erasure import cell_count, erasure_masks

SIZES = [(32, 48), (16, 16), (33, 21), (3, 40)]


def drawn(size: tuple[int, int], cell: int, sets: int, seed: int = 0) -> torch.Tensor:
    order = torch.randperm(cell_count(size, cell), generator=torch.Generator().manual_seed(seed))
    return erasure_masks(order, size, cell, sets)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", [2, 4, 8, 16])
@pytest.mark.parametrize("sets", [2, 3, 5])
def test_sets_are_disjoint_complete_and_of_whole_cells(size, cell, sets):
    masks = drawn(size, cell, sets)
    assert masks.shape == (sets, 1, *size)
    assert masks.dtype == torch.bool
    assert (masks.sum(0) == 1).all()
    counts = [0] * sets
    for row in range(0, size[0], cell):
        for column in range(0, size[1], cell):
            piece = masks[:, 0, row : row + cell, column : column + cell].flatten(1)
            assert torch.equal(piece.all(1), piece.any(1)), "a cell was torn"
            counts[int(piece[:, 0].int().argmax())] += 1
    assert sum(counts) == cell_count(size, cell)
    assert max(counts) - min(counts) <= 1


def test_cells_go_to_the_sets_that_their_order_says():
    masks = erasure_masks(torch.tensor([4, 0, 3, 5, 1, 2]), (4, 6), cell=2, sets=3)[:, 0].int()
    # 4, 0, 3 → sets 1, 0, 0; 5, 1, 2 → sets 2, 1, 2.
    expected = torch.tensor([[1, 0, 0], [2, 1, 2]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(masks.argmax(0), expected)


def test_every_way_to_share_out_cells_is_equally_likely():
    # Six cells, the two of the first set.
    pairs = dict.fromkeys(combinations(range(6), 2), 0)
    for seed in range(1500):
        first = drawn((2, 3), 1, 3, seed)[0].flatten()
        pairs[tuple(first.nonzero().flatten().tolist())] += 1
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3
