"""Backbones: networks of timm pretrained on ImageNet, by hub id or from a local file, as frozen feature extractors."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from subspect.pretrained import WeightsError, find_weights

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class MissingLevelError(WeightsError):
    """Weights that end before the feature level asked for."""


def load_backbone(name: str, weights: str | None, levels: Sequence[int]) -> nn.Module:
    """A frozen network that returns the feature maps of some levels.

    Args:
        name: Name in timm, e.g. ``resnet18.tv_in1k``.
        weights: A safetensors file with torchvision's or timm's key names (levels that are not asked for may
            be missing), or a hub id with ``model.safetensors``, with ``#SHA256`` if you like; None takes
            those that timm names, from the hub.
        levels: Which, 1 for the first (a quarter of the resolution in ResNets) to 4 for the last.

    Returns:
        A module from normalised images ``(N, 3, H, W)`` to a list of maps ``(N, C, h, w)``, one a level, with
        ``feature_info.channels()`` saying their C; in evaluation mode, without gradients.

    Raises:
        MissingLevelError: The file has no weights for one of the levels.
        WeightsError: There is no such network, or its weights cannot be had; the message says what to fetch.
    """
    if not timm.is_model(name):
        raise WeightsError(f"no network {name!r} in timm {timm.__version__}; see timm.list_models()")
    if weights is None:
        return _frozen(_from_timm(name, levels))
    network = timm.create_model(name, features_only=True, out_indices=tuple(levels))
    path = find_weights(weights, "model.safetensors")
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
    return _frozen(network)


def normalise(images: Tensor) -> Tensor:
    """RGB images ``(N, 3, H, W)`` in [0, 1], shifted and scaled as for training on ImageNet."""
    mean, std = (
        torch.tensor(v, dtype=images.dtype, device=images.device)[:, None, None] for v in (_MEAN, _STD)
    )
    return (images - mean) / std


def _from_timm(name: str, levels: Sequence[int]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, features_only=True, out_indices=tuple(levels))
    except Exception as error:  # the hub's client has a dozen kinds, and its transport more
        raise WeightsError(
            f"the weights of {name} are neither on this machine nor could they be fetched from the hub ({error});"
            f" without a network, fetch model.safetensors of timm/{name} elsewhere and give its path"
        ) from error


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)
