"""The built-in demo data: reproducible, exact masks, a layout that can be read, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data
from skimage.feature import match_template

from subspect.datasets.surfaces import DEFECTS, NEAR_DISTRIBUTION, SURFACES, generate, render
from subspect.datasets.surfaces.camera import changed, confine

CASES = [(surface, kind) for surface in SURFACES for kind in DEFECTS[surface]]
SMALL = {"surfaces": ["grass"], "size": 64, "train": 2, "test_normal": 1, "per_defect": 1}


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_has_foreign_and_near_distribution_defects(surface):
    kinds = set(DEFECTS[surface])
    assert kinds & NEAR_DISTRIBUTION
    assert kinds - NEAR_DISTRIBUTION
    assert kinds <= NEAR_DISTRIBUTION | {"scratch", "stain", "hole"}


@pytest.mark.parametrize(("surface", "kind"), CASES)
def test_mask_is_exactly_what_the_defect_changed(surface, kind):
    shot = render(surface, kind, 0, seed=11, size=128)
    difference = np.abs(shot.image.astype(int) - shot.normal.astype(int))
    difference = difference if difference.ndim == 2 else difference.max(axis=-1)
    assert not difference[~shot.mask].any()  # same scene, light and noise: not one grey level elsewhere
    assert difference[shot.mask].mean() > 7
    # Unchanged pixels only where holes in the mask were filled, as in the plain middle of a slipped brick.
    assert (difference[shot.mask] > 0).mean() > 0.5
    assert 0.001 <= shot.mask.mean() <= 0.25


@pytest.mark.parametrize(("surface", "kind"), CASES)
def test_mask_has_neither_holes_nor_specks(surface, kind):
    mask = render(surface, kind, 1, seed=11, size=128).mask
    np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    assert np.bincount(labels.ravel())[1:].min() >= 4


def test_normal_images_have_no_mask_and_differ():
    first, second = (render("fabric", "good", i, seed=0, size=64, training=True) for i in (0, 1))
    assert not first.mask.any()
    assert np.abs(first.image.astype(int) - second.image.astype(int)).mean() > 5


def test_changed_finds_a_known_ring_fills_it_and_drops_specks():
    normal = np.full((256, 256, 3), 0.5, dtype=np.float32)
    defective = normal.copy()
    defective[100:140, 60:120, 1] += 0.1
    defective[110:130, 70:110] = normal[110:130, 70:110]  # an unchanged middle: filled
    defective[20, 20] += 0.3  # a speck: dropped
    defective[200:230, 200:230] += 2 / 255  # too faint to see: dropped
    expected = np.zeros((256, 256), dtype=bool)
    expected[100:140, 60:120] = True
    mask = changed(normal, defective)
    np.testing.assert_array_equal(mask, expected)
    confined = confine(normal, defective, mask)
    np.testing.assert_array_equal(confined[~expected], normal[~expected])
    np.testing.assert_allclose(confined[expected], defective[expected], atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_training_crops_come_from_the_left_half_and_test_crops_from_the_right(training):
    # The stones in the middle of a crop, brought back to the photograph's scale, are found in the whole
    # photograph by trying every place in every orientation.
    photograph = data.gravel().astype(float)
    shot = render("gravel", "good", 0, seed=3, size=256, training=training)
    patch = np.asarray(Image.fromarray(shot.image).resize((200, 200)), dtype=float)[75:125, 75:125]
    orientations = [np.rot90(flipped, turns) for flipped in (patch, patch.T) for turns in range(4)]
    likeness = np.max([match_template(photograph, each) for each in orientations], axis=0)
    column = np.unravel_index(likeness.argmax(), likeness.shape)[1] + 25
    assert likeness.max() > 0.7
    assert (column < 256) == training


def test_same_seed_same_bytes_other_seed_other_images(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(tmp_path / name, seed=seed, **SMALL)
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    images = [name for name in first if name.endswith(".png")]
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in images)


def test_more_images_do_not_change_the_first(tmp_path):
    generate(tmp_path / "few", **SMALL)
    generate(tmp_path / "more", **(SMALL | {"train": 3, "per_defect": 2, "surfaces": ["gravel", "grass"]}))
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    assert len(more) > len(few)
    assert all(more[name] == content for name, content in few.items())


def test_layout_counts_and_matching_masks(tmp_path):
    chosen = ["gravel", "flange"]
    generate(tmp_path / "demo", surfaces=chosen, size=64, train=3, test_normal=1, per_defect=1)
    root = tmp_path / "demo"
    assert sorted(p.name for p in root.iterdir()) == ["README.txt", "flange", "gravel"]
    assert "CC0" in (root / "README.txt").read_text()
    for surface, mode in (("gravel", "L"), ("flange", "RGB")):
        base = root / surface
        assert [p.name for p in sorted(base.glob("train/*/*.png"))] == ["000.png", "001.png", "002.png"]
        assert {p.name for p in base.glob("test/*")} == {"good", *DEFECTS[surface]}
        assert {p.name for p in base.glob("ground_truth/*")} == set(DEFECTS[surface])
        for image in base.glob("test/*/*.png"):
            assert (Image.open(image).mode, Image.open(image).size) == (mode, (64, 64))
            mask = base / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
            assert mask.exists() == (image.parent.name != "good")
            if mask.exists():
                assert set(np.unique(grey(mask))) == {0, 255}
                assert grey(mask).shape == (64, 64)


def test_files_hold_what_render_gives(tmp_path):
    generate(tmp_path / "demo", seed=2, **SMALL)
    shot = render("grass", "stain", 0, seed=2, size=64)
    base = tmp_path / "demo/grass"
    np.testing.assert_array_equal(grey(base / "test/stain/000.png"), shot.image)
    np.testing.assert_array_equal(grey(base / "ground_truth/stain/000_mask.png") == 255, shot.mask)


def test_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(ValueError, match="mine"):
        generate(tmp_path / "mine", **SMALL)
    assert files(tmp_path) == {"mine/notes.txt": b"keep me"}


def test_fills_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", **SMALL)
    assert len(list(tmp_path.glob("empty/grass/train/good/*.png"))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"surfaces": ["brick", "wood", "glass"]}, "wood, glass.*brick, gravel"),
        ({"surfaces": []}, "brick"),
        ({"size": 16}, "16"),
        ({"train": -1}, "-1"),
        ({"seed": -3}, "-3"),
    ],
)
def test_impossible_arguments_are_named_and_nothing_is_written(tmp_path, change, named):
    with pytest.raises(ValueError, match=named):
        generate(tmp_path / "demo", **(SMALL | change))
    assert not list(tmp_path.iterdir())
