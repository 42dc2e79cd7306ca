"""Training: a detector's stages, one after the other, on Lightning; logs, previews, checkpoints, resuming.

Knows nothing of any method. Everything random in a step is a function of the seed and the step's number,
so a training that was killed and resumed sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subspect.detectors.config import StageConfig
from subspect.files import write_atomically
from subspect.pictures import grid, save_picture

logger = logging.getLogger("subspect")
_PREVIEW_HEIGHT = 192


class Stage(L.LightningModule):
    """One training stage: its own data, its own length in steps, automatic optimisation.

    Attributes:
        name: Names its folder of checkpoints and logs; unique within a training.
        config: Its schedule.
        seed: With the step's number, decides everything random.
    """

    def __init__(self, name: str, config: StageConfig, seed: int) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.seed = seed

    @abstractmethod
    def trained(self) -> Sequence[nn.Module]:
        """The modules that this stage trains or whose buffers it fills; everything else stays as it is."""

    @abstractmethod
    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Batches from ``start_step`` on, of ``config.batch_size / world_size`` images each."""

    @abstractmethod
    def preview(self) -> dict[str, Tensor]:
        """Pictures of the state of training by name, each ``(N, 3, H, W)`` in [0, 1]."""

    def step_generator(
        self, purpose: str = "", device: torch.device | None = None, *, shared: bool = False
    ) -> torch.Generator:
        """A generator seeded by seed, stage, purpose, step and process.

        Args:
            purpose: What is drawn.
            device: Where; None for the module's device. What the host must know is drawn on the CPU, so that
                it need not wait for the device.
            shared: The same in all processes: for what is drawn once for a batch, not for each image.
        """
        device = self.device if device is None else device
        process = 0 if shared else self.global_rank
        return seeded_generator(device, self.seed, self.name, purpose, self.global_step, process)

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of what the processes have, without a gradient."""
        value = value.detach().to(torch.float32, copy=True)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(value)
            value = value / torch.distributed.get_world_size()
        return value

    def of_all_processes(self, values: Tensor) -> Tensor:
        """What the processes have of a batch ``(N, …)``, in the order of one process's: they took turns."""
        if not torch.distributed.is_initialized():
            return values
        values = values.contiguous()
        gathered = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, values)
        return torch.stack(gathered, 1).flatten(0, 1)

    def setup(self, stage: str) -> None:
        """Freezes everything but the trained modules, and lays the weights out channels-last."""
        self.requires_grad_(False)
        for module in self.trained():
            module.requires_grad_(True)
        self.train_trained()
        self.to(memory_format=torch.channels_last)

    def train_trained(self) -> None:
        """Puts the trained modules in training mode and everything else in evaluation mode."""
        self.eval()
        for module in self.trained():
            module.train()

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches that are left, as Lightning asks for them."""
        return self.loader(self.global_step, self.trainer.global_rank, self.trainer.world_size)

    @property
    def gathers(self) -> bool:
        """Whether the stage only fills buffers: no gradients, no loss, no optimiser.

        Such a stage runs on one device in float32. It has no checkpoint before its end; once stopped, it begins
        anew.
        """
        return not any(True for module in self.trained() for _ in module.parameters())

    def configure_optimizers(self) -> OptimizerLRScheduler | None:
        """Adam on everything that trains, with the stage's learning-rate schedule stepping every step."""
        if self.gathers:
            return None
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(
            trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@dataclass(frozen=True)
class FitOptions:
    """How a training runs, apart from what is trained.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``gpu``, ….
        devices: How many; several train by DDP.
        precision: ``auto`` is bfloat16 where the hardware multiplies it fast, float32 elsewhere.
        checkpoint_every: Steps between checkpoints; what a kill can cost at most.
        preview_every: Steps between preview pictures.
        progress: Whether to show progress bars.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"
    checkpoint_every: int = 200
    preview_every: int = 200
    progress: bool = True


def check_options(options: FitOptions) -> None:
    """Makes sure that this machine can train so, before any work.

    Raises:
        ValueError: There is no such accelerator or precision, or not so many devices.
    """
    asked = f"accelerator {options.accelerator}, devices {options.devices}, precision {options.precision}"
    if options.devices < 1:
        raise ValueError(f"a training needs at least one device, got {asked}")
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


def silence_adverts() -> None:
    """Keeps Lightning from advertising, and from listing hardware that is not there, with every trainer."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def seeded_generator(device: torch.device, *parts: object) -> torch.Generator:
    """A random generator whose seed is a hash of ``parts``: the same on every machine and in every run."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def learning_rate_factor(step: int, config: StageConfig) -> float:
    """What the learning rate is multiplied with at a step, counted from 0."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    match config.schedule:
        case "constant":
            return 1.0
        case "step":
            return 1.0 if step < 0.8 * config.steps else 0.1
        case "two_steps":
            return 0.2 ** ((step >= 0.8 * config.steps) + (step >= 0.9 * config.steps))
        case "cosine":
            progress = (step - config.warmup) / max(1, config.steps - config.warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def fit(stages: Sequence[Stage], folder: Path, options: FitOptions, *, resume: bool = False) -> None:
    """Trains the stages in order.

    Args:
        stages: They share the detector they train.
        folder: Receives ``checkpoints/STAGE``, ``logs`` and ``previews/STAGE``.
        options: How to run.
        resume: Continue from the newest checkpoints in ``folder``; finished stages are loaded, not repeated.

    Raises:
        FileExistsError: The folder has checkpoints and ``resume`` is not set.
    """
    if not resume and any((folder / "checkpoints").rglob("*.ckpt")):
        raise FileExistsError(f"{folder} holds a training already: resume it, or choose another output folder")
    uneven = [s.name for s in stages if not s.gathers and s.config.batch_size % options.devices]
    if uneven:
        raise ValueError(
            f"the batch size of {', '.join(uneven)} does not divide among {options.devices} devices; change one"
        )
    for number, stage in enumerate(stages):
        checkpoint, step = newest_checkpoint(folder / "checkpoints" / stage.name)
        if checkpoint is not None and step >= stage.config.steps:
            logger.info("stage %s is finished, loading %s", stage.name, checkpoint)
            _load(stage, checkpoint)
            continue
        logger.info("stage %d of %d: %s, %d steps", number + 1, len(stages), stage.name, stage.config.steps)
        _fit_stage(stage, folder, options, checkpoint)


def newest_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The checkpoint of most steps in a stage's folder, and its steps; (None, 0) if there is none."""
    found = [(int(path.stem.removeprefix("step=")), path) for path in folder.glob("step=*.ckpt")]
    step, path = max(found, default=(0, None))
    return path, step


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of workers, modes and losses, as below
        trainer.fit(stage)


def _fit_stage(stage: Stage, folder: Path, options: FitOptions, checkpoint: Path | None) -> None:
    trainer = _trainer(stage, folder, options)
    with warnings.catch_warnings():
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
    _load(stage, _final_checkpoint(stage, folder))
    # As a detector read from disk: another layout in memory gives other rounding errors.
    stage.to("cpu").to(memory_format=torch.contiguous_format)


def _load(stage: Stage, checkpoint: Path) -> None:
    stage.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])


