"""A small network with what exports have to deal with."""

import torch
from torch import nn

from brightness import BrightnessDetector
from subspect.detectors.base import Prediction


class Network(BrightnessDetector):
    """Three convolutions, two norms."""

    method = "network"

    def __init__(self):
        super().__init__(image_size=(48, 40))
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GroupNorm(32, 32, affine=False),
            nn.ReLU(),
            nn.Conv2d(32, 1, 3, padding=1),
        )

    def forward(self, images):
        maps = self.layers(images).abs()
        return Prediction(maps, maps.amax((1, 2, 3)))
