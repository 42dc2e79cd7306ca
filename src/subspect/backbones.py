"""Backbones: networks of timm, pretrained on ImageNet, as frozen extractors of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from subspect.pretrained import WeightsError, find_weights

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class MissingLevelError(WeightsError):
    """Weights that end before the feature level asked for."""


class Backbone(nn.Module):
    """A frozen network that gives the feature maps of some levels.

    Args:
        network: Of timm, made with ``features_only``.

    Attributes:
        channels: Channels of each level.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        information: timm.models.FeatureInfo = network.feature_info  # type: ignore[assignment]
        self.channels = tuple(int(count) for count in information.channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps ``(N, C, h, w)``, one a level, of RGB images ``(N, 3, H, W)`` in [0, 1]."""
        return self.network(normalise(images))


def load_backbone(name: str, weights: str | None, levels: Sequence[int]) -> Backbone:
    """A pretrained network, frozen and in evaluation mode.

    Args:
        name: Name in timm, e.g. ``resnet18.tv_in1k``.
        weights: A safetensors file with torchvision's or timm's key names (levels that are not asked for may
            be missing), or a hub id with ``model.safetensors``, with ``#SHA256`` if you like; None takes
            those that timm names, from the hub.
        levels: Which, 1 for the first (a quarter of the resolution in ResNets) to 4 for the last.

    Raises:
        MissingLevelError: The file has no weights for one of the levels.
        WeightsError: There is no such network, or its weights cannot be had; the message says what to fetch.
    """
    if not timm.is_model(name):
        raise WeightsError(f"no network {name!r} in timm {timm.__version__}; see timm.list_models()")
    if weights is None:
        return Backbone(_from_timm(name, levels))
    path = find_weights(weights, "model.safetensors")
    network = timm.create_model(name, features_only=True, out_indices=tuple(levels))
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no safetensors file: {error}") from error
    needed = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    if missing := sorted(needed - tensors.keys()):
        raise MissingLevelError(
            f"{path} has no weights for levels {tuple(levels)} of {name}: {len(missing)} of {len(needed)} are"
            f" missing, the first {missing[0]}"
        )
    try:
        network.load_state_dict({key: tensors[key] for key in needed}, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {name}: {error}") from error
    return Backbone(network)


def normalise(images: Tensor) -> Tensor:
    """RGB images ``(N, 3, H, W)`` in [0, 1], shifted and scaled as for training on ImageNet."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std


def _from_timm(name: str, levels: Sequence[int]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, features_only=True, out_indices=tuple(levels))
    except Exception as error:  # the hub's client has a dozen kinds, and its transport more
        raise WeightsError(
            f"the weights of {name} are neither on this machine nor could they be fetched from the hub"
            f" ({error}); without a network, fetch model.safetensors of timm/{name} elsewhere and give its path"
        ) from error
