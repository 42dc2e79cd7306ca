"""What a training runs on: accelerator, devices, precision, and whether this machine has them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

PRECISIONS = ("auto", "32-true", "bf16-mixed")


@dataclass(frozen=True)
class FitOptions:
    """How a training runs, apart from what is trained.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``gpu``, ….
        devices: How many; several train by DDP.
        precision: One of ``PRECISIONS``; ``auto`` is bfloat16 where the hardware multiplies it fast, float32
            elsewhere. Float16 is none: gradients are limited as they are, not as a loss scaler made them.
        checkpoint_every: Steps between checkpoints; what a kill can cost at most. None for what suits the
            accelerator: 200, or 2,000 on a GPU, whose steps are shorter.
        preview_every: Steps between preview pictures; None as above.
        progress: Whether to show progress bars.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"
    checkpoint_every: int | None = None
    preview_every: int | None = None
    progress: bool = True


def check_options(options: FitOptions) -> None:
    """Makes sure that this machine can train so, before any work.

    Raises:
        ValueError: There is no such accelerator or precision, or not so many devices.
    """
    asked = f"accelerator {options.accelerator}, devices {options.devices}, precision {options.precision}"
    if options.devices < 1:
        raise ValueError(f"a training needs at least one device, got {asked}")
    if options.precision not in PRECISIONS:
        raise ValueError(f"no precision {options.precision!r} to train in; there are: {', '.join(PRECISIONS)}")
    silence_adverts()
    try:
        L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            precision=trainer_precision(options),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ValueError(f"this machine cannot train with {asked}: {_one_line(error)}") from error


def on_gpu(options: FitOptions) -> bool:
    """Whether a training runs on NVIDIA's or AMD's GPUs."""
    return options.accelerator != "cpu" and torch.cuda.is_available()


def steps_between(asked: int | None, options: FitOptions) -> int:
    """Steps between checkpoints or previews: those asked for, or what suits the accelerator."""
    if asked is not None:
        return asked
    return 2000 if on_gpu(options) else 200


def trainer_precision(options: FitOptions) -> Any:
    """The precision as Lightning takes it, ``auto`` replaced by what this machine does fast."""
    if options.precision != "auto":
        return options.precision
    if on_gpu(options):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # With neither AMX nor AVX-512's bfloat16 it is multiplied four times slower than float32. With the
        # latter a step of DSR's `fast` gains 5 %, which its rounding is not worth; that of `paper` nearly half.
        fast = torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def conditions(options: FitOptions) -> dict[str, Any]:
    """What of the options moves the numbers of a training, as this machine takes them; values JSON can hold."""
    return {
        "accelerator": "gpu" if on_gpu(options) else options.accelerator.replace("auto", "cpu"),
        "devices": options.devices,
        "precision": trainer_precision(options),
    }


def silence_adverts() -> None:
    """Keeps Lightning from advertising, and from listing hardware that is not there, with every trainer."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