def _final_checkpoint(stage: Stage, folder: Path) -> Path:
    return folder / "checkpoints" / stage.name / f"step={stage.config.steps}.ckpt"


def _trainer(stage: Stage, folder: Path, options: FitOptions) -> L.Trainer:
    silence_adverts()
    logs = folder / "logs" / stage.name
    preview_every = stage.config.steps if stage.gathers else options.preview_every
    callbacks: list[Callback] = [
        _LastCheckpoint(_final_checkpoint(stage, folder)),
        _Previews(folder / "previews" / stage.name, preview_every),
    ]
    if not stage.gathers:
        callbacks += [_checkpoints(stage, folder, options), LearningRateMonitor("step")]
    if options.progress:
        callbacks.append(TQDMProgressBar(leave=True))
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
        plugins=[_AtomicCheckpoints()],
        logger=[CSVLogger(logs, "csv"), TensorBoardLogger(logs, "tensorboard")],
        log_every_n_steps=10,
        enable_checkpointing=not stage.gathers,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _checkpoints(stage: Stage, folder: Path, options: FitOptions) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder / "checkpoints" / stage.name,
        filename="{step}",
        enable_version_counter=False,
        every_n_train_steps=options.checkpoint_every,
    )


def on_gpu(options: FitOptions) -> bool:
    """Whether a training runs on NVIDIA's or AMD's GPUs."""
    return options.accelerator != "cpu" and torch.cuda.is_available()


def trainer_precision(options: FitOptions) -> Any:
    """The precision as Lightning takes it, ``auto`` replaced by what this machine does fast."""
    if options.precision != "auto":
        return options.precision
    if on_gpu(options):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # A processor without AMX multiplies bfloat16 four times slower than float32.
        fast = torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent; Lightning's own copies them there from another folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))


class _LastCheckpoint(Callback):
    """Writes the checkpoint that marks a stage as finished."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.interrupted:
            trainer.save_checkpoint(self.path, weights_only=False)


class _Previews(Callback):
    """Writes a stage's preview pictures as one PNG, a row an image."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
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
