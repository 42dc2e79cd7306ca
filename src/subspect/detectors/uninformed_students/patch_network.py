"""Patch networks: one descriptor for one patch, or for the patch around every pixel at once.

Applied to a patch, a network is an ordinary one: convolutions and strided pooling down to one position. Applied
to an image, its pooling keeps every position instead and the layers after it reach correspondingly further
("fast dense feature extraction", Bailer et al. 2017, by dilation), so that every output equals the network on
the patch around that pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.uninformed_students.config import NetworkConfig

_SLOPE = 5e-3

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class _Pooling(NamedTuple):
    """Maximum of 2x2, which halves the resolution in a patch."""


class _Convolution(NamedTuple):
    """Side of the kernel; output channels as a multiple of the width, 0 for the descriptor."""

    kernel: int
    multiple: int


_LAYERS: dict[int, tuple[_Pooling | _Convolution, ...]] = {
    17: (_Convolution(6, 1), _Convolution(5, 2), _Convolution(5, 2), _Convolution(4, 0)),
    33: (
        _Convolution(5, 1), _Pooling(),
        _Convolution(5, 2), _Pooling(),
        _Convolution(2, 2), _Convolution(4, 0),
    ),
    65: (
        _Convolution(5, 1), _Pooling(),
        _Convolution(5, 1), _Pooling(),
        _Convolution(5, 1), _Pooling(),
        _Convolution(4, 2), _Convolution(1, 0),
    ),
}  # fmt: skip


class PatchNetwork(nn.Module):
    """Descriptors of patches (paper, section 3.1 and its appendix); LeakyReLU after all layers but the last.

    Args:
        patch_size: 17, 33 or 65.
        config: Widths.

    Attributes:
        reach: Side of what really enters a descriptor. For 65 it is 60, for 33 it is 32: pooling leaves out
            the last rows and columns of a patch, as in the paper's table of output sizes.
    """

    def __init__(self, patch_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.patch_size = patch_size
        self._layers = _LAYERS[patch_size]
        self.convolutions = nn.ModuleList()
        channels, self.reach, step = 3, 1, 1
        for layer in self._layers:
            if isinstance(layer, _Pooling):
                self.reach, step = self.reach + step, 2 * step
                continue
            outputs = layer.multiple * config.width or config.descriptor
            self.convolutions.append(nn.Conv2d(channels, outputs, layer.kernel))
            channels, self.reach = outputs, self.reach + (layer.kernel - 1) * step
        self._last_spatial = max(
            place for place, convolution in enumerate(self.convolutions) if convolution.kernel_size != (1, 1)
        )

    def forward(self, images: Tensor, stride: int = 8) -> Tensor:
        """Descriptors of patches whose top left corners lie ``stride`` pixels apart.

        Args:
            images: ``(N, 3, H, W)``, or patches ``(N, 3, patch_size, patch_size)``, which have one position.
            stride: 1, 2, 4 or 8. Layers of smaller resolution than this are computed as on a patch.

        Returns:
            ``(N, D, rows, columns)`` with ``rows = (H - reach) // stride + 1``, columns alike.
        """
        features, reached, dilation, place = images, 1, 1, 0
        for layer in self._layers:
            if isinstance(layer, _Convolution):
                left = stride // reached if place == self._last_spatial else 1
                features = self._convolve(features, place, left, dilation)
                place += 1
            elif reached < stride:
                features, reached = F.max_pool2d(features, 2), 2 * reached
            else:
                features, dilation = F.max_pool2d(features, 2, 1, dilation=dilation), 2 * dilation
        return features

    def _convolve(self, features: Tensor, place: int, stride: int, dilation: int) -> Tensor:
        convolution = self.convolutions[place]
        assert isinstance(convolution, nn.Conv2d)
        features = F.conv2d(features, convolution.weight, convolution.bias, stride, 0, dilation)
        last = place == len(self.convolutions) - 1
        return features if last else F.leaky_relu(features, _SLOPE, inplace=True)


def grid_positions(size: int, stride: int) -> int:
    """Positions 0, ``stride``, 2·``stride``, … along a side, until its last pixel is reached or passed."""
    return -(-(size - 1) // stride) + 1


def surround(images: Tensor, network: PatchNetwork, stride: int) -> Tensor:
    """Extends images so that a network has one position for each pixel of the grid, the patch around it.

    A patch reaches ``patch_size // 2`` pixels to all sides of its pixel. The picture is reflected about its
    edge; along a side too short for that, its last pixel is repeated.

    Args:
        images: ``(N, 3, H, W)``.
        network: Decides the patch size.
        stride: Of the grid; see ``grid_positions``.
    """
    before = network.patch_size // 2
    for axis, sides in ((2, (0, 0, 1, 1)), (3, (1, 1, 0, 0))):
        size = images.shape[axis]
        after = (grid_positions(size, stride) - 1) * stride + network.reach - before - size
        mode = "reflect" if before + stride <= size else "replicate"
        margins = [margin * side for margin, side in zip((before, after) * 2, sides, strict=True)]
        images = F.pad(images, margins, mode=mode)
    return images


def enlarge(grid: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Maps ``(N, C, rows, columns)`` on the grid of ``surround`` at every pixel, bilinearly between those."""
    if stride == 1:
        return grid
    rows, columns = grid.shape[-2:]
    reached = ((rows - 1) * stride + 1, (columns - 1) * stride + 1)
    enlarged = F.interpolate(grid, reached, mode="bilinear", align_corners=True)
    return enlarged[..., : size[0], : size[1]]


def normalise(images: Tensor) -> Tensor:
    """RGB images ``(N, 3, H, W)`` in [0, 1] as patch networks take them: shifted and scaled as for ImageNet."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std
