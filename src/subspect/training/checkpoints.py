"""Checkpoints of stages: where they lie; when they are written, each whole or not at all; how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from subspect.files import write_atomically
from subspect.training.stage import Stage


def checkpoint_folder(stage: Stage, folder: Path) -> Path:
    """Where a stage's checkpoints lie in the folder of a training."""
    return folder / "checkpoints" / stage.name


def final_checkpoint(stage: Stage, folder: Path) -> Path:
    """The checkpoint that marks a stage as finished."""
    return checkpoint_folder(stage, folder) / f"step={stage.config.steps}.ckpt"


def newest_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The checkpoint of most steps in a stage's folder, and its steps; (None, 0) if there is none."""
    found = [(int(path.stem.removeprefix("step=")), path) for path in folder.glob("step=*.ckpt")]
    step, path = max(found, default=(0, None))
    return path, step


def load_checkpoint(stage: Stage, checkpoint: Path) -> None:
    """Gives a stage the weights of a checkpoint."""
    stage.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])


def regular_checkpoints(stage: Stage, folder: Path, every: int) -> ModelCheckpoint:
    """Writes a checkpoint every so many steps, and removes the one before."""
    return ModelCheckpoint(
        dirpath=checkpoint_folder(stage, folder),
        filename="{step}",
        enable_version_counter=False,
        every_n_train_steps=every,
    )


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent; Lightning's own copies them there from another folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint, its folder, too, if need be."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))


class LastCheckpoint(Callback):
    """Writes the checkpoint that marks a stage as finished."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes it, unless the training was interrupted."""
        if not trainer.interrupted:
            trainer.save_checkpoint(self.path, weights_only=False)
