"""Lessons made several steps at a time, as on a GPU: the same as at once, in order, and when resumed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.dsr.lessons import LessonsAhead, block_start
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.stages import DetectionStage
from subspect.training.fitting import fit
from tiny import DSR, QUIET, latent_model, write_data_set

AHEAD, STEPS, BATCH = 3, 7, 2


class AheadStage(DetectionStage):
    """Simulates for several steps at a time, on a CPU too."""

    def steps_ahead(self) -> int:
        return AHEAD


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("lessons") / "data")


def staged(data: Path, kind: type[AheadStage] = AheadStage) -> AheadStage:
    torch.manual_seed(0)
    schedule = replace(DSR.detection_stage, steps=STEPS, batch_size=BATCH)
    detector = Dsr(replace(DSR, detection_stage=schedule))
    detector.adopt_latent_model(latent_model(), {})
    samples = read_table(data, "folder").select(split="train").samples
    return kind(detector, TrainingImages(samples, detector.prepare, DSR.image_size), seed=0)


def ready(data: Path) -> AheadStage:
    """Ready for its first step, outside of a training."""
    stage = staged(data)
    stage.setup("fit")
    stage.on_fit_start()
    return stage


def ahead_of(stage: AheadStage, start: int) -> LessonsAhead:
    loader = stage.loader(block_start(start, AHEAD), 0, 1)
    return LessonsAhead(loader, stage.prepare, AHEAD, start)


def test_a_block_is_one_simulation_over_the_images_of_its_steps(data):
    stage = ready(data)
    lessons, batches = list(ahead_of(stage, 0)), list(stage.loader(0, 0, 1))
    assert len(lessons) == len(ahead_of(stage, 0)) == STEPS
    for first in range(0, STEPS, AHEAD):
        block = batches[first : first + AHEAD]
        images, masks, folds = (torch.cat(parts) for parts in zip(*block, strict=True))
        expected = stage.prepare((images, masks, folds), first)
        for name in expected._fields:
            found = torch.cat([getattr(lesson, name) for lesson in lessons[first : first + AHEAD]])
            assert torch.equal(found, getattr(expected, name)), name
    assert lessons[0].target.any()
    assert {len(lesson.images) for lesson in lessons} == {BATCH}


@pytest.mark.parametrize("start", [1, 3, 5, 6])
def test_lessons_from_a_later_step_are_those_of_the_whole_training(data, start):
    stage = ready(data)
    whole, rest = list(ahead_of(stage, 0)), list(ahead_of(stage, start))
    assert len(rest) == STEPS - start
    for expected, found in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(*values) for values in zip(expected, found, strict=True))


class StoppingStage(AheadStage):
    """Fails in the middle of the second block."""

    def training_step(self, batch, number):
        if self.global_step == AHEAD + 1:
            raise RuntimeError("stopped")
        return super().training_step(batch, number)


def test_a_training_ahead_can_be_stopped_within_a_block(data, tmp_path):
    whole, stopped, resumed = staged(data), staged(data, StoppingStage), staged(data)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    options = replace(QUIET, checkpoint_every=1)
    fit([whole], tmp_path / "whole", options)
    with pytest.raises(RuntimeError, match="stopped"):
        fit([stopped], tmp_path / "parts", options)
    fit([resumed], tmp_path / "parts", options, resume=True)
    expected, found = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert any(not torch.equal(expected[name], before[name]) for name in expected)
