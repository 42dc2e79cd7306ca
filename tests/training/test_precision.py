"""Float32 that is float32 on a GPU, and how often trainings pause; what of it a machine without one can tell."""

from dataclasses import replace

import pytest
import torch

from subspect.devices import true_float32
from subspect.training.options import FitOptions, steps_between


def test_tf32_is_off_inside_and_as_before_outside():
    for before in (True, False):
        torch.backends.cudnn.allow_tf32 = before
        with pytest.raises(KeyError), true_float32():
            assert not torch.backends.cudnn.allow_tf32
            raise KeyError
        assert torch.backends.cudnn.allow_tf32 == before
    torch.backends.cudnn.allow_tf32 = True


def test_checkpoints_come_as_asked_for_or_as_suits_the_accelerator():
    processor = FitOptions(accelerator="cpu")
    assert steps_between(None, processor) == 200
    assert steps_between(7, replace(processor, checkpoint_every=7)) == 7
