"""Running stages on Lightning: one after the other with checkpoints and logs, or a few steps to time them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import Profiler

from subspect.devices import true_float32
from subspect.files import remove_leftovers
from subspect.training.checkpoints import (
    AtomicCheckpoints,
    LastCheckpoint,
    checkpoint_folder,
    final_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    regular_checkpoints,
)
from subspect.training.options import FitOptions, on_gpu, silence_adverts, steps_between, trainer_precision
from subspect.training.previews import Previews
from subspect.training.stage import LOG_EVERY, Stage

logger = logging.getLogger("subspect")


def fit(stages: Sequence[Stage], folder: Path, options: FitOptions, *, resume: bool = False) -> None:
    """Trains the stages in order.

    Args:
        stages: They share the detector they train.
        folder: Receives ``checkpoints/STAGE``, ``logs`` and ``previews/STAGE``. No other process may be at
            work in it.
        options: How to run.
        resume: Continue from the newest checkpoints in ``folder``; finished stages are loaded, not repeated.

    Raises:
        FileExistsError: The folder has checkpoints and ``resume`` is not set.
        ValueError: A batch does not divide among the devices.
    """
    if not resume and any((folder / "checkpoints").rglob("*.ckpt")):
        raise FileExistsError(f"{folder} holds a training already: resume it, or choose another output folder")
    check_batches(stages, options)
    for number, stage in enumerate(stages):
        for written in (checkpoint_folder(stage, folder), _preview_folder(stage, folder)):
            remove_leftovers(written)
        checkpoint, step = newest_checkpoint(checkpoint_folder(stage, folder))
        if checkpoint is not None and step >= stage.config.steps:
            logger.info("stage %s is finished, loading %s", stage.name, checkpoint)
            load_checkpoint(stage, checkpoint)
            continue
        logger.info("stage %d of %d: %s, %d steps", number + 1, len(stages), stage.name, stage.config.steps)
        _fit_stage(stage, folder, options, checkpoint)


def check_batches(stages: Sequence[Stage], options: FitOptions) -> None:
    """Makes sure that every device gets as many images of a batch.

    Raises:
        ValueError: A batch does not divide among the devices.
    """
    uneven = [s.name for s in stages if not s.gathers and s.config.batch_size % options.devices]
    if uneven:
        raise ValueError(
            f"the batch size of {', '.join(uneven)} does not divide among {options.devices} devices; change one"
        )


def _fit_stage(stage: Stage, folder: Path, options: FitOptions, checkpoint: Path | None) -> None:
    trainer = _trainer(stage, folder, options)
    with warnings.catch_warnings(), true_float32():
        # Our batches are a function of the step, so they resume without the loader having a state.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        # Frozen modules stay in evaluation mode on purpose; the other is between Lightning and PyTorch.
        warnings.filterwarnings("ignore", message="Found .* module.* in eval mode")
        warnings.filterwarnings("ignore", message=".*treespec.*is deprecated")
        if stage.gathers:
            warnings.filterwarnings("ignore", message=".*returned `None`")
            warnings.filterwarnings("ignore", message="The number of training batches")
        trainer.fit(stage, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    # Where several processes trained, this one has seen nothing of it but the checkpoint.
    load_checkpoint(stage, final_checkpoint(stage, folder))
    # As a detector read from disk: another layout in memory gives other rounding errors.
    stage.to("cpu").to(memory_format=torch.contiguous_format)


def _preview_folder(stage: Stage, folder: Path) -> Path:
    return folder / "previews" / stage.name


def _trainer(stage: Stage, folder: Path, options: FitOptions) -> L.Trainer:
    silence_adverts()
    logs = folder / "logs" / stage.name
    preview_every = stage.config.steps if stage.gathers else steps_between(options.preview_every, options)
    callbacks: list[Callback] = [
        LastCheckpoint(final_checkpoint(stage, folder)),
        Previews(_preview_folder(stage, folder), preview_every),
    ]
    if not stage.gathers:
        every = steps_between(options.checkpoint_every, options)
        callbacks += [regular_checkpoints(stage, folder, every), LearningRateMonitor("step")]
    if options.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=LOG_EVERY, leave=True))
    devices = 1 if stage.gathers else options.devices
    return L.Trainer(
        accelerator=options.accelerator,
        devices=devices,
        # Spawned, not started anew: the command would claim its output folder once a process.
        strategy="ddp_spawn" if devices > 1 else "auto",
        # BatchNorm over the batches of all processes, as one process would; PyTorch has it for GPUs only.
        sync_batchnorm=devices > 1 and on_gpu(options),
        precision="32-true" if stage.gathers else trainer_precision(options),
        max_steps=stage.config.steps,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        logger=[CSVLogger(logs, "csv"), TensorBoardLogger(logs, "tensorboard")],
        log_every_n_steps=LOG_EVERY,
        enable_checkpointing=not stage.gathers,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def run_briefly(
    stage: Stage,
    options: FitOptions,
    steps: int,
    *,
    callbacks: Sequence[Callback] = (),
    profiler: Profiler | None = None,
) -> None:
    """Trains a few steps of a stage on one device and writes nothing: to see how long they take."""
    silence_adverts()
    trainer = L.Trainer(
        accelerator=options.accelerator,
        devices=1,
        precision="32-true" if stage.gathers else trainer_precision(options),
        max_epochs=1,
        limit_train_batches=steps,
        callbacks=list(callbacks),
        profiler=profiler,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings(), true_float32():
        warnings.simplefilter("ignore")  # of workers, modes and losses, as above
        trainer.fit(stage)
