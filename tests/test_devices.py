"""Several processes train what one would, at the same global batch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from subspect.datasets.loading import StepSampler
from subspect.detectors.config import StageConfig
from subspect.training import Stage, fit
from tiny import QUIET


class Regression(Stage):
    """A linear model: nothing random but the order of the data."""

    def __init__(self, steps: int, batch_size: int = 4) -> None:
        super().__init__("regression", StageConfig(steps, batch_size, learning_rate=0.05), seed=3)
        self.model = nn.Linear(3, 1)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        x = torch.linspace(-1, 1, 60).view(20, 3)
        self.data = TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [3.0]]))

    def trained(self) -> Sequence[nn.Module]:
        return [self.model]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        share = self.config.batch_size // world_size
        sampler = StepSampler(20, share, self.config.steps, self.seed, start_step, rank, world_size)
        return DataLoader(self.data, batch_sampler=sampler)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        return (self.model(x) - y).square().mean()

    def preview(self) -> dict[str, Tensor]:
        return {"weight": self.model.weight.detach().expand(1, 3, 1, 3)}


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    one, two = Regression(steps=7), Regression(steps=7)
    fit([one], tmp_path / "one", QUIET)
    fit([two], tmp_path / "two", replace(QUIET, devices=2))
    assert one.model.weight.abs().min() > 0.01
    # Means of halves are summed in another order.
    torch.testing.assert_close(two.model.weight, one.model.weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(two.model.bias, one.model.bias, atol=1e-6, rtol=1e-5)


def test_a_batch_that_does_not_divide_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch size of regression does not divide among 3 devices"):
        fit([Regression(steps=1)], tmp_path, replace(QUIET, devices=3))
    assert not list(tmp_path.iterdir())
