"""Pictures of the state of a training, written as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from subspect.pictures import grid, save_picture
from subspect.training.stage import Stage

_PREVIEW_HEIGHT = 192


class Previews(Callback):
    """Writes a stage's preview pictures as one PNG, a row an image."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Writes them at the steps where they are due, and after the last."""
        last = trainer.global_step == trainer.max_steps
        if trainer.is_global_zero and (last or trainer.global_step % self.every == 0):
            assert isinstance(pl_module, Stage)
            pl_module.eval()  # as the pictures of a finished detector; BatchNorm must not learn from them
            with torch.no_grad():
                self._write(pl_module.preview(), trainer.global_step)
            pl_module.train_trained()

    def _write(self, pictures: dict[str, Tensor], step: int) -> None:
        arrays = {
            name: images.float().clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
            for name, images in pictures.items()
        }
        count = len(next(iter(arrays.values())))
        rows = [{name: images[index] for name, images in arrays.items()} for index in range(count)]
        self.folder.mkdir(parents=True, exist_ok=True)
        save_picture(self.folder / f"{step:06d}.png", grid(rows, _PREVIEW_HEIGHT))
