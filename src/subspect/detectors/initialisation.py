"""How weights start, where several methods' references start them alike."""

from __future__ import annotations

from torch import nn


def normal_start(module: nn.Module) -> None:
    """Draws the weights of convolutions from N(0, 0.02), of BatchNorm from N(1, 0.02); biases stay.

    As DSR's and DRAEM's reference code.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def zero_start(layer: nn.Module) -> None:
    """Weights and biases of zero: a correction that this layer ends begins as none."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
