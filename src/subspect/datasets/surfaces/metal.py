"""Brushed metal: fine parallel brush marks under soft bands of reflected light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subspect.datasets.surfaces.defects import displacement, hole, sample, scratch, soft_patch, stain
from subspect.datasets.surfaces.drawing import POINTS, Field, Picture, Scene, Surface, grid, smooth_noise

_STEEL = np.array([0.60, 0.615, 0.63], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class _Sheet(Scene):
    """A brushed sheet: its grain (zero mean) and the light it reflects, both ``(H, W)``."""

    grain: Field
    reflection: Field


def _shade(grain: Field, reflection: Field) -> Picture:
    """Brush marks show most where much light is reflected."""
    lit = reflection * (1.0 + 0.085 * grain) + 0.02 * grain
    cool = np.array([-0.02, 0.0, 0.025], dtype=np.float32) * (lit[..., None] - 1.0)
    return np.asarray(lit[..., None] * (_STEEL + cool), dtype=np.float32)


def _grain(rng: np.random.Generator, size: int) -> Field:
    """Brush marks of several lengths and widths, the sheet lying a little askew."""
    marks = 0.55 * smooth_noise(rng, size, 90.0, 1.0) + 0.5 * smooth_noise(rng, size, 30.0, 1.0)
    marks += 0.3 * smooth_noise(rng, size, 300.0, 2.5) + 0.25 * smooth_noise(rng, size, 8.0, 1.0)
    deep = smooth_noise(rng, size, 55.0, 1.2)
    marks -= 0.8 * np.maximum(deep - 1.9, 0.0)
    x, y = grid(size)
    angle = rng.uniform(-0.04, 0.04)
    return sample(np.asarray(marks[..., None], dtype=np.float32), x, y + (x - POINTS / 2) * np.tan(angle))[
        ..., 0
    ]


def _reflection(rng: np.random.Generator, size: int) -> Field:
    """Soft bright bands across the brush marks, as a window or lamp is seen in brushed metal."""
    x, y = grid(size)
    askew = x + rng.uniform(-0.15, 0.15) * y
    bands = np.zeros_like(x)
    for centre, width in zip(rng.uniform(20.0, 236.0, 2), rng.uniform(35.0, 70.0, 2), strict=True):
        bands += rng.uniform(0.12, 0.26) * np.exp(-(((askew - centre) / width) ** 2))
    uneven = 0.012 * smooth_noise(rng, size, 60.0)
    return np.asarray(0.88 + bands + uneven, dtype=np.float32)


def _scene(rng: np.random.Generator, size: int, training: bool) -> _Sheet:
    grain, reflection = _grain(rng, size), _reflection(rng, size)
    return _Sheet(
        picture=_shade(grain, reflection),
        light=-0.6 * np.pi + rng.uniform(-0.3, 0.3),
        material=np.ones((size, size), dtype=np.float32),
        grain=grain,
        reflection=reflection,
    )


def _polished(scene: _Sheet, rng: np.random.Generator) -> Picture:
    """The brush marks are missing: rubbed smooth, so that the spot mirrors the light more evenly."""
    smooth = soft_patch(rng, scene, (14.0, 36.0), 2.5) * rng.uniform(0.65, 0.9)
    reflection = scene.reflection * (1.0 + smooth * rng.choice([-1.0, 1.0]) * rng.uniform(0.03, 0.1))
    return _shade(np.asarray(scene.grain * (1.0 - smooth), dtype=np.float32), reflection)


def _bent(scene: _Sheet, rng: np.random.Generator) -> Picture:
    """The brush marks run astray: the cloth slipped."""
    x, y = grid(scene.size)
    shift_x, shift_y = displacement(rng, scene, 1.3)
    return _shade(sample(scene.grain[..., None], x + shift_x, y + shift_y)[..., 0], scene.reflection)


METAL = Surface(
    _scene,
    {
        "scratch": scratch(0.15),
        "stain": stain((0.6, 0.85, 1.15), (0.15, 0.7)),
        "hole": hole((0.09, 0.09, 0.1), (4.5, 12.0), 0.25),
        "missing": _polished,
        "warp": _bent,
    },
)
