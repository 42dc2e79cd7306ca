import csv
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subspect.datasets import LAYOUTS, TREES, read_table
from subspect.datasets.magnetic_tile import read_magnetic_tile
from subspect.datasets.reading import LayoutError
from subspect.datasets.table import Table, hold_out_calibration, take_anomalies


def make(root: Path, *names: str, value: int = 100) -> None:
    """Writes small images of one grey value."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6), value, dtype=np.uint8)).save(root / name)


def rows(table: Table) -> set[tuple[str, str, str, str, tuple[str, ...]]]:
    """The table with paths relative to its root, for comparison."""

    def inside(path: Path) -> str:
        return path.relative_to(table.root).as_posix()

    return {
        (inside(s.path), s.split, s.category, s.defect, tuple(sorted(map(inside, s.mask_paths)))) for s in table
    }


def make_mvtec(root: Path) -> None:
    make(root, "cup/train/good/000.png", "cup/train/good/001.png", "cup/test/good/000.png")
    make(root, "cup/test/dent/000.png", "cup/ground_truth/dent/000_mask.png")
    make(root, "nut/train/good/000.JPG", "nut/test/bad/000.JPG", "nut/ground_truth/bad/000.png")


def test_mvtec_ad(tmp_path):
    make_mvtec(tmp_path)
    assert rows(read_table(tmp_path, "mvtec_ad")) == {
        ("cup/train/good/000.png", "train", "cup", "good", ()),
        ("cup/train/good/001.png", "train", "cup", "good", ()),
        ("cup/test/good/000.png", "test", "cup", "good", ()),
        ("cup/test/dent/000.png", "test", "cup", "dent", ("cup/ground_truth/dent/000_mask.png",)),
        ("nut/train/good/000.JPG", "train", "nut", "good", ()),
        ("nut/test/bad/000.JPG", "test", "nut", "bad", ("nut/ground_truth/bad/000.png",)),
    }


def test_one_category_of_mvtec_ad(tmp_path):
    make_mvtec(tmp_path)
    by_name = read_table(tmp_path, "mvtec_ad", category="cup")
    by_folder = read_table(tmp_path / "cup", "mvtec_ad")
    assert by_name.samples == by_folder.samples
    assert by_name.categories == ("cup",)
    with pytest.raises(ValueError, match=r"no category 'pan' .*cup, nut"):
        read_table(tmp_path, "mvtec_ad", category="pan")


def test_btad(tmp_path):
    make(tmp_path, "01/train/ok/0.bmp", "01/test/ok/0.bmp", "01/test/ko/0.bmp", "01/ground_truth/ko/0.png")
    assert rows(read_table(tmp_path, "btad")) == {
        ("01/train/ok/0.bmp", "train", "01", "good", ()),
        ("01/test/ok/0.bmp", "test", "01", "good", ()),
        ("01/test/ko/0.bmp", "test", "01", "ko", ("01/ground_truth/ko/0.png",)),
    }


def make_ksdd2(root: Path) -> None:
    make(root, "train/10000.png", "train/10001.png", "test/20000.png", "test/20001.png")
    make(root, "train/10000_GT.png", "test/20001_GT.png", value=0)
    make(root, "train/10001_GT.png", "test/20000_GT.png", value=255)


def test_ksdd2(tmp_path):
    make_ksdd2(tmp_path)
    assert rows(read_table(tmp_path, "ksdd2")) == {
        ("train/10000.png", "train", "ksdd2", "good", ()),
        ("train/10001.png", "train", "ksdd2", "defect", ("train/10001_GT.png",)),
        ("test/20000.png", "test", "ksdd2", "defect", ("test/20000_GT.png",)),
        ("test/20001.png", "test", "ksdd2", "good", ()),
    }


def test_ksdd2_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    make_ksdd2(tmp_path)
    (tmp_path / "split_weakly_16.pyb").write_bytes(pickle.dumps(Bomb()))
    read_table(tmp_path, "ksdd2")
    assert not (tmp_path / "exploded").exists()


def test_ksdd2_names_every_image_without_a_mask(tmp_path):
    make_ksdd2(tmp_path)
    make(tmp_path, "train/10002.png", "train/10003.png")
    with pytest.raises(LayoutError, match=r"2 images have no mask .*10002\.png.*10003\.png"):
        read_table(tmp_path, "ksdd2")


def make_visa(root: Path, **changes: str) -> None:
    lines = [
        {"object": "pcb1", "split": "train", "label": "normal", "image": "pcb1/Data/Images/Normal/0.JPG"},
        {"object": "pcb1", "split": "test", "label": "normal", "image": "pcb1/Data/Images/Normal/1.JPG"},
        {"object": "pcb1", "split": "test", "label": "anomaly", "image": "pcb1/Data/Images/Anomaly/0.JPG"},
        {"object": "cashew", "split": "train", "label": "normal", "image": "cashew/Data/Images/Normal/0.JPG"},
    ]
    lines[2]["mask"] = "pcb1/Data/Masks/Anomaly/0.png"
    lines[3].update(changes)
    make(root, *(line["image"] for line in lines[:3]))
    make(root, "pcb1/Data/Masks/Anomaly/0.png", value=1)
    (root / "split_csv").mkdir()
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["object", "split", "label", "image", "mask"])
        writer.writeheader()
        writer.writerows(lines)


def test_visa_without_the_categories_that_were_not_unpacked(tmp_path):
    make_visa(tmp_path)
    table = read_table(tmp_path, "visa")
    assert rows(table) == {
        ("pcb1/Data/Images/Normal/0.JPG", "train", "pcb1", "good", ()),
        ("pcb1/Data/Images/Normal/1.JPG", "test", "pcb1", "good", ()),
        ("pcb1/Data/Images/Anomaly/0.JPG", "test", "pcb1", "anomaly", ("pcb1/Data/Masks/Anomaly/0.png",)),
    }
    assert next(s for s in table if s.anomalous).mask_level == 0  # any kind of damage counts


def test_visa_with_an_unknown_split(tmp_path):
    make_visa(tmp_path, split="validation")
    with pytest.raises(LayoutError, match=r"1cls\.csv: split validation; expected train or test"):
        read_table(tmp_path, "visa")


def make_aitex(root: Path) -> None:
    for fabric in ("2306881-210020u", "2306894-210033u"):
        make(root, *(f"NoDefect_images/{fabric}/{number:04d}_000_00.png" for number in range(10)))
    make(root, *(f"Defect_images/{name}.png" for name in ("0001_002_00", "0097_030_03", "0100_025_08")))
    make(root, *(f"Mask_images/{name}.png" for name in ("0001_002_00_mask",)))
    make(root, *(f"Mask_images/{name}.png" for name in ("0097_030_03_mask1", "0097_030_03_mask2")))


def test_aitex(tmp_path):
    make_aitex(tmp_path)
    table = read_table(tmp_path, "aitex")
    assert rows(table.select(anomalous=True)) == {
        ("Defect_images/0001_002_00.png", "test", "aitex", "002", ("Mask_images/0001_002_00_mask.png",)),
        (
            "Defect_images/0097_030_03.png",
            "test",
            "aitex",
            "030",
            ("Mask_images/0097_030_03_mask1.png", "Mask_images/0097_030_03_mask2.png"),
        ),
        ("Defect_images/0100_025_08.png", "test", "aitex", "025", ()),
    }
    assert {s.mask_level for s in table if s.anomalous} == {127}
    tested = Counter(s.path.parent.name for s in table.select(split="test", anomalous=False))
    assert tested == {"2306881-210020u": 2, "2306894-210033u": 2}  # a fifth of each fabric


def test_a_folder_with_nothing_but_normal_images(tmp_path):
    make(tmp_path / "bolts", "10.png", "2.JPG", "monday/1.bmp")
    table = read_table(tmp_path / "bolts", "folder")
    assert [s.path.relative_to(table.root).as_posix() for s in table] == ["2.JPG", "10.png", "monday/1.bmp"]
    assert {(s.split, s.category, s.defect) for s in table} == {("train", "bolts", "good")}


@pytest.mark.parametrize("normal", ["normal", "good", "Good", "."])
@pytest.mark.parametrize("defective", ["defective", "bad", "anomalous"])
def test_a_folder_with_defective_images(tmp_path, normal, defective):
    make(tmp_path / normal, *(f"{number}.png" for number in range(10)))
    make(tmp_path / defective, "a.png", "b.jpg", "scratch/c.png", "scratch/d.png")
    make(tmp_path / "masks", "a.png", "b_mask.png", "b_mask2.png", "scratch/c_mask.png")
    table = read_table(tmp_path, "folder", seed=3)
    name = tmp_path.name
    assert rows(table.select(anomalous=True)) == {
        (f"{defective}/a.png", "test", name, "defective", ("masks/a.png",)),
        (f"{defective}/b.jpg", "test", name, "defective", ("masks/b_mask.png", "masks/b_mask2.png")),
        (f"{defective}/scratch/c.png", "test", name, "scratch", ("masks/scratch/c_mask.png",)),
        (f"{defective}/scratch/d.png", "test", name, "scratch", ()),
    }
    normals = table.select(anomalous=False)
    assert Counter(s.split for s in normals) == {"train": 8, "test": 2}
    assert {s.path for s in normals} == {tmp_path / normal / f"{number}.png" for number in range(10)}
    assert read_table(tmp_path, "folder", seed=3) == table
    others = [read_table(tmp_path, "folder", seed=seed).samples for seed in range(5)]
    assert any(other != table.samples for other in others)


@pytest.mark.parametrize("masks", ["masks", "Mask", "ground_truth"])
def test_masks_are_never_taken_for_normal_images(tmp_path, masks):
    make(tmp_path, "1.png", "2.png", "bad/3.png", f"{masks}/3.png")
    table = read_table(tmp_path, "folder")
    assert {s.path.name for s in table.select(anomalous=False)} == {"1.png", "2.png"}
    assert rows(table.select(anomalous=True)) == {
        ("bad/3.png", "test", tmp_path.name, "defective", (f"{masks}/3.png",))
    }


def test_a_mask_of_no_image(tmp_path):
    make(tmp_path, "good/1.png", "bad/1.png", "masks/_mask1.png")
    with pytest.raises(LayoutError, match=r"masks/_mask1\.png: a mask is named like its image"):
        read_table(tmp_path, "folder")


def test_the_last_normal_image_of_a_folder_stays_in_training(tmp_path):
    make(tmp_path, "normal/1.png", "bad/1.png")
    assert Counter((s.split, s.anomalous) for s in read_table(tmp_path, "folder")) == {
        ("train", False): 1,
        ("test", True): 1,
    }


def test_a_folder_with_images_that_belong_nowhere(tmp_path):
    make(tmp_path, "good/1.png", "scratch/1.png", "2.png")
    with pytest.raises(LayoutError, match=r"2 images are neither in good nor .*2\.png, .*scratch/1\.png"):
        read_table(tmp_path, "folder")


def test_a_folder_with_two_names_for_one_thing(tmp_path):
    make(tmp_path, "good/1.png", "normal/1.png")
    with pytest.raises(LayoutError, match="good, normal say the same"):
        read_table(tmp_path, "folder")


def test_a_mask_that_fits_two_images(tmp_path):
    make(tmp_path, "good/1.png", "bad/dent/1.png", "bad/stain/1.png", "masks/1.png")
    with pytest.raises(
        LayoutError, match=r"masks/1\.png: this mask fits both .*dent/1\.png and .*stain/1\.png"
    ):
        read_table(tmp_path, "folder")


def make_magnetic_tile(root: Path) -> None:
    numbers = [tile * 1000 + shot * 20 for tile in range(40) for shot in range(5 + tile % 3)]
    make(root, *(f"MT_Free/Imgs/exp1_num_{number}.jpg" for number in numbers))
    make(root, *(f"MT_Crack/Imgs/exp1_num_{number}.{e}" for number in (5, 25, 500) for e in ("jpg", "png")))
    make(root, *(f"MT_Break/Imgs/exp2_num_{number}.{e}" for number in (520, 800) for e in ("jpg", "png")))


def test_magnetic_tile_never_cuts_a_tile(tmp_path):
    make_magnetic_tile(tmp_path)
    table = read_table(tmp_path, "magnetic_tile")
    groups = [{s.group for s in table if not s.anomalous and number(s.path) // 1000 == t} for t in range(40)]
    assert all(len(group) == 1 for group in groups)
    normals = [s for s in table if not s.anomalous]
    assert {number(s.path): s.part for s in normals} == {
        number(s.path): f"tile {number(s.path) // 1000 * 1000}" for s in normals
    }
    defective = {number(s.path): (s.group, s.defect, s.mask_paths[0].name) for s in table if s.anomalous}
    assert defective == {
        5: ("tile 5", "crack", "exp1_num_5.png"),
        25: ("tile 5", "crack", "exp1_num_25.png"),
        500: ("tile 500", "crack", "exp1_num_500.png"),
        520: ("tile 500", "break", "exp2_num_520.png"),  # filed under another kind
        800: ("tile 800", "break", "exp2_num_800.png"),
    }


def test_magnetic_tile_names_images_without_a_number(tmp_path):
    make_magnetic_tile(tmp_path)
    make(tmp_path, "MT_Free/Imgs/first.jpg", "MT_Free/Imgs/second.jpg")
    with pytest.raises(LayoutError, match=r"no number .*first\.jpg.*second\.jpg"):
        read_table(tmp_path, "magnetic_tile")


def number(path: Path) -> int:
    return int(path.stem.split("_")[-1])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_real_magnetic_tiles(shared, seed):
    table = hold_out_calibration(read_magnetic_tile(shared / "data" / "magnetic_tile", seed), 0.2, seed)
    normals, defective = table.select(anomalous=False), table.select(anomalous=True)
    assert (len(normals), len(defective)) == (952, 392)
    assert {s.split for s in defective} == {"test"}
    assert all(s.mask_paths for s in defective)
    splits: dict[str, set[str]] = {}
    for sample in table:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(in_splits) == 1 for in_splits in splits.values())
    blocks = Counter(next(iter(splits[group])) for group in {s.group for s in normals})
    assert blocks["test"] == 4
    assert blocks["train"] + blocks["calibration"] == 16
    assert blocks["calibration"] >= 2
    # Blocks are contiguous, and images of different splits are far apart in numbers: no tile is torn.
    ordered = sorted(normals, key=lambda s: number(s.path))
    groups = [s.group for s in ordered]
    assert groups == sorted(groups)
    pairs = pairwise(ordered)
    assert min(number(b.path) - number(a.path) for a, b in pairs if a.group != b.group) > 100


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("count", [16, 53])
def test_taking_annotated_tiles_takes_their_other_shots_away(shared, seed, count):
    table = read_magnetic_tile(shared / "data" / "magnetic_tile", seed)
    taken = take_anomalies(table, count, seed)
    learnt = [s.path for s in taken if s.split == "train" and s.anomalous]
    judged = [s.path for s in taken if s.split == "test" and s.anomalous]
    assert len(learnt) == count
    assert 392 - len(judged) - count < 12  # of one tile at most, the largest of which has 12 shots
    # Tiles by brute force: any two defective images less than 200 numbers apart show the same one.
    assert min(abs(number(a) - number(b)) for a in learnt for b in judged) > 200
    normals = [s for s in table if not s.anomalous]
    assert normals == [s for s in taken if not s.anomalous]


MAKERS = {
    "mvtec_ad": make_mvtec,
    "ksdd2": make_ksdd2,
    "visa": make_visa,
    "magnetic_tile": make_magnetic_tile,
    "aitex": make_aitex,
}


@pytest.mark.parametrize("fitting", MAKERS)
def test_a_wrong_layout_says_what_it_looked_for_and_which_fits(tmp_path, fitting):
    MAKERS[fitting](tmp_path)
    for layout in LAYOUTS.keys() - {fitting}:
        with pytest.raises(LayoutError) as error:
            read_table(tmp_path, layout)
        assert str(tmp_path) in str(error.value)
        assert fitting in str(error.value)
        assert layout == "folder" or TREES[layout] in str(error.value)


def test_plain_images_fit_the_layout_folder(tmp_path):
    make(tmp_path, "1.png")
    with pytest.raises(LayoutError, match="the folder fits layout folder"):
        read_table(tmp_path, "mvtec_ad")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder(tmp_path, layout):
    with pytest.raises(LayoutError, match=f"no images found as layout {layout}, which looks for"):
        read_table(tmp_path, layout)


def test_no_normal_images(tmp_path):
    make(tmp_path, "cup/test/dent/000.png", "nut/train/good/000.png")
    (tmp_path / "cup/train/good").mkdir(parents=True)
    with pytest.raises(LayoutError, match=r"no normal training images of cup; .*train/good"):
        read_table(tmp_path, "mvtec_ad")
    assert len(read_table(tmp_path, "mvtec_ad", category="nut")) == 1
    make(tmp_path / "own", "bad/1.png")
    with pytest.raises(LayoutError, match="no normal training images of own"):
        read_table(tmp_path / "own", "folder")


def test_unknown_layout_and_missing_root(tmp_path):
    with pytest.raises(LayoutError, match=r"no layout 'mvtec'; there are: mvtec_ad, ksdd2"):
        read_table(tmp_path, "mvtec")
    with pytest.raises(LayoutError, match="nowhere: no such folder"):
        read_table(tmp_path / "nowhere", "folder")
