"""Float32 that is float32 on a GPU, and how often trainings pause: what a machine without one can tell."""

import pytest
import torch

from subspect.devices import true_float32
from subspect.training.options import FitOptions, check_options, steps_between


def fail_inside():
    with true_float32():
        assert not torch.backends.cudnn.allow_tf32
        raise KeyError


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_inside_and_as_before_outside(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with pytest.raises(KeyError):
        fail_inside()
    assert torch.backends.cudnn.allow_tf32 == before


def test_checkpoints_come_as_asked_for_or_as_suits_the_accelerator():
    processor = FitOptions(accelerator="cpu")
    assert steps_between(None, processor) == 200
    assert steps_between(7, processor) == 7


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true", "transformer-engine"])
def test_what_no_training_runs_in_is_refused_before_it(precision):
    with pytest.raises(
        ValueError, match=f"no precision '{precision}' to train in; there are: auto, 32-true, bf16"
    ):
        check_options(FitOptions(accelerator="cpu", precision=precision))
