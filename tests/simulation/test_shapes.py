"""Shapes of simulated defects against closed forms and brute force."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from subspect.simulation.perlin import perlin_masks
from subspect.simulation.shapes import bands, blobs, choose_shapes, distance_to_path, draw_masks, strokes

SIZE = (96, 128)


def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_distance_to_a_path_is_that_of_its_nearest_point():
    path = torch.tensor([[[2.0, 3.0], [10.0, 4.0], [10.0, 4.0], [6.0, 15.0]]])
    ours = distance_to_path(path, (14, 18))[0].numpy()
    shares = np.linspace(0, 1, 4001)[:, None]
    points = np.concatenate(
        [a + shares * (b - a) for a, b in zip(path[0, :-1].numpy(), path[0, 1:].numpy(), strict=True)]
    )
    down, right = np.mgrid[:14, :18] + 0.5
    brute = np.hypot(down[..., None] - points[:, 0], right[..., None] - points[:, 1]).min(-1)
    np.testing.assert_allclose(ours, brute, atol=2e-3)


@pytest.mark.parametrize("shape", [blobs, strokes, bands])
def test_shapes_are_zero_or_one_and_repeat_with_their_seed(shape):
    drawn = shape(40, SIZE, source())
    assert drawn.shape == (40, 1, *SIZE)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn, shape(40, SIZE, source()))
    assert len({picture.numpy().tobytes() for picture in drawn}) > 30


def test_strokes_are_thin_blobs_small_and_bands_broad():
    def thickest(mask: torch.Tensor) -> float:  # radius of the largest disc within
        return float(ndimage.distance_transform_edt(np.pad(mask[0].numpy(), 1)).max())

    radii = [thickest(mask) for mask in strokes(200, SIZE, source())]
    assert max(radii) <= 2.8 + 1.5  # half the width, where a bent line meets itself a little more
    small = blobs(200, SIZE, source()).mean((1, 2, 3))
    broad = bands(200, SIZE, source()).mean((1, 2, 3))
    assert float(small.median()) < 0.05
    assert float(broad.median()) > 0.1
    assert max(thickest(mask) for mask in blobs(200, SIZE, source())) < 40


def test_strokes_have_their_length():
    drawn = strokes(120, (256, 256), source())
    inside = [mask[0].numpy() for mask in drawn if not mask[..., [0, -1]].any() and not mask[:, [0, -1]].any()]
    extents = [float(np.hypot(*np.ptp(np.argwhere(mask), axis=0))) for mask in inside if mask.any()]
    assert len(extents) > 80
    assert max(extents) < 100 + 6
    assert 20 < float(np.median(extents)) < 45  # log-uniform from 10 to 100: the middle is 32


@pytest.mark.parametrize("normal_share", [0.0, 0.4])
def test_a_share_is_left_empty_and_every_shape_is_drawn(normal_share):
    shapes = ("strokes", "bands")
    masks = draw_masks(choose_shapes(600, shapes, normal_share, source()), (64, 64), shapes, source())
    area = masks.mean((1, 2, 3))
    assert float((area == 0).float().mean()) == pytest.approx(normal_share, abs=0.08)
    drawn = area[area > 0]
    assert 0.3 < float((drawn > 0.08).float().mean()) < 0.6  # bands; strokes are never so large


def test_masks_have_the_shapes_chosen():
    chosen = torch.tensor([1, -1, 0, 1])
    masks = draw_masks(chosen, (64, 64), ("bands", "perlin"), source())
    generator = source()
    assert torch.equal(masks[2:3], bands(1, (64, 64), generator))
    assert torch.equal(masks[chosen == 1], perlin_masks(2, (64, 64), generator, normal_share=0.0))
    assert not masks[1].any()
