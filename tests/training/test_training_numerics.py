"""Schedules and Adam against PyTorch's own, seeds that hold over versions, which checkpoint is the newest."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from subspect.detectors.config import StageConfig
from subspect.training.checkpoints import newest_checkpoint
from subspect.training.stage import Stage, learning_rate_factor, seeded_generator

CPU = torch.device("cpu")


def course(config: StageConfig) -> list[float]:
    return [learning_rate_factor(step, config) for step in range(config.steps)]


def pytorchs(scheduler: type, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_a_constant_rate_stays():
    assert set(course(StageConfig(50, 1))) == {1.0}


def test_the_papers_step_comes_after_80_000_of_100_000_steps():
    config = StageConfig(100_000, 8, schedule="step")
    assert [learning_rate_factor(step, config) for step in (0, 79_999, 80_000, 99_999)] == [1, 1, 0.1, 0.1]
    expected = pytorchs(torch.optim.lr_scheduler.StepLR, 50, step_size=40, gamma=0.1)
    assert course(StageConfig(50, 1, schedule="step")) == pytest.approx(expected)


def test_the_cosine_is_pytorchs():
    expected = pytorchs(torch.optim.lr_scheduler.CosineAnnealingLR, 60, T_max=60)
    assert course(StageConfig(60, 1, schedule="cosine")) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_rises_evenly_to_the_full_rate(schedule):
    rates = course(StageConfig(100, 1, schedule=schedule, warmup=10))
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
    assert all(rate > 0 for rate in rates)


def test_after_warm_up_the_cosine_takes_the_steps_that_are_left():
    config = StageConfig(70, 1, schedule="cosine", warmup=10)
    assert course(config)[10:] == pytest.approx(
        pytorchs(torch.optim.lr_scheduler.CosineAnnealingLR, 60, T_max=60)
    )


def test_two_steps_are_a_fifth_each():
    config = StageConfig(50, 8, schedule="two_steps")
    expected = pytorchs(torch.optim.lr_scheduler.MultiStepLR, 50, milestones=[40, 45], gamma=0.2)
    assert course(config) == pytest.approx(expected)


def test_a_stage_of_other_length_warms_up_as_long_and_then_keeps_its_proportions():
    """Without a warm-up, Adam's first steps can ruin a network, however many follow."""
    stage = StageConfig(1500, 8, learning_rate=5e-4, schedule="cosine", warmup=50)
    shorter = stage.scaled_to(300)
    assert shorter == StageConfig(300, 8, learning_rate=5e-4, schedule="cosine", warmup=50)
    assert course(shorter)[:50] == pytest.approx(course(stage)[:50])
    assert course(shorter)[50::25] == pytest.approx(course(stage)[50::145], abs=1e-9)
    assert stage.scaled_to(44) == StageConfig(44, 8, learning_rate=5e-4, schedule="cosine", warmup=11)
    assert stage.scaled_to(0).steps == 1


@pytest.mark.parametrize(("steps", "batch_size"), [(0, 8), (10, 0)])
def test_a_stage_without_steps_or_images_is_refused(steps, batch_size):
    with pytest.raises(ValueError, match="at least one step and one image"):
        StageConfig(steps, batch_size)


class Fitting(Stage):
    """A small convolutional network, with kernels of all kinds that layouts in memory can trip over."""

    def __init__(self) -> None:
        super().__init__("fitting", StageConfig(8, 2, learning_rate=1e-2, weight_decay=1e-2), seed=0)
        torch.manual_seed(0)
        upwards = nn.ConvTranspose2d(6, 4, 4, 2, 1)
        self.network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), upwards, nn.ReLU(), nn.Conv2d(4, 1, 1))

    def trained(self) -> list[nn.Module]:
        return [self.network]


def test_the_optimiser_is_adam_whatever_the_layout_in_memory():
    stage = Fitting()
    plain = deepcopy(stage.network)
    stage.setup("fit")
    assert stage.network[0].weight.is_contiguous(memory_format=torch.channels_last)
    ours = stage.configure_optimizers()["optimizer"]
    theirs = torch.optim.Adam(plain.parameters(), lr=1e-2, weight_decay=1e-2, foreach=False)
    for network, optimizer in ((stage.network, ours), (plain, theirs)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2  # without the schedule
        for images in torch.rand(8, 2, 3, 9, 8, generator=torch.Generator().manual_seed(1)):
            optimizer.zero_grad()
            (network(images) - images.mean()).square().mean().backward()
            optimizer.step()
    for trained, expected in zip(stage.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("limit", "factor"), [(None, 1.0), (0.5, 0.1), (10.0, 1.0)])
def test_the_norm_of_all_gradients_together_is_limited(limit, factor):
    stage = Fitting()
    stage.config = replace(stage.config, gradient_norm=limit)
    stage.setup("fit")
    optimizer = stage.configure_optimizers()["optimizer"]
    parameters = list(stage.network.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    parameters[0].grad[0, 0, 0, 0], parameters[-1].grad[0] = 3.0, 4.0  # a norm of 5
    stage.configure_gradient_clipping(optimizer, None, None)
    found = float(parameters[0].grad[0, 0, 0, 0]), float(parameters[-1].grad[0])
    assert found == pytest.approx((3 * factor, 4 * factor), rel=1e-4)


def test_gradients_limited_to_nothing_are_refused():
    with pytest.raises(ValueError, match="norm that gradients are limited to is above 0, got 0"):
        StageConfig(1, 1, gradient_norm=0.0)


def stream(*parts: object) -> list[int]:
    generator = seeded_generator(CPU, *parts)
    return torch.randint(2**40, (4,), generator=generator).tolist()


def test_a_seed_is_the_hash_of_its_parts_on_every_machine():
    # The first eight bytes, little endian, of sha256sum over these characters, halved.
    assert seeded_generator(CPU, 0, "detection", "anomalies", 17, 0).initial_seed() == 8483282892426831456


def test_any_part_changes_the_stream():
    parts = (0, "detection", "anomalies", 17, 0)
    assert stream(*parts) == stream(*parts)
    others = [
        (1, *parts[1:]),
        (0, "upsampling", *parts[2:]),
        (0, "detection", "rotation", 17, 0),
        (*parts[:3], 18, 0),
        (*parts[:4], 1),
        (0, "detectionanomalies", "", 17, 0),
    ]
    streams = {tuple(stream(*other)) for other in [parts, *others]}
    assert len(streams) == 1 + len(others)


def test_the_newest_checkpoint_has_the_most_steps(tmp_path):
    assert newest_checkpoint(tmp_path / "missing") == (None, 0)
    assert newest_checkpoint(tmp_path) == (None, 0)
    for name in ("step=200.ckpt", "step=1000.ckpt", "step=800.ckpt", "last.ckpt", "step=5000.txt"):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path) == (tmp_path / "step=1000.ckpt", 1000)
