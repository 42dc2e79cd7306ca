import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subspect.datasets.checks import check_table, usable
from subspect.datasets.table import Sample, Table
from subspect.images import ImageError


def save(path: Path, height: int = 8, width: int = 10, mode: str = "L", seed: int = 0) -> Path:
    """Writes noise, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def table_of(root: Path, *samples: Sample) -> Table:
    return Table(samples, "folder", root)


@pytest.fixture
def good(tmp_path) -> list[Sample]:
    """Three sound normal images to train on and one to test on."""
    paths = [save(tmp_path / f"{seed}.png", seed=seed) for seed in range(4)]
    return [Sample(path, "test" if i == 3 else "train", "bolts") for i, path in enumerate(paths)]


def break_in_every_way(root: Path) -> dict[Path, str]:
    """Broken files, and what is wrong with each."""
    truncated, text, empty, bomb = (root / f"{n}.png" for n in ("truncated", "text", "empty", "bomb"))
    save(truncated).write_bytes(truncated.read_bytes()[:-60])
    text.write_text("not a picture")
    empty.write_bytes(b"")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0\0\0\0")
    return {
        truncated: "truncated",
        text: "not an image",
        empty: "the file is empty",
        bomb: "200 megapixels",
        root / "gone.png": "no such file",
    }


def test_a_sound_data_set(tmp_path, good):
    defective = save(tmp_path / "bad.png", 20, 30, "RGB")
    mask = save(tmp_path / "mask.png", 20, 30)
    report = check_table(table_of(tmp_path, *good, Sample(defective, "test", "bolts", "dent", (mask,))))
    assert report.trainable
    assert report.errors == report.warnings == ()
    assert report.sizes == {(8, 10): 4, (20, 30): 1}
    assert report.modes == {"L": 4, "RGB": 1}
    assert report.counts() == {("bolts", "good", "train"): 3, ("bolts", "good", "test"): 1} | {
        ("bolts", "dent", "test"): 1
    }
    text = report.render()
    assert "| bolts    | dent   |       |    1 |" in text
    assert "| bolts    | good   |     3 |    1 |" in text
    assert "8x10 (4), 20x30 (1)" in text
    assert "L (4), RGB (1)" in text
    assert text.endswith("training would start")


def test_many_sizes_are_summed_up(tmp_path):
    sizes = [(4, 10), (5, 11), (6, 12), (7, 13), (8, 14), (90, 15)]
    paths = [save(tmp_path / f"{height}.png", height, width) for height, width in sizes]
    text = check_table(table_of(tmp_path, *(Sample(path, "train", "bolts") for path in paths))).render()
    assert "height 4 to 90, median 6.5, width 10 to 15, median 12.5" in text


def test_every_unreadable_file_is_reported(tmp_path, good):
    broken = break_in_every_way(tmp_path)
    table = table_of(tmp_path, *good, *(Sample(path, "test", "bolts") for path in broken))
    report = check_table(table)
    assert not report.trainable
    found = {problem.path: problem.what for problem in report.errors}
    assert found.keys() == broken.keys()
    assert all(broken[path] in what for path, what in found.items())
    assert all(f"{path}: {what}" in report.render() for path, what in found.items())
    assert report.render().endswith("training would not start")


def test_unusable_files_stop_everything_in_one_error(tmp_path, good):
    broken = break_in_every_way(tmp_path)
    table = table_of(tmp_path, *good, *(Sample(path, "train", "bolts") for path in broken))
    with pytest.raises(ImageError, match="5 files cannot be used") as error:
        usable(table, skip_unreadable=False)
    assert all(str(path) in str(error.value) for path in broken)
    assert "--skip-unreadable" in str(error.value)


def test_unusable_files_are_left_out_and_named(tmp_path, good, caplog):
    broken = break_in_every_way(tmp_path)
    table = table_of(tmp_path, *good, *(Sample(path, "train", "bolts") for path in broken))
    with caplog.at_level(logging.WARNING, "subspect"):
        assert usable(table, skip_unreadable=True).samples == tuple(good)
    assert "5 files" in caplog.text
    assert all(str(path) in caplog.text for path in broken)


def test_sound_files_pass_untouched(tmp_path, good):
    table = table_of(tmp_path, *good)
    assert usable(table, skip_unreadable=False) is table


def test_skipping_must_leave_normal_images_to_train_on(tmp_path, good):
    broken = Sample(tmp_path / "gone.png", "train", "nuts")
    with pytest.raises(ValueError, match="no normal training image of nuts"):
        usable(table_of(tmp_path, *good, broken), skip_unreadable=True)


def test_masks_of_another_size_or_unreadable(tmp_path, good):
    image = save(tmp_path / "bad.png", seed=9)
    small, text = save(tmp_path / "small.png", 4, 5), tmp_path / "text.png"
    text.write_text("not a mask")
    samples = [
        Sample(image, "test", "bolts", "dent", (small,)),
        Sample(save(tmp_path / "bad2.png", seed=10), "test", "bolts", "dent", (text,)),
    ]
    table = table_of(tmp_path, *good, *samples)
    report = check_table(table)
    assert [problem.path for problem in report.errors] == [small, text]
    assert "the mask is 4x5, its image 8x10" in report.errors[0].what
    assert not report.trainable
    with pytest.raises(ImageError, match=r"2 files cannot be used(.|\n)*small\.png(.|\n)*text\.png"):
        usable(table, skip_unreadable=False)
    assert usable(table, skip_unreadable=True).samples == tuple(good)


def test_missing_and_empty_masks_are_worth_a_look_but_stop_nothing(tmp_path, good):
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((8, 10), dtype=np.uint8)).save(empty)
    one, two = (save(tmp_path / f"bad{seed}.png", seed=seed) for seed in (7, 8))
    samples = [Sample(one, "test", "bolts", "dent"), Sample(two, "test", "bolts", "dent", (empty,))]
    report = check_table(table_of(tmp_path, *good, *samples))
    assert [problem.path for problem in report.warnings] == [one, empty]
    assert "no mask" in report.warnings[0].what
    assert "empty" in report.warnings[1].what
    assert report.trainable


def test_defects_whose_masks_mark_nothing_are_not_annotated(tmp_path, good, caplog):
    labels, sound = tmp_path / "labels.png", tmp_path / "sound.png"
    for path, value in ((labels, 1), (sound, 255)):
        Image.fromarray(np.full((8, 10), value, dtype=np.uint8)).save(path)
    one, two = (save(tmp_path / f"bad{seed}.png", seed=seed) for seed in (7, 8))
    samples = [
        Sample(one, "test", "bolts", "dent", (labels,)),
        Sample(two, "test", "bolts", "dent", (labels, sound)),
    ]
    table = usable(table_of(tmp_path, *good, *samples), skip_unreadable=False)
    assert [sample.mask_paths for sample in table.select(anomalous=True)] == [(), (sound,)]
    assert table.samples[: len(good)] == tuple(good)
    said = "the mask is empty: its values reach 1, and those above 127 are defective"
    assert f"1 masks mark nothing, so that their images count as not annotated: {labels}: {said}" in caplog.text


def test_duplicates_across_splits(tmp_path, good):
    copies = [tmp_path / "copy0.png", tmp_path / "copy1.png"]
    for copy in copies:
        copy.write_bytes(good[0].path.read_bytes())
    samples = [Sample(copies[0], "test", "bolts"), Sample(copies[1], "train", "bolts")]
    report = check_table(table_of(tmp_path, *good, *samples))
    assert [problem.path for problem in report.warnings] == [copies[0]]  # within a split it is no leak
    assert str(good[0].path) in report.warnings[0].what
    assert report.trainable
