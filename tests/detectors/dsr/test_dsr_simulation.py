"""Where simulated latent anomalies are, and which codes they hold, in a small latent model."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from subspect.codes import flatten_features
from subspect.detectors.dsr.config import LatentConfig, SimulationConfig
from subspect.detectors.dsr.latent_model import DiscreteLatentModel, Latents
from subspect.detectors.dsr.quantizer import Codebook
from subspect.detectors.dsr.simulation import AnomalousLatents, LatentSimulator

NUMBER, HEIGHT, WIDTH, CODES = 24, 64, 96, 32
NEAREST = 3  # of 32 codes at the share 0.1


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def images() -> Tensor:
    return torch.rand(NUMBER, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(images: Tensor) -> DiscreteLatentModel:
    """Random weights, with codes taken from the features, so that many codes are in use."""
    torch.manual_seed(1)
    model = DiscreteLatentModel(LatentConfig(width=8, residual_width=4, codes=CODES)).eval()
    model.low_upsampler.weight.mul_(8)  # so that low anomalies reach the high level
    settle(model.low_codebook, model.encode(images).low)
    settle(model.high_codebook, model.encode(images).high)
    return model


def settle(codebook: Codebook, features: Tensor) -> None:
    vectors = flatten_features(features)
    spread = vectors.std(0) * torch.randn(CODES, vectors.shape[1])
    codebook.codes.copy_(vectors[torch.randperm(len(vectors))[:CODES]] + spread)


@pytest.fixture
def mask() -> Tensor:
    """Sparse, so that most marked 8-px cells hold unmarked 4-px cells; every sixth image is normal."""
    mask = (torch.rand(NUMBER, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2)) < 0.005).float()
    mask[::6] = 0
    return mask


def cells(mask: Tensor, side: int) -> np.ndarray:
    """(N, H/side, W/side), whether any pixel of a cell is marked."""
    pixels = mask[:, 0].numpy().reshape(NUMBER, HEIGHT // side, side, WIDTH // side, side)
    return pixels.any((2, 4))


def enlarged(grid: np.ndarray, side: int) -> np.ndarray:
    return np.kron(grid, np.ones((side, side)))


def distance_rank(codebook: Codebook, codes: Tensor, vectors: Tensor) -> np.ndarray:
    """By brute force: how many codes are nearer to each vector (M, D) than the given code (M, D)."""
    distances = ((vectors.double()[:, None] - codebook.codes.double()[None]) ** 2).sum(2)
    own = ((vectors.double() - codes.double()) ** 2).sum(1, keepdim=True)
    return (distances < own - 1e-9).sum(1).numpy()


def at(features: Tensor, image: int, where: np.ndarray) -> Tensor:
    """The features (M, D) of an image at the marked positions (h, w)."""
    return features[image][:, torch.from_numpy(where)].T


def simulate(
    model: DiscreteLatentModel, images: Tensor, mask: Tensor, **settings
) -> tuple[Latents, AnomalousLatents]:
    latents = model.encode(images)
    simulator = LatentSimulator(model, SimulationConfig(nearest_share=0.1, **settings))
    painted = simulator.choose_painted(mask.flatten(1).any(1), torch.Generator().manual_seed(4))
    return latents, simulator(images, latents, mask, painted, torch.Generator().manual_seed(3))


def changed(after: Tensor, before: Tensor) -> np.ndarray:
    return ((after - before).abs() > 1e-5).any(1).numpy()


@pytest.mark.parametrize("sampling", ["table", "exact", "uniform"])
def test_anomalies_are_under_the_mask_on_the_levels_that_the_marked_grid_tells(model, images, mask, sampling):
    latents, anomalous = simulate(model, images, mask, sampling=sampling)
    low_cells, high_cells = cells(mask, 8), cells(mask, 4)
    on_low_grid, on_high_grid = enlarged(low_cells, 8), enlarged(high_cells, 4)
    low_changed = changed(anomalous.low.features, latents.quantized_low.features)
    high_changed = changed(anomalous.high.features, latents.quantized_high.features)
    followed = model.high_codebook(model.high_features(latents.encoded, anomalous.low.features)).features
    beyond_followed = changed(anomalous.high.features, followed)
    assert not (low_changed & ~low_cells).any()

    seen = {"both": 0, "low": 0, "high": 0}
    ripples = 0
    for image in range(NUMBER):
        marked = anomalous.mask[image, 0].numpy()
        if not mask[image].any():
            assert not any(grid[image].any() for grid in (low_changed, high_changed, anomalous.mask.numpy()))
        elif not low_changed[image].any():
            seen["high"] += 1
            np.testing.assert_array_equal(marked, on_high_grid[image])
            assert high_changed[image].any()
            assert not (high_changed[image] & ~high_cells[image]).any()
        elif not high_changed[image].any():
            seen["low"] += 1
            np.testing.assert_array_equal(marked, on_low_grid[image])
        else:
            seen["both"] += 1
            np.testing.assert_array_equal(marked, on_low_grid[image])
            # Outside the mask the high level is what follows from the changed low one.
            assert not (beyond_followed[image] & ~high_cells[image]).any()
            assert beyond_followed[image].any()
            ripples += int((high_changed[image] & ~high_cells[image]).sum())
    assert min(seen.values()) > 0
    assert ripples > 0


@pytest.mark.parametrize("sampling", ["table", "exact"])
def test_every_marked_position_gets_a_code_beyond_the_nearest(model, images, mask, sampling):
    latents, anomalous = simulate(model, images, mask, sampling=sampling)
    low_cells, high_cells = cells(mask, 8), cells(mask, 4)
    low_start, high_features = latents.quantized_low.features, latents.high
    low_from = latents.low if sampling == "exact" else low_start
    checked = 0
    for image in range(NUMBER):
        if changed(anomalous.low.features, low_start)[image].any():
            codes = at(anomalous.low.features, image, low_cells[image])
            vectors = at(low_from, image, low_cells[image])
            ranks = distance_rank(model.low_codebook, codes, vectors)
            assert (ranks >= NEAREST).all()
            checked += len(ranks)
        elif mask[image].any():  # high only
            vectors = high_features if sampling == "exact" else latents.quantized_high.features
            codes = at(anomalous.high.features, image, high_cells[image])
            ranks = distance_rank(model.high_codebook, codes, at(vectors, image, high_cells[image]))
            assert (ranks >= NEAREST).all()
            checked += len(ranks)
    assert checked > 200


def test_the_exact_form_measures_the_high_level_from_what_follows_from_the_low(model, images, mask):
    latents, anomalous = simulate(model, images, mask, sampling="exact")
    remade = model.high_features(latents.encoded, anomalous.low.features)
    both = changed(anomalous.low.features, latents.quantized_low.features).any((1, 2)) & changed(
        anomalous.high.features, latents.quantized_high.features
    ).any((1, 2))
    from_remade, from_original = [], []
    for image in both.nonzero()[0]:
        where = cells(mask, 4)[image]
        codes = at(anomalous.high.features, image, where)
        from_remade.append(distance_rank(model.high_codebook, codes, at(remade, image, where)))
        from_original.append(distance_rank(model.high_codebook, codes, at(latents.high, image, where)))
    assert (np.concatenate(from_remade) >= NEAREST).all()
    assert (np.concatenate(from_original) < NEAREST).any()


def test_all_values_are_codes(model, images, mask):
    _, anomalous = simulate(model, images, mask, sampling="table")
    for level, codebook in ((anomalous.low, model.low_codebook), (anomalous.high, model.high_codebook)):
        vectors = flatten_features(level.features)
        assert torch.equal(codebook.lookup(level.indices), level.features)
        assert torch.cdist(vectors.double(), codebook.codes.double()).amin(1).max() < 1e-6


def test_anomalies_in_the_image_are_painted_and_encoded(model, images, mask, monkeypatch):
    painted = 1 - images

    def paint(given: Tensor, where: Tensor, generator: torch.Generator, fills: tuple[str, ...]) -> Tensor:
        assert torch.equal(given, images)
        assert fills == ("gain",)
        return torch.lerp(given, painted, where)

    monkeypatch.setattr("subspect.detectors.dsr.simulation.paint", paint)
    latents, anomalous = simulate(model, images, mask, image_share=1.0, fills=("gain",))
    expected = model.encode(torch.lerp(images, painted, mask))
    # A batch of another size rounds otherwise, which turns a few near ties among codes.
    for ours, theirs in ((anomalous.low, expected.quantized_low), (anomalous.high, expected.quantized_high)):
        assert changed(ours.features, theirs.features).mean() < 2e-3
    assert torch.equal(anomalous.mask, mask)
    assert changed(anomalous.high.features, latents.quantized_high.features).any()


def test_each_image_has_anomalies_of_one_origin(model, images, mask):
    latents, anomalous = simulate(model, images, mask, image_share=0.5)
    exact = (anomalous.mask == mask).flatten(1).all(1)  # latent ones are marked by whole cells
    defective = mask.flatten(1).any(1)
    assert 3 < int((exact & defective).sum()) < int(defective.sum()) - 3
    normal = ~defective
    kept = latents.quantized_high.features[normal]
    assert changed(anomalous.high.features[normal], kept).mean() < 2e-3  # near ties, see above
    assert not anomalous.mask[normal].any()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_images_with_anomalies_is_painted(model, share):
    anomalous = torch.arange(3000) % 3 > 0
    simulator = LatentSimulator(model, SimulationConfig(image_share=share))
    painted = simulator.choose_painted(anomalous, torch.Generator().manual_seed(0))
    assert anomalous[painted].all()
    assert len(painted.unique()) == len(painted)
    assert stats.binomtest(len(painted), 2000, share).pvalue > 1e-4


def test_latents_are_an_eighth_and_a_quarter_of_the_image_and_decode_to_its_size(model, images):
    latents = model.encode(images)
    assert latents.low.shape == (NUMBER, 8, HEIGHT // 8, WIDTH // 8)
    assert latents.high.shape == (NUMBER, 8, HEIGHT // 4, WIDTH // 4)
    joined = model.join(latents.quantized_low.features, latents.quantized_high.features)
    torch.testing.assert_close(joined[:, 8:], latents.quantized_high.features)
    torch.testing.assert_close(joined[:, :8], model.low_upsampler(latents.quantized_low.features))
    assert model(images).shape == images.shape
    torch.testing.assert_close(model(images), model.decoder(joined))


@pytest.mark.parametrize(
    "settings", [{"nearest_share": 1.0}, {"nearest_share": -0.1}, {"minimum_strength": 1.0}]
)
def test_shares_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match="nearest_share and minimum_strength"):
        SimulationConfig(**settings)


@pytest.mark.parametrize(
    "name", ["image_share", "normal_share", "rotation_share", "smudge_rotation_share", "annotated_share"]
)
def test_shares_of_images_and_of_batches_are_those_of_a_whole(name):
    for share in (0.0, 1.0):
        assert getattr(SimulationConfig(**{name: share}), name) == share
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"{name} lies in \[0, 1\], got {share}"):
            SimulationConfig(**{name: share})


@pytest.mark.parametrize("settings", [{"shapes": ()}, {"fills": ()}])
def test_anomalies_need_a_shape_and_a_fill(settings):
    with pytest.raises(ValueError, match="at least one shape and one fill"):
        SimulationConfig(**settings)
