"""Resizing with antialias, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from subspect.export.shrinking import resize_antialiased


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 64), (64, 64)),
        ((256, 300), (32, 48)),
        ((100, 37), (33, 40)),  # shrinks one way, grows the other
        ((10, 7), (64, 96)),
        ((1, 2), (3, 4)),
        ((511, 513), (256, 256)),
        ((4000, 9), (64, 8)),
    ],
)
def test_it_is_pytorchs(before, after):
    images = torch.rand(2, 3, *before, generator=torch.Generator().manual_seed(0))
    exact = F.interpolate(images.double(), after, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize_antialiased(images.double(), after), exact, rtol=0, atol=1e-10)
    torch.testing.assert_close(resize_antialiased(images, after), exact.float(), rtol=0, atol=1e-6)
