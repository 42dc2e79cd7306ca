"""Textures: every file checked first, told by content, prepared as a detector takes images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subspect.datasets import read_table
from subspect.datasets.surfaces import SURFACES, render
from subspect.datasets.textures import (
    PreparedTextures,
    check_foreign,
    folder_textures,
    surface_textures,
)
from subspect.images import ImageError, read_image
from subspect.sizes import resize
from tiny import write_data_set, write_pictures


def prepare(image: np.ndarray) -> torch.Tensor:
    return resize(torch.from_numpy(image).permute(2, 0, 1), (32, 48), antialias=True)


def test_a_folder_gives_its_pictures(tmp_path):
    paths = write_pictures(tmp_path / "some", 2) + write_pictures(tmp_path / "some/more", 3, seed=1)
    textures = folder_textures(tmp_path / "some")
    assert textures.count == 5
    read = {textures.read(number).tobytes() for number in range(5)}
    assert read == {read_image(path).tobytes() for path in paths}


def test_broken_files_are_all_listed(tmp_path):
    paths = write_pictures(tmp_path, 4)
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[3].write_bytes(b"")
    with pytest.raises(ImageError, match="2 textures cannot be read") as caught:
        folder_textures(tmp_path)
    assert str(paths[1]) in str(caught.value)
    assert str(paths[3]) in str(caught.value)
    assert str(paths[0]) not in str(caught.value)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ImageError, match="holds no picture"):
        folder_textures(tmp_path)
    with pytest.raises(ImageError, match=r"no folder of textures: .*missing"):
        folder_textures(tmp_path / "missing")


def test_the_description_tells_contents_not_places(tmp_path):
    write_pictures(tmp_path / "a", 3)
    write_pictures(tmp_path / "b", 3)
    write_pictures(tmp_path / "c", 3, seed=1)
    described = [folder_textures(tmp_path / name).describe() for name in "abc"]
    assert described[0]["origin"] == str(tmp_path / "a")
    assert described[0]["pictures"] == 3
    assert described[0]["sha256"] == described[1]["sha256"] != described[2]["sha256"]
    assert surface_textures().describe() == {"origin": "built-in surfaces", "pictures": 96}


def test_textures_must_not_be_images_of_the_data_set(tmp_path):
    table = read_table(write_data_set(tmp_path / "data"), "folder")
    write_pictures(tmp_path / "others", 3, seed=7)
    check_foreign(folder_textures(tmp_path / "others"), table)
    check_foreign(surface_textures(), table)
    stray: Path = tmp_path / "others/stray.png"
    stray.write_bytes((tmp_path / "data/defective/01.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 images of .*stray\.png"):
        check_foreign(folder_textures(tmp_path / "others"), table)


def test_prepared_textures_are_the_same_whether_kept_or_not(tmp_path):
    write_pictures(tmp_path, 3)
    textures = folder_textures(tmp_path)
    kept, read = PreparedTextures(textures, prepare), PreparedTextures(textures, prepare, memory_limit=5000)
    assert len(kept) == 3
    for number in (0, 2, 1, 2, 0):
        expected = (prepare(textures.read(number)) * 255).round()
        assert kept[number].dtype == torch.uint8
        assert torch.equal(kept[number].float(), expected)
        assert torch.equal(read[number], kept[number])


def test_kept_textures_are_not_read_again(tmp_path):
    paths = write_pictures(tmp_path, 1)
    kept = PreparedTextures(folder_textures(tmp_path), prepare)
    first = kept[0]
    paths[0].unlink()
    assert torch.equal(kept[0], first)


@pytest.mark.parametrize("number", [0, 3, 11])
def test_built_in_textures_are_normal_surfaces(number):
    drawn = surface_textures().read(number)
    surface = SURFACES[number % len(SURFACES)]
    expected = render(surface, "good", number // len(SURFACES), seed=0, size=256, training=True).image
    grey = expected if expected.ndim == 2 else expected[..., 0]
    np.testing.assert_allclose(drawn[..., 0], grey / 255, atol=1e-6)
    assert drawn.shape == (256, 256, 3)
    assert Image.fromarray((drawn * 255).round().astype(np.uint8)).getextrema() != ((0, 0),) * 3
