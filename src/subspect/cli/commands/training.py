"""Commands that train: detectors, and the networks that detectors start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from subspect.cli.answers import print_threshold
from subspect.cli.values import chosen_tiling, fit_options, optional_size

if TYPE_CHECKING:
    from subspect.runs.run import TrainingRun


def do_train(given: Namespace) -> int:
    """Trains a detector, or one of each category."""
    from subspect.datasets import read_table

    categories = read_table(given.root, given.layout, given.seed, given.category).categories
    if len(categories) == 1:
        _train_one(_run(given.category, given), given.output, given)
        return 0
    runs = {category: _run(category, given) for category in categories}
    finished = _finished(runs, given.output) if given.resume else []
    for category, run in runs.items():
        if category in finished:
            print(f"{category} is finished")
        else:
            _train_one(run, given.output / category, given)
    return 0


def _finished(runs: Mapping[str, TrainingRun], output: Path) -> list[str]:
    """The categories that have their detector already.

    Raises:
        ValueError: One was trained as another run than is asked for now.
    """
    from subspect.runs.records import check_same
    from subspect.storage import DETECTOR

    finished = [category for category in runs if (output / category / DETECTOR).exists()]
    for category in finished:
        check_same(runs[category].to_dict(), output / category)
    return finished


def _train_one(run: TrainingRun, output: Path, given: Namespace) -> None:
    """Trains the detector of one category."""
    from subspect.runs.run import RunOptions, train
    from subspect.storage import DETECTOR

    resume = given.resume and (output == given.output or output.exists())
    detector = train(run, output, RunOptions(fit_options(given), resume, given.skip_unreadable))
    print_threshold(detector.calibration)
    print(f"written: {output / DETECTOR}")


def _run(category: str | None, given: Namespace) -> TrainingRun:
    """What the command line asks to train on one category."""
    from subspect.detectors.registry import find_preset
    from subspect.runs.data import DataOptions
    from subspect.runs.run import TrainingRun, configured
    from subspect.runs.starting import absolute_weights

    config = configured(
        find_preset(given.method, given.preset),
        file=given.config,
        settings=given.set,
        image_size=optional_size(given.image_size),
        steps=given.steps,
        tiling=chosen_tiling(given),
    )
    data = DataOptions(
        root=str(given.root.resolve()),
        layout=given.layout,
        category=category,
        seed=given.seed,
        calibration_fraction=given.calibration_fraction,
        anomalies=given.anomalies,
    )
    return TrainingRun(
        given.method,
        config,
        data,
        given.seed,
        None if given.weights is None else absolute_weights(given.weights),
        given.false_alarm_rate,
        textures=None if given.textures is None else str(given.textures.resolve()),
    )


def do_pretrain(given: Namespace) -> int:
    """Pretrains a latent model of DSR."""
    from subspect.detectors.dsr.pretraining import PretrainingRun, pretrain

    run = PretrainingRun.from_preset(
        given.preset,
        folders=tuple(str(folder) for folder in given.folders),
        weights=given.weights,
        start=given.start,
        seed=given.seed,
        steps=given.steps,
        settings=given.set,
    )
    report = pretrain(run, given.output, fit_options(given), resume=given.resume)
    _print_held_out(report)
    print(f"written: {given.output / 'latent.safetensors'}")
    return 0


def do_pretrain_teacher(given: Namespace) -> int:
    """Pretrains a teacher of Uninformed Students."""
    from subspect.detectors.uninformed_students.pretraining import TeacherRun, pretrain_teacher

    run = TeacherRun.from_preset(
        given.preset,
        patch_size=given.patch_size,
        folders=tuple(str(folder) for folder in given.folders),
        weights=given.weights,
        seed=given.seed,
        steps=given.steps,
        batch_size=given.batch_size,
        metric_weight=given.metric_weight,
    )
    report = pretrain_teacher(run, given.output, fit_options(given), resume=given.resume)
    _print_held_out(report)
    print(f"written: {given.output}")
    return 0


def _print_held_out(report: Mapping[str, Any]) -> None:
    """What a pretraining measured on pictures that it held out, a line each."""
    for name, value in report["held_out"].items():
        print(f"{name:18} {value:.6g}")
