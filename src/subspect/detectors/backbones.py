"""Backbones: networks of timm, pretrained on ImageNet, as frozen extractors of feature maps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from subspect.detectors.pretrained import WeightsError, find_weights

_FILENAME = "model.safetensors"
_UNUSED = "num_batches_tracked"  # of batch norms that train
_MULTIPLE = 32  # what networks with five halvings divide sides by
_REFUSALS = (RuntimeError, AssertionError, ValueError)  # how timm's networks refuse an image size


class MissingLevelError(WeightsError):
    """Weights that lack those of a feature level asked for."""


class Backbone(nn.Module):
    """A network that gives the feature maps of some levels.

    It never trains, and stays in evaluation mode whatever happens around it. Layers behind the last level are
    left out, where timm can do so.

    Args:
        name: Name in timm, e.g. ``resnet18.tv_in1k``.
        levels: Which, numbered as timm does: in ResNets 1 has a quarter of the image's resolution, 4 ends it.

    Attributes:
        channels: Of each level.
        hub_id: Where timm has weights for it; None if nowhere.
        own_size: Height and width of the images it was made for.

    Raises:
        ValueError: timm has no such network, or it has not these levels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, levels: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.levels = tuple(levels)
        network = _create(name, self.levels)
        self.network: nn.Module = network
        pretrained: dict[str, Any] = network.model.pretrained_cfg
        self.hub_id: str | None = pretrained.get("hf_hub_id")
        self.own_size: tuple[int, int] = tuple(pretrained["input_size"][1:])
        self.channels: tuple[int, ...] = tuple(network.feature_info.channels())
        for statistic in ("mean", "std"):
            self.register_buffer(statistic, torch.tensor(pretrained[statistic])[:, None, None])
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: the statistics of batch norms are those of ImageNet."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps ``(N, C, h, w)``, one a level, of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        return self.network((images - self.mean) / self.std)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the first level's maps for images of a size; nothing is computed.

        Raises:
            ValueError: The network cannot take such images; the message names sizes that it can.
        """
        shadow = copy.deepcopy(self).to("meta")
        try:
            return shadow._measure(image_size)
        except _REFUSALS as error:
            height, width = image_size
            raise ValueError(
                f"the backbone {self.name} cannot take images of {height}x{width} pixels: {error}"
                f" {shadow._what_works(image_size)}"
            ) from error

    def _measure(self, image_size: tuple[int, int]) -> tuple[int, int]:
        first = self(torch.empty(1, 3, *image_size, device="meta"))[0]
        return first.shape[2], first.shape[3]

    def _what_works(self, image_size: tuple[int, int]) -> str:
        """The nearest multiples of 32 and the size that the network was made for, if it takes them."""
        nearest = [max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in image_size]
        works = []
        for height, width in dict.fromkeys([(nearest[0], nearest[1]), self.own_size]):
            with suppress(*_REFUSALS):
                self._measure((height, width))
                works.append(f"{height}x{width}")
        return f"(what works: {', '.join(works)})" if works else "(nor the sizes near it)"

    def load_weights(self, source: str | None) -> str:
        """Takes over pretrained weights.

        Args:
            source: A safetensors file with timm's key names (for ResNets torchvision's are the same), which may
                lack what lies behind the last level, or the hub id of a repository with ``model.safetensors``;
                None takes the hub's for this network.

        Returns:
            Where they came from.

        Raises:
            MissingLevelError: They lack what a level needs.
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
        if missing := [name for name in needed if name not in stored]:
            raise MissingLevelError(
                f"{path} lacks {len(missing)} of the {len(needed)} tensors of {self.name} up to level"
                f" {max(self.levels)}, e.g. {', '.join(missing[:3])}; key names must be timm's, and norm layers"
                " must be there even if folded into the convolutions (then as identities)"
            )
        try:
            network.load_state_dict({**own, **{name: stored[name] for name in needed}})
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit {self.name}: {error}") from error


def _create(name: str, levels: tuple[int, ...]) -> Any:
    """The network without weights, cut behind the last level, giving the levels as ``(N, C, h, w)``."""
    import timm  # takes seconds, which only those who use it should wait

    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no network {name!r}; timm.list_models() has the names")
    try:
        return timm.create_model(name, features_only=True, out_indices=levels, feature_cls="getter")
    except (RuntimeError, AssertionError, IndexError, AttributeError) as error:
        raise ValueError(f"timm's {name} cannot give the feature levels {levels}: {error}") from error
