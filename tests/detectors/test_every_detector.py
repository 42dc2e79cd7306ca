"""What holds for every method in the registry, and for the one that docs/add_a_method.md adds.

A method is tested with the tiny configuration that it has here, or else with its preset ``fast`` at 64x64.
"""

import json
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from documented import documented_line, documented_method
from subspect.benchmark.cells import list_cells
from subspect.benchmark.grid import DataEntry, Grid, MethodEntry
from subspect.calibration import sample_map
from subspect.cli import main
from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector
from subspect.detectors.config import DetectorConfig
from subspect.detectors.configuration import configure, from_dict, to_yaml
from subspect.detectors.registry import METHODS, find_method, find_preset
from subspect.evaluation.evaluating import evaluate
from subspect.images import read_image
from subspect.inspection.prediction import predict as judge
from subspect.runs.data import DataOptions, read_test_table
from subspect.runs.run import RunOptions, TrainingRun, train
from subspect.storage import load_detector, read_description, save_detector
from subspect.training.fitting import fit
from subspect.training.stage import Stage
from tiny import FREQUENT, QUIET, STARTS, TINY, settle, write_data_set

SIZES = [(64, 64), (70, 101), (96, 64), (33, 129)]
ODD = (70, 101)


@pytest.fixture(scope="module", params=[*METHODS, documented_line()])
def method(request, tmp_path_factory):
    if request.param in METHODS:
        yield request.param
        return
    with documented_method(tmp_path_factory.mktemp("documented")) as name:
        yield name


def tiny(method: str) -> DetectorConfig:
    return TINY.get(method) or replace(find_preset(method, "fast"), image_size=(64, 64))


@pytest.fixture(scope="module")
def weights(method, tmp_path_factory) -> str | None:
    return STARTS[method](tmp_path_factory.mktemp("weights")) if method in STARTS else None


