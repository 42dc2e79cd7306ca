"""Random crops of pictures whose pixels tell where they come from."""

import csv
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from subspect.datasets.crops import (
    Crops,
    NumberSampler,
    check_readable,
    crop_loader,
    held_out_text,
    read_byte_image,
    split_held_out,
)
from subspect.images import ImageError


@pytest.fixture
def plain(tmp_path):
    """Pictures of one grey value each."""
    paths = [tmp_path / f"plain{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        Image.new("RGB", (12 + index, 10), (40 * index,) * 3).save(path)
    return paths


@pytest.fixture
def ramp(tmp_path):
    """Red is the column, green the row, blue 0; 80 rows, 120 columns."""
    rows, columns = np.indices((80, 120), dtype=np.uint8)
    Image.fromarray(np.stack((columns, rows, 0 * rows), 2)).save(tmp_path / "ramp.png")
    return [tmp_path / "ramp.png"]


@pytest.fixture
def noise(tmp_path):
    paths = [tmp_path / f"noise{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def test_a_crop_is_a_function_of_its_number_and_the_seed(noise):
    kept = Crops(noise, 8, seed=1)
    first = {number: kept[number] for number in (0, 7, 3, 20)}
    for crops in (kept, Crops(noise, 8, seed=1, memory_limit=0)):
        for number in reversed(first):
            assert torch.equal(crops[number], first[number])
    other = Crops(noise, 8, seed=2)
    assert not any(torch.equal(other[number], first[number]) for number in first)
    assert len({first[number].numpy().tobytes() for number in first}) == 4


def test_each_run_visits_every_picture_once_in_an_order_of_its_own(plain):
    crops = Crops(plain, 4, seed=0)
    runs = [[round(float(crops[5 * run + place].mean() * 255 / 40)) for place in range(5)] for run in range(8)]
    assert all(sorted(run) == list(range(5)) for run in runs)
    assert len({tuple(run) for run in runs}) > 4


def test_pictures_are_kept_only_within_the_memory_limit(plain):
    needed = sum(3 * 10 * (12 + index) for index in range(5))
    whole, tight = Crops(plain, 4, 0, memory_limit=needed), Crops(plain, 4, 0, memory_limit=needed - 1)
    before = [whole[number] for number in range(5)]
    assert all(torch.equal(tight[number], before[number]) for number in range(5))
    for path in plain:
        path.unlink()
    assert all(torch.equal(whole[number], before[number]) for number in range(5))
    with pytest.raises(ImageError, match="no such file"):
        [tight[number] for number in range(5)]


def test_crops_are_squares_of_a_quarter_to_all_of_the_picture_flipped_half_the_time(ramp):
    crops = Crops(ramp, 16, seed=3, grey_share=0.0)
    areas, flips = [], 0
    for number in range(1200):
        crop = crops[number]
        red, green, blue = crop * 255
        # Away from the edges a ramp stays a ramp under resizing; its slope is the crop's scale.
        across, down = (red[8, 12] - red[8, 4]) / 8, (green[12, 8] - green[4, 8]) / 8
        assert abs(across) == pytest.approx(float(down), abs=1e-3)
        assert blue.abs().max() == 0
        flips += bool(across < 0)
        areas.append((float(down) * 16 / 80) ** 2)
    assert stats.binomtest(flips, 1200, 0.5).pvalue > 1e-4
    assert min(areas) >= 0.24
    assert max(areas) <= 1.01
    assert stats.kstest(areas, stats.uniform(0.25, 0.75).cdf).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_crops_is_grey(noise, share):
    crops = Crops(noise, 8, seed=4, grey_share=share)
    coloured = Crops(noise, 8, seed=4, grey_share=0.0)
    count = 0
    for number in range(200):
        crop, expected = crops[number], coloured[number]
        assert crop.shape == (3, 8, 8)
        assert crop.min() >= 0
        assert crop.max() <= 1 + 1e-6
        if torch.equal(crop[0], crop[1]):
            count += 1
            expected = expected.mean(0, keepdim=True).expand(3, -1, -1)
        torch.testing.assert_close(crop, expected)
    assert stats.binomtest(count, 200, share).pvalue > 1e-4


def test_crops_cut_by_other_processes_are_the_same(noise):
    def batches(device):
        loader = crop_loader(Crops(noise, 16, seed=3), NumberSampler(2, 5, start_step=2), torch.device(device))
        return list(loader)

    beside, here = batches("meta"), batches("cpu")  # whatever is no CPU is fed by other processes
    assert len(here) == 3
    assert all(torch.equal(one, other) for one, other in zip(beside, here, strict=True))


def test_batches_are_consecutive_numbers():
    sampler = NumberSampler(4, 3)
    assert list(sampler) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert len(sampler) == 3


def test_batches_resume_where_they_were_left():
    assert list(NumberSampler(4, 10, start_step=6)) == list(islice(NumberSampler(4, 10), 6, None))
    assert list(NumberSampler(4, 10, start_step=10)) == []


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_a_batch(world_size):
    shares = [list(NumberSampler(8, 5, 2, rank, world_size)) for rank in range(world_size)]
    for step, parts in enumerate(zip(*shares, strict=True), start=2):
        assert {len(part) for part in parts} == {8 // world_size}
        assert sorted(chain.from_iterable(parts)) == list(range(8 * step, 8 * step + 8))


def test_bytes_are_read_as_stored(noise):
    np.testing.assert_array_equal(
        read_byte_image(noise[1]).permute(1, 2, 0).numpy(), np.asarray(Image.open(noise[1]))
    )


def test_all_unreadable_pictures_are_named(noise, tmp_path):
    check_readable(noise)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(noise[0].read_bytes()[:200])
    with pytest.raises(ImageError, match="2 pictures cannot be read") as error:
        check_readable([*noise, tmp_path / "text.png", tmp_path / "cut.png"])
    named = [
        name for name in ("text.png", "cut.png", *(path.name for path in noise)) if name in str(error.value)
    ]
    assert named == ["text.png", "cut.png"]


def test_held_out_pictures_are_apart_from_the_others(tmp_path):
    paths = [tmp_path / str(index) for index in range(40)]
    trained, judged = split_held_out(paths, 0.1, seed=0)
    assert len(judged) == 4
    assert sorted(trained + judged) == sorted(paths)
    assert split_held_out(paths, 0.1, seed=0) == (trained, judged)
    assert split_held_out(paths, 0.1, seed=1)[1] != judged
    assert [len(part) for part in split_held_out(paths[:2], 0.01, seed=0)] == [1, 1]
    with pytest.raises(ImageError, match="at least two pictures"):
        split_held_out(paths[:1], 0.1, seed=0)


def test_the_split_can_be_read_whatever_the_pictures_are_called():
    names = ["plain.png", "with, comma.png", 'with "quotes".png']
    text = held_out_text([Path(name) for name in names], [Path("judged.png")])
    read = [*csv.reader(text.splitlines())]
    assert read == [["path", "split"], *([name, "train"] for name in names), ["judged.png", "held_out"]]
    assert text.splitlines()[1] == "plain.png,train", "as earlier versions wrote it: their runs go on"
