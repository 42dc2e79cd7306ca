"""Resizing with antialias, against PyTorch's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

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


class Shrinking(nn.Module):
    def forward(self, images):
        return resize_antialiased(images, (64, 64))


def test_openvino_takes_the_same_places_in_bfloat16(tmp_path):
    openvino = pytest.importorskip("openvino")
    images = torch.rand(1, 3, 301, 529, generator=torch.Generator().manual_seed(1))
    dynamic = (dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC),)
    program = torch.export.export(Shrinking(), (images,), dynamic_shapes=dynamic)
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "model.onnx")
    model = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    found = model([images.numpy()])[0]
    # Pixels and weights have eight bits; with places of eight bits, differences were up to 0.15.
    np.testing.assert_allclose(found, resize_antialiased(images, (64, 64)), rtol=0, atol=2**-6)
