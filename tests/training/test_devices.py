"""Several processes train what one would, at the same global batch.

What differs by design (docs/scale.md): each process draws defects, crops and rotations of its own, and on CPUs
BatchNorm sees the batch of one process. So the methods are compared with nothing drawn and BatchNorm at rest.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from subspect.datasets import read_table
from subspect.datasets.loading import StepSampler, TrainingImages
from subspect.datasets.table import take_anomalies
from subspect.detectors.base import Detector
from subspect.detectors.config import StageConfig
from subspect.detectors.registry import find_method
from subspect.training.fitting import fit
from subspect.training.stage import Stage
from tiny import DRAEM, DSR, QUIET, RIAD, STARTS, STUDENTS, settle, write_data_set

BATCH = 4
_SCHEDULE = {"batch_size": BATCH, "steps": 6}
UNDRAWN = {
    "dsr": replace(
        DSR,
        training_crop=None,
        simulation=replace(DSR.simulation, normal_share=1.0, rotation_share=0.0, smudge_rotation_share=0.0),
        detection_stage=replace(DSR.detection_stage, **_SCHEDULE),
        upsampling_stage=replace(DSR.upsampling_stage, **_SCHEDULE),
    ),
    "draem": replace(
        DRAEM,
        training_crop=None,
        simulation=replace(DRAEM.simulation, normal_share=1.0, rotation_share=0.0),
        training=replace(DRAEM.training, **_SCHEDULE),
    ),
    "riad": replace(RIAD, training_crop=None, inpainting_stage=replace(RIAD.inpainting_stage, **_SCHEDULE)),
    "uninformed_students": replace(
        STUDENTS, patch_sizes=(17,), student_stage=replace(STUDENTS.student_stage, **_SCHEDULE)
    ),
}
"""The tiny methods without simulated defects, rotations and crops."""


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


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    write_data_set(folder / "data", normal=14, defective=5)
    return folder


@pytest.fixture(scope="module")
def starts(place) -> dict[str, str]:
    """What the methods start from."""
    return {method: STARTS[method](place) for method in UNDRAWN if method in STARTS}


def built(
    method: str, place: Path, starts: dict[str, str], anomalies: int = 0
) -> tuple[Detector, TrainingImages]:
    """A detector as training finds it, and its images, of which some may be annotated anomalous ones."""
    torch.manual_seed(0)
    detector = find_method(method).build(UNDRAWN[method])
    detector.start(starts.get(method))
    settle(detector)
    if method == "draem":  # whose SSIM has another range where a batch is drawn below -0.5
        detector.reconstructive.out.weight.data *= 0.1
    table = take_anomalies(read_table(place / "data", "folder"), anomalies, seed=0)
    samples = table.select(split="train").samples
    return detector, TrainingImages(samples, detector.prepare, detector.config.image_size)


def trained_stages(detector: Detector, images: TrainingImages) -> list[Stage]:
    return [stage for stage in detector.stages(images, 0) if not stage.gathers]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("method", UNDRAWN)
def test_every_image_of_a_step_goes_to_one_process(method, processes, place, starts):
    for stage in trained_stages(*built(method, place, starts, anomalies=3 if method == "dsr" else 0)):
        alone = list(stage.loader(2, 0, 1).batch_sampler)
        shares = [list(stage.loader(2, rank, processes).batch_sampler) for rank in range(processes)]
        assert len(alone) == 4  # of six steps, those that are left
        for whole, *parts in zip(alone, *shares, strict=True):
            assert [len(part) for part in parts] == [BATCH // processes] * processes
            assert Counter(chain.from_iterable(parts)) == Counter(whole)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
@pytest.mark.parametrize("method", UNDRAWN)
def test_the_gradients_of_processes_average_to_that_of_one(method, place, starts, monkeypatch):
    """What DDP does with gradients, here in one process; four images a step, two each."""
    for stage in trained_stages(*built(method, place, starts)):
        stage.setup("fit")
        stage.on_fit_start()
        stage.eval()

        def gradient(rank: int, processes: int, stage: Stage = stage) -> Tensor:
            monkeypatch.setattr(type(stage), "global_rank", rank)
            stage.zero_grad()
            stage.training_step(next(iter(stage.loader(0, rank, processes))), 0).backward()
            return torch.cat([p.grad.flatten() for p in stage.parameters() if p.requires_grad])

        alone, first, second = gradient(0, 1), gradient(0, 2), gradient(1, 2)
        assert (first - second).norm() > 0.001 * alone.norm() > 0  # of other images
        assert ((first + second) / 2 - alone).norm() < 1e-5 * alone.norm()


def test_dsr_with_annotated_anomalies_by_two_processes(place, starts, tmp_path):
    """One of the four images of a step is annotated: the processes have unequal numbers of normal ones.

    Compared is the way that each parameter went. Where a gradient is all but zero, Adam makes steps out of the
    rounding of sums, so a way of less than a hundredth of a step says nothing, and single weights may differ.
    """
    one, two = (trained_stages(*built("dsr", place, starts, anomalies=3))[0] for _ in range(2))
    before = {name: value.detach().clone() for name, value in one.named_parameters()}
    fit([one], tmp_path / "one", QUIET)
    fit([two], tmp_path / "two", replace(QUIET, devices=2))
    after, went = dict(one.named_parameters()), 0
    for name, value in two.named_parameters():
        way = (after[name] - before[name]).norm()
        if way > 1e-5:
            went += 1
            assert (value - after[name]).norm() < 0.02 * way, name
    assert went > 50
