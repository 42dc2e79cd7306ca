"""Packs a folder of pictures for the way to another machine: shrunk copies in the same tree.

    python recipes/gpu/pack.py FOLDER COPY --side 256

Photographs become WebP of the wanted side (``--square``: exactly side x side, as detectors resize; else the
shorter side); PNG files, which hold masks in the layouts packed this way, are shrunk without interpolation.
Other files are left out.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image


def pack(source: Path, target: Path, given: argparse.Namespace) -> None:
    """Writes the shrunk copy of one picture."""
    with Image.open(source) as picture:
        scale = given.side / min(picture.size)
        size = (
            (given.side, given.side)
            if given.square
            else tuple(round(length * scale) for length in picture.size)
        )
        is_mask = source.suffix.lower() == ".png"
        shrunk = picture.resize(size, Image.Resampling.NEAREST if is_mask else Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_mask:
        shrunk.save(target)
    else:
        shrunk.save(target.with_suffix(".webp"), quality=given.quality)


def main() -> None:
    """Packs every picture below a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("copy", type=Path, help="folder to make")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--square", action="store_true")
    parser.add_argument("--quality", type=int, default=95, help="of the WebP files")
    given = parser.parse_args()
    given.copy.mkdir(parents=True)
    pictures = [path for path in given.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    with ThreadPoolExecutor() as pool:
        done = [
            pool.submit(pack, path, given.copy / path.relative_to(given.folder), given) for path in pictures
        ]
    for packed in done:
        packed.result()
    size = sum(path.stat().st_size for path in given.copy.rglob("*") if path.is_file())
    print(f"{len(done)} pictures, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
