"""Latents of windows against slices of those of whole images, in both kinds of latent model."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from subspect.detectors.dsr import encodings
from subspect.detectors.dsr.config import LatentConfig
from subspect.detectors.dsr.encodings import KeptCodes, Seen
from subspect.detectors.dsr.latent_model import LatentModel, Latents
from subspect.detectors.dsr.perceptual_model import make_latent_model
from subspect.simulation.cropping import Windows
from tiny import LATENT, write_backbone

PERCEPTUAL = LatentConfig(
    width=8, residual_width=4, codes=12, low_groups=4, high_groups=8, backbone="test_resnet.r160_in1k"
)
CORNERS = ((0, 32), (16, 8), (32, 0))
"""Of the windows: down and right."""
SIDE = 32


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(params=["paper's", "perceptual"])
def model(request, tmp_path) -> LatentModel:
    torch.manual_seed(0)
    made = make_latent_model(LATENT if request.param == "paper's" else PERCEPTUAL)
    if request.param == "perceptual":
        made.backbone.load_weights(write_backbone(tmp_path / "backbone.safetensors", PERCEPTUAL.backbone))
    return made.eval()


@pytest.fixture
def images() -> Tensor:
    # Another layout in memory rounds otherwise.
    made = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def windows() -> Windows:
    down, right = torch.tensor(CORNERS).T
    return Windows(down[:, None] + torch.arange(SIDE), right[:, None] + torch.arange(SIDE))


def sliced(maps: Tensor, stride: int) -> Tensor:
    """The windows of maps that are ``stride`` times coarser than the images."""
    side = SIDE // stride
    cells = [(down // stride, right // stride) for down, right in CORNERS]
    return torch.stack([one[..., y : y + side, x : x + side] for one, (y, x) in zip(maps, cells, strict=True)])


def assert_sliced(seen: Latents, whole: Latents) -> None:
    assert torch.equal(seen.encoded, sliced(whole.encoded, 4))
    for level, stride in (("low", 8), ("high", 4)):
        assert torch.equal(getattr(seen, level), sliced(getattr(whole, level), stride))
        for ours, theirs in zip(
            getattr(seen, f"quantized_{level}"), getattr(whole, f"quantized_{level}"), strict=True
        ):
            assert torch.equal(ours, sliced(theirs, stride))


def test_windows_have_the_latents_of_the_whole_image_there(model, images, windows):
    seen = Seen.part_of(images, windows)
    assert torch.equal(seen.images, sliced(images, 1))
    assert_sliced(seen.encode(model), model.encode(images))
    everything = Seen.all_of(images).encode(model)
    for ours, theirs in zip(everything[:3], model.encode(images)[:3], strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_painted_into_a_window_is_encoded_in_its_image(model, images, windows):
    painted, places = 1 - sliced(images, 1)[1:], torch.tensor([1, 2])
    by_hand = images.clone()
    for image, crop, (down, right) in zip(by_hand[1:], painted, CORNERS[1:], strict=True):
        image[:, down : down + SIDE, right : right + SIDE] = crop
    changed = Seen.part_of(images, windows).at(places).with_images(painted)
    assert torch.equal(changed.whole, by_hand[1:])
    assert torch.equal(changed.images, painted)
    found, whole = changed.encode(model), model.encode(by_hand[1:])
    down, right = CORNERS[1]
    expected = whole.quantized_low.indices[0, ..., down // 8 : down // 8 + 4, right // 8 : right // 8 + 4]
    assert torch.equal(found.quantized_low.indices[0], expected)
    assert torch.equal(Seen.all_of(images).with_images(1 - images).whole, 1 - images)


@pytest.mark.parametrize("model", ["perceptual"], indirect=True)
def test_kept_codes_are_those_of_encoding_anew_and_encoded_once(model, images, windows, monkeypatch):
    monkeypatch.setattr(encodings, "_MOST_KEPT", 3)
    whole, kept, encoded = model.encode(images), KeptCodes(model), []
    model.backbone.register_forward_hook(lambda *_: encoded.append(1))
    for numbers, count in (((4, 9, 2), 1), ((4, 9, 2), 1), ((4, 9, 7), 2), ((4, 9, 7), 3)):
        latents = kept.encode(Seen.part_of(images, windows), numbers)
        assert len(encoded) == count
        for level, stride in (("low", 8), ("high", 4)):
            features, indices = getattr(latents, f"quantized_{level}")
            theirs = getattr(whole, f"quantized_{level}")
            assert torch.equal(indices, sliced(theirs.indices, stride))
            torch.testing.assert_close(features, sliced(theirs.features, stride), atol=1e-6, rtol=0)
            assert torch.equal(getattr(latents, level), features)
    turned = kept.encode(Seen.all_of(images.flip(0)), (2, 9, 4))
    assert len(encoded) == 3
    assert torch.equal(turned.quantized_high.indices, whole.quantized_high.indices.flip(0))
