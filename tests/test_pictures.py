"""Pictures, checked pixel by pixel where a pixel can be known."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from subspect.pictures import (
    OPACITY,
    OUTLINE_COLOUR,
    as_rgb,
    draw_outline,
    grid,
    heat,
    overlay_heat,
    save_picture,
    side_by_side,
)

LINE = np.array(OUTLINE_COLOUR, dtype=np.uint8)


def is_line(picture):
    return (picture == LINE).all(axis=2)


def test_arrays_of_every_kind_become_pictures():
    expected = np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)
    for array in (
        np.array([[False, True]]),
        np.array([[0, 255]], dtype=np.uint8),
        np.array([[-0.5, 1.5]]),
        np.array([[[0.0] * 3, [1.0] * 3]], dtype=np.float32),
    ):
        np.testing.assert_array_equal(as_rgb(array), expected)
    with pytest.raises(ValueError, match="int64"):
        as_rgb(np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=r"\(2, 2, 4\)"):
        as_rgb(np.zeros((2, 2, 4)))


def test_heat_runs_from_zero_to_twice_the_level():
    table = matplotlib.colormaps["inferno"]
    picture = heat(np.array([[0.0, 0.2, 0.4, 99.0]], dtype=np.float32), level=0.2)
    np.testing.assert_array_equal(picture[0], table([0.0, 0.5, 1.0, 1.0], bytes=True)[:, :3])


def test_the_scale_does_not_depend_on_the_rest_of_the_map():
    calm = np.full((4, 4), 0.1, dtype=np.float32)
    wild = calm.copy()
    wild[0, 0] = 5.0
    np.testing.assert_array_equal(heat(calm, 1.0)[1:], heat(wild, 1.0)[1:])


def test_an_overlay_is_clear_below_half_the_level_and_full_at_the_level():
    picture = np.full((1, 4, 3), 200, dtype=np.uint8)
    anomaly_map = np.array([[0.0, 0.5, 0.75, 1.0]], dtype=np.float32)
    shown, colours = overlay_heat(picture, anomaly_map, 1.0), heat(anomaly_map, 1.0)
    np.testing.assert_array_equal(shown[0, :2], picture[0, :2])
    for column, opacity in ((2, OPACITY / 2), (3, OPACITY)):
        expected = (1 - opacity) * 200 + opacity * colours[0, column].astype(float)
        np.testing.assert_allclose(shown[0, column], expected, atol=0.51)


def test_an_outline_surrounds_its_area_and_hides_nothing():
    inside = np.zeros((20, 20), dtype=bool)
    inside[5:9, 6:12] = True
    picture = np.full((20, 20, 3), 120, dtype=np.uint8)
    drawn = draw_outline(picture, inside)
    expected = np.zeros((20, 20), dtype=bool)
    expected[4:10, 5:13] = True
    np.testing.assert_array_equal(is_line(drawn), expected & ~inside)
    assert (drawn[inside] == 120).all()
    assert (drawn[3, 4:14] == 40).all()  # the rim
    assert (drawn[:3] == 120).all()
    assert (picture == 120).all()


def test_an_outline_at_the_edge_of_the_picture_is_drawn_inside_of_it():
    drawn = draw_outline(np.zeros((8, 8)), np.ones((8, 8), dtype=bool))
    expected = np.ones((8, 8), dtype=bool)
    expected[1:-1, 1:-1] = False
    np.testing.assert_array_equal(is_line(drawn), expected)


@pytest.mark.parametrize(("size", "width"), [(100, 1), (512, 1), (1024, 2), (2048, 4)])
def test_outlines_grow_with_the_picture(size, width):
    inside = np.zeros((size, 60), dtype=bool)
    inside[30:40, 30:40] = True
    assert is_line(draw_outline(np.zeros((size, 60)), inside))[:30, 35].sum() == width


def test_pictures_stand_side_by_side_unscaled_under_captions():
    left = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    right = np.full((30, 20), 0.5)
    row = side_by_side({"left": left, "a caption wider than the picture": right})
    head = row.shape[0] - 40
    np.testing.assert_array_equal(row[head:, :90], left)
    assert (row[head : head + 30, 98:118] == 128).all()
    assert (row[:head, :40] < 128).any(), "the caption is missing"
    assert (row[:head, -30:] < 128).any(), "the long caption is cut off"


def test_a_grid_scales_to_one_height():
    flat = {"tall": np.ones((100, 50)), "wide": np.ones((50, 100))}
    row_height = side_by_side({"any": np.zeros((50, 25))}).shape[0]
    assert grid([flat, {"one": np.ones((10, 10))}], height=50).shape == (2 * row_height + 8, 25 + 8 + 100, 3)


def test_saved_pictures_come_back_exactly(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    save_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
