"""Arrays to pictures: heat, outlines, captions and grids, all ``(H, W, 3)`` uint8 RGB.

Heat has a fixed scale, given by the level at which defects are outlined and not by the map's own range, so
that a normal image looks calm and two images can be compared: the colours run from 0 to twice the level; an
overlay is clear up to half the level and reaches its full opacity at the level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from subspect.files import write_atomically

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

# A strip of 256 colours: matplotlib's inferno, which is in the public domain (CC0).
COLOURS = Path(__file__).parent / "assets" / "inferno.png"
OPACITY = 0.65
OUTLINE_COLOUR = (0, 255, 140)
PAPER, INK = (255, 255, 255), (30, 30, 30)
GAP = 8
_STRIP = 256


def as_rgb(array: npt.NDArray[np.generic]) -> Picture:
    """An array as a picture.

    Args:
        array: ``(H, W)`` or ``(H, W, 3)``: bool, uint8, or float in [0, 1] (values beyond are clipped).

    Raises:
        ValueError: The shape or the kind of number is none of these.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a picture is (H, W) or (H, W, 3), got {array.shape}")
    if array.dtype == np.bool_:
        grey = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint8:
        grey = array.astype(np.uint8, copy=False)
    elif np.issubdtype(array.dtype, np.floating):
        grey = _in_strips(_to_bytes, array)
    else:
        raise ValueError(f"a picture holds bool, uint8 or float in [0, 1], got {array.dtype}")
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def heat(anomaly_map: FloatArray, level: float) -> Picture:
    """An anomaly map ``(H, W)`` in colours, dark at 0 and brightest at twice the level (> 0)."""
    colours = _colours()
    places = (_relative(anomaly_map, level) / 2 * len(colours)).clip(0, len(colours) - 1).astype(np.uint8)
    return colours[places]


def overlay_heat(picture: npt.NDArray[np.generic], anomaly_map: FloatArray, level: float) -> Picture:
    """A picture with the heat of its anomaly map over it, clear where the map is below half the level."""

    def draw(part: npt.NDArray[np.generic], its_map: FloatArray) -> Picture:
        opacity = OPACITY * np.clip(2 * _relative(its_map, level) - 1, 0, 1)[..., None]
        blended = (1 - opacity) * as_rgb(part) + opacity * heat(its_map, level)
        return np.rint(blended).astype(np.uint8)

    return _in_strips(draw, picture, anomaly_map)


def draw_outline(picture: npt.NDArray[np.generic], inside: npt.NDArray[np.bool_]) -> Picture:
    """A picture with the outline of an area; the line lies outside of the area and hides none of it.

    The line is 1 pixel wide in pictures of up to 512 pixels and grows with them; a dark rim of the same width
    sets it off from bright surroundings.

    Args:
        picture: ``(H, W)`` or ``(H, W, 3)``, see `as_rgb`.
        inside: ``(H, W)``, True in the area.
    """
    drawn = as_rgb(picture).copy()
    width = max(1, round(max(inside.shape) / 512))
    line = _dilate(inside, width)
    drawn[_dilate(line, width) & ~line] //= 3
    drawn[(line & ~inside) | (inside & _frame(inside.shape, width))] = OUTLINE_COLOUR
    return drawn


def side_by_side(pictures: Mapping[str, npt.NDArray[np.generic]]) -> Picture:
    """Pictures in a row at their own size, each under its caption."""
    panels = [(caption, as_rgb(array)) for caption, array in pictures.items()]
    tallest = max(panel.shape[0] for _, panel in panels)
    font = ImageFont.load_default(size=int(np.clip(tallest / 24, 13, 60)))
    head = int(1.6 * font.size) if isinstance(font, ImageFont.FreeTypeFont) else 16
    gap = max(GAP, head // 3)
    widths = [max(panel.shape[1], int(font.getlength(caption)) + 1) for caption, panel in panels]
    canvas = Image.new("RGB", (sum(widths) + gap * (len(panels) - 1), head + tallest), PAPER)
    draw, left = ImageDraw.Draw(canvas), 0
    for (caption, panel), width in zip(panels, widths, strict=True):
        draw.text((left, head // 2), caption, fill=INK, font=font, anchor="lm")
        canvas.paste(Image.fromarray(panel), (left, head))
        left += width + gap
    return np.asarray(canvas)


def grid(rows: Sequence[Mapping[str, npt.NDArray[np.generic]]], height: int) -> Picture:
    """Rows of captioned pictures, all scaled to one height, one row below the other."""
    strips = [
        side_by_side({caption: scale_to_height(as_rgb(array), height) for caption, array in row.items()})
        for row in rows
    ]
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(strip, ((0, GAP), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER[0])
        for strip in strips
    ]
    return np.concatenate(padded)[:-GAP]


def scale_to_height(picture: Picture, height: int) -> Picture:
    """A picture scaled to a height, its proportions kept."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def save_picture(path: Path, picture: Picture) -> None:
    """Writes a picture as PNG; an interrupted write leaves no half a file."""

    def write(temporary: Path) -> None:
        Image.fromarray(picture).save(temporary, format="PNG")

    write_atomically(path, write, durable=False)


def _in_strips(draw: Callable[..., Picture], *arrays: npt.NDArray[Any]) -> Picture:
    """What is drawn of arrays ``(H, W, …)`` pixel by pixel, some rows at a time: large pictures take less."""
    starts = range(0, max(1, len(arrays[0])), _STRIP)
    return np.concatenate([draw(*(array[start : start + _STRIP] for array in arrays)) for start in starts])


def _to_bytes(values: npt.NDArray[Any]) -> Picture:
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _relative(anomaly_map: FloatArray, level: float) -> FloatArray:
    """The map in units of the level, which is kept off zero."""
    return np.asarray(anomaly_map, dtype=np.float32) / np.float32(max(level, 1e-12))


@cache
def _colours() -> Picture:
    """The colours of heat from dark to bright, ``(256, 3)``."""
    return np.array(Image.open(COLOURS).convert("RGB"))[0]


def _dilate(inside: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """An area grown by ``pixels`` in all eight directions."""
    dilated = inside
    for _ in range(pixels):
        rows = dilated.copy()
        rows[1:] |= dilated[:-1]
        rows[:-1] |= dilated[1:]
        dilated = rows.copy()
        dilated[:, 1:] |= rows[:, :-1]
        dilated[:, :-1] |= rows[:, 1:]
    return dilated


def _frame(shape: tuple[int, ...], pixels: int) -> npt.NDArray[np.bool_]:
    """The outermost pixels of an image, where an outline cannot lie outside of the area."""
    frame = np.ones(shape, dtype=bool)
    frame[pixels:-pixels, pixels:-pixels] = False
    return frame
