"""Pretraining: a plain autoencoder, then codebooks from data; the report against numbers made by hand."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.config import PRESETS, PRETRAINING, LatentConfig, PretrainingConfig
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.detectors.dsr.pretraining import (
    LatentStage,
    PretrainingRun,
    _warn_of_dead_levels,
    judge,
    pretrain,
)
from subspect.detectors.dsr.quantizer import flatten_features
from subspect.training.fitting import fit
from tiny import LATENT, QUIET, latent_model, pretraining_run, write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pretraining")
    write_pictures(made, 10, size=(70, 90))
    return made


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    run = pretraining_run(str(folder))
    return run, output, pretrain(run, output, QUIET)


def test_the_report_is_on_disk_and_in_the_file(pretrained):
    _, output, report = pretrained
    assert report["pictures"] == 8
    assert report["held_out"]["pictures"] == 2
    assert report["run"]["pretraining"]["quantise_from"] == 30
    assert json.loads((output / "report.json").read_text()) == report
    model, source = load_latent_model(str(output / "latent.safetensors"), LATENT)
    assert source["report"] == report
    assert (output / "latent.safetensors.sha256").is_file()
    assert 1 < report["held_out"]["low_used"] <= 16
    assert 1 < report["held_out"]["high_perplexity"] <= report["held_out"]["high_used"]
    assert not model.low_codebook.codes.isnan().any()


def test_the_split_is_recorded(pretrained, folder):
    header, *lines = (pretrained[1] / "split.csv").read_text().splitlines()
    assert header == "path,split"
    split = dict(line.rsplit(",", 1) for line in lines)
    assert set(split) == {path.as_posix() for path in folder.iterdir()}
    assert Counter(split.values()) == {"train": 8, "held_out": 2}


def test_training_draws_held_out_pictures_better(pretrained, folder):
    untrained = judge(latent_model(), sorted(folder.iterdir()), "rgb")
    assert pretrained[2]["held_out"]["psnr"] > untrained["psnr"] + 3


@torch.no_grad()
def test_the_report_says_what_can_be_counted_by_hand(folder):
    model, paths = latent_model().eval(), sorted(folder.iterdir())[:3]
    report = judge(model, paths, "rgb", size=72)
    psnrs, counts = [], {"low": Counter(), "high": Counter()}
    for path in paths:
        picture = np.array(Image.open(path))[3:67, 9:81]  # the central 64 x 72 of 70 x 90
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        error = (model(image).clamp(0, 1) - image).double().square().mean().item()
        psnrs.append(10 * np.log10(1 / error))
        latents = model.encode(image)
        counts["low"].update(latents.quantized_low.indices.flatten().tolist())
        counts["high"].update(latents.quantized_high.indices.flatten().tolist())
    assert (report["pictures"], report["size"]) == (3, 72)
    assert report["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    for level, count in counts.items():
        share = np.array(list(count.values())) / count.total()
        assert report[f"{level}_used"] == len(count)
        assert report[f"{level}_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def stage_of(folder, steps: int, **changes: object) -> LatentStage:
    values = {"crop_size": 32, "quantise_from": 0, "reconstruction_weight": 4.0, "colour": "rgb"} | changes
    config = PretrainingConfig(StageConfig(steps, 4, learning_rate=1e-3), **values)
    torch.manual_seed(3)
    return LatentStage(latent_model(), sorted(folder.iterdir()), config, seed=0)


def test_until_quantised_it_is_a_plain_autoencoder_whose_codes_stand_still(folder, tmp_path):
    stage = stage_of(folder, 3, quantise_from=10)
    codes = stage.model.low_codebook.codes.clone()
    weights = stage.model.high_encoder.conv1.weight.clone()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        model = stage.model
        encoded = model.high_encoder(images)
        low = model.low_projection(model.low_encoder(encoded))
        drawn = model.decoder(model.join(low, model.high_features(encoded, low)))
        expected = 4.0 * F.mse_loss(drawn, images)
        assert float(stage.training_step(images, 0)) == pytest.approx(float(expected), rel=1e-5)
    fit([stage], tmp_path, QUIET)
    assert torch.equal(stage.model.low_codebook.codes, codes)
    assert not torch.equal(stage.model.high_encoder.conv1.weight, weights)


def test_k_means_sets_both_codebooks_from_the_batch(folder):
    stage, images = stage_of(folder, 3), torch.rand(8, 3, 32, 32)
    before = stage.model.low_codebook.codes.clone()
    distances = []
    for start in (False, True):
        if start:
            stage._start_codebooks(images)
        with torch.no_grad():
            latents = stage.model.encode(images)
        for features, codebook in (
            (latents.low, stage.model.low_codebook),
            (latents.high, stage.model.high_codebook),
        ):
            distances.append(torch.cdist(flatten_features(features), codebook.codes).amin(1).square().mean())
    assert not torch.equal(stage.model.low_codebook.codes, before)
    assert distances[2] < distances[0]
    assert distances[3] < distances[1]


def test_a_model_trained_before_keeps_its_codes_and_averages_begin_at_them(folder):
    torch.manual_seed(3)
    stage = LatentStage(
        latent_model(), sorted(folder.iterdir()), stage_of(folder, 3).pretraining, seed=0, trained_before=True
    )
    books = (stage.model.low_codebook, stage.model.high_codebook)
    before = [book.codes.clone() for book in books]
    stage._start_codebooks(torch.rand(8, 3, 32, 32))
    for book, codes, positions in zip(books, before, (8 * 4 * 4, 8 * 8 * 8), strict=True):
        assert torch.equal(book.codes, codes)
        assert (book.average_count == positions / len(codes)).all()
        torch.testing.assert_close(book.average_sum, codes * positions / len(codes))


def test_a_pretraining_goes_on_from_a_latent_model(pretrained, folder, tmp_path):
    run, output, report = pretrained
    still = replace(run.pretraining, stage=StageConfig(1, 4, learning_rate=1e-9), decay=1.0, quantise_from=99)
    start = str(output / "latent.safetensors")
    went_on = pretrain(replace(run, pretraining=still, start=start), tmp_path / "more", QUIET)
    assert went_on["held_out"]["psnr"] == pytest.approx(report["held_out"]["psnr"], abs=0.02)  # half precision
    assert went_on["run"]["start"] == start
    with pytest.raises(ValueError, match="leave out those of the backbone"):
        pretrain(replace(run, start=start, weights="resnet18.safetensors"), tmp_path / "both", QUIET)


def test_a_level_that_died_is_warned_of(caplog):
    config = LatentConfig(codes=100, low_groups=2)
    _warn_of_dead_levels({"low_used": 4, "high_used": 2}, config)
    assert not caplog.records
    _warn_of_dead_levels({"low_used": 3, "high_used": 2}, config)
    (record,) = caplog.records
    assert record.getMessage().startswith("the low level died: 3 of 200 codes are in use; train in float32")


@torch.no_grad()
def test_the_loss_is_reconstruction_and_commitment(folder):
    stage = stage_of(folder, 100, commitment=0.5)
    images, model = torch.rand(2, 3, 32, 32), stage.model
    latents = model.encode(images)
    commitment = F.mse_loss(latents.low, latents.quantized_low.features)
    commitment = commitment + F.mse_loss(latents.high, latents.quantized_high.features)
    expected = 4.0 * F.mse_loss(model(images), images) + 0.5 * commitment
    assert float(stage._quantized_loss(images)) == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_models_learn_the_channel_order_that_their_detectors_show_them(folder):
    assert {name: config.colour for name, config in PRETRAINING.items()} == {
        name: config.colour for name, config in PRESETS.items()
    }
    red, blue = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    red[:, 0], blue[:, 2] = 0.9, 0.9
    rgb, bgr = stage_of(folder, 100), stage_of(folder, 100, colour="bgr")
    assert float(bgr.training_step(red, 0)) == pytest.approx(float(rgb.training_step(blue, 0)), rel=1e-5)
    model, path = latent_model().eval(), folder.parent / "swapped.png"
    picture = Image.open(next(iter(folder.iterdir())))
    Image.fromarray(np.array(picture)[..., ::-1].copy()).save(path)
    assert judge(model, [Path(picture.filename)], "bgr") == judge(model, [path], "rgb")


def test_codes_out_of_use_are_revived(folder):
    # Step 0 of 100: codes far from everything are moved onto features of the batch.
    stage, images = stage_of(folder, 100), torch.rand(4, 3, 32, 32)
    codebook = stage.model.high_codebook
    codebook.codes[8:] = 1e3
    codebook.average_sum.copy_(codebook.codes)
    codebook.average_count.fill_(1.0)
    codebook.average_count[8:] = 1e-3
    with torch.no_grad():
        latents = stage.model.encode(images)
        stage._move_codebooks(latents)
    features = flatten_features(latents.high)
    assert all((features == code).all(1).any() for code in codebook.codes[8:])


def test_presets_and_what_replaces_their_values():
    run = PretrainingRun.from_preset("fast", folders=("a", "b"), seed=4)
    assert run == PretrainingRun(PRESETS["fast"].latent, PRETRAINING["fast"], ("a", "b"), seed=4)
    run = PretrainingRun.from_preset(
        "fast", folders=("a",), steps=60, settings=["stage.batch_size=2", "crop_size=64"]
    )
    assert (run.pretraining.stage.steps, run.pretraining.stage.batch_size) == (60, 2)
    assert run.pretraining.crop_size == 64
    assert (run.pretraining.quantise_from, run.pretraining.early_steps) == (30, 30)
    preset = PRETRAINING["fast"]
    back = {"stage": preset.stage, "crop_size": 128, "quantise_from": 300, "early_steps": 2000}
    assert replace(run.pretraining, **back) == preset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "slow"}, "no preset 'slow' to pretrain; there are: paper, fast"),
        ({"steps": 0}, "at least one step, got 0"),
        ({"settings": ["stage.batch_size=0"]}, "one image a step"),
        ({"settings": ["crop_size=0"]}, "multiple of 8, got 0"),
        ({"settings": ["crop_size=100"]}, "multiple of 8, got 100"),
        ({"settings": ["cropsize=64"]}, "cropsize"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PretrainingRun.from_preset(**({"preset": "fast", "folders": ("a",)} | changes))


def test_pictures_that_cannot_be_used_are_listed_before_any_work(folder, tmp_path):
    mine = tmp_path / "mine"
    write_pictures(mine, 3)
    (mine / "broken1.png").write_bytes(b"no picture")
    (mine / "broken2.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)2 pictures cannot be read.*broken1\.png.*broken2\.jpg"):
        pretrain(pretraining_run(str(mine)), tmp_path / "out", QUIET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="at least two pictures"):
        pretrain(pretraining_run(str(tmp_path / "empty")), tmp_path / "out", QUIET)
    missing = replace(pretraining_run(""), folders=(str(mine), str(tmp_path / "gone"), str(tmp_path / "lost")))
    with pytest.raises(ValueError, match=r"no such folder: .*gone, .*lost"):
        pretrain(missing, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()
