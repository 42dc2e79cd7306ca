"""Training of teachers: losses against numpy, patches, what is distilled, weights on disk, the command."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.resources import files

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from subspect.cli import main
from subspect.detectors.pretrained import WeightsError
from subspect.detectors.uninformed_students.config import PATCH_SIZES, PRESETS, TEACHERS, NetworkConfig
from subspect.detectors.uninformed_students.model import UninformedStudents
from subspect.detectors.uninformed_students.patch_network import PatchNetwork
from subspect.detectors.uninformed_students.patches import Patches, cut_centre, cut_shifted, disturb
from subspect.detectors.uninformed_students.pretraining import (
    TeacherRun,
    TeacherStage,
    load_distilled,
    pretrain_teacher,
)
from subspect.detectors.uninformed_students.teacher_losses import (
    compactness_loss,
    distillation_loss,
    effective_dimensions,
    triplet_loss,
)
from subspect.detectors.uninformed_students.teacher_weights import load_teachers, save_teacher
from subspect.files import locked
from tiny import (
    PATCH_NETWORK,
    QUIET,
    TEACHER,
    pretrain_teacher_long,
    teacher_run,
    write_backbone,
    write_pictures,
    write_teachers,
)


def test_compactness_is_the_sum_of_correlations_between_dimensions():
    descriptors = np.random.default_rng(0).normal(size=(50, 7)) @ np.random.default_rng(1).normal(size=(7, 7))
    correlations = np.corrcoef(descriptors.T)  # rows are variables: dimensions, not samples
    expected = correlations.sum() - np.trace(correlations)
    assert float(compactness_loss(torch.from_numpy(descriptors))) == pytest.approx(expected, rel=1e-9)
    with_constant = np.concatenate((descriptors, np.full((50, 1), 3.0)), 1)
    assert float(compactness_loss(torch.from_numpy(with_constant))) == pytest.approx(expected, rel=1e-9)
    alike = torch.from_numpy(descriptors[:, :1]).expand(-1, 5)
    assert float(compactness_loss(alike)) == pytest.approx(5 * 4)
    halves = torch.cat((alike[:, :2], -alike[:, :2]), 1)
    assert float(compactness_loss(halves)) == pytest.approx(-4), "least, though all say the same"


def test_effective_dimensions_count_what_says_something_of_its_own():
    descriptors = np.random.default_rng(0).normal(size=(50, 7)) @ np.random.default_rng(1).normal(size=(7, 7))
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(descriptors.T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert float(effective_dimensions(torch.from_numpy(descriptors))) == pytest.approx(expected, rel=1e-9)
    wave = torch.arange(8) * 2 * torch.pi / 8
    apart = torch.stack((wave.sin(), wave.cos(), (2 * wave).cos()), 1)
    assert float(effective_dimensions(apart)) == pytest.approx(3)
    same = torch.stack((wave.sin(), -2 * wave.sin(), 3 * wave.sin() + 1, torch.ones(8)), 1)
    assert float(effective_dimensions(same)) == pytest.approx(1)


def test_a_constant_dimension_has_a_finite_gradient():
    descriptors = torch.rand(8, 4)
    descriptors[:, 2] = 1.0
    descriptors.requires_grad_()
    compactness_loss(descriptors).backward()
    assert torch.isfinite(descriptors.grad).all()


def test_distillation_and_triplets_are_the_published_formulas():
    rng = np.random.default_rng(2)
    a, p, n = rng.normal(size=(3, 6, 4)) * np.array([0.7, 0.7, 1.5])[:, None, None]
    tensors = [torch.from_numpy(values) for values in (a, p, n)]
    near, far = ((a - p) ** 2).sum(1), np.minimum(((a - n) ** 2).sum(1), ((p - n) ** 2).sum(1))
    assert float(distillation_loss(*tensors[:2])) == pytest.approx(near.mean())
    hinge = np.maximum(0, 2.0 + near - far)
    assert 0 < (hinge == 0).sum() < 6
    assert float(triplet_loss(*tensors, margin=2.0)) == pytest.approx(hinge.mean())


def test_patches_are_a_fourth_to_a_sixteenth_of_the_picture(tmp_path):
    patches = Patches(write_pictures(tmp_path, 2, (160, 200)), 17, seed=3, grey_share=0.1)
    ramp = torch.arange(200).expand(3, 160, 200).to(torch.uint8)
    sides = []
    for number in range(400):
        cut = patches.cut(ramp, np.random.default_rng(number))
        assert cut.shape[1] == cut.shape[2]
        sides.append(cut.shape[1])
        steps = (cut[0, 0].diff() * 255).round()
        assert (steps == 1).all(), "not a piece of the picture"
    assert (min(sides), max(sides)) == (10, 40)
    assert np.mean(160 / np.array(sides)) == pytest.approx(10, abs=0.5)  # zoom, uniform from 4 to 16
    assert patches[5].shape == (3, 17, 17)
    assert torch.equal(patches[5], patches[5])


def test_windows_are_cut_where_the_generator_says():
    images = torch.arange(4 * 3 * 9 * 9, dtype=torch.float32).reshape(4, 3, 9, 9)
    assert torch.equal(cut_centre(images, 5), images[..., 2:7, 2:7])
    found = cut_shifted(images, 5, torch.Generator().manual_seed(1))
    places = set()
    for image, window in zip(images, found, strict=True):
        matches = [
            (y, x) for y in range(5) for x in range(5) if torch.equal(image[:, y : y + 5, x : x + 5], window)
        ]
        assert len(matches) == 1
        places.update(matches)
    assert len(places) > 1
    light = disturb(torch.ones(500, 3, 2, 2), 0.2, 0.0, torch.Generator().manual_seed(2))
    assert 0.8 <= light.min() < 0.81 < 1.19 < light.max() <= 1.2
    assert (light == light[:, :1, :1, :1]).all()
    noisy = disturb(torch.zeros(500, 3, 4, 4), 0.2, 0.1, torch.Generator().manual_seed(2))
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("teachers")
    write_pictures(made / "pictures", 10, size=(70, 90))
    write_backbone(made / "resnet.safetensors", "resnet18", (3,))
    return made


@torch.no_grad()
def test_the_last_level_is_distilled_where_the_weights_have_it(folder, tmp_path):
    network = timm.create_model("resnet18").eval()
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    config = replace(TEACHER, backbone_size=64)
    distilled = load_distilled(config, str(tmp_path / "whole.safetensors"))
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    expected = network.forward_head(network.forward_features(normalised), pre_logits=True)
    torch.testing.assert_close(distilled(images), expected, rtol=1e-4, atol=1e-5)
    assert distilled.channels == 512
    third = load_distilled(config, str(folder / "resnet.safetensors"))
    assert third.channels == 256
    assert third(images).shape == (2, 256)


@torch.no_grad()
def test_real_weights_up_to_the_third_level_are_taken(shared):
    weights = shared / "weights/resnet18_imagenet_to_layer3.safetensors"
    distilled = load_distilled(TEACHERS["fast"], str(weights))
    stored = load_file(weights)
    first = next(value for name, value in distilled.state_dict().items() if name.endswith("conv1.weight"))
    assert torch.equal(first, stored["conv1.weight"])
    assert distilled(torch.rand(2, 3, 17, 17)).shape == (2, 256)


def test_weights_that_cannot_be_distilled_are_named(folder, tmp_path, monkeypatch):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "stump.safetensors")
    with pytest.raises(WeightsError, match=r"stump\.safetensors lacks .* tensors of resnet18"):
        load_distilled(TEACHER, str(tmp_path / "stump.safetensors"))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.safetensors is no safetensors file"):
        load_distilled(TEACHER, str(tmp_path / "text.safetensors"))
    tensors = load_file(folder / "resnet.safetensors")
    save_file({**tensors, "conv1.weight": torch.zeros(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match=r"odd\.safetensors does not fit resnet18"):
        load_distilled(TEACHER, str(tmp_path / "odd.safetensors"))
    with pytest.raises(ValueError, match="no network 'resnet1'"):
        load_distilled(replace(TEACHER, backbone="resnet1"), None)


@pytest.fixture(scope="module")
def pretrained(folder):
    output = folder / "out/teacher_17.safetensors"
    run = teacher_run(str(folder / "pictures"), str(folder / "resnet.safetensors"))
    return output, pretrain_teacher(run, output, QUIET)


def test_the_report_is_on_disk_and_in_the_file(pretrained):
    output, report = pretrained
    assert json.loads(output.with_suffix("").joinpath("report.json").read_text()) == report
    ((state, source),) = load_teachers(str(output), [17], PATCH_NETWORK)
    assert source == {"source": str(output), "report": report}
    assert output.with_name("teacher_17.safetensors.sha256").is_file()
    assert (report["pictures"], report["held_out"]["pictures"], report["features"]) == (8, 2, 256)
    assert report["held_out"]["patches"] == 512
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in state.values())


@torch.no_grad()
def test_held_out_numbers_are_what_they_say(pretrained, folder):
    run = teacher_run(str(folder / "pictures"), str(folder / "resnet.safetensors"))
    paths = sorted((folder / "pictures").iterdir())[:3]
    torch.manual_seed(1)
    teacher = PatchNetwork(17, PATCH_NETWORK)
    stage = TeacherStage(teacher, load_distilled(run.teacher, run.weights), paths, run.teacher, 0)
    report = stage.judge(paths)
    patches = Patches(paths, 17, 0, 0.1)
    batch = torch.stack([patches[number] for number in range(512)])
    described, target = stage.describe(batch), stage.distilled(batch).double().numpy()
    decoded = stage.decoder(described).double().numpy()
    errors, spread = ((decoded - target) ** 2).sum(1), ((target - target.mean(0)) ** 2).sum(1)
    assert report["distillation"] == pytest.approx(errors.mean(), rel=1e-3)
    assert report["explained"] == pytest.approx(1 - errors.mean() / spread.mean(), rel=1e-2)
    correlations = np.corrcoef(described.double().numpy().T)
    assert report["compactness"] == pytest.approx(correlations.sum() - 6, abs=1e-3)
    assert pretrained[1]["held_out"]["distillation"] < report["distillation"], "training taught it nothing"


def test_the_loss_is_the_weighted_sum(folder, monkeypatch):
    run = teacher_run(str(folder / "pictures"), str(folder / "resnet.safetensors"))
    config = replace(run.teacher, distillation_weight=2.0, compactness_weight=3.0)
    paths = sorted((folder / "pictures").iterdir())
    stage = TeacherStage(PatchNetwork(17, PATCH_NETWORK), load_distilled(config, run.weights), paths, config, 0)
    batch = torch.stack([stage.patches[number] for number in range(4)])
    assert batch.shape == (4, 3, 17 + 2 * 4, 17 + 2 * 4)  # room for shifts of a quarter of a patch
    logged = {}
    monkeypatch.setattr(stage, "report", logged.update)
    loss = stage.training_step(batch, 0)
    described = stage.describe(batch[..., 4:21, 4:21])
    distillation = distillation_loss(stage.decoder(described), stage.distilled(batch[..., 4:21, 4:21]))
    torch.testing.assert_close(logged["distillation"], 2 * distillation)
    torch.testing.assert_close(logged["compactness"], 3 * compactness_loss(described))
    assert float(logged["triplet"]) > 0
    torch.testing.assert_close(loss, sum(logged.values()))


class KilledError(Exception):
    """Where a process would have died."""


def test_a_training_stopped_and_resumed_is_the_uninterrupted_one(folder, pretrained, monkeypatch, tmp_path):
    words = str(folder / "pictures"), str(folder / "resnet.safetensors")
    original = TeacherStage.training_step

    def dying(self, *arguments):
        if self.global_step == 15:
            raise KilledError
        return original(self, *arguments)

    monkeypatch.setattr(TeacherStage, "training_step", dying)
    output = tmp_path / "teacher.safetensors"
    with pytest.raises(KilledError):
        pretrain_teacher_long(*words, str(output))
    monkeypatch.undo()
    assert not output.exists()
    with pytest.raises(FileExistsError, match="--resume continues it"):
        pretrain_teacher_long(*words, str(output))
    pretrain_teacher_long(*words, str(output), resume=True)
    resumed, whole = load_file(output), load_file(pretrained[0])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(FileExistsError, match=r"teacher\.safetensors exists already"):
        pretrain_teacher_long(*words, str(output), resume=True)
    with locked(output.with_suffix("")):
        output.unlink()
        with pytest.raises(BlockingIOError, match="another process is at work in"):
            pretrain_teacher_long(*words, str(output), resume=True)
    output.touch()
    output.with_suffix("").rename(tmp_path / "put away")
    with pytest.raises(FileExistsError, match=r"teacher\.safetensors exists already"):
        pretrain_teacher_long(*words, str(output))
    assert not output.with_suffix("").exists(), "work began"


def test_teachers_come_from_folders_and_files(tmp_path):
    place = write_teachers(tmp_path / "teachers")
    files = [f"{place}/teacher_{size}.safetensors" for size in (65, 17)]
    from_folder = load_teachers(place, [17, 65], PATCH_NETWORK)
    from_files = load_teachers(",".join(files), [17, 65], PATCH_NETWORK)
    for (left, _), (right, source), file in zip(from_folder, from_files, reversed(files), strict=True):
        assert all(torch.equal(left[name], right[name]) for name in left)
        assert source["source"] == file
    torch.manual_seed(5)
    first = PatchNetwork(17, PATCH_NETWORK).state_dict()
    assert all(torch.equal(from_folder[0][0][name], value.half().float()) for name, value in first.items())


@pytest.mark.parametrize(
    ("given", "sizes", "config", "message"),
    [
        ("teacher_17.safetensors", [33], PATCH_NETWORK, "has no teacher for patches of 33 pixels"),
        (
            "teacher_17.safetensors",
            [17],
            NetworkConfig(8, 6),
            r"width=4, descriptor=6\), but the detector need",
        ),
        ("", [33], TEACHERS["fast"].network, r"teacher_33\.safetensors is a teacher of .*width=4"),
        ("gone", [33], PATCH_NETWORK, "^no file or folder .*gone here, and it is no hub id"),
        ("gone.safetensors", [33], PATCH_NETWORK, r"^no file or folder .*gone\.safetensors here"),
    ],
)
def test_teachers_that_do_not_fit_are_named(tmp_path, given, sizes, config, message):
    write_teachers(tmp_path)
    with pytest.raises(WeightsError, match=message):
        load_teachers(str(tmp_path / given), sizes, config)


def test_a_missing_teacher_in_a_folder_and_other_files_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    command = r"pretrain-teacher PICTURES --patch-size 65 --preset paper --weights BACKBONE --output teachers/"
    with pytest.raises(WeightsError, match=f"has no teacher_65.safetensors; train it with `subspect {command}"):
        load_teachers(str(tmp_path / "empty"), [65], PRESETS["paper"].network)
    save_file({"w": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors is not a teacher written by"):
        load_teachers(str(tmp_path / "other.safetensors"), [65], PATCH_NETWORK)
    save_teacher(PatchNetwork(17, PATCH_NETWORK), PATCH_NETWORK, tmp_path / "teacher_33.safetensors", {})
    with pytest.raises(WeightsError, match="for patches of 17 pixels, not 33"):
        load_teachers(str(tmp_path), [33], PATCH_NETWORK)


def test_without_shipped_teachers_the_error_says_what_makes_them():
    command = "pretrain-teacher PICTURES --patch-size 17 --preset paper --weights BACKBONE"
    with pytest.raises(WeightsError, match=f"ships with subspect; train it with `subspect {command}"):
        load_teachers(None, [17], PRESETS["paper"].network)


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_a_teacher_of_each_size_ships_whole_and_describes(patch_size):
    ((state, source),) = load_teachers(None, [patch_size], PRESETS["fast"].network)
    assert source["source"] == "shipped with subspect"
    run, held_out = source["report"]["run"], source["report"]["held_out"]
    assert (run["patch_size"], run["teacher"]["network"]) == (patch_size, asdict(PRESETS["fast"].network))
    assert held_out["explained"] > 0.05  # 0 is what the mean of all features explains
    teacher = PatchNetwork(patch_size, PRESETS["fast"].network)
    teacher.load_state_dict(state)
    described = teacher(torch.randn(64, 3, patch_size, patch_size)).flatten(1)
    assert (described.std(0) > 1e-3).all(), "a dimension says nothing"


def test_shipped_teachers_match_their_checksums_and_are_small():
    shipped = sorted((files("subspect") / "assets").glob("students_teacher_*.safetensors"))
    assert len(shipped) == len(PATCH_SIZES)
    assert sum(path.stat().st_size for path in shipped) < 6e6
    for path in shipped:
        noted = path.with_name(f"{path.name}.sha256").read_text().split()
        assert noted == [hashlib.sha256(path.read_bytes()).hexdigest(), path.name]


def test_the_fast_preset_starts_from_the_shipped_teachers():
    for sizes in ((33,), PATCH_SIZES):
        made = UninformedStudents(replace(PRESETS["fast"], patch_sizes=sizes))
        made.start(None)
        sources = made.provenance()["teachers"]
        assert {size: one["source"] for size, one in sources.items()} == {
            str(size): "shipped with subspect" for size in sizes
        }
        for ensemble in made.each_ensemble():
            ((state, _),) = load_teachers(None, [ensemble.patch_size], made.config.network)
            assert all(torch.equal(value, state[name]) for name, value in ensemble.teacher.state_dict().items())


def test_the_command_makes_a_teacher_that_train_takes(folder, tmp_path, capsys):
    run = ["--accelerator", "cpu", "--precision", "32-true", "--quiet"]
    output = tmp_path / "teachers/teacher_33.safetensors"
    words = ["pretrain-teacher", str(folder / "pictures"), "--patch-size=33", f"--output={output}", *run]
    words += [f"--weights={folder / 'resnet.safetensors'}", "--steps=2", "--batch-size=2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "distillation" in said
    assert f"written: {output}" in said
    train = ["train", str(folder / "pictures"), "--method=uninformed_students", "--preset=fast", *run]
    train += ["--image-size=32", "--steps=2", f"--output={tmp_path / 'run'}"]
    assert main([*train, f"--weights={output.parent}"]) == 0
    for changed, part in (
        ("--patch-size=18", "17, 33, 65 pixels, not of 18"),
        ("--preset=slow", "no preset 'slow' of teachers; there are: paper, fast"),
        ("--steps=0", "at least one step"),
        (f"--output={tmp_path / 'teacher.pt'}", "written as a .safetensors file"),
    ):
        assert main([*words, changed]) == 1
        assert part in capsys.readouterr().err


def test_presets_and_what_replaces_their_values():
    run = TeacherRun.from_preset("paper", patch_size=65, folders=("a",), seed=4)
    assert run == TeacherRun(65, TEACHERS["paper"], ("a",), seed=4)
    run = TeacherRun.from_preset(
        "fast", patch_size=17, folders=("a",), steps=60, batch_size=2, metric_weight=1.0
    )
    stage = run.teacher.stage
    assert (stage.steps, stage.batch_size, run.teacher.metric_weight) == (60, 2, 1.0)
    for preset, teacher in TEACHERS.items():
        assert teacher.network == PRESETS[preset].network, "its teachers would not fit"
