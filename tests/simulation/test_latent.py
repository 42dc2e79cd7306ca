"""Latent anomalies: neighbours by brute force, and the distributions of the paper and the reference code."""

import numpy as np
import pytest
import torch
from scipy import stats

from subspect.simulation.latent import (
    Ranks,
    draw_placement,
    draw_ranks,
    neighbour_table,
    sample_exactly,
    sample_from_table,
    sample_uniformly,
)

CODES, WIDTH = 32, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def codes() -> torch.Tensor:
    return torch.randn(CODES, WIDTH, generator=generator(7))


def ranks_of(chosen: torch.Tensor, vectors: torch.Tensor, codes: torch.Tensor) -> np.ndarray:
    """By brute force: the how-many-th nearest code of its vector (M, D) each chosen code (M,) is."""
    difference = vectors.double().numpy()[:, None] - codes.double().numpy()[None]
    order = np.argsort((difference**2).sum(2), axis=1, kind="stable")
    return (order == chosen.numpy()[:, None]).argmax(1)


def assert_uniform(drawn: np.ndarray, lowest: int, end: int) -> None:
    counts = np.bincount(drawn.ravel(), minlength=end)
    assert counts[:lowest].sum() == 0
    assert len(counts) == end
    assert stats.chisquare(counts[lowest:]).pvalue > 1e-4


def test_table_rows_are_codes_by_distance(codes):
    distances = ((codes[:, None].double() - codes[None].double()) ** 2).sum(2).numpy()
    np.testing.assert_array_equal(neighbour_table(codes).numpy(), np.argsort(distances, axis=1))


def test_a_code_comes_first_in_its_row_also_where_codes_repeat(codes):
    codes[9] = codes[4]
    table = neighbour_table(codes)
    assert torch.equal(table[:, 0].long(), torch.arange(CODES))
    assert table[9, 1] == 4


@pytest.mark.parametrize(("size", "share", "least"), [(4096, 0.05, 0.2), (1024, 0.05, 0.05), (4096, 0.5, 0.6)])
def test_ranks_follow_the_references_formula(size, share, least):
    ranks = draw_ranks(5000, size, share, least, generator(1))
    assert ranks.nearest == int(share * size)
    uniform = torch.rand(5000, generator=generator(1)).numpy()
    strength = np.float32(least) + np.float32(1 - least) * uniform
    np.testing.assert_array_equal(
        ranks.farthest.numpy(), np.clip((strength * np.float32(size)).astype(int) + 1, 1, size - 1)
    )
    assert (
        stats.kstest((ranks.farthest.numpy() - 0.5) / size, stats.uniform(least, 1 - least).cdf).pvalue > 1e-4
    )


def test_there_is_always_a_code_to_draw_and_never_one_beyond_the_codebook():
    for size, share, least in [(2, 0.0, 0.0), (8, 0.5, 0.0), (8, 0.99, 0.2), (1024, 0.5, 0.2)]:
        ranks = draw_ranks(2000, size, share, least, generator())
        assert (ranks.farthest > ranks.nearest).all()
        assert (ranks.farthest <= size).all()


def test_table_sampling_is_uniform_between_the_ranks_of_each_image(codes):
    indices = torch.randint(CODES, (2, 64, 64), generator=generator(2))
    ranks = Ranks(3, torch.tensor([10, 25]))
    sampled = sample_from_table(indices[None], neighbour_table(codes)[None], ranks, generator(3))[0]
    for image, end in ((0, 10), (1, 25)):
        drawn = ranks_of(sampled[image].flatten(), codes[indices[image].flatten()], codes)
        assert_uniform(drawn, 3, end)


def test_exact_sampling_is_uniform_between_the_ranks_of_each_image(codes):
    features = torch.randn(2, WIDTH, 80, 60, generator=generator(4))
    mask = torch.ones(2, 1, 80, 60)
    mask[:, :, :, :10] = 0
    ranks = Ranks(3, torch.tensor([10, 25]))
    sampled = sample_exactly(features, codes, mask, ranks, generator(5))
    assert (sampled[:, :, :10] == 0).all()
    for image, end in ((0, 10), (1, 25)):
        vectors = features[image, :, :, 10:].flatten(1).T
        assert_uniform(ranks_of(sampled[image, :, 10:].flatten(), vectors, codes), 3, end)


def test_only_the_table_measures_from_the_code():
    codes = torch.tensor([[-1.0], [0.0], [1.2]])
    # Nearest to 0.4 are 0, 1.2, -1 in this order; nearest to its code 0 are 0, -1, 1.2.
    features, indices = torch.full((1, 1, 2, 2), 0.4), torch.ones(1, 2, 2, dtype=torch.long)
    second = Ranks(1, torch.tensor([2]))
    exact = sample_exactly(features, codes, torch.ones(1, 1, 2, 2), second, generator())
    table = sample_from_table(indices[None], neighbour_table(codes)[None], second, generator())
    assert (codes[exact] == 1.2).all()
    assert (codes[table] == -1).all()


def test_uniform_sampling_covers_the_whole_codebook():
    assert_uniform(sample_uniformly(torch.Size((4, 40, 40)), 64, generator()).numpy(), 0, 64)


def test_anomalies_are_on_both_levels_half_the_time():
    low, high = draw_placement(8000, generator(6))
    counts = [int((low & high).sum()), int((low & ~high).sum()), int((~low & high).sum())]
    assert sum(counts) == 8000
    assert stats.chisquare(counts, [4000, 2000, 2000]).pvalue > 1e-4
