"""Tiling: where tiles lie and what they weigh by hand, blends and scores against the whole picture."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from subspect.tiling import TILES_AT_ONCE, Tiling, blend_tiles, lay_tiles, make_tiling, score_tiles

SIZES = [(8, 8), (9, 8), (8, 40), (13, 37), (64, 31), (100, 90), (8, 4096)]


def noise(size, seed=0):
    return np.random.default_rng(seed).random((*size, 3), dtype=np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", [(8, 8), (5, 7)])
@pytest.mark.parametrize("overlap", [0, 1, 2, 3, 4])
def test_tiles_show_every_pixel_and_their_shares_sum_to_one(size, tile, overlap):
    tiles = lay_tiles(size, Tiling(tile, overlap))
    total = np.zeros(size)
    for rows, columns in (placed.window for placed in tiles):
        assert 0 <= rows.start < rows.stop == rows.start + tile[0] <= size[0]
        assert 0 <= columns.start < columns.stop == columns.start + tile[1] <= size[1]
    for placed in tiles:
        assert placed.row_shares.min() > 0
        assert placed.column_shares.min() > 0
        total[placed.window] += np.outer(placed.row_shares, placed.column_shares)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for axis in (0, 1):
        starts = sorted({placed.window[axis].start for placed in tiles})
        assert (starts[0], starts[-1]) == (0, size[axis] - tile[axis])
        assert max(np.diff(starts), default=0) <= tile[axis] - overlap


def test_there_are_no_more_tiles_than_the_overlap_asks_for():
    assert len(lay_tiles((4000, 6000), Tiling((256, 256), 64))) == 21 * 31  # ceil(3744/192)+1, ceil(5744/192)+1
    assert len(lay_tiles((256, 4096), Tiling((256, 256), 64))) == 21
    assert len(lay_tiles((256, 256), Tiling((256, 256), 255))) == 1


def test_a_tile_fades_out_as_its_neighbour_fades_in():
    left, right = lay_tiles((4, 10), Tiling((4, 7), 3))
    assert (left.window[1], right.window[1]) == (slice(0, 7), slice(3, 10))
    # The four pixels that both show lie 4, 3, 2, 1 pixels from the edge of the left one.
    np.testing.assert_allclose(left.column_shares, [1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5], rtol=1e-6)
    np.testing.assert_allclose(right.column_shares, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(left.row_shares, 1)


def local(tile):
    """What depends on each pixel alone."""
    return np.abs(tile[..., 1] - tile[..., 0] ** 2) + tile[..., 2]


@pytest.mark.parametrize("size", [*SIZES, (3, 5), (1, 50), (7, 8), (1, 1)])
def test_what_depends_on_pixels_alone_is_as_in_the_whole_picture(size):
    picture, tiling = noise(size), Tiling((8, 8), 3)
    blended = blend_tiles(lambda tiles: [local(tile) for tile in tiles], picture, tiling)
    np.testing.assert_allclose(blended, local(picture), atol=1e-6)
    assert blended.dtype == np.float32
    coloured = blend_tiles(lambda tiles: [1 - tile for tile in tiles], picture, tiling)
    np.testing.assert_allclose(coloured, 1 - picture, atol=1e-6)


def test_a_seam_is_a_ramp_where_tiles_disagree():
    levels = iter([0.0, 1.0])
    blended = blend_tiles(
        lambda tiles: [np.full(tile.shape[:2], next(levels)) for tile in tiles],
        noise((4, 10)),
        Tiling((4, 7), 3),
    )
    np.testing.assert_allclose(blended[2], [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1], atol=1e-6)


def test_a_small_picture_is_mirrored_for_looking():
    seen = []
    picture = noise((5, 8))
    blend_tiles(lambda tiles: seen.extend(tiles) or [local(tile) for tile in tiles], picture, Tiling((8, 8), 3))
    assert [tile.shape for tile in seen] == [(8, 8, 3)]
    np.testing.assert_array_equal(seen[0], picture[[0, 1, 2, 3, 4, 3, 2, 1]])


def test_never_more_than_a_batch_of_tiles_is_handed_over():
    handed = []

    def score(tiles):
        handed.append([tile.shape for tile in tiles])
        return [(local(tile), 0.0) for tile in tiles]

    score_tiles(score, noise((100, 90)), Tiling((16, 16), 4))
    assert max(map(len, handed)) == TILES_AT_ONCE
    assert {shape for shapes in handed for shape in shapes} == {(16, 16, 3)}
    assert sum(map(len, handed)) == 8 * 8


@pytest.mark.parametrize("size", [(4000, 6000), (256, 4096)])
def test_beyond_picture_map_and_detector_memory_is_that_of_a_batch_of_maps(size):
    picture = np.broadcast_to(np.float32(0.5), (*size, 3))  # takes no memory
    tracemalloc.start()
    try:
        blended, _ = score_tiles(
            lambda tiles: [(tile[..., 1].copy(), 0.0) for tile in tiles], picture, Tiling((256, 256), 64)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blended.nbytes == 4 * size[0] * size[1]
    # The maps of a batch, a tile's shares and its share of the map; the shares of all rows and columns.
    assert peak < blended.nbytes + (TILES_AT_ONCE + 3) * 4 * 256**2
    np.testing.assert_allclose(blended, 0.5, atol=1e-6)


def filtered_score(anomaly_map, side=21):
    """As DSR and DRAEM score: the highest mean of ``side`` x ``side`` pixels, zeros around the map."""
    return float(uniform_filter(anomaly_map.astype(np.float64), side, mode="constant").max())


def scored_in_tiles(picture, overlap):
    def score(tiles):
        return [(tile[..., 0], filtered_score(tile[..., 0])) for tile in tiles]

    return score_tiles(score, picture, Tiling((64, 64), overlap))[1]


@pytest.mark.parametrize("top", [0, 30, 43, 47, 60])
@pytest.mark.parametrize("left", [0, 40, 57, 64, 99])
@pytest.mark.parametrize("side", [3, 21, 50])
def test_a_defect_across_seams_scores_as_in_the_whole_picture(top, left, side):
    picture = np.zeros((130, 150, 3), np.float32)
    picture[top : top + side, left : left + side] = 0.8
    whole = filtered_score(picture[..., 0])
    assert whole == pytest.approx(0.8 * min(side, 21) ** 2 / 21**2)
    assert scored_in_tiles(picture, 20) == pytest.approx(whole, rel=1e-6)


def test_noise_scores_as_in_the_whole_picture_if_tiles_share_what_the_score_takes_together():
    for seed in range(20):
        picture = noise((130, 150), seed)
        assert scored_in_tiles(picture, 20) == pytest.approx(filtered_score(picture[..., 0]), rel=1e-6)


def test_with_less_overlap_a_seam_costs():
    picture = np.zeros((64, 64 + 45, 3), np.float32)  # tiles at columns 0 and 45, sharing 19
    picture[20:41, 44:65] = 1
    assert filtered_score(picture[..., 0]) == pytest.approx(1)
    assert scored_in_tiles(picture, 19) == pytest.approx(20 / 21)


def test_what_a_user_says_of_tiles():
    assert make_tiling(None) is None
    assert make_tiling(256) == Tiling((256, 256), 64)
    assert make_tiling((200, 1000)) == Tiling((200, 1000), 50)
    assert make_tiling((200, 1000), 0) == Tiling((200, 1000), 0)
    with pytest.raises(ValueError, match="an overlap belongs to tiles"):
        make_tiling(None, 64)
    for tile, overlap in ((0, None), (8, 8), (8, -1), ((8, 16), 8)):
        with pytest.raises(ValueError, match="overlap by less than their shorter side"):
            make_tiling(tile, overlap)
