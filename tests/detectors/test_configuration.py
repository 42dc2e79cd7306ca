"""Configurations: single settings and files on top of presets, what cannot be, lengths in steps."""

from dataclasses import replace

import pytest

from subspect.detectors.config import StageConfig
from subspect.detectors.configuration import ConfigurationError, configure, from_dict, to_yaml
from subspect.detectors.dsr.config import PRESETS, DsrConfig
from subspect.detectors.registry import find_method, find_preset

FAST = PRESETS["fast"]


def test_nothing_given_is_the_preset():
    assert configure(FAST) == FAST


def test_single_settings_replace_only_themselves():
    configured = configure(
        FAST, settings=["simulation.nearest_share=0.1", "image_size=[640, 232]", "refine=true"]
    )
    simulation = replace(FAST.simulation, nearest_share=0.1)
    assert configured == replace(FAST, simulation=simulation, image_size=(640, 232), refine=True)
    assert configured.image_size == (640, 232)


def test_a_file_replaces_what_it_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("simulation:\n  sampling: exact\ndetection_stage:\n  steps: 7\n")
    expected = replace(
        FAST,
        simulation=replace(FAST.simulation, sampling="exact"),
        detection_stage=replace(FAST.detection_stage, steps=7),
    )
    assert configure(FAST, path) == expected


def test_a_setting_comes_after_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("simulation:\n  nearest_share: 0.2\n  normal_share: 0.4\n")
    configured = configure(FAST, path, ["simulation.nearest_share=0.3"])
    assert configured.simulation == replace(FAST.simulation, nearest_share=0.3, normal_share=0.4)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("unheard_of=1", "unheard_of"),
        ("simulation.unheard_of=1", "unheard_of"),
        ("refine=perhaps", "refine"),
        ("latent.width=wide", "latent.width"),
        ("image_size=[64]", "image_size"),
        ("simulation.sampling=guess", "sampling"),
        ("refine", "expected FIELD=VALUE, got 'refine'"),
        ("simulation.nearest_share=1.0", r"nearest_share and minimum_strength"),
        ("image_size=[63, 640]", "at least 64x64.*, got image size 63x640; the nearest that works is 64x640"),
        ("detection_stage.steps=0", "at least one step"),
        ("detection_stage.batch_size=0", "at least one step and one image"),
    ],
)
def test_what_cannot_be_is_named(setting, named):
    with pytest.raises(ConfigurationError, match=named):
        configure(FAST, settings=[setting])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.yaml"):
        configure(FAST, tmp_path / "missing.yaml")


@pytest.mark.parametrize("text", ["refine: [", "just words", "unheard_of: 3\n", "refine: 3\n"])
def test_a_file_that_cannot_be_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="configuration of DsrConfig"):
        configure(FAST, path)


def test_values_of_other_fields_are_refused():
    with pytest.raises(ConfigurationError, match="unheard_of"):
        from_dict(DsrConfig, {"unheard_of": 1})


def test_yaml_shows_every_field():
    text = to_yaml(FAST)
    assert "nearest_share: 0.05" in text
    assert "light: true" in text
    assert "config" not in text


def test_a_length_in_steps_is_shared_as_before():
    refining = replace(FAST, refine=True)
    shortened = refining.with_steps(440)
    stages = (shortened.detection_stage, shortened.upsampling_stage)
    assert [stage.steps for stage in stages] == [400, 40]
    assert [stage.warmup for stage in stages] == [30, 10]  # Adam's needs; a quarter at most
    assert replace(
        shortened, detection_stage=FAST.detection_stage, upsampling_stage=FAST.upsampling_stage
    ) == refining  # fmt: skip
    smallest = refining.with_steps(1)
    assert (smallest.detection_stage.steps, smallest.upsampling_stage.steps) == (1, 1)


@pytest.mark.parametrize("steps", [0, -5])
def test_no_steps_are_no_training(steps):
    with pytest.raises(ValueError, match=f"at least one step, got {steps}"):
        FAST.with_steps(steps)


def test_unknown_names_list_those_there_are():
    with pytest.raises(ValueError, match=r"no method 'patchcore'; there are: .*dsr"):
        find_method("patchcore")
    with pytest.raises(ValueError, match=r"no preset 'slow' of dsr; there are: paper, fast"):
        find_preset("dsr", "slow")


@pytest.mark.parametrize("values", [{"steps": 0, "batch_size": 1}, {"steps": 1, "batch_size": 0}])
def test_a_stage_has_steps_and_images(values):
    with pytest.raises(ValueError, match="at least one step and one image a step"):
        StageConfig(**values)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate=0", "a learning rate above 0, got 0"),
        ("learning_rate=-1e-3", "a learning rate above 0, got -0.001"),
        ("warmup=-1", "warm-up and weight decay of a training stage are at least 0"),
        ("weight_decay=-1e-5", "warm-up and weight decay of a training stage are at least 0"),
    ],
)
def test_a_stage_follows_the_gradient_at_a_rate_that_never_falls_below_zero(setting, message):
    with pytest.raises(ConfigurationError, match=message):
        configure(FAST, settings=[f"detection_stage.{setting}"])
    calm = configure(FAST, settings=["detection_stage.warmup=0", "detection_stage.weight_decay=0"])
    assert (calm.detection_stage.warmup, calm.detection_stage.weight_decay) == (0, 0)


def test_without_refinement_all_steps_are_those_of_stage_2():
    config = FAST.with_steps(77)
    assert config.detection_stage.steps == 77
    assert config.upsampling_stage == FAST.upsampling_stage
    both = replace(FAST, refine=True).with_steps(1000)
    assert both.detection_stage.steps + both.upsampling_stage.steps == 1000
