"""Whole profiles: every method, a stage whose FLOPs are known, and the command."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from subspect.cli import main
from subspect.detectors.config import StageConfig
from subspect.detectors.registry import METHODS
from subspect.profiling import inference, peak
from subspect.profiling.profiling import ProfileOptions, profile_detector, untrained_detector
from subspect.profiling.training_step import profile_stage
from subspect.spans import Span
from subspect.storage import save_detector
from subspect.training.options import FitOptions
from subspect.training.stage import Stage
from tiny import TINY, settled_detector

PARTS = {"loading", "simulation", "forward", "backward", "optimiser", "other"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer repetitions: times are not looked at but for their sums."""
    monkeypatch.setattr(inference, "_SECONDS", 0.0)
    monkeypatch.setattr(peak, "_SECONDS", 0.02)


class ProductStage(Stage):
    """Learns a product, after another one that stands for simulation."""

    def __init__(self):
        super().__init__("product", StageConfig(steps=1, batch_size=6), seed=0)
        self.layer = nn.Linear(4, 5)

    def trained(self):
        return [self.layer]

    def loader(self, start_step, rank, world_size):
        return DataLoader(torch.rand(60, 4), self.config.batch_size)

    def training_step(self, batch, _):
        with Span("simulation"):
            batch = batch @ torch.rand(4, 4)
        return self.layer(batch).square().mean()

    def preview(self):
        return {}


def test_the_parts_of_a_step_do_what_they_are_known_to_do():
    options = FitOptions("cpu", precision="32-true", progress=False)
    profile = profile_stage(ProductStage(), options, torch.device("cpu"))
    flops = {row.part.name: row.part.flops for row in profile.rows}
    product = 2 * 6 * 4 * 5
    assert flops == {
        "loading": 0,
        "simulation": 2 * 6 * 4 * 4,
        "forward": product,
        "backward": product,  # of the weights; what came before them has no gradient
        "optimiser": 0,
        "other": 0,
    }
    assert (profile.batch, profile.flops, len(profile.durations)) == (6, sum(flops.values()), 3)
    assert sum(row.part.seconds for row in profile.rows) == pytest.approx(profile.recorded_seconds)
    assert all(row.part.seconds > 0 for row in profile.rows)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_profile_that_adds_up(method, tmp_path):
    detector = settled_detector(method, tmp_path)
    result = profile_detector(detector, method, ProfileOptions(batch=2))
    inference, *steps = result.profiles
    own = sum(row.part.own_seconds for row in inference.rows)
    assert 0 < own <= inference.recorded_seconds
    assert 0 < sum(row.part.own_flops for row in inference.rows) <= inference.flops
    assert max(row.part.memory for row in inference.rows) <= inference.memory
    for row in inference.rows:
        module = detector.get_submodule(row.part.name)
        assert row.parameters == sum(parameter.numel() for parameter in module.parameters())
    for profile in result.profiles:
        share = profile.to_dict(result.peak)["share_of_peak"]
        assert 0 < share <= 1.2  # no more than the peak, but for the varying clock of the processor
    simulates = method in ("dsr", "draem", "riad")
    for step in steps:
        names = {row.part.name for row in step.rows}
        assert names == (PARTS if simulates else PARTS - {"simulation"})
        flops = {row.part.name: row.part.flops for row in step.rows}
        assert 0 < flops["forward"] < step.flops
        assert flops["backward"] > 0
        assert flops["loading"] == flops["optimiser"] == 0
        assert all(row.part.seconds >= 0 for row in step.rows)
    assert bool(steps) == (method != "padim")
    assert ("statistics" in result.skipped) == (method == "padim")


def test_an_untrained_padim_takes_the_memory_of_a_fitted_one():
    factor = untrained_detector("padim", TINY["padim"]).distributions.factor
    positions, channels, _ = factor.shape
    assert factor.untyped_storage().nbytes() == 4 * positions * channels**2
    assert torch.equal(factor[-1], torch.eye(channels) * 0.1)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    detector, output = settled_detector("dsr", tmp_path), tmp_path / "profile.json"
    save_detector(detector, tmp_path / "detector", {})
    words = [
        "profile",
        str(tmp_path / "detector"),
        "--batch-size",
        "2",
        "--inference-only",
        "--output",
        str(output),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    written = json.loads(output.read_text())
    assert [profile["batch"] for profile in written["profiles"]] == [2]
    parts = {part["name"]: part for part in written["profiles"][0]["parts"]}
    assert parts["detection"]["parameters"] == sum(
        weights.numel() for weights in detector.detection.parameters()
    )
    assert parts["detection.unet"]["flops"] <= parts["detection"]["flops"] <= written["profiles"][0]["flops"]
    assert all(f"\n{name} " in printed for name in ("detection", "latent_model.decoder", "upsampling"))
    assert f"{parts['detection']['parameters']:,}" in printed
    assert f"peak: {written['peak'] / 1e9:.4g} GFLOP/s" in printed


def test_flops_grow_with_the_batch_and_the_image(tmp_path):
    def flops(batch, **changes):
        detector = settled_detector("riad", tmp_path)
        detector.config = replace(TINY["riad"], **changes)
        options = ProfileOptions(batch=batch, training=False)
        return profile_detector(detector, "riad", options).profiles[0].flops

    once = flops(1)
    assert flops(3) == 3 * once
    assert flops(1, image_size=(64, 128)) == 2 * once


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["profile", "folder", "--method", "padim"], "has its own method and configuration"),
        (["profile", "folder"], "is no detector"),
        (["profile", "--preset", "quick"], "no preset 'quick' of dsr"),
        (["profile", "--precision", "int8"], "no precision 'int8'; there are: float32, bfloat16"),
        (["profile", "--batch-size", "0"], "at least one image"),
        (["profile", "--output", "."], "exists and is not overwritten"),
        (["profile", "--output", "nowhere/profile.json"], "nowhere is no folder"),
    ],
)
def test_what_cannot_be_profiled_is_refused(words, message, capsys):
    assert main(words) == 1
    assert message in capsys.readouterr().err
