"""Planted defects have the size and the contrast asked for, measured on the pixels."""

import numpy as np
import pytest

from subspect.probe.families import make_families
from subspect.probe.planting import SMALLEST_SIDE, displaced_patch, scratch, spot, swapped_patch, warp


def grey(level, size=(96, 128)):
    return np.full((*size, 3), level, dtype=np.float32)


def texture(size=(96, 128), seed=0):
    return np.random.default_rng(seed).uniform(0.3, 0.7, (*size, 3)).astype(np.float32)


def coverage(planted, before, contrast):
    """Share of each pixel that changed, and that the change is the same in all channels."""
    change = planted.picture - before
    np.testing.assert_allclose(change, change[..., :1].repeat(3, axis=2), atol=1e-6)
    return np.abs(change[..., 0]) / contrast


@pytest.mark.parametrize("diameter", [1.0, 1.7, 3.0, 8.5, 24.0])
def test_a_spot_has_the_area_of_its_disc_and_its_contrast(diameter):
    before, areas = grey(0.25), []
    for seed in range(40):
        planted = spot(before, diameter, 0.2, np.random.default_rng(seed))
        share = coverage(planted, before, 0.2)
        areas.append(share.sum())
        assert (planted.picture >= before).all()  # dark surface, light spot
        assert np.ptp(np.argwhere(share), axis=0).max() <= diameter + 2
        if diameter >= 3:
            assert share.max() == pytest.approx(1.0, abs=1e-5)
    # Single ones depend on how they fall on the pixel grid.
    assert np.mean(areas) == pytest.approx(np.pi * diameter**2 / 4, rel=0.03)


def test_on_a_light_surface_spots_are_dark_and_texture_stays():
    before = texture() * 0.2 + 0.7
    planted = spot(before, 20.0, 0.3, np.random.default_rng(0))
    share = coverage(planted, before, 0.3)
    assert (planted.picture <= before + 1e-6).all()
    np.testing.assert_allclose(share[share > 0.999], 1.0, atol=1e-5)
    assert (share > 0.999).sum() == pytest.approx(np.pi * 10**2, rel=0.15)


def test_what_leaves_the_range_is_clipped():
    planted = spot(grey(0.4), 9.0, 0.9, np.random.default_rng(0))
    assert planted.picture.max() == 1.0


@pytest.mark.parametrize(("length", "width"), [(3.0, 1.0), (20.0, 2.0), (60.0, 6.0)])
def test_a_scratch_has_its_length_and_width(length, width):
    before = grey(0.25)
    for seed in range(10):
        planted = scratch(before, length, 0.1, np.random.default_rng(seed))
        share = coverage(planted, before, 0.1)
        assert share.sum() == pytest.approx(length * width, rel=0.1)
        places, weights = np.argwhere(share > 0), share[share > 0]
        across, along = np.sqrt(12 * np.linalg.eigvalsh(np.cov(places.T, aweights=weights, ddof=0)))
        # A uniform bar of length L has the variance L**2 / 12; its edges add 1 / 12.
        assert along == pytest.approx(np.sqrt(length**2 + 1), rel=0.06)
        assert across == pytest.approx(np.sqrt(width**2 + 1), rel=0.25)


@pytest.mark.parametrize("shift", [0.25, 1.0, 6.0])
def test_a_warp_shifts_its_middle_by_what_was_asked_for(shift):
    rows, columns = np.mgrid[:96, :128] / 128
    ramp = np.stack([rows, columns, 0 * rows], axis=2).astype(np.float32)
    for seed in range(5):
        planted = warp(ramp, shift, np.random.default_rng(seed))
        down, right = np.moveaxis((planted.picture - ramp)[..., :2] * 128, 2, 0)
        moved = np.hypot(down, right)
        assert moved.max() == pytest.approx(shift, rel=0.02)
        extent = np.ptp(np.argwhere(moved > 1e-5 * shift), axis=0) + 1
        np.testing.assert_allclose(extent, 24, atol=1)  # a quarter of 96 across
        assert moved[moved > 0.01 * shift].mean() < 0.5 * shift  # less towards the outline


@pytest.mark.parametrize(("distance", "steps"), [(0.4, 1), (1.4, 1), (7.6, 8), (24.0, 24)])
def test_a_displaced_patch_shows_what_lies_whole_pixels_beside_it(distance, steps):
    rows, columns = np.mgrid[:96, :128] / 256
    ramp = np.stack([rows, columns, 0 * rows], axis=2).astype(np.float32)
    for seed in range(5):
        planted = displaced_patch(ramp, distance, np.random.default_rng(seed))
        moved = np.abs((planted.picture - ramp)[..., :2] * 256)
        assert moved.max() == pytest.approx(steps, abs=1e-3)
        assert moved.max(axis=(0, 1)).min() == 0  # along one axis only
        assert planted.size == steps
        assert moved.sum() / steps == pytest.approx(np.pi * 6**2, rel=0.05)  # an eighth of 96 across


def test_a_swapped_patch_comes_from_the_other_picture():
    areas = []
    for seed in range(20):
        planted = swapped_patch(grey(0.0), grey(1.0, (40, 50)), 9.0, np.random.default_rng(seed))
        areas.append(planted.picture[..., 0].sum())
    assert np.mean(areas) == pytest.approx(np.pi * 4.5**2, rel=0.02)


def test_every_family_fits_into_the_smallest_pictures_and_changes_nothing_else():
    families = make_families([0.1, 0.4])
    assert [family.name for family in families] == [
        "spot, contrast 0.1", "spot, contrast 0.4", "scratch, contrast 0.1", "scratch, contrast 0.4",
        "warp", "displaced patch", "swapped patch",
    ]  # fmt: skip
    picture, other = texture((SMALLEST_SIDE, 40)), texture((40, SMALLEST_SIDE), 1)
    before = picture.copy()
    patches = {"warp": SMALLEST_SIDE / 4, "displaced patch": SMALLEST_SIDE / 8}
    for family in families:
        sizes = family.ladder(SMALLEST_SIDE, 12)
        np.testing.assert_allclose(np.diff(np.log(sizes)), np.log(sizes[-1] / sizes[0]) / 11)
        for seed in range(3):
            for size in sizes:
                planted = family.plant(picture, other, size, np.random.default_rng(seed))
                changed = (planted.picture != picture).any(axis=2)
                assert changed.any(), (family.name, size)
                extent = patches.get(family.name, size)
                assert np.ptp(np.argwhere(changed), axis=0).max() <= extent + 2
                assert planted.picture.dtype == np.float32
                assert planted.picture.min() >= 0
                assert planted.picture.max() <= 1
                np.testing.assert_array_equal(picture, before)


def test_a_seed_gives_one_place_and_another_seed_another():
    first, again, other = (spot(grey(0.3), 5.0, 0.1, np.random.default_rng(seed)).picture for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit into a picture of 96x128"):
        spot(grey(0.3), 95.0, 0.1, np.random.default_rng(0))


@pytest.mark.parametrize("contrasts", [[], [0.0], [1.2], [0.1, 0.1]])
def test_contrasts_that_are_none_are_refused(contrasts):
    with pytest.raises(ValueError, match="contrast"):
        make_families(contrasts)
