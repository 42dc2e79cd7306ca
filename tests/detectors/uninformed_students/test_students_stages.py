"""Training: statistics of the right images, students that learn, and a kill that changes nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.config import StageConfig
from subspect.detectors.uninformed_students.config import PRESETS
from subspect.detectors.uninformed_students.model import UninformedStudents
from subspect.detectors.uninformed_students.patch_network import normalise
from subspect.detectors.uninformed_students.stages import split_normals
from subspect.training.fitting import fit
from tiny import LONG_STUDENTS, QUIET, train_students_long, write_data_set, write_teachers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("students")
    write_data_set(made / "data", normal=12)
    write_teachers(made / "teachers")
    return made


def images_of(folder, detector) -> TrainingImages:
    table = read_table(folder / "data", "folder").select(split="train")
    return TrainingImages(table.samples, detector.prepare, detector.config.image_size)


def built(folder, **changes) -> UninformedStudents:
    torch.manual_seed(0)
    detector = UninformedStudents(replace(LONG_STUDENTS, **changes))
    detector.start(str(folder / "teachers"))
    return detector


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> tuple[UninformedStudents, TrainingImages]:
    detector = built(folder)
    images = images_of(folder, detector)
    fit(detector.stages(images, 0), tmp_path_factory.mktemp("run"), QUIET)
    return detector.eval(), images


@torch.no_grad()
def test_statistics_come_from_the_images_they_should(trained):
    detector, images = trained
    (ensemble,) = detector.each_ensemble()
    taught, validation = split_normals(images, detector.config.validation_share, 0)
    assert set(taught.indices) | set(validation.indices) == set(images.normal_indices)
    assert len(validation) == round(0.3 * len(images.normal_indices))
    assert not set(taught.indices) & set(validation.indices)
    described = ensemble.describe(normalise(torch.stack([taught[i][0] for i in range(len(taught))])))
    np.testing.assert_allclose(ensemble.descriptors.mean, described.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    standardised = ensemble.descriptors.standardise(described)
    np.testing.assert_allclose(standardised.std((0, 2, 3), correction=0), 1, rtol=1e-4)
    # Over validation images the finished scores have mean 0 and deviation 1.
    kept = normalise(torch.stack([validation[i][0] for i in range(len(validation))]))
    for values in ensemble.standardise(ensemble.disagree(kept)):
        assert float(values.mean()) == pytest.approx(0, abs=1e-3)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_students_learn_what_the_teacher_says(trained, folder):
    detector, images = trained
    (ensemble,), (untrained,) = detector.each_ensemble(), built(folder).each_ensemble()
    untrained.descriptors.load_state_dict(ensemble.descriptors.state_dict())
    shown = normalise(torch.stack([images[i][0] for i in images.normal_indices]))
    with torch.no_grad():
        before, after = untrained.disagree(shown), ensemble.disagree(shown)
    assert after.error.mean() < 0.9 * before.error.mean()
    first = [student.convolutions[0].weight for student in ensemble.students]
    assert not any(torch.equal(first[0], other) for other in first[1:]), "students started alike"


def test_the_loss_is_the_published_one(trained):
    detector, images = trained
    stage = detector.stages(images, 0)[1]
    batch = torch.stack([images[i][0] for i in images.normal_indices[:2]])
    with torch.no_grad():
        loss = float(stage.training_step((batch, batch), 0))
        target, answers = stage.ensemble.compare(normalise(batch))
    errors = (answers.double().numpy() - target.double().numpy()) ** 2
    assert loss == pytest.approx(errors.sum(2).mean((1, 2, 3)).sum(), rel=1e-5)


def test_a_single_student_agrees_with_itself_and_its_preview_is_black(folder):
    detector = built(folder, students=1)
    stage = detector.stages(images_of(folder, detector), 0)[1]
    with torch.no_grad():
        shown = stage.preview()
    assert (shown["predictive variance"] == 0).all()
    assert shown["student error"].max() > 0.5


def test_groups_are_validated_on_whole(tmp_path, folder):
    detector = built(folder)
    images = images_of(folder, detector)
    images.samples = tuple(
        replace(sample, group=f"tile {place // 3}") for place, sample in enumerate(images.samples)
    )
    taught, validation = split_normals(images, 0.2, 3)
    groups = [{images.samples[i].group for i in subset.indices} for subset in (taught, validation)]
    assert groups[1]
    assert not groups[0] & groups[1]
    alone = images_of(folder, detector)
    alone.normal_indices = alone.normal_indices[:1]
    with pytest.raises(ValueError, match="at least two normal training images"):
        split_normals(alone, 0.2, 3)


class KilledError(Exception):
    """Where a process would have died."""


@pytest.mark.parametrize(("stage", "step"), [("descriptors", 2), ("students_33", 7), ("disagreement", 0)])
def test_a_training_stopped_anywhere_and_resumed_is_the_uninterrupted_one(
    folder, tmp_path, monkeypatch, stage, step
):
    paths = [str(folder / name) for name in ("data", "teachers")]
    if not (folder / "whole").exists():
        train_students_long(*paths, str(folder / "whole"))
    original = UninformedStudents.stages

    def dying(self, images, seed):
        stages = original(self, images, seed)
        victim = next(one for one in stages if one.name == stage)
        taken = victim.training_step

        def training_step(*arguments):
            if victim.global_step == step:
                raise KilledError
            return taken(*arguments)

        victim.training_step = training_step
        return stages

    monkeypatch.setattr(UninformedStudents, "stages", dying)
    with pytest.raises(KilledError):
        train_students_long(*paths, str(tmp_path / "run"))
    monkeypatch.undo()
    train_students_long(*paths, str(tmp_path / "run"), resume=True)
    whole, resumed = (
        load_file(p / "detector/weights.safetensors") for p in (folder / "whole", tmp_path / "run")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    provenance = json.loads((tmp_path / "run/detector/detector.json").read_text())["provenance"]
    assert provenance["teachers"] == {"33": {"source": paths[1], "report": {}}}


def test_steps_are_shared_among_the_patch_sizes():
    paper = PRESETS["paper"]
    assert paper.student_stage == StageConfig(24_200, 1, learning_rate=1e-4, weight_decay=1e-5)
    assert paper.with_steps(300).student_stage.steps == 100
    assert PRESETS["fast"].with_steps(300).student_stage.steps == 300
    with pytest.raises(ValueError, match="at least one step, got 0"):
        paper.with_steps(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_sizes": (17, 18)}, r"different ones of \(17, 33, 65\)"),
        ({"patch_sizes": ()}, "different ones of"),
        ({"students": 0}, "at least one student"),
        ({"stride": 3}, "1, 2, 4 or 8"),
        ({"validation_share": 0.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["paper"], **changes)
