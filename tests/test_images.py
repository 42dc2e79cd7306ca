import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch.nn import functional as F

from subspect import images, sizes
from subspect.images import ImageError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (13, 20, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
DEEP = RANDOM.integers(0, 65536, (13, 20, 3), dtype=np.uint16)


def png(path: Path, width: int, height: int, bits: int, colour_type: int, rows: bytes) -> None:
    """Writes a PNG by hand, for what Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def assert_reads(path: Path, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    read = images.read_image(path)
    assert read.dtype == np.float32
    assert read.shape == (*expected.shape[:2], 3)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    np.testing.assert_allclose(read, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.BMP", "a.tif", "a.TIFF", "a.webp"])
@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["rgb", "grey"])
def test_lossless_formats_in_any_case(tmp_path, name, pixels):
    Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    assert_reads(tmp_path / name, pixels / 255)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.Jpeg"])
@pytest.mark.parametrize("smooth", [(40, 120, 200), 77], ids=["rgb", "grey"])
def test_jpeg(tmp_path, name, smooth):
    pixels = np.full((13, 20, *np.shape(smooth)), smooth, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, quality=100)
    assert_reads(tmp_path / name, pixels / 255, tolerance=2 / 255)


def test_cmyk_jpeg(tmp_path):
    image = Image.new("CMYK", (20, 13), (0, 128, 255, 0))
    image.save(tmp_path / "a.jpg", quality=100)
    assert_reads(tmp_path / "a.jpg", np.full((13, 20, 3), (255, 127, 0)) / 255, tolerance=3 / 255)


def test_alpha_is_dropped_not_blended(tmp_path):
    alpha = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (13, 1))
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "rgba.png")
    assert_reads(tmp_path / "rgba.png", COLOUR / 255)
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    assert_reads(tmp_path / "la.png", GREY / 255)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_a_palette_is_looked_up(tmp_path, transparency):
    palette = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 128]], dtype=np.uint8)
    indices = GREY % 3
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    image.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
    assert_reads(tmp_path / "a.png", palette[indices] / 255)


def test_black_and_white(tmp_path):
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    assert_reads(tmp_path / "a.png", (GREY > 127).astype(float))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_by_its_depth_and_not_stretched(tmp_path, name):
    dark = DEEP[..., 0] // 16  # as from a 12-bit camera
    Image.fromarray(dark).save(tmp_path / name)
    assert_reads(tmp_path / name, dark / 65535)


@pytest.mark.parametrize(
    "options", [{"byteorder": ">"}, {"photometric": "miniswhite"}, {"compression": "zlib"}]
)
def test_16_bit_grey_tiff_variants(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., 0], **options)
    inverted = options.get("photometric") == "miniswhite"
    assert_reads(tmp_path / "a.tif", (65535 - DEEP[..., 0] if inverted else DEEP[..., 0]) / 65535)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_rgb_tiff_keeps_all_its_bits(tmp_path, planar):
    pixels = DEEP if planar == "contig" else np.moveaxis(DEEP, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar)
    assert_reads(tmp_path / "a.tif", DEEP / 65535)


def test_16_bit_rgba_tiff(tmp_path):
    pixels = np.dstack([DEEP, DEEP[..., :1]])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert_reads(tmp_path / "a.tif", DEEP / 65535)


def test_16_bit_rgb_tiff_compressed_by_what_another_package_reads(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="rgb")
    whole = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags["Compression"].valueoffset
    (tmp_path / "a.tif").write_bytes(whole[:place] + struct.pack("<H", 5) + whole[place + 2 :])
    with pytest.raises(ImageError, match=r"a\.tif: .*compressed by LZW; save it uncompressed .*imagecodecs"):
        images.decode(tmp_path / "a.tif")


def test_16_bit_colour_png_is_refused_rather_than_cut_to_8(tmp_path):
    grey_and_alpha = DEEP[..., :2]
    for kind, pixels in ((2, DEEP), (4, grey_and_alpha)):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        png(tmp_path / "a.png", 20, 13, 16, kind, rows)
        with pytest.raises(ImageError, match=r"a\.png: a PNG with 16 bits in several channels, .*TIFF"):
            images.decode(tmp_path / "a.png")


def turned_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What the EXIF standard says: where row 0 and column 0 of the stored picture belong."""
    return {
        1: pixels,
        2: np.fliplr(pixels),
        3: np.rot90(pixels, 2),
        4: np.flipud(pixels),
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90(pixels, 1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    blocks = np.kron(np.array([[0, 60, 120], [150, 200, 255]], dtype=np.uint8), np.ones((16, 16), np.uint8))
    Image.fromarray(blocks).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert_reads(tmp_path / "a.jpg", turned_upright(blocks, orientation) / 255, tolerance=2 / 255)
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    assert_reads(tmp_path / "a.png", turned_upright(COLOUR, orientation) / 255)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="rgb", extratags=[tag])
    assert_reads(tmp_path / "a.tif", turned_upright(DEEP, orientation) / 65535)
    Image.fromarray(GREY).save(tmp_path / "grey.tif", tiffinfo={274: orientation})  # uncompressed
    assert_reads(tmp_path / "grey.tif", turned_upright(GREY, orientation) / 255)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"part.{suffix}"
    Image.fromarray(COLOUR).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=rf"part\.{suffix}: .*truncated"):
        images.read_image(path)


def test_truncated_deep_tiff(tmp_path):
    path = tmp_path / "part.tif"
    tifffile.imwrite(path, DEEP, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"part\.tif: .*truncated"):
        images.read_image(path)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "gif.png")
    for name, what in [
        ("text.png", "not an image"),
        ("zero.png", "the file is empty"),
        ("folder.png", "a folder"),
        ("missing.png", "no such file"),
        ("gif.png", "not an image of a supported format"),
    ]:
        with pytest.raises(ImageError, match=f"{name}: {what}"):
            images.read_image(tmp_path / name)


