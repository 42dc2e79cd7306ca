"""Surfaces cut from the photographs that scikit-image ships (CC0): brick, gravel, grass.

Training images come from the left half of a photograph, test images from its right half, so that no test
image shows a stone that was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import ndimage
from skimage import data

from subspect.datasets.surfaces.defects import hole, sample, scratch, soft_patch, stain, warp
from subspect.datasets.surfaces.drawing import POINTS, Field, Mask, Picture, Scene, Surface, blur, grid, place

_SHADOW_LIGHT = -0.75 * np.pi  # from the upper left


@lru_cache(maxsize=3)
def _photograph(name: str) -> Field:
    """Spline coefficients of a photograph, 512 x 512, grey values in [0, 1]."""
    readers: dict[str, Callable[[], Field]] = {
        "brick": data.brick,
        "gravel": data.gravel,
        "grass": data.grass,
    }
    grey = readers[name]()
    return np.asarray(ndimage.spline_filter(grey / 255.0, order=3, mode="mirror"), dtype=np.float32)


def _crop(name: str, rng: np.random.Generator, size: int, training: bool) -> Scene:
    """A window of 190 to 210 photograph pixels, flipped and turned a little, at random in one half."""
    photograph = _photograph(name)
    window, angle = rng.uniform(190.0, 210.0), rng.uniform(-0.05, 0.05)
    if name != "brick" and rng.random() < 0.5:  # stones and blades lie in all directions, bricks do not
        angle += np.pi / 2
    flip_x, flip_y = rng.choice([-1.0, 1.0], 2)
    reach = window / 2 * (abs(np.cos(angle)) + abs(np.sin(angle))) + 1
    half = photograph.shape[1] / 2
    left = 0.0 if training else half
    centre_x = rng.uniform(left + reach, left + half - reach)
    centre_y = rng.uniform(reach, photograph.shape[0] - reach)
    x, y = grid(size)
    x, y = (x / POINTS - 0.5) * window * flip_x, (y / POINTS - 0.5) * window * flip_y
    columns = centre_x + x * np.cos(angle) - y * np.sin(angle) - 0.5
    rows = centre_y + x * np.sin(angle) + y * np.cos(angle) - 0.5
    picture = ndimage.map_coordinates(photograph, [rows, columns], order=3, prefilter=False, mode="mirror")
    return Scene(
        picture=np.asarray(picture[..., None], dtype=np.float32),
        light=_SHADOW_LIGHT + rng.uniform(-0.3, 0.3),
        material=np.ones((size, size), dtype=np.float32),
    )


def _brick(rng: np.random.Generator, size: int, training: bool) -> Scene:
    return _crop("brick", rng, size, training)


def _gravel(rng: np.random.Generator, size: int, training: bool) -> Scene:
    return _crop("gravel", rng, size, training)


def _grass(rng: np.random.Generator, size: int, training: bool) -> Scene:
    return _crop("grass", rng, size, training)


def _one_brick(scene: Scene, rng: np.random.Generator) -> Mask:
    """The pixels of a brick: a dark region between bright joints."""
    grey = blur(scene.picture[..., 0], 1.0)
    bricks = ndimage.binary_opening(
        grey < np.median(grey) + 0.07, iterations=round(3 * scene.size / POINTS) or 1
    )
    labels, count = ndimage.label(bricks)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    whole = np.setdiff1d(np.flatnonzero(areas > 0.02 * labels.size) + 1, border)
    usable = whole if len(whole) else np.array([areas.argmax() + 1])
    return np.asarray(labels == rng.choice(usable))


def _displaced_brick(scene: Scene, rng: np.random.Generator) -> Picture:
    """A brick that slipped: pushed and turned, bare mortar where it lay, a shadow beside it."""
    brick = _one_brick(scene, rng)
    rows, columns = np.nonzero(brick)
    to_points = POINTS / scene.size
    centre_x, centre_y = columns.mean() * to_points, rows.mean() * to_points
    angle = rng.choice([-1, 1]) * rng.uniform(0.03, 0.09)
    shift_x, shift_y = rng.uniform(-5.0, 5.0), rng.choice([-1, 1]) * rng.uniform(6.0, 16.0)
    x, y = grid(scene.size)
    right, down = x - centre_x - shift_x, y - centre_y - shift_y
    from_x = centre_x + right * np.cos(angle) + down * np.sin(angle)
    from_y = centre_y - right * np.sin(angle) + down * np.cos(angle)
    outline = blur(ndimage.binary_dilation(brick, iterations=2).astype(np.float32), 0.7)[..., None]
    moved = np.clip(sample(outline, from_x, from_y), 0.0, 1.0)
    shadow = blur(ndimage.shift(moved[..., 0], (2 / to_points, 2 / to_points), order=1), 1.2)[..., None]
    ground = scene.picture * (1.0 - outline) + _mortar(scene, rng) * outline
    ground = ground * (1.0 - 0.45 * shadow)
    return np.asarray(ground * (1.0 - moved) + sample(scene.picture, from_x, from_y) * moved, dtype=np.float32)


def _mortar(scene: Scene, rng: np.random.Generator) -> Picture:
    """Bare mortar: the brightness of the scene's joints, with grain."""
    joints = np.quantile(scene.picture, 0.93)
    grain = ndimage.gaussian_filter(rng.normal(size=scene.material.shape), 0.8 * scene.size / POINTS)
    return np.asarray(0.9 * joints + 0.05 * grain[..., None], dtype=np.float32)


def _missing_stones(scene: Scene, rng: np.random.Generator) -> Picture:
    """A bald patch: the stones are gone, fine grit of the same kind lies there, a little lower and darker."""
    bald = soft_patch(rng, scene, (22.0, 44.0), 1.0)[..., None]
    x, y = grid(scene.size)
    centre_x, centre_y = place(rng, scene.material, 100.0)
    finer = rng.uniform(3.0, 4.5)
    pixel = scene.size / POINTS
    smoothed = ndimage.gaussian_filter(scene.picture, (0.35 * finer * pixel, 0.35 * finer * pixel, 0))
    grit = sample(smoothed, centre_x + (x - centre_x) * finer, centre_y + (y - centre_y) * finer)
    rim = blur(np.roll(bald[..., 0], round(4 * pixel), axis=(0, 1)), 1.5)[..., None]
    return np.asarray(scene.picture * (1 - bald) + grit * bald * (0.55 + 0.35 * rim), dtype=np.float32)


BRICK = Surface(
    _brick,
    {
        "scratch": scratch(0.5),
        "stain": stain((1.0,), (0.25, 0.9)),
        "hole": hole((0.2,), (7.0, 18.0), 0.8),
        "displaced": _displaced_brick,
        "warp": warp(1.0),
    },
)
GRAVEL = Surface(
    _gravel,
    {
        "stain": stain((1.0,), (0.5, 1.1)),
        "hole": hole((0.12,), (12.0, 24.0), 0.8),
        "missing": _missing_stones,
        "warp": warp(1.5),
    },
)
GRASS = Surface(
    _grass,
    {
        "stain": stain((-1.0,), (0.2, 0.38)),
        "hole": hole((0.2,), (14.0, 28.0), 0.8),
        "warp": warp(1.5),
    },
)
