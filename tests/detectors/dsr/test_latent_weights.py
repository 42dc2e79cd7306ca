"""Latent models on disk: half precision, checksum, and none but the one that fits."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from subspect.detectors.colour import in_order
from subspect.detectors.dsr.config import PRESETS, LatentConfig
from subspect.detectors.dsr.latent_weights import load_latent_model, save_latent_model
from subspect.detectors.pretrained import WeightsError
from tiny import LATENT, latent_model


@pytest.fixture
def path(tmp_path):
    save_latent_model(latent_model(), tmp_path / "latent.safetensors", {"psnr": 21.5})
    return tmp_path / "latent.safetensors"


def test_a_latent_model_comes_back_rounded_to_half_precision(tmp_path):
    path = tmp_path / "m.safetensors"
    checksum = save_latent_model(latent_model(), path, {"psnr": 21.5})
    loaded, source = load_latent_model(f"{path}#{checksum}", LATENT)
    assert source == {"source": f"{path}#{checksum}", "report": {"psnr": 21.5}}
    expected, state = latent_model().state_dict(), loaded.state_dict()
    kept = [name for name in state if not name.endswith(("average_sum", "average_count"))]
    assert len(kept) == len(state) - 4
    for name in kept:
        assert torch.equal(state[name], expected[name].half().float())
        assert state[name].dtype == torch.float32


def test_the_file_holds_what_inference_needs_and_says_what_it_is(path):
    with safe_open(path, "pt") as stored:
        assert not any("average" in name for name in stored.keys())  # noqa: SIM118
        assert {stored.get_tensor(name).dtype for name in stored.keys()} == {torch.float16}  # noqa: SIM118
        assert LatentConfig(**json.loads(stored.metadata()["config"])) == LATENT


def test_an_existing_file_is_not_overwritten(path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"latent\.safetensors exists and is not overwritten"):
        save_latent_model(latent_model(1), path, {})
    assert path.read_bytes() == before


def test_another_configuration_is_refused(path):
    with pytest.raises(WeightsError, match=r"codes=16, .* but the detector needs .*codes=32, "):
        load_latent_model(str(path), replace(LATENT, codes=32))


def test_a_damaged_file_is_named(path):
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"latent\.safetensors has the SHA-256"):
        load_latent_model(str(path), LATENT)
    path.with_name("latent.safetensors.sha256").unlink()
    with pytest.raises(WeightsError, match=r"latent\.safetensors is not a latent model"):
        load_latent_model(str(path), LATENT)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"config": "{"}, {"config": '{"unheard_of": 1}'}, {"config": "3"}]
)
def test_another_file_is_named(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path, metadata)
    with pytest.raises(WeightsError, match=r"other\.safetensors is not a latent model written by"):
        load_latent_model(str(path), LATENT)


def rewrite(path, change) -> None:
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    path.with_name(path.name + ".sha256").unlink()
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop("decoder.conv.bias"),
        lambda tensors, _: tensors.update({"surplus": torch.zeros(1)}),
        lambda tensors, _: tensors.update({"decoder.conv.bias": torch.zeros(3)}),
        lambda _, metadata: metadata.update(report="{"),
    ],
)
def test_a_file_that_does_not_fit_what_it_says_is_named(path, change):
    rewrite(path, change)
    with pytest.raises(WeightsError, match=r"latent\.safetensors (does not fit|is not a latent model)"):
        load_latent_model(str(path), LATENT)


def test_without_a_shipped_model_the_error_says_what_to_do():
    with pytest.raises(WeightsError, match="train one with `subspect pretrain FOLDER…` and give its file"):
        load_latent_model(None, LATENT)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_start_from_a_shipped_model_that_draws(preset):
    """A photograph of a soft coloured scene, in the preset's channel order; in the other it comes out worse."""
    config = PRESETS[preset]
    model, source = load_latent_model(None, config.latent)
    assert source["source"] == "shipped with subspect"
    assert source["report"]["held_out"]["psnr"] > 25
    model.eval()
    rows, columns = torch.meshgrid(torch.linspace(0, 6, 64), torch.linspace(0, 9, 64), indexing="ij")
    picture = torch.stack((0.6 + 0.3 * rows.sin(), 0.4 + 0.2 * columns.cos(), 0.15 + 0.1 * rows.cos()))[None]
    errors = {}
    for colour in ("rgb", "bgr"):
        image = in_order(picture, colour)
        latents = model.encode(image)
        drawn = model.decoder(model.join(latents.quantized_low.features, latents.quantized_high.features))
        errors[colour] = (drawn - image).square().mean().item()
    assert errors[config.colour] == min(errors.values())
    assert errors[config.colour] < 10**-2.8