@pytest.fixture
def detector(method, weights) -> Detector:
    torch.manual_seed(0)
    made = find_method(method).build(tiny(method))
    made.start(weights)
    settle(made)
    return made.eval()


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predict(detector: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(detector(images))


@pytest.mark.parametrize("size", SIZES)
def test_predictions_are_finite_repeatable_and_of_the_images_size(detector, size):
    images = pictures(2, size)
    anomaly_map, score = predict(detector, images)
    assert anomaly_map.shape == (2, 1, *size)
    assert score.shape == (2,)
    assert torch.isfinite(anomaly_map).all()
    assert torch.isfinite(score).all()
    assert torch.equal(images, pictures(2, size)), "the images given were changed"
    again = predict(detector, images)
    assert torch.equal(anomaly_map, again[0])
    assert torch.equal(score, again[1])


@pytest.mark.parametrize("size", SIZES)
def test_an_image_is_judged_apart_from_its_batch_mates(detector, size):
    detector, images = detector.double(), pictures(3, size).double()  # to see beyond rounding
    anomaly_map, score = predict(detector, images)
    others = torch.cat((pictures(1, size, seed=5), images[1:2], pictures(2, size, seed=6).mul(0.1)))
    for batch, place in ((images[1:2], 0), (others, 1)):
        other_map, other_score = predict(detector, batch)
        torch.testing.assert_close(other_map[place], anomaly_map[1], rtol=0, atol=1e-9)
        torch.testing.assert_close(other_score[place], score[1], rtol=0, atol=1e-9)


def test_the_map_depends_on_the_image(detector):
    maps, scores = predict(detector, pictures(2, (64, 64)))
    assert not torch.equal(maps[0], maps[1])
    assert scores[0] != scores[1]


def test_prepared_pictures_have_the_configured_size(detector):
    picture = pictures(1, (50, 80))[0].permute(1, 2, 0).numpy()
    assert detector.prepare(picture).shape == (3, *detector.config.image_size)


def test_inner_pictures_can_be_drawn(detector):
    shown = detector.inner_pictures(pictures(2, (70, 101)))
    assert shown
    for drawn in shown.values():
        assert drawn.shape == (2, 3, 70, 101)
        assert 0 <= drawn.min() <= drawn.max() <= 1


def training_images(detector: Detector, root: Path) -> TrainingImages:
    table = read_table(write_data_set(root), "folder")
    return TrainingImages(table.select(split="train").samples, detector.prepare, detector.config.image_size)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_each_stage_moves_what_it_trains_and_nothing_else(detector, tmp_path):
    images = training_images(detector, tmp_path / "data")
    for number, stage in enumerate(detector.stages(images, seed=0)):
        before = snapshot(detector)
        # Parameters and buffers: a stage may fill statistics instead of following gradients.
        owned = {
            id(value) for module in stage.trained() for value in module.state_dict(keep_vars=True).values()
        }
        named = detector.state_dict(keep_vars=True)
        trained = {name for name, value in named.items() if id(value) in owned}
        assert trained
        losses = record_losses(stage)
        fit([stage], tmp_path / str(number), QUIET)
        assert len(losses) == (0 if stage.gathers else stage.config.steps)
        assert torch.isfinite(torch.tensor(losses)).all()
        after = detector.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved <= trained, "frozen weights moved"
        assert len(moved) > 0.8 * len(trained), f"trained weights stood still: {sorted(trained - moved)}"


def record_losses(stage) -> list[float]:
    """The losses of a stage, as it is trained; none of one that gathers."""
    losses, step = [], stage.training_step

    def recorded(*arguments):
        loss = step(*arguments)
        if loss is not None:
            losses.append(float(loss.detach()))
        return loss

    stage.training_step = recorded
    return losses


def test_a_saved_detector_predicts_the_same_bit_for_bit(detector, tmp_path):
    fit(detector.stages(training_images(detector, tmp_path / "data"), seed=0), tmp_path / "run", QUIET)
    save_detector(detector.eval(), tmp_path / "detector", {})
    loaded = load_detector(tmp_path / "detector")
    assert loaded.config == detector.config
    for size in SIZES:
        before, after = predict(detector, pictures(2, size)), predict(loaded, pictures(2, size))
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_every_preset_goes_through_yaml_and_back(method, tmp_path):
    presets = find_method(method).presets
    assert {"paper", "fast"} <= presets.keys()
    for name, preset in presets.items():
        assert find_preset(method, name) is preset
        (tmp_path / "config.yaml").write_text(to_yaml(preset))
        for start in presets.values():
            assert configure(start, tmp_path / "config.yaml") == preset


def test_a_configuration_goes_through_values_and_back(method):
    for config in (tiny(method), *find_method(method).presets.values()):
        assert from_dict(type(config), json.loads(json.dumps(asdict(config)))) == config


def test_of_an_image_size_that_cannot_be_the_nearest_that_can_is_named(method):
    config = tiny(method)
    least = config.least_side
    with pytest.raises(ValueError, match=f"the nearest that works is {least}x101"):
        replace(config, image_size=(least - 1, 101))
    made = find_method(method).build(replace(config, image_size=(least, 101)))
    assert made.eval()(pictures(1, (least, 101))).anomaly_map.shape == (1, 1, least, 101)


def test_what_an_earlier_training_gathered_is_forgotten(detector, tmp_path):
    images, states = training_images(detector, tmp_path / "data"), []
    for folder in ("earlier", "later"):
        gathering = [stage for stage in detector.stages(images, seed=0) if stage.gathers]
        fit(gathering, tmp_path / folder, QUIET)
        states.append(snapshot(detector))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_widths_are_at_least_one_channel(method):
    config = tiny(method)
    for field in fields(config):
        if field.name == "width" or field.name.endswith("_width"):
            with pytest.raises(ValueError, match="at least one channel"):
                replace(config, **{field.name: 0})


def test_bfloat16_trains_and_changes_maps_by_rounding_only(method, detector, tmp_path):
    images = training_images(detector, tmp_path / "data")
    for number, stage in enumerate(detector.stages(images, seed=0)):
        fit([stage], tmp_path / str(number), replace(QUIET, precision="bf16-mixed"))
    assert all(value.dtype != torch.bfloat16 for value in detector.state_dict().values())
    asked = torch.stack([images[place][0] for place in range(4)])
    exact, exact_score = predict(detector.eval(), asked)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, score = predict(detector, asked)
    assert torch.isfinite(rounded).all()
    assert torch.isfinite(score).all()
    if method == "dsr":
        return  # rounding may tip a feature over to another code, and with random codes the picture with it
    # Eight bits leave 0.4 % of a value, and layers add some up. Maps after three steps vary little (DRAEM's by
    # 0.01 to 0.11), so that their correlation was 0.89 to 1.00 over three seeds and one or two threads.
    assert torch.corrcoef(torch.stack((exact.flatten(), rounded.float().flatten())))[0, 1] > 0.85
    torch.testing.assert_close(score.float(), exact_score, rtol=0.05, atol=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data") / "data", normal=27, defective=4)


@pytest.fixture(scope="module")
def finished(method, weights, data, tmp_path_factory) -> Path:
    """A run from the command line, on pictures whose sides are no multiples of anything."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(to_yaml(tiny(method)))
    words = ["train", str(data), f"--method={method}", f"--config={folder / 'tiny.yaml'}"]
    words += [f"--output={folder / 'run'}", f"--image-size={ODD[0]}x{ODD[1]}"]
    words += ["--accelerator=cpu", "--precision=32-true", "--quiet"]
    assert main(words + ([] if weights is None else [f"--weights={weights}"])) == 0
    return folder / "run"


def test_a_run_is_calibrated_by_its_detector_on_disk(method, finished):
    made = load_detector(finished / "detector")
    assert (made.method, made.config.image_size) == (method, ODD)
    data_options = read_description(finished / "detector")["provenance"]["run"]["data"]
    held_out = DataOptions(**data_options).read().select(split="calibration").samples
    scored = judge(made, [read_image(sample.path) for sample in held_out], "cpu")
    assert made.calibration.scores == pytest.approx(sorted(each.score for each in scored), rel=1e-5)
    assert made.calibration.threshold == pytest.approx(max(each.score for each in scored), rel=1e-5)
    largest = max(sample_map(each.anomaly_map).max() for each in scored)
    assert 0 <= made.calibration.map_threshold <= largest + 1e-6


def test_every_stage_leaves_previews(finished):
    stages = {folder.name for folder in (finished / "checkpoints").iterdir()}
    assert {folder.name for folder in (finished / "previews").iterdir()} == stages
    for stage in stages:
        (drawn,) = (finished / "previews" / stage).iterdir()
        assert np.asarray(Image.open(drawn)).std() > 0


def test_evaluation_and_inspection_give_the_same_scores(finished, data, tmp_path):
    words = ["evaluate", str(finished), str(data), f"--output={tmp_path / 'judged'}", "--pictures=2"]
    assert main(words) == 0
    assert (tmp_path / "judged/pictures/data/index.html").is_file()
    table = read_test_table(read_description(finished / "detector")["provenance"], data)
    results = evaluate(load_detector(finished / "detector"), table)
    written = json.loads((tmp_path / "judged/results.json").read_text())["categories"][0]
    assert written["metrics"] == pytest.approx(asdict(results.overall))
    words = ["inspect", str(finished), *(row.path for row in results.rows), "--output", str(tmp_path / "found")]
    assert main([*words, "--raw-maps"]) == 0
    inspected = [json.loads(line) for line in (tmp_path / "found/results.jsonl").read_text().splitlines()]
    assert len(inspected) == len(results.rows)
    for row, found in zip(results.rows, inspected, strict=True):
        assert (found["path"], found["verdict"]) == (row.path, row.verdict)
        assert found["score"] == pytest.approx(row.score, rel=1e-4, abs=1e-6)
        anomaly_map = np.load(tmp_path / "found" / found["map"])
        assert anomaly_map.shape == (64, 64)  # the pictures' own size
        assert np.isfinite(anomaly_map).all()
        assert Image.open(tmp_path / "found" / found["picture"]).size[1] > 64
        assert bool(found["regions"]) == (found["verdict"] == "anomalous")


def test_anomalies_that_it_cannot_learn_from_are_refused_before_work(method, data, tmp_path, capsys):
    grid = Grid({"data": DataEntry(str(data), "folder")}, {method: MethodEntry(anomalies=(0, 1))})
    if method == "dsr":
        assert [cell.run.data.anomalies for cell in list_cells(grid, tmp_path)] == [0, 1]
        return
    said = f"{method} learns from normal images only, but is to learn from 1 anomalous"
    with pytest.raises(ValueError, match=said):
        list_cells(grid, tmp_path)
    words = ["train", str(data), f"--method={method}", f"--output={tmp_path / 'run'}", "--anomalies=1"]
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class PowerFailureError(RuntimeError):
    pass


def fail_at_batch(patch: pytest.MonkeyPatch, number: int) -> None:
    """Makes training fail before its ``number``-th batch, counted over all stages."""
    begun = []

    def begin(*arguments):
        begun.append(arguments)
        if len(begun) == number:
            raise PowerFailureError

    patch.setattr(Stage, "on_train_batch_start", begin)


def test_a_run_stopped_twice_and_resumed_is_the_uninterrupted_one(method, weights, data, tmp_path, monkeypatch):
    run = TrainingRun(method, tiny(method), DataOptions(str(data), "folder"), weights=weights)
    alone = train(run, tmp_path / "alone", RunOptions(FREQUENT))
    with monkeypatch.context() as patch:
        fail_at_batch(patch, 3)  # checkpoints come every second step
        with pytest.raises(PowerFailureError):
            train(run, tmp_path / "stopped", RunOptions(FREQUENT))
    with monkeypatch.context() as patch, suppress(PowerFailureError):  # shorter trainings get to their end
        fail_at_batch(patch, 4)
        train(run, tmp_path / "stopped", RunOptions(FREQUENT, resume=True))
    if not (tmp_path / "stopped/detector").exists():
        train(run, tmp_path / "stopped", RunOptions(FREQUENT, resume=True))
    resumed = load_detector(tmp_path / "stopped/detector")
    assert resumed.calibration == alone.calibration
    for name, value in alone.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
