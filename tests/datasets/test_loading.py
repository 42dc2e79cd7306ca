from itertools import chain, islice

import numpy as np
import pytest
import torch
from PIL import Image

from subspect.datasets.loading import StepSampler, TrainingImages
from subspect.datasets.table import Sample
from subspect.images import ImageError
from subspect.sizes import resize


def prepare(picture: np.ndarray) -> torch.Tensor:
    return resize(torch.from_numpy(picture).permute(2, 0, 1), (6, 5), antialias=False)


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    mask = np.zeros((12, 10), dtype=np.uint8)
    mask[4:8, 2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    kinds = [("good", ()), ("dent", (tmp_path / "mask.png",)), ("good", ()), ("good", ())]
    return [Sample(tmp_path / f"{i}.png", "train", "a", *kind) for i, kind in enumerate(kinds)]


@pytest.mark.parametrize("cache_limit", [0, 4 * 1024**3], ids=["read anew", "in memory"])
def test_images_and_masks(samples, cache_limit):
    images = TrainingImages(samples, prepare, (6, 5), cache_limit)
    assert len(images) == 4
    assert images.normal_indices == (0, 2, 3)
    assert images.anomalous_indices == (1,)
    for index, sample in enumerate(samples):
        image, mask = images[index]
        assert image.dtype == mask.dtype == torch.float32
        stored = np.asarray(Image.open(sample.path)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.numpy(), stored, atol=2**-11)  # float16 has 11 bits
        expected = np.zeros((1, 6, 5))
        if index == 1:
            expected[0, 2:4, 1:3] = 1  # half of 4:8 and 2:6
        np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("spot", [(0, 0), (101, 37), (130, 254), (255, 255)])
def test_a_defect_of_one_pixel_does_not_vanish(tmp_path, spot):
    mask = np.zeros((256, 256), np.uint8)
    mask[spot] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.new("RGB", (256, 256)).save(tmp_path / "image.png")
    sample = Sample(tmp_path / "image.png", "train", "a", "dent", (tmp_path / "mask.png",))
    images = TrainingImages([sample], lambda picture: torch.zeros(3, 64, 64), (64, 64))
    expected = np.zeros((1, 64, 64))
    expected[0, spot[0] // 4, spot[1] // 4] = 1
    np.testing.assert_array_equal(images[0][1].numpy(), expected)


@pytest.mark.parametrize("cache_limit", [0, 4 * 1024**3], ids=["read anew", "in memory"])
def test_a_batch_is_its_images(samples, cache_limit):
    images = TrainingImages(samples, prepare, (6, 5), cache_limit)
    order = [2, 1, 1, 0]
    batch, masks = images.batch(order)
    assert (batch.dtype, masks.dtype) == (torch.float16, torch.bool)
    for place, index in enumerate(order):
        image, mask = images[index]
        assert torch.equal(batch[place].float(), image)
        assert torch.equal(masks[place].float(), mask)


def test_masks_are_read_once(samples):
    images = TrainingImages(samples, prepare, (6, 5))
    first = images[1][1]
    samples[1].mask_paths[0].unlink()
    assert torch.equal(images[1][1], first)
    assert first.any()


def test_memory_changes_no_result(samples):
    cached, anew = (TrainingImages(samples, prepare, (6, 5), limit) for limit in (10**9, 0))
    for index in range(4):
        assert torch.equal(cached[index][0], anew[index][0])


def test_what_fits_is_read_once_and_what_does_not_is_read_anew(samples):
    needed = 4 * 3 * 6 * 5 * 2  # images, channels, height, width, bytes
    for limit, survives in [(needed, True), (needed - 1, False)]:
        for sample in samples:
            Image.new("RGB", (5, 6)).save(sample.path)
        images = TrainingImages(samples, prepare, (6, 5), limit)
        samples[0].path.unlink()
        if survives:
            assert images[0][0].sum() == 0
        else:
            with pytest.raises(ImageError, match="no such file"):
                images[0]


def test_anomalous_images_to_learn_from_need_masks(samples, tmp_path):
    unannotated = [Sample(tmp_path / name, "train", "a", "dent") for name in ("u.png", "v.png")]
    with pytest.raises(ValueError, match=r"without a mask: .*u\.png, .*v\.png"):
        TrainingImages([*samples, *unannotated], prepare, (6, 5))


@pytest.mark.parametrize("start", [1, 7, 39])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(start):
    whole = list(StepSampler(10, 4, 40, seed=3))
    resumed = StepSampler(10, 4, 40, seed=3, start_step=start)
    assert list(resumed) == whole[start:]
    assert list(resumed) == whole[start:]  # also when iterated again
    assert len(resumed) == len(whole) == 40


def test_every_epoch_covers_every_image_once():
    order = list(chain.from_iterable(StepSampler(10, 4, 25, seed=0)))
    epochs = [order[first : first + 10] for first in range(0, 100, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10  # each in another order


def test_the_order_depends_on_the_seed():
    assert list(StepSampler(10, 4, 5, seed=0)) != list(StepSampler(10, 4, 5, seed=1))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batch_of_a_single_one(world_size):
    single = list(StepSampler(24, 2 * world_size, 20, seed=5))
    shared = zip(
        *(StepSampler(24, 2, 20, seed=5, rank=rank, world_size=world_size) for rank in range(world_size)),
        strict=True,
    )
    for together, alone in zip(shared, single, strict=True):
        assert list(chain.from_iterable(together)) == alone
        assert len(set(alone)) == len(
            alone
        )  # 24 divides: no batch reaches over an epoch, so ranks are disjoint


def test_a_batch_may_be_larger_than_the_data_set():
    batch = next(islice(StepSampler(3, 8, 1, seed=0), 1))
    assert sorted(batch[:6]) == [0, 0, 1, 1, 2, 2]
    assert len(batch) == 8


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        StepSampler(0, 4, 10, seed=0)
