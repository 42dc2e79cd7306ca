"""Regions of hand-made maps."""

import numpy as np
import pytest
from scipy import ndimage

from subspect.inspection.regions import Region, find_regions, outline_level


def test_regions_are_found_with_box_area_and_peak():
    anomaly_map = np.zeros((10, 12), dtype=np.float32)
    anomaly_map[1:3, 2:6] = 0.5
    anomaly_map[2, 4] = 0.75
    anomaly_map[6, 7] = anomaly_map[7, 8] = 0.5  # touch at a corner
    anomaly_map[8, 9] = 0.875
    assert find_regions(anomaly_map, 0.5) == (
        Region(box=(7, 6, 10, 9), area=3, peak=0.875, peak_position=(9, 8)),
        Region(box=(2, 1, 6, 3), area=8, peak=0.75, peak_position=(4, 2)),
    )
    assert [region.area for region in find_regions(anomaly_map, 0.6)] == [1, 1]
    assert find_regions(anomaly_map, 0.9) == ()


def test_the_peak_of_a_region_is_not_taken_from_one_inside_its_box():
    anomaly_map = np.zeros((7, 7), dtype=np.float32)
    anomaly_map[0, :] = anomaly_map[:, 0] = 0.5
    anomaly_map[4, 4] = 1.0
    inner, outer = find_regions(anomaly_map, 0.25)
    assert inner == Region(box=(4, 4, 5, 5), area=1, peak=1.0, peak_position=(4, 4))
    assert (outer.box, outer.area, outer.peak) == ((0, 0, 7, 7), 13, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_regions_of_a_random_map_account_for_every_pixel(seed):
    anomaly_map = np.random.default_rng(seed).random((40, 30)).astype(np.float32)
    regions = find_regions(anomaly_map, 0.8)
    assert sum(region.area for region in regions) == (anomaly_map >= 0.8).sum()
    assert regions[0].peak == anomaly_map.max()
    assert [region.peak for region in regions] == sorted((region.peak for region in regions), reverse=True)
    for region in regions:
        left, top, right, bottom = region.box
        x, y = region.peak_position
        assert left <= x < right
        assert top <= y < bottom
        assert anomaly_map[y, x] == np.float32(region.peak)


def test_a_map_below_the_threshold_is_outlined_at_its_peak():
    anomaly_map = np.array([[0.125, 0.25], [0.0, 0.125]], dtype=np.float32)
    level = outline_level(anomaly_map, 0.5)
    assert level == 0.25
    assert find_regions(anomaly_map, level) == (Region((1, 0, 2, 1), 1, 0.25, (1, 0)),)
    assert outline_level(anomaly_map, 0.2) == 0.2


@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.9])
def test_regions_agree_with_scipys_labels(density):
    anomaly_map = np.random.default_rng(1).random((61, 47)).astype(np.float32)
    labels, count = ndimage.label(anomaly_map >= 1 - density, structure=np.ones((3, 3)))
    regions = find_regions(anomaly_map, 1 - density)
    assert len(regions) == count
    expected = {
        (
            columns.start,
            rows.start,
            columns.stop,
            rows.stop,
            int((labels == label).sum()),
            anomaly_map[labels == label].max(),
        )
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
    }
    assert {(*region.box, region.area, region.peak) for region in regions} == expected
    for region in regions:
        column, row = region.peak_position
        assert anomaly_map[row, column] == region.peak


def test_a_long_winding_region_is_one():
    inside = np.zeros((41, 40), dtype=np.float32)
    inside[::4] = 1
    inside[1:4:1, -1] = 1
    for turn in range(0, 40, 4):  # a snake, alternately joined at its right and left end
        inside[turn : turn + 4, -1 if turn % 8 == 0 else 0] = 1
    assert [region.area for region in find_regions(inside, 1.0)] == [int(inside.sum())]
