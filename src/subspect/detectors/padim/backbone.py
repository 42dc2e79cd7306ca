"""The frozen ImageNet network that PaDiM takes features from: any of timm's with three feature levels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from subspect.pretrained import WeightsError, find_weights

_FILENAME = "model.safetensors"
_UNUSED = "num_batches_tracked"  # of batch norms that train


class Backbone(nn.Module):
    """Three feature levels of a timm network, joined on the grid of the first (paper, section 3.1).

    The network never trains, and stays in evaluation mode whatever happens around it. Layers behind the last
    level are left out, where timm can do so.

    Args:
        name: Name in timm, e.g. ``resnet18.tv_in1k``.
        levels: Which three, numbered as timm does.

    Attributes:
        channels: Channels of the three levels together.
        hub_id: Where timm has weights for it; None if nowhere.

    Raises:
        ValueError: timm has no such network, or it has not these levels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, levels: tuple[int, int, int]) -> None:
        super().__init__()
        self.name = name
        network = _create(name, levels)
        self.network: nn.Module = network
        pretrained: dict[str, Any] = network.model.pretrained_cfg
        self.hub_id: str | None = pretrained.get("hf_hub_id")
        self.channels: int = sum(network.feature_info.channels())
        for statistic in ("mean", "std"):
            self.register_buffer(statistic, torch.tensor(pretrained[statistic])[:, None, None])
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: the statistics of batch norms are those of ImageNet."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, channels, h, w)`` of images ``(N, 3, H, W)``, RGB in [0, 1].

        Each place of the grid gets the features of the coarser levels' cell that it lies in.
        """
        first, *coarser = self.network((images - self.mean) / self.std)
        size = first.shape[-2:]
        return torch.cat([first, *(F.interpolate(level, size, mode="nearest") for level in coarser)], 1)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the first level's grid for images of a size; nothing is computed.

        Raises:
            ValueError: The network cannot take such images.
        """
        shadow = copy.deepcopy(self).to("meta")
        try:
            features = shadow(torch.empty(1, 3, *image_size, device="meta"))
        except (RuntimeError, AssertionError, ValueError) as error:
            height, width = image_size
            raise ValueError(
                f"the backbone {self.name} cannot take images of {height}x{width} pixels: {error}"
            ) from error
        return features.shape[2], features.shape[3]

    def load_weights(self, source: str | None) -> str:
        """Takes over pretrained weights.

        Args:
            source: A safetensors file with timm's key names (for ResNets torchvision's are the same), which may
                lack what lies behind the last level, or the hub id of a repository with ``model.safetensors``;
                None takes the hub's for this network.

        Returns:
            Where they came from.

        Raises:
            WeightsError: They cannot be had, or do not fit; the message says what to put where.
        """
        chosen = self._default() if source is None else source
        try:
            path = find_weights(chosen, _FILENAME)
        except WeightsError as error:
            raise WeightsError(
                f"no weights for the backbone {self.name} (--weights FILE or HUB_ID names others): {error}"
            ) from error
        self._load(path)
        return chosen

    def _default(self) -> str:
        if self.hub_id is None:
            raise WeightsError(f"timm has no weights for the backbone {self.name}; give a file as --weights")
        return self.hub_id

    def _load(self, path: Path) -> None:
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} is no safetensors file: {error}") from error
        network = self.network.get_submodule("model")
        own = network.state_dict()
        needed = [name for name in own if not name.endswith(_UNUSED)]
        unfit = [name for name in needed if name not in stored or stored[name].shape != own[name].shape]
        if unfit:
            raise WeightsError(
                f"{path} does not fit the backbone {self.name}: {len(unfit)} of {len(needed)} tensors are"
                f" missing or of another shape, e.g. {', '.join(unfit[:3])}; key names must be timm's, and norm"
                " layers must be there even if folded into the convolutions (then as identities)"
            )
        network.load_state_dict({**own, **{name: stored[name] for name in needed}})


def _create(name: str, levels: tuple[int, int, int]) -> Any:
    """The network without weights, cut behind the last level, giving the levels as ``(N, C, h, w)``."""
    import timm  # takes seconds, which only those who use it should wait

    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no network {name!r}; timm.list_models() has the names")
    try:
        return timm.create_model(name, features_only=True, out_indices=levels, feature_cls="getter")
    except (RuntimeError, AssertionError, IndexError, AttributeError) as error:
        raise ValueError(f"timm's {name} cannot give the feature levels {levels}: {error}") from error
