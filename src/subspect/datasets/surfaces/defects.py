"""Defects that can be drawn over any finished scene: scratch, stain, hole, local warp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from subspect.datasets.surfaces.drawing import (
    POINTS,
    Field,
    Picture,
    Scene,
    blur,
    grid,
    patch,
    place,
    slope_towards,
    smooth_noise,
    smoothstep,
)

Colour = tuple[float, ...]


def _strand(rng: np.random.Generator, scene: Scene) -> tuple[Field, Field]:
    """A line across the scene: depth along it (0 off its ends) and the signed distance from it in points."""
    x, y = grid(scene.size)
    centre_x, centre_y = place(rng, scene.material, 40.0)
    angle, length = rng.uniform(0.0, np.pi), rng.uniform(50.0, 170.0)
    along = ((x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)) / length
    across = -(x - centre_x) * np.sin(angle) + (y - centre_y) * np.cos(angle)
    bend, wave = rng.uniform(-0.12, 0.12) * length, rng.uniform(0.0, 1.5)
    across = across - bend * (along**2 - 0.1) - wave * np.sin(along * rng.uniform(4.0, 9.0))
    # A tool bites in at one end and lifts off slowly at the other, skipping a little between.
    bite, lift = rng.uniform(0.03, 0.1), rng.uniform(0.1, 0.4)
    depth = smoothstep(-0.5, -0.5 + bite, along) * smoothstep(0.5, 0.5 - lift, along)
    pressure = np.interp(along, np.linspace(-0.5, 0.5, 14), rng.uniform(0.45, 1.0, 14))
    return np.asarray(depth * pressure, dtype=np.float32), np.asarray(across, dtype=np.float32)


def scratch(tone: float) -> Callable[[Scene, np.random.Generator], Picture]:
    """A groove of varying depth with raised lips, one flank lit and the other in shadow.

    Args:
        tone: How much lighter (> 0) or darker (< 0) the laid-bare material in the groove is.
    """

    def draw(scene: Scene, rng: np.random.Generator) -> Picture:
        depth, across = _strand(rng, scene)
        width = rng.uniform(0.9, 2.0)
        picture = scene.picture
        strands = int(rng.choice([1, 1, 2, 3]))
        for offset in np.cumsum(rng.uniform(3.0, 7.0, strands)):
            strength = rng.uniform(0.55, 1.0)
            distance = (across - offset) / width
            groove = depth * strength * np.exp(-(distance**2))
            lips = depth * strength * np.exp(-((np.abs(distance) - 1.5) ** 2) / 0.3)
            relief = slope_towards(np.asarray(0.5 * lips - groove, dtype=np.float32) * width, scene.light)
            shade = 1.0 + tone * groove + 0.75 * relief
            picture = picture * np.maximum(shade, 0.1)[..., None] + 0.1 * np.maximum(relief, 0.0)[..., None]
        return scene.hit(picture)

    return draw


def stain(absorption: Colour, density: tuple[float, float]) -> Callable[[Scene, np.random.Generator], Picture]:
    """A liquid that soaked in and dried: soft irregular outline, uneven, with a darker tide mark.

    Args:
        absorption: Relative absorption of each colour channel; negative bleaches.
        density: Range of the strength, from subtle to obvious; light is weakened by exp(-density).
    """

    def draw(scene: Scene, rng: np.random.Generator) -> Picture:
        level = patch(rng, scene, rng.uniform(14.0, 42.0), rng.uniform(0.25, 0.55))
        soft = rng.uniform(0.08, 0.3)
        body = smoothstep(0.0, soft, level)
        tide = body * np.exp(-(((level - soft) / 0.12) ** 2)) * rng.uniform(0.1, 0.7)
        uneven = 1.0 + 0.12 * smooth_noise(rng, scene.size, 12.0) + 0.06 * smooth_noise(rng, scene.size, 2.5)
        amount = rng.uniform(*density) * (0.75 * body + tide) * uneven
        weights = np.asarray(absorption[: scene.picture.shape[2]], dtype=np.float32)
        return scene.hit(scene.picture * np.exp(-amount[..., None] * weights))

    return draw


def hole(
    floor: Colour, radius: tuple[float, float], roughness: float
) -> Callable[[Scene, np.random.Generator], Picture]:
    """A pit: steep walls, the one under the light in shadow and the opposite one lit, a chipped rim.

    Args:
        floor: Colour at its bottom.
        radius: Range of its mean radius in points.
        roughness: 0 = a smooth pit; 1 = broken material at its bottom and along its outline.
    """

    def draw(scene: Scene, rng: np.random.Generator) -> Picture:
        mean_radius = rng.uniform(*radius)
        level = patch(rng, scene, mean_radius, 0.12 + 0.3 * roughness) * mean_radius
        depth = smoothstep(-0.5, 0.45 * mean_radius, level)
        coarse, fine = smooth_noise(rng, scene.size, 7.0), smooth_noise(rng, scene.size, 2.0)
        rubble = roughness * depth * (0.9 * coarse + 0.2 * fine)
        relief = slope_towards(np.asarray(rubble - depth * mean_radius * 0.6, dtype=np.float32), scene.light)
        inside = smoothstep(-0.4, 1.6, level)[..., None]
        # The wall under the light throws its shadow over the floor.
        reach = round(0.35 * mean_radius * scene.size / POINTS)
        offset = (-reach * np.sin(scene.light), -reach * np.cos(scene.light))
        shadow = depth * (1.0 - ndimage.shift(depth, offset, order=1, mode="nearest"))
        colour = np.asarray(floor[: scene.picture.shape[2]], dtype=np.float32)
        bottom = colour + 0.35 * scene.picture * (1.0 - depth[..., None])
        bottom = bottom * (1.0 + np.clip(1.1 * relief - 0.8 * shadow, -0.85, 1.5))[..., None]
        rim = np.exp(-(((level + 0.6) / 0.9) ** 2)) * np.clip(0.5 * relief + 0.06, -0.12, 0.35)
        return scene.hit(scene.picture * (1.0 - inside) + bottom * inside + rim[..., None])

    return draw


def displacement(rng: np.random.Generator, scene: Scene, strength: float) -> tuple[Field, Field]:
    """A local deformation in points: within a round patch things are pushed aside, twisted or drawn together.

    Args:
        rng: Source of randomness.
        scene: Where it goes.
        strength: 1 = twisted by 20 to 45 degrees in the middle.

    Returns:
        How far to the right and how far down each pixel must look for what it shows.
    """
    x, y = grid(scene.size)
    radius = rng.uniform(24.0, 50.0)
    centre_x, centre_y = place(rng, scene.material, radius)
    right, down = (x - centre_x) / radius, (y - centre_y) / radius
    window = np.clip(1.0 - right**2 - down**2, 0.0, 1.0) ** 2
    push, twist, draw = (
        rng.normal(size=2) * 0.25,
        rng.choice([-1, 1]) * rng.uniform(0.35, 0.8),
        rng.normal() * 0.4,
    )
    scale = window * radius * strength
    shift_x = scale * (push[0] - twist * down + draw * right)
    shift_y = scale * (push[1] + twist * right + draw * down)
    return np.asarray(shift_x, dtype=np.float32), np.asarray(shift_y, dtype=np.float32)


def sample(picture: Picture, x: Field, y: Field) -> Picture:
    """The picture's colours at the points (x, y), cubic splines, mirrored beyond its borders."""
    to_pixels = picture.shape[0] / POINTS
    where = np.stack([y * to_pixels - 0.5, x * to_pixels - 0.5])
    channels = [
        ndimage.map_coordinates(picture[..., channel], where, order=3, mode="mirror")
        for channel in range(picture.shape[2])
    ]
    return np.asarray(np.stack(channels, axis=-1), dtype=np.float32)


def warp(strength: float) -> Callable[[Scene, np.random.Generator], Picture]:
    """The same texture, locally deformed: nothing foreign in it, only the arrangement is wrong.

    Args:
        strength: 1 = as ``displacement`` gives; a texture without order needs more to be noticed.
    """

    def draw(scene: Scene, rng: np.random.Generator) -> Picture:
        x, y = grid(scene.size)
        shift_x, shift_y = displacement(rng, scene, strength)
        return sample(scene.picture, x + shift_x, y + shift_y)

    return draw


def soft_patch(rng: np.random.Generator, scene: Scene, radius: tuple[float, float], softness: float) -> Field:
    """Weight of an irregular patch, 0 to 1; range of its radius and softness of its edge in points."""
    return blur(smoothstep(0.0, 0.15, patch(rng, scene, rng.uniform(*radius), 0.35)), softness)
