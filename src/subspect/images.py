"""Image files and their pixels: finding, reading, checking. Imports no torch (exported detectors need none)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tifffile import TiffFile

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MASK_FOLDERS = ("masks", "mask", "ground_truth")
PIXEL_LIMIT = 200_000_000

# Only these decoders are ever tried, whatever a file says it is: Pillow's others (some of which start
# programs) have no business with untrusted files.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# TIFF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274
_WHITE_IS_ZERO = 0
_TIFF_COMPRESSIONS = ("NONE", "DEFLATE", "ADOBE_DEFLATE", "LZMA")  # that tifffile reads by itself
_PNG_DEPTH = 24  # where a PNG says how many bits a channel has

# Pillow refuses twice its own limit while opening, which is below PIXEL_LIMIT as it comes.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, PIXEL_LIMIT)


class ImageError(ValueError):
    """An image file that cannot be used; the message names the file and what is wrong with it."""


class Decoded(NamedTuple):
    """What is in an image file.

    Attributes:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16, the right way up.
        mode: How the file stores them, in Pillow's words: ``L``, ``RGB``, ``RGBA``, ``P``, ``I;16``, …
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    mode: str


def read_image(path: Path) -> NDArray[np.float32]:
    """Reads a picture.

    EXIF rotation is applied, grey repeated over the channels, alpha dropped, a palette looked up. The values
    are divided by what the file's bit depth can hold (255 or 65535) and never stretched: a stretch would make
    scores depend on the picture. Of a file with several pages or frames, the first is read.

    Args:
        path: A file of any format in ``IMAGE_SUFFIXES``.

    Returns:
        ``(H, W, 3)``, RGB in [0, 1].

    Raises:
        ImageError: The file is missing, empty, truncated, no image, of an unsupported kind, or larger than
            ``PIXEL_LIMIT`` pixels.
    """
    values = _unit_range(decode(path).pixels)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def read_mask(paths: Sequence[Path], level: int) -> NDArray[np.bool_]:
    """Reads the union of masks.

    Args:
        paths: At least one mask file, all of one size.
        level: A pixel whose value (of a coloured mask: that of its brightest channel) lies above this, on a
            scale of 0 to 255, is defective.

    Returns:
        ``(H, W)``, true where defective.

    Raises:
        ImageError: A file cannot be read, or the masks differ in size.
    """
    masks = [_above(decode(path).pixels, level) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise ImageError(
                f"{path}: the mask is {_size(mask)}, but {paths[0]} of the same image is {_size(masks[0])}"
            )
    union: NDArray[np.bool_] = np.any(np.stack(masks), axis=0)
    return union


def decode(path: Path) -> Decoded:
    """Decodes an image file completely, as integers.

    Raises:
        ImageError: As ``read_image``.
    """
    _check_file(path)
    try:
        # Given a path, Pillow maps uncompressed TIFFs into memory, with wrong sides if they are to be turned.
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            _check_size(path, image.width, image.height)
            mode = image.mode
            if _is_deep_colour_png(path, image):
                raise ImageError(
                    f"{path}: a PNG with 16 bits in several channels, of which 8 would be lost; save it as"
                    " TIFF, or with 8 bits a channel"
                )
            pixels = _tiff_pixels(path) if _is_deep_colour_tiff(image) else _pillow_pixels(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image of a supported format (png, jpg, bmp, tif, webp)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path}: {_too_large()}") from None
    except Exception as error:  # decoders answer damaged data with exceptions of any kind
        raise ImageError(f"{path}: cannot be decoded, probably truncated or damaged ({error})") from error
    if pixels is None:
        raise ImageError(f"{path}: unsupported kind of pixels ({mode}); save it with 8 or 16 bits a channel")
    return Decoded(pixels, mode)


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resizes a mask ``(H, W)`` to ``size``: each new pixel takes the one under its centre."""
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, size, strict=True))
    return mask[rows[:, None], columns]


def find_images(folder: Path) -> list[Path]:
    """All image files in a folder and below, in natural order (``2.png`` before ``10.png``).

    Endings count in any case; hidden files and folders are left out. Linked folders are followed, each folder
    once.
    """
    found = (path for path in _visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((path for path in found if path.is_file()), key=natural_order)


def _visible_files(folder: Path) -> Iterator[Path]:
    """The files in a folder and below, but for hidden ones; each folder once: links may lead in circles."""
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def is_in_masks(path: Path, folder: Path) -> bool:
    """Whether a file lies in a subfolder of a folder that is named as masks are (in any case)."""
    return any(part.casefold() in MASK_FOLDERS for part in path.relative_to(folder).parts[:-1])


def natural_order(path: Path) -> tuple[list[list[str | int]], str]:
    """A sorting key under which numbers within names count as numbers."""
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    # re.split alternates text and digits, so that text is only ever compared with text.
    keys = [[int(piece) if piece.isdecimal() else piece for piece in pieces] for pieces in parts]
    return keys, str(path)


def _check_file(path: Path) -> None:
    """Says what Pillow would not say clearly."""
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    if not path.is_file():
        raise ImageError(f"{path}: a folder, not an image file")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty")


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > PIXEL_LIMIT:
        raise ImageError(f"{path}: {height}x{width} pixels (height x width); {_too_large()}")


def _too_large() -> str:
    return f"images of more than {PIXEL_LIMIT // 1_000_000} megapixels are not decoded"


def _is_deep_colour_tiff(image: Image.Image) -> bool:
    """Whether this is a TIFF with several channels of 16 bits, which Pillow would cut to 8."""
    bits = _tiff_tag(image, _BITS_PER_SAMPLE) or ()
    return len(bits) > 1 and max(bits) == 16


def _is_deep_colour_png(path: Path, image: Image.Image) -> bool:
    """Whether this is a PNG with several channels of 16 bits, which Pillow would cut to 8."""
    if image.format != "PNG" or image.mode.startswith("I"):
        return False
    with path.open("rb") as file:
        return file.read(_PNG_DEPTH + 1)[-1] == 16


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    """Value of a TIFF tag; None if the image is no TIFF or has no such tag."""
    return getattr(image, "tag_v2", {}).get(tag)


def _tiff_pixels(path: Path) -> NDArray[np.uint16] | None:
    """First page of a TIFF with 16 bits in several channels; None if it is neither grey nor RGB."""
    with TiffFile(path) as file:
        page: Any = file.pages[0]
        if page.compression.name not in _TIFF_COMPRESSIONS and find_spec("imagecodecs") is None:
            raise ImageError(
                f"{path}: 16 bits a channel compressed by {page.compression.name}; save it uncompressed or with"
                " deflate, or pip install imagecodecs"
            )
        pixels: NDArray[np.uint16] = page.asarray()
        orientation = page.tags.valueof(_ORIENTATION, 1)
    if page.photometric.name not in {"RGB", "MINISBLACK"} or pixels.ndim != 3:
        return None
    if page.planarconfig.name == "SEPARATE":
        pixels = np.moveaxis(pixels, 0, -1)
    upright = _turn_upright(pixels, orientation)
    return upright[..., :3] if page.photometric.name == "RGB" else upright[..., 0]


def _turn_upright(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Undoes an EXIF orientation (1 to 8), as ``ImageOps.exif_transpose`` does for Pillow's images."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in {2, 3, 6, 7} else pixels


def _pillow_pixels(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
    """Pixels of an opened file the right way up; None if their kind is unsupported."""
    white_is_zero = _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        pixels = np.asarray(upright).astype(np.uint16)
        return np.iinfo(np.uint16).max - pixels if white_is_zero else pixels  # Pillow sees to 8 bits only
    if upright.mode in {"1", "L", "LA"}:
        return np.asarray(upright.convert("L"))
    if upright.mode in {"P", "PA"}:  # over RGBA, because a palette may hold transparent entries
        return np.asarray(upright.convert("RGBA"))[..., :3]
    if upright.mode in {"RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}:
        return np.asarray(upright.convert("RGB"))
    return None


def _unit_range(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
    values = pixels.astype(np.float32)
    values /= np.float32(np.iinfo(pixels.dtype).max)  # in place, since pictures may be large
    return values


def _above(pixels: NDArray[np.uint8] | NDArray[np.uint16], level: int) -> NDArray[np.bool_]:
    """Where the brightest channel lies above a level given on the scale of 0 to 255."""
    brightest = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    full_level = level * (np.iinfo(pixels.dtype).max // 255)
    above: NDArray[np.bool_] = brightest > full_level
    return above


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """For each of ``new`` positions along a side of ``old`` pixels, the pixel under its centre."""
    # In integers: (i + 1/2) · old / new, rounded down.
    return (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)


def _size(pixels: NDArray[np.bool_]) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
