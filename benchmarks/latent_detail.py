"""What the discrete latent model keeps of small things: pictures before and after the general reconstruction.

    python benchmarks/latent_detail.py CRACK.jpg OUTPUT.png [--preset fast] [--weights FILE]

Three pictures of 256x256: a one-pixel scratch on brushed metal (a built-in surface), a crack on a tile (a
photograph with its mask beside it, as magnetic tile has them) and printed text. Beside each its reconstruction,
and printed: how much is left of the small thing's contrast against its surroundings.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from subspect.datasets.surfaces import generate
from subspect.detectors.colour import in_order
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.images import read_image

SIZE = 256
Case = tuple[str, np.ndarray, np.ndarray]  # name, picture (H, W, 3) in [0, 1], mask (H, W)


def scratch() -> Case:
    """A bright line one pixel wide on brushed metal."""
    with tempfile.TemporaryDirectory() as folder:
        generate(
            Path(folder) / "made", seed=0, surfaces=("metal",), size=SIZE, train=1, test_normal=1, per_defect=1
        )
        picture = read_image(next((Path(folder) / "made/metal/train/good").iterdir()))
    line = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(line).line([(60, 190), (130, 90), (200, 70)], fill=255, width=1)
    mask = np.asarray(line) > 0
    return "one-pixel scratch", np.where(mask[..., None], np.minimum(picture + 0.3, 1), picture), mask


def crack(path: Path) -> Case:
    """The middle of a photograph's defect, at the photograph's own resolution."""
    picture, mask = read_image(path), np.asarray(Image.open(path.with_suffix(".png")).convert("L")) > 127
    centre = np.argwhere(mask).mean(0).round().astype(int)
    top, left = (
        int(np.clip(middle - SIZE // 2, 0, max(0, length - SIZE)))
        for middle, length in zip(centre, mask.shape, strict=True)
    )
    window = np.s_[top : top + SIZE, left : left + SIZE]
    return "crack on a tile", picture[window], mask[window]


def text() -> Case:
    """Print of 11 to 15 pixels' height on grey card."""
    page = Image.new("L", (SIZE, SIZE), 215)
    for row, size in enumerate((11, 12, 13, 15)):
        words = "LOT 4711-A  EXP 2027-05"
        ImageDraw.Draw(page).text((20, 30 + 50 * row), words, fill=40, font=ImageFont.load_default(size))
    grey = np.asarray(page, dtype=np.float32) / 255
    return "printed text", np.repeat(grey[..., None], 3, 2), grey < 0.6


def kept(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Contrast of the masked pixels against their surroundings, after relative to before."""
    ring = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
    contrasts = [picture[mask].mean() - picture[ring].mean() for picture in (after, before)]
    return float(contrasts[0] / contrasts[1])


@torch.no_grad()
def main() -> None:
    """Draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crack", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--preset", default="fast", choices=list(PRESETS))
    parser.add_argument("--weights")
    given = parser.parse_args()
    model, _ = load_latent_model(given.weights, PRESETS[given.preset].latent)
    model.eval()
    rows = []
    for name, picture, mask in (scratch(), crack(given.crack), text()):
        image = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32)).permute(2, 0, 1)[None]
        height, width = (length // 8 * 8 for length in mask.shape)
        image, mask = image[..., :height, :width], mask[:height, :width]
        colour = PRESETS[given.preset].colour
        latents = model.encode(in_order(image, colour))
        joined = model.join(latents.quantized_low.features, latents.quantized_high.features)
        after = in_order(model.decoder(joined).clamp(0, 1), colour)
        psnr = -10 * float(torch.log10((after - image).square().mean()))
        contrast = kept(image[0].mean(0).numpy(), after[0].mean(0).numpy(), mask)
        print(f"{name}: {psnr:.1f} dB, {contrast:.0%} of its contrast kept")
        pair = torch.cat((image, after), 3)[0].permute(1, 2, 0).numpy()
        rows.append(np.pad(pair, ((0, SIZE - height), (0, 2 * (SIZE - width)), (0, 0)), constant_values=1))
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(given.output)


if __name__ == "__main__":
    main()
