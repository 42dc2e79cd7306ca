"""A stage of a training: what a method says of it; its random numbers and its learning rate.

Whatever is random in a step is drawn from generators seeded by the seed and the step's number.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subspect.detectors.config import StageConfig

LOG_EVERY = 10
"""Steps from one logged value to the next."""


class Stage(L.LightningModule):
    """One training stage: its own data, its own length in steps, automatic optimisation.

    Attributes:
        name: Names its folder of checkpoints and logs; unique within a training.
        config: Its schedule.
        seed: With the step's number, decides everything random.
        may_prepare_ahead: Whether batches may be made ready some steps at a time; profilers want single ones.
    """

    def __init__(self, name: str, config: StageConfig, seed: int) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.seed = seed
        self.may_prepare_ahead = True

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
        self,
        purpose: str = "",
        device: torch.device | None = None,
        *,
        shared: bool = False,
        step: int | None = None,
    ) -> torch.Generator:
        """A generator seeded by seed, stage, purpose, step and process.

        Args:
            purpose: What is drawn.
            device: Where; None for the module's device. What the host must know is drawn on the CPU, so that
                it need not wait for the device.
            shared: The same in all processes: for what is drawn once for a batch, not for each image.
            step: Which step; None for the one that the training is at.
        """
        device = self.device if device is None else device
        step = self.global_step if step is None else step
        process = 0 if shared else self.global_rank
        return seeded_generator(device, self.seed, self.name, purpose, step, process)

    def report(self, values: Mapping[str, Tensor]) -> None:
        """Logs values where any are logged: Lightning takes milliseconds for what it does not write, too."""
        if (self.global_step + 1) % LOG_EVERY == 0:
            self.log_dict(dict(values), prog_bar=True)

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
        if torch.distributed.is_initialized():  # a process of its own, which `true_float32` does not reach
            torch.backends.cudnn.allow_tf32 = False

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
        """Fused Adam on everything that trains, with the stage's learning-rate schedule stepping every step."""
        if self.gathers:
            return None
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # On a CPU, fused needs gradients that lie in memory as their weights do; autograd sees to that.
        optimizer = torch.optim.Adam(
            trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Limits the norm of all gradients together, where the configuration says so.

        Lightning's own clipping refuses fused Adam in mixed precision.
        """
        if self.config.gradient_norm is not None:
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.config.gradient_norm)


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
