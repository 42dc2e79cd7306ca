"""A machined part: a turned steel flange with a hub, a bore and six bolt holes, lying on a dark mat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from subspect.datasets.surfaces.defects import hole, scratch, stain
from subspect.datasets.surfaces.drawing import (
    POINTS,
    Field,
    Picture,
    Scene,
    Surface,
    blur,
    grid,
    slope_towards,
    smooth_noise,
    smoothstep,
)

_RADIUS, _HUB, _BORE = 106.0, 46.0, 24.0
_HOLE_CIRCLE, _HOLE = 76.0, 9.0
_STEEL = np.array([0.58, 0.585, 0.60], dtype=np.float32)
_MAT = np.array([0.115, 0.13, 0.15], dtype=np.float32)

Holes = npt.NDArray[np.float64]
"""Bolt holes, ``(N, 2)``: distance from the axis in points and angle in radians."""


@dataclass(frozen=True, kw_only=True)
class _Part(Scene):
    """A flange lying on its mat.

    Attributes:
        holes: Its bolt holes.
        right: Coordinates in the part's own frame, points from its axis.
        down: The same, perpendicular.
        turning: Brightness of the lathe's marks, 1 on average.
        mat: The mat beneath.
    """

    holes: Holes
    right: Field
    down: Field
    turning: Field
    mat: Picture


def _ramp(distance: Field, width: float) -> Field:
    """A bevel: rises from 0 to ``width`` over as many points, with slightly rounded edges."""
    return np.asarray(width * smoothstep(0.0, width, distance), dtype=np.float32)


def _solid(part: _Part, holes: Holes) -> tuple[Field, Field]:
    """How much metal there is at each pixel (0 to 1), and the height of its bevels in points."""
    radius: Field = np.hypot(part.right, part.down)
    inside = np.minimum(_RADIUS - radius, radius - _BORE)
    height = _ramp(_RADIUS - radius, 4.5) + 1.3 * _ramp(_HUB - radius, 5.0) + _ramp(radius - _BORE, 4.0)
    for distance, angle in holes:
        from_hole = (
            np.hypot(part.right - distance * np.cos(angle), part.down - distance * np.sin(angle)) - _HOLE
        )
        inside = np.minimum(inside, from_hole)
        height = height + _ramp(from_hole, 3.0)
    return smoothstep(-0.6, 0.6, inside), np.asarray(height, dtype=np.float32)


def _draw(part: _Part, holes: Holes) -> tuple[Picture, Field]:
    """The part lit and casting its shadow, and where its metal is."""
    solid, height = _solid(part, holes)
    facing = slope_towards(height, part.light)
    bearing = np.arctan2(part.down, part.right)
    # Circular grooves mirror the lamp where they run across its direction: a bow tie of light.
    tilt = _own_bearing(part) - bearing
    bow_tie = np.exp(-((np.sin(tilt) / 0.42) ** 2)) * (0.75 + 0.25 * np.cos(tilt))
    flat = np.exp(-((facing / 0.25) ** 2))
    bright = 0.62 + 0.42 * bow_tie * flat * part.turning + 0.05 * (part.turning - 1.0)
    bright = bright * (1.0 + np.clip(0.75 * facing, -0.72, 0.55)) + 0.35 * smoothstep(0.75, 1.2, facing)
    steel = bright[..., None] * _STEEL * (0.9 + 0.1 * part.turning[..., None])
    pixel = part.size / POINTS
    offset = (-9.0 * np.sin(part.light) * pixel, -9.0 * np.cos(part.light) * pixel)
    shadow = blur(ndimage.shift(solid, offset, order=1), 4.0) * 0.75 + 0.2 * blur(solid, 7.0)
    ground = part.mat * (1.0 - np.clip(shadow, 0.0, 0.93))[..., None]
    return np.asarray(steel * solid[..., None] + ground * (1 - solid[..., None]), dtype=np.float32), solid


def _own_bearing(part: _Part) -> float:
    """Direction of the light in the part's own frame, radians."""
    step_right = part.right[0, 1] - part.right[0, 0]
    step_down = part.down[0, 1] - part.down[0, 0]
    return part.light + float(np.arctan2(step_down, step_right))


def _scene(rng: np.random.Generator, size: int, training: bool) -> _Part:
    x, y = grid(size)
    angle, scale = rng.uniform(-0.14, 0.14), rng.uniform(0.98, 1.02)
    x = (x - POINTS / 2 - rng.uniform(-5.0, 5.0)) / scale
    y = (y - POINTS / 2 - rng.uniform(-5.0, 5.0)) / scale
    right = np.asarray(x * np.cos(angle) + y * np.sin(angle), dtype=np.float32)
    down = np.asarray(-x * np.sin(angle) + y * np.cos(angle), dtype=np.float32)
    rings = np.interp(np.hypot(right, down), np.arange(0.0, 200.0, 0.8), rng.normal(size=250))
    turning = 1.0 + 0.13 * rings + 0.04 * smooth_noise(rng, size, 30.0)
    weave = 1.0 + 0.10 * smooth_noise(rng, size, 1.6) + 0.05 * smooth_noise(rng, size, 50.0)
    angles = np.arange(6) * np.pi / 3
    blank = np.zeros((size, size), dtype=np.float32)
    part = _Part(
        picture=blank[..., None],
        light=-0.72 * np.pi + rng.uniform(-0.2, 0.2),
        material=blank,
        holes=np.stack([np.full(6, _HOLE_CIRCLE), angles], axis=1),
        right=right,
        down=down,
        turning=np.asarray(turning, dtype=np.float32),
        mat=np.asarray(weave[..., None] * _MAT, dtype=np.float32),
    )
    picture, solid = _draw(part, part.holes)
    return replace(part, picture=picture, material=solid)


def _missing_hole(scene: _Part, rng: np.random.Generator) -> Picture:
    """One bolt hole was not drilled."""
    return _draw(scene, np.delete(scene.holes, rng.integers(len(scene.holes)), axis=0))[0]


def _displaced_hole(scene: _Part, rng: np.random.Generator) -> Picture:
    """One bolt hole was drilled in the wrong place."""
    holes = scene.holes.copy()
    moved = rng.integers(len(holes))
    direction, distance = rng.uniform(0.0, 2 * np.pi), rng.uniform(6.0, 16.0)
    holes[moved, 0] += 0.6 * distance * np.cos(direction)
    holes[moved, 1] += distance * np.sin(direction) / _HOLE_CIRCLE
    return _draw(scene, holes)[0]


FLANGE = Surface(
    _scene,
    {
        "scratch": scratch(0.2),
        "stain": stain((0.6, 0.9, 1.3), (0.3, 1.0)),
        "hole": hole((0.07, 0.07, 0.075), (3.0, 7.0), 0.3),
        "missing": _missing_hole,
        "displaced": _displaced_hole,
    },
)
