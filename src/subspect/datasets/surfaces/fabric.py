"""Woven fabric, thread by thread: a plain weave of round, twisted yarns of uneven thickness."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from subspect.datasets.surfaces.defects import displacement, stain
from subspect.datasets.surfaces.drawing import (
    POINTS,
    Field,
    Mask,
    Picture,
    Scene,
    Surface,
    blur,
    grid,
    place,
    smooth_noise,
)

_PITCH = 7.5
_WARP_COLOUR = np.array([0.36, 0.46, 0.60], dtype=np.float32)
_WEFT_COLOUR = np.array([0.72, 0.73, 0.72], dtype=np.float32)
_BEHIND = np.array([0.05, 0.05, 0.055], dtype=np.float32)


@dataclass(frozen=True)
class _Yarns:
    """The threads of one direction, each entry a thread.

    Attributes:
        centre: Its place in points, ascending.
        radius: Half its thickness in points.
        tone: Its brightness, about 1.
        side: +1 or -1; a warp thread passes over the weft threads of its own sign.
        phase: Where its twist begins, in turns.
    """

    centre: npt.NDArray[np.float64]
    radius: npt.NDArray[np.float64]
    tone: npt.NDArray[np.float64]
    side: npt.NDArray[np.float64]
    phase: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Cloth(Scene):
    """A piece of cloth.

    Attributes:
        warp: Threads running down, told apart by ``across``.
        weft: Threads running across, told apart by ``along``.
        across: Coordinate of each pixel across the warp threads, points.
        along: Coordinate of each pixel along the warp threads, points.
        fibres: Fine brightness structure of the yarn's surface.
    """

    warp: _Yarns
    weft: _Yarns
    across: Field
    along: Field
    fibres: Field


@dataclass(frozen=True)
class _Layer:
    """The threads of one direction as seen from above, each ``(H, W)``."""

    phase: Field
    offset: Field
    height: Field
    shade: Field


def _yarns(rng: np.random.Generator) -> _Yarns:
    count = int(1.3 * POINTS / _PITCH)
    centre = -0.15 * POINTS + rng.uniform(0, _PITCH) + _PITCH * np.arange(count) + rng.normal(0.0, 0.2, count)
    return _Yarns(
        centre=centre,
        radius=_PITCH * 0.5 * (1.0 + 0.04 * rng.normal(size=count)),
        tone=1.0 + 0.045 * rng.normal(size=count),
        side=np.where(np.arange(count) % 2 == 0, 1.0, -1.0),
        phase=rng.random(count),
    )


def _position(yarns: _Yarns, place: Field) -> tuple[Field, npt.NDArray[np.int64]]:
    """Thread number at each pixel, as a real number and rounded to the nearest thread."""
    number = np.interp(place, yarns.centre, np.arange(len(yarns.centre)))
    return np.asarray(number, dtype=np.float32), np.rint(number).astype(np.int64)


def _undulation(yarns: _Yarns, number: Field) -> Field:
    """Side of the crossing threads, running smoothly from one thread to the next."""
    low = np.minimum(number.astype(np.int64), len(yarns.side) - 2)
    weight = 0.5 - 0.5 * np.cos(np.pi * (number - low))
    return np.asarray(yarns.side[low] * (1 - weight) + yarns.side[low + 1] * weight, dtype=np.float32)


def _layer(yarns: _Yarns, place: Field, wave: Field, absent: Mask | None) -> _Layer:
    """Round threads that rise and sink with ``wave``; gaps and absent threads lie far below."""
    _, index = _position(yarns, place)
    offset = np.asarray((place - yarns.centre[index]) / yarns.radius[index], dtype=np.float32)
    lift = yarns.side[index] * wave
    crown = np.sqrt(np.clip(1.0 - offset**2, 0.0, 1.0))
    height = crown + 0.9 * lift
    hidden = np.abs(offset) > 1.0 if absent is None else (np.abs(offset) > 1.0) | absent
    shade = yarns.tone[index] * (0.42 + 0.38 * crown + 0.2 * lift)
    return _Layer(
        yarns.phase[index].astype(np.float32),
        offset,
        np.where(hidden, np.float32(-9.0), height).astype(np.float32),
        np.asarray(shade, dtype=np.float32),
    )


def _twist(layer: _Layer, run: Field) -> Field:
    """The slanting ridges of spun yarn."""
    phase = 2 * np.pi * (run / 2.6 + 0.55 * layer.offset + layer.phase)
    return np.asarray(1.0 + 0.07 * np.sin(phase), dtype=np.float32)


def _weave(cloth: _Cloth, no_warp: Mask | None = None, no_weft: Mask | None = None) -> Picture:
    """Draws the cloth; threads are cut where ``no_warp`` or ``no_weft`` is set."""
    warp_number, _ = _position(cloth.warp, cloth.across)
    weft_number, _ = _position(cloth.weft, cloth.along)
    warp = _layer(cloth.warp, cloth.across, _undulation(cloth.weft, weft_number), no_warp)
    weft = _layer(cloth.weft, cloth.along, -_undulation(cloth.warp, warp_number), no_weft)
    towards_x, towards_y = np.cos(cloth.light), np.sin(cloth.light)
    lit_warp = warp.shade * _twist(warp, cloth.along) * (1.0 + 0.22 * warp.offset * towards_x)
    lit_weft = weft.shade * _twist(weft, cloth.across) * (1.0 + 0.22 * weft.offset * towards_y)
    # A narrow soft step instead of a hard choice of the upper thread keeps the edges smooth.
    above = np.clip((warp.height - weft.height) * 3.0 + 0.5, 0.0, 1.0)[..., None]
    cover = np.clip(np.maximum(warp.height, weft.height) + 1.9, 0.0, 1.0)[..., None]
    colour = above * lit_warp[..., None] * _WARP_COLOUR + (1 - above) * lit_weft[..., None] * _WEFT_COLOUR
    occlusion = np.clip(np.abs(warp.height - weft.height) * 1.2 + 0.5, 0.0, 1.0)[..., None]
    colour = colour * (0.75 + 0.25 * occlusion) * cloth.fibres[..., None]
    return np.asarray(1.12 * colour * cover + _BEHIND * (1.0 - cover), dtype=np.float32)


def _scene(rng: np.random.Generator, size: int, training: bool) -> _Cloth:
    x, y = grid(size)
    angle = rng.uniform(-0.05, 0.05)
    centre = POINTS / 2
    across = centre + (x - centre) * np.cos(angle) - (y - centre) * np.sin(angle)
    along = centre + (x - centre) * np.sin(angle) + (y - centre) * np.cos(angle)
    across = across + 0.8 * smooth_noise(rng, size, 90.0)
    along = along + 0.8 * smooth_noise(rng, size, 90.0)
    fibres = 1.0 + 0.05 * smooth_noise(rng, size, 1.5) + 0.03 * smooth_noise(rng, size, 40.0)
    cloth = _Cloth(
        picture=np.zeros((size, size, 3), dtype=np.float32),
        light=-0.7 * np.pi + rng.uniform(-0.3, 0.3),
        material=np.ones((size, size), dtype=np.float32),
        warp=_yarns(rng),
        weft=_yarns(rng),
        across=np.asarray(across, dtype=np.float32),
        along=np.asarray(along, dtype=np.float32),
        fibres=np.asarray(fibres, dtype=np.float32),
    )
    return replace(cloth, picture=_weave(cloth))


def _inner_thread(rng: np.random.Generator, yarns: _Yarns) -> int:
    """A thread that crosses the picture well inside its borders."""
    return int(rng.choice(np.flatnonzero((yarns.centre > 30.0) & (yarns.centre < POINTS - 30.0))))


def _double(rng: np.random.Generator, yarns: _Yarns) -> _Yarns:
    """Lays a second thread beside one, in the same shed; its neighbours are squeezed aside."""
    number = _inner_thread(rng, yarns)
    room = rng.uniform(0.45, 0.7) * _PITCH
    distance = np.arange(len(yarns.centre)) - number
    push = np.sign(distance) * room * np.interp(np.abs(distance), [1, 2], [0.5, 0.0])
    centre = np.insert(yarns.centre + push, number, yarns.centre[number] - 0.5 * room)
    centre[number + 1] += 0.5 * room
    return _Yarns(
        centre=centre,
        radius=np.insert(yarns.radius, number, yarns.radius[number]),
        tone=np.insert(yarns.tone, number, yarns.tone[number]),
        side=np.insert(yarns.side, number, yarns.side[number]),
        phase=np.insert(yarns.phase, number, yarns.phase[number] + 0.4),
    )


def _doubled_thread(scene: _Cloth, rng: np.random.Generator) -> Picture:
    """Two threads lie where one belongs, all the way through the picture."""
    if rng.random() < 0.5:
        return _weave(replace(scene, warp=_double(rng, scene.warp)))
    return _weave(replace(scene, weft=_double(rng, scene.weft)))


def _missing_thread(scene: _Cloth, rng: np.random.Generator) -> Picture:
    """A broken thread: from its end on, the threads it crossed lie bare."""
    of_warp = rng.random() < 0.5
    yarns, place, run = (
        (scene.warp, scene.across, scene.along) if of_warp else (scene.weft, scene.along, scene.across)
    )
    start = rng.uniform(0.0, 0.5 * POINTS)
    end = start + rng.uniform(50.0, POINTS)
    gone = (_position(yarns, place)[1] == _inner_thread(rng, yarns)) & (run > start) & (run < end)
    return _weave(scene, gone, None) if of_warp else _weave(scene, None, gone)


def _torn(scene: _Cloth, rng: np.random.Generator) -> Picture:
    """A torn hole: every thread ends somewhere else, loose ends reach into the opening."""
    radius = rng.uniform(8.0, 22.0)
    centre_x, centre_y = place(rng, scene.material, radius + 12.0)
    column, row = round(centre_x * scene.size / POINTS), round(centre_y * scene.size / POINTS)
    middle_across, middle_along = scene.across[row, column], scene.along[row, column]
    frayed = 1.1 * smooth_noise(rng, scene.size, 1.3)
    cuts = []
    for yarns, position, run, across, along in (
        (scene.warp, scene.across, scene.along, middle_across, middle_along),
        (scene.weft, scene.along, scene.across, middle_along, middle_across),
    ):
        half_chord = np.sqrt(np.clip(radius**2 - (yarns.centre - across) ** 2, 0.0, None))
        first, last = half_chord * rng.uniform(0.2, 1.15, (2, len(half_chord)))
        index = _position(yarns, position)[1]
        cuts.append((run + frayed > along - first[index]) & (run + frayed < along + last[index]))
    torn = _weave(scene, *cuts)
    shadow = blur(np.asarray(cuts[0] & cuts[1], dtype=np.float32), 2.0)[..., None]
    return np.asarray(torn * (1.0 - 0.35 * shadow), dtype=np.float32)


def _distorted(scene: _Cloth, rng: np.random.Generator) -> Picture:
    """The weave is pulled out of shape."""
    shift_x, shift_y = displacement(rng, scene, 0.7)
    return _weave(replace(scene, across=scene.across + shift_x, along=scene.along + shift_y))


FABRIC = Surface(
    _scene,
    {
        "stain": stain((0.7, 1.0, 1.35), (0.25, 0.9)),
        "hole": _torn,
        "missing": _missing_thread,
        "doubled_thread": _doubled_thread,
        "warp": _distorted,
    },
)
