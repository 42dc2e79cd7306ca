"""Regions of hand-made maps."""

import numpy as np
import pytest

from subspect.regions import Region, find_regions, outline_level


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
