"""The codebook against brute force, one-hot averages in NumPy, and scikit-learn's k-means."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from subspect.codes import flatten_features, nearest_at_once, nearest_codes, nearest_in_pieces
from subspect.detectors.dsr.quantizer import Codebook, ProductCodebook, k_means

CODES, WIDTH = 24, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def codebook() -> Codebook:
    book = Codebook(CODES, WIDTH)
    book.codes.copy_(torch.randn(CODES, WIDTH, generator=generator(1)))
    book.average_sum.copy_(book.codes)
    book.measure()
    return book


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(3, WIDTH, 5, 7, generator=generator(2))


def squared_distances(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return ((vectors[:, None].astype(np.float64) - codes[None].astype(np.float64)) ** 2).sum(2)


def nearest_by_brute_force(features: torch.Tensor, codes: torch.Tensor) -> np.ndarray:
    indices = np.empty((len(features), *features.shape[2:]), dtype=int)
    for n, i, j in np.ndindex(*indices.shape):
        indices[n, i, j] = squared_distances(features[n, :, i, j].numpy()[None], codes.numpy()).argmin()
    return indices


def test_each_feature_becomes_its_nearest_code(codebook, features):
    quantized = codebook(features)
    expected = nearest_by_brute_force(features, codebook.codes)
    np.testing.assert_array_equal(quantized.indices.numpy(), expected)
    codes = codebook.codes.numpy()[expected].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(quantized.features.numpy(), codes, atol=1e-6)
    np.testing.assert_array_equal(codebook.lookup(quantized.indices).numpy(), codes)


def test_mixed_precision_does_not_blur_the_choice(codebook):
    # Two codes that bfloat16 cannot tell apart.
    codebook.codes[0], codebook.codes[1] = 1.0, 1.001
    features = codebook.codes[[0, 1]].T.reshape(1, WIDTH, 1, 2).contiguous()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest_codes(features, codebook.codes[None]).tolist() == [[[[0, 1]]]]


def test_the_gradient_passes_straight_through(codebook, features):
    features.requires_grad_()
    weights = torch.randn(features.shape, generator=generator(3))
    (codebook(features).features * weights).sum().backward()
    assert torch.equal(features.grad, weights)
    assert not list(codebook.parameters())


def test_codes_move_as_exponential_averages(codebook):
    decay, epsilon = 0.9, 1e-3
    codes = codebook.codes.double().numpy()
    sums, counts = codes.copy(), np.zeros(CODES)
    for step in range(4):
        features = torch.randn(2, WIDTH, 4, 3, generator=generator(step)) + 1
        indices = nearest_codes(features, codebook.codes[None])[:, 0]
        codebook.update(features, indices, decay, epsilon)

        one_hot = np.eye(CODES)[indices.numpy().ravel()]  # (M, K)
        vectors = features.double().numpy().transpose(0, 2, 3, 1).reshape(-1, WIDTH)
        counts = decay * counts + (1 - decay) * one_hot.sum(0)
        sums = decay * sums + (1 - decay) * one_hot.T @ vectors
        smoothed = (counts + epsilon) / (counts.sum() + CODES * epsilon) * counts.sum()
        codes = sums / smoothed[:, None]
        np.testing.assert_allclose(codebook.average_count.numpy(), counts, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(codebook.average_sum.numpy(), sums, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(codebook.codes.numpy(), codes, rtol=1e-4)


def blobs(centres: torch.Tensor, each: int, spread: float) -> torch.Tensor:
    noise = torch.randn(len(centres), each, centres.shape[1], generator=generator(4))
    return (centres[:, None] + spread * noise).flatten(0, 1)


def inertia(vectors: torch.Tensor, centres: torch.Tensor) -> float:
    return float(squared_distances(vectors.numpy(), centres.numpy()).min(1).mean())


def test_k_means_is_lloyds_algorithm():
    vectors = blobs(torch.randn(8, WIDTH, generator=generator(5)) * 2, 40, 0.8)
    start = k_means(vectors, 6, generator(6), iterations=0)
    assert all((vectors == centre).all(1).any() for centre in start)
    reference = KMeans(6, init=start.numpy(), n_init=1, max_iter=5, tol=0, algorithm="lloyd").fit(
        vectors.numpy()
    )
    ours = k_means(vectors, 6, generator(6), iterations=5)
    np.testing.assert_allclose(ours.numpy(), reference.cluster_centers_, atol=1e-4)


def test_k_means_never_gets_worse():
    vectors = torch.randn(500, WIDTH, generator=generator(7))
    course = [inertia(vectors, k_means(vectors, 12, generator(8), iterations)) for iterations in range(8)]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(course))
    assert course[-1] < 0.9 * course[0]


@pytest.mark.parametrize("seed", range(5))
def test_k_means_finds_two_clusters_far_apart(seed):
    truth = torch.stack((torch.full((WIDTH,), -5.0), torch.full((WIDTH,), 5.0)))
    centres = k_means(blobs(truth, 100, 0.5), 2, generator(seed))
    np.testing.assert_allclose(np.sort(centres.numpy(), axis=0), truth.numpy(), atol=0.25)


def test_k_means_repeats_vectors_where_there_are_too_few():
    vectors = torch.randn(3, WIDTH, generator=generator(9))
    centres = k_means(vectors, 7, generator())
    distances = squared_distances(centres.numpy(), vectors.numpy())
    assert distances.min(1).max() < 1e-9
    assert set(distances.argmin(1)) == {0, 1, 2}


def test_a_start_from_data_is_where_its_own_features_keep_it(codebook):
    vectors = torch.randn(300, WIDTH, generator=generator(10))
    codebook.start_from(vectors, 25.0, generator(11))
    start = codebook.codes.clone()
    assert inertia(vectors, start) < inertia(vectors, vectors[:CODES])
    assert (codebook.average_count == 25).all()
    indices = torch.arange(CODES).view(1, 4, 6)
    codebook.update(codebook.lookup(indices), indices, 0.99)
    torch.testing.assert_close(codebook.codes, start, atol=1e-4, rtol=1e-4)


def test_only_dead_codes_are_revived(codebook, features):
    codebook.average_count.fill_(2.0)
    dead = torch.tensor([3, 11, 20])
    codebook.average_count[dead] = 0.4
    before = {name: buffer.clone() for name, buffer in codebook.state_dict().items()}
    vectors = flatten_features(features)
    codebook.revive(vectors, 0.5, generator(12))
    alive = torch.ones(CODES, dtype=torch.bool)
    alive[dead] = False
    for name, buffer in codebook.state_dict().items():
        assert torch.equal(buffer[alive], before[name][alive]), name
    for code in dead:
        assert (vectors == codebook.codes[code]).all(1).any()
        assert not torch.equal(codebook.codes[code], before["codes"][code])
    assert torch.equal(codebook.average_sum[dead], codebook.codes[dead] * codebook.average_count[dead, None])
    assert (codebook.average_count[dead] >= 0.5).all()
    assert len(codebook.codes[dead].unique(dim=0)) == len(dead)


def test_features_are_flattened_position_by_position(features):
    rows = flatten_features(features)
    for row, (n, i, j) in enumerate(np.ndindex(3, 5, 7)):
        assert torch.equal(rows[row], features[n, :, i, j])


def assert_measured(book: Codebook) -> None:
    np.testing.assert_allclose(book.spread()[:, 0, 0], book.codes.double().numpy().std(0), rtol=1e-5)


def test_the_spread_follows_the_codes(codebook, features):
    fresh = Codebook(CODES, WIDTH)
    assert_measured(fresh)
    holder = torch.nn.ModuleList([fresh])
    assert "0.unit" not in holder.state_dict()
    holder.load_state_dict({f"0.{name}": 3 * value for name, value in codebook.state_dict().items()})
    assert_measured(fresh)
    assert_measured(copy.deepcopy(fresh))
    assert fresh.double().spread().dtype == torch.float64
    vectors = 5 * flatten_features(features)
    for change in (
        lambda: codebook.start_from(vectors, 25.0, generator()),
        lambda: codebook.update(7 * features, codebook(features).indices, 0.5),
        lambda: codebook.revive(3 * vectors, 1e6, generator()),
    ):
        before = codebook.spread().clone()
        change()
        assert not torch.allclose(codebook.spread(), before)
        assert_measured(codebook)


def test_the_spread_is_the_codes_standard_deviation(codebook):
    assert_measured(codebook)
    codebook.codes[:, 2] = 0.5
    codebook.measure()
    assert 0 < codebook.spread()[2] <= 1e-4, "nothing is divided by zero"


@pytest.fixture
def product() -> ProductCodebook:
    book = ProductCodebook(CODES, WIDTH, groups=3)
    for seed, part in enumerate(book.parts):
        part.codes.copy_(torch.randn(CODES, WIDTH // 3, generator=generator(seed)))
        part.measure()
    return book


def test_each_group_of_dimensions_becomes_its_own_nearest_code(product, features):
    quantized = product(features)
    assert quantized.indices.shape == (3, 3, 5, 7)
    for group, part in enumerate(product.parts):
        dimensions = slice(2 * group, 2 * group + 2)
        expected = nearest_by_brute_force(features[:, dimensions], part.codes)
        np.testing.assert_array_equal(quantized.indices[:, group].numpy(), expected)
        codes = part.codes.numpy()[expected].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(quantized.features[:, dimensions].numpy(), codes, atol=1e-6)
        np.testing.assert_array_equal(product.lookup(quantized.indices)[:, dimensions].numpy(), codes)


@pytest.mark.parametrize("search", [nearest_in_pieces, nearest_at_once])
def test_both_searches_find_the_nearest_code_of_each_group(product, search):
    parts = [torch.randn(700, WIDTH // 3, generator=generator(20 + group)) for group in range(3)]
    found = search(parts, product.grouped())
    for part, codes, indices in zip(parts, product.grouped(), found, strict=True):
        np.testing.assert_array_equal(indices, squared_distances(part.numpy(), codes.numpy()).argmin(1))


def test_a_product_codebook_hands_out_its_books_with_their_parts(product, features):
    indices = product(features).indices
    books = product.books(features, indices)
    assert [book for book, _, _ in books] == list(product.parts)
    assert torch.equal(torch.cat([part for _, part, _ in books], 1), features)
    assert torch.equal(torch.stack([part for _, _, part in books], 1), indices)
    expected = np.concatenate([part.codes.numpy().std(0) for part in product.parts])
    np.testing.assert_allclose(product.spread()[:, 0, 0], expected, rtol=1e-5)


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match="6 channels do not divide into 4 groups"):
        ProductCodebook(CODES, WIDTH, groups=4)


def test_codes_keep_their_precision_whatever_that_of_the_features():
    book = Codebook(8, 4)
    features = torch.randn(2, 4, 5, 5).bfloat16()
    quantized = book(features)
    torch.testing.assert_close(quantized.features, book.lookup(quantized.indices))