@pytest.mark.parametrize("side", [15_000, 50_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_not_decoded(tmp_path, side):
    png(tmp_path / "bomb.png", side, side, 8, 0, b"\0")
    with pytest.raises(ImageError, match=r"bomb\.png: .*200 megapixels"):
        images.read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("dtype", [np.float32, np.uint32])
def test_unsupported_depths_say_so(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype))
    with pytest.raises(ImageError, match=r"a\.tif: unsupported .*8 or 16 bits"):
        images.read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("level", [0, 1, 127, 254])
def test_a_mask_is_what_lies_above_the_level(tmp_path, level):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_mask([tmp_path / "a.png"], level), ramp > level)


def test_masks_of_other_kinds(tmp_path):
    defective = GREY > 200
    red = np.zeros_like(COLOUR)
    red[defective, 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.fromarray(defective).save(tmp_path / "bits.png")
    Image.fromarray(np.where(defective, 65535, 0).astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ["red.png", "bits.png", "deep.png"]:
        np.testing.assert_array_equal(images.read_mask([tmp_path / name], 127), defective)


def test_masks_are_united(tmp_path):
    for name, mask in [("a.png", GREY > 200), ("b.png", GREY < 50)]:
        Image.fromarray(mask).save(tmp_path / name)
    union = images.read_mask([tmp_path / "a.png", tmp_path / "b.png"], 127)
    np.testing.assert_array_equal(union, (GREY > 200) | (GREY < 50))


def test_masks_of_different_sizes_cannot_be_united(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY[:5]).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"b\.png: .*5x20.*13x20"):
        images.read_mask([tmp_path / "a.png", tmp_path / "b.png"], 127)


def test_resize_interpolates_between_pixel_centres():
    # Centres of 4 new pixels over 2 old ones: -1/4, 1/4, 3/4, 5/4; the outer two are clamped.
    row = torch.tensor([[[0.0, 1.0]]])
    expected = torch.tensor([[[0.0, 0.25, 0.75, 1.0]]])
    torch.testing.assert_close(sizes.resize(row, (1, 4), antialias=False), expected)


def test_resize_with_antialias_agrees_with_pillow():
    image = torch.rand(2, 3, 40, 31, generator=torch.Generator().manual_seed(0))
    resized = sizes.resize(image, (17, 13), antialias=True)
    for index in np.ndindex(2, 3):
        channel = Image.fromarray(image[index].numpy())
        expected = np.asarray(channel.resize((13, 17), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(resized[index].numpy(), expected, atol=1e-5)


def test_resize_to_nothing_new_returns_the_input():
    image = torch.rand(3, 8, 9)
    assert sizes.resize(image, None, antialias=True) is image
    assert sizes.resize(image, (8, 9), antialias=True) is image


@pytest.mark.parametrize("size", [(5, 7), (26, 20), (13, 61), (1, 1)])
def test_resize_mask_takes_the_pixel_under_the_centre(size):
    mask = GREY > 127
    expected = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="nearest-exact")
    np.testing.assert_array_equal(images.resize_mask(mask, size), expected[0, 0].bool().numpy())


@pytest.mark.parametrize(("height", "width"), [(20, 40), (32, 64), (31, 33), (17, 17), (630, 230)])
def test_padding_reflects_and_crop_undoes_it(height, width):
    image = torch.rand(2, 3, height, width)
    padded, size = sizes.pad_to_multiple(image, 32)
    bottom, right = -height % 32, -width % 32
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(sizes.crop(padded, size), image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 5), (3, 64)])
def test_padding_a_picture_too_small_to_reflect_repeats_its_edge(height, width):
    image = torch.rand(1, 3, height, width)
    padded, size = sizes.pad_to_multiple(image, 32)
    modes = ["edge" if -side % 32 >= side else "reflect" for side in (height, width)]
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 0), (0, -width % 32)), mode=modes[1])
    expected = np.pad(expected, ((0, 0), (0, 0), (0, -height % 32), (0, 0)), mode=modes[0])
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(sizes.crop(padded, size), image)


def test_find_images_in_natural_order_without_hidden_files(tmp_path):
    for name in ["10.png", "2.PNG", "b/1.Tiff", "a/x.webp", ".hidden.png", ".git/1.png", "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in images.find_images(tmp_path)]
    assert found == ["2.PNG", "10.png", "a/x.webp", "b/1.Tiff"]


def test_linked_folders_are_searched_once_and_never_in_circles(tmp_path):
    for name in ("data/1.png", "elsewhere/2.png", "elsewhere/deep/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/twice").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "elsewhere/deep/back").symlink_to(tmp_path / "data")
    found = [path.relative_to(tmp_path).as_posix() for path in images.find_images(tmp_path / "data")]
    assert found == ["data/1.png", "data/linked/2.png", "data/linked/deep/3.png"]


def test_a_hidden_folder_above_hides_nothing(tmp_path):
    folder = tmp_path / ".data"
    folder.mkdir()
    (folder / "1.png").touch()
    assert images.find_images(folder) == [folder / "1.png"]
