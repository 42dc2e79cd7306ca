"""The camera that sees a scene with and without its defect, and the exact mask of what the defect changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from subspect.datasets.surfaces.drawing import POINTS, Field, Mask, Picture, blur, grid, smoothstep

VISIBLE = 4.0 / 255.0
"""Change of the noise-free picture, in any channel, from which a pixel counts as defective."""


class Camera:
    """Lighting, exposure, lens and sensor of one shot, the same for a scene with and without defect.

    Args:
        rng: Draws the shot's settings and its noise.
        size: Side of the picture in pixels.
        channels: 1 or 3.
    """

    def __init__(self, rng: np.random.Generator, size: int, channels: int) -> None:
        x, y = grid(size)
        x, y = x / POINTS - 0.5, y / POINTS - 0.5
        direction, fall = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.0, 0.22)
        gradient = 1.0 + fall * (x * np.cos(direction) + y * np.sin(direction))
        vignette = 1.0 - rng.uniform(0.0, 0.12) * (x**2 + y**2)
        white_balance = 1.0 + rng.normal(0.0, 0.004, channels) * (channels > 1)
        exposure = (rng.uniform(0.92, 1.08) * gradient * vignette)[..., None] * white_balance
        self._exposure: Picture = np.asarray(exposure, dtype=np.float32)
        self._gamma = rng.uniform(0.93, 1.07)
        self._softness = rng.uniform(0.45, 0.65)
        shared = rng.standard_normal((size, size, 1), dtype=np.float32)
        own = rng.standard_normal((size, size, channels), dtype=np.float32)
        self._noise = (0.9 * shared + 0.4 * own) * np.float32(rng.uniform(0.6, 1.0))

    def see(self, picture: Picture) -> Picture:
        """The picture as lit, exposed and focused, without noise, in [0, 1]."""
        channels = [blur(picture[..., channel], self._softness) for channel in range(picture.shape[2])]
        seen = np.clip(np.stack(channels, axis=-1) * self._exposure, 0.0, 1.0) ** self._gamma
        return np.asarray(seen, dtype=np.float32)

    def record(self, seen: Picture) -> npt.NDArray[np.uint8]:
        """Adds the shot's noise (more in bright parts) and rounds to 8 bits, ``(H, W, C)``."""
        deviation = np.sqrt(0.006**2 + 0.012**2 * seen)
        levels = np.rint((seen + self._noise * deviation) * 255.0)
        return np.asarray(np.clip(levels, 0, 255), dtype=np.uint8)


def changed(normal: Picture, defective: Picture) -> Mask:
    """The pixels that a defect visibly changed, without holes and specks, ``(H, W)``.

    Args:
        normal: What the camera sees without the defect, noise-free.
        defective: The same with the defect.
    """
    points = normal.shape[0] / POINTS
    difference = np.abs(defective - normal).max(axis=-1) > VISIBLE
    reach = max(1, round(2 * points))
    padded = np.pad(difference, 2 * reach)
    closed = ndimage.binary_closing(padded, ndimage.generate_binary_structure(2, 1), iterations=reach)
    filled = ndimage.binary_fill_holes(closed)[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    labels, _ = ndimage.label(filled, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    kept = areas >= max(4.0, 12.0 * points**2, 0.02 * areas.max())
    return np.asarray(kept[labels], dtype=np.bool_)


def confine(normal: Picture, defective: Picture, mask: Mask) -> Picture:
    """The defective picture inside the mask, fading out at its rim, and the normal one outside."""
    difference = defective - normal
    visible: Field = smoothstep(VISIBLE, 2 * VISIBLE, np.abs(difference).max(axis=-1)) * mask
    return np.asarray(normal + difference * visible[..., None], dtype=np.float32)
