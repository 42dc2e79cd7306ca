"""Tiles as training images: which parts of which pictures they are, and what of them is defective."""

import numpy as np
import pytest
import torch
from PIL import Image

from subspect.datasets.loading import TrainingImages
from subspect.datasets.table import Sample
from subspect.datasets.tiles import TrainingTiles, load_training_images
from subspect.detectors.uninformed_students.stages import split_normals
from subspect.tiling import Tiling

TILING = Tiling((16, 16), 4)
SIZE = (28, 40)  # two rows of tiles, at 0 and 12, and three columns, at 0, 12, 24
CORNERS = [(top, left) for top in (0, 12) for left in (0, 12, 24)]


def prepare(tile):
    assert tile.shape == (16, 16, 3)
    return torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


@pytest.fixture
def samples(tmp_path, pixels):
    for index, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{index}.png")
    mask = np.zeros(SIZE, np.uint8)
    mask[1, 13:15] = 255  # in the upper tiles of the first and the second column
    Image.fromarray(mask).save(tmp_path / "mask.png")
    normal = [Sample(tmp_path / f"{index}.png", "train", "a") for index in range(4)]
    return [
        *normal[:2],
        Sample(tmp_path / "4.png", "train", "a", "dent", (tmp_path / "mask.png",)),
        *normal[2:],
    ]


def test_each_tile_is_an_image(samples, pixels):
    images = load_training_images(samples, prepare, (16, 16), TILING)
    assert len(images) == 4 * 6 + 2
    assert images.anomalous_indices == (12, 13)
    assert len(images.normal_indices) == 24
    for index in images.normal_indices:
        number = (index if index < 12 else index - 2) // 6
        top, left = CORNERS[(index if index < 12 else index - 2) % 6]
        image, mask = images[index]
        expected = pixels[number, top : top + 16, left : left + 16].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.numpy(), expected, atol=2**-11)  # float16 has 11 bits
        assert image.dtype == mask.dtype == torch.float32
        assert mask.shape == (1, 16, 16)
        assert not mask.any()


def test_of_an_anomalous_picture_the_tiles_with_the_defect_are_learnt_from(samples, pixels):
    images = TrainingTiles(samples, prepare, (8, 8), TILING)
    for index, left in ((12, 0), (13, 12)):
        image, mask = images[index]
        expected = pixels[4, :16, left : left + 16].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.numpy(), expected, atol=2**-11)
        drawn = np.zeros((1, 8, 8))
        drawn[0, 0, [(13 - left) // 2, (14 - left) // 2]] = 1
        np.testing.assert_array_equal(mask.numpy(), drawn)


def test_tiles_that_do_not_fit_into_memory_are_drawn(samples):
    bytes_each = 3 * 16 * 16 * 2
    images = TrainingTiles(samples, prepare, (16, 16), TILING, cache_limit=5 * 3 * bytes_each)
    everything = TrainingTiles(samples, prepare, (16, 16), TILING)
    drawn = [image for image, _ in images]
    assert len(drawn) == 4 * 3 + 2
    known = {image.numpy().tobytes() for image, _ in everything}
    assert len({image.numpy().tobytes() for image in drawn} & known) == len(drawn)
    again = TrainingTiles(samples, prepare, (16, 16), TILING, cache_limit=5 * 3 * bytes_each)
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(images, again, strict=True))


def test_a_split_does_not_tear_a_picture_apart(samples):
    images = TrainingTiles(samples, prepare, (16, 16), TILING)
    parts = [{images.samples[i].path for i in subset.indices} for subset in split_normals(images, 0.3, seed=0)]
    assert parts[0].isdisjoint(parts[1])
    assert len(parts[0] | parts[1]) == 4


def test_without_tiles_pictures_are_whole(samples):
    images = load_training_images(samples, lambda picture: torch.zeros(3, 16, 16), (16, 16), None)
    assert type(images) is TrainingImages
    assert len(images) == 5


def test_anomalous_pictures_need_masks(samples, tmp_path):
    with pytest.raises(ValueError, match=r"without a mask: .*0\.png"):
        TrainingTiles([Sample(tmp_path / "0.png", "train", "a", "dent")], prepare, (16, 16), TILING)
