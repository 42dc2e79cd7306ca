"""What is timed of anomalib, in its own environment: python peer.py CASE ARGUMENTS."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from clock import Clock

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails, so that nothing reports to a server
BACKBONE = {"backbone": "resnet18", "layers": ["layer1", "layer2", "layer3"], "pre_trained": False}


def dsr_inference(clock: Clock, size: int = 256, batch: int = 1) -> None:
    """`DsrModel` in eager mode, random weights."""
    from anomalib.models.image.dsr.torch_model import DsrModel

    _judge(clock, DsrModel(), size, batch)


def padim_inference(clock: Clock, size: int = 256, batch: int = 1) -> None:
    """`PadimModel` in eager mode, random weights, fitted to a few images of noise."""
    _judge(clock, _fitted(size, images=4), size, batch)


def dsr_step(clock: Clock, size: int = 256, batch: int = 8) -> None:
    """A training step of the detection stage, as anomalib's `Dsr.training_step` does it, without Lightning."""
    from anomalib.models.image.dsr.anomaly_generator import DsrAnomalyGenerator
    from anomalib.models.image.dsr.loss import DsrSecondStageLoss
    from anomalib.models.image.dsr.torch_model import DsrModel

    model, generator, criterion = DsrModel().train(), DsrAnomalyGenerator(), DsrSecondStageLoss()
    trained = [
        model.image_reconstruction_network,
        model.subspace_restriction_module_hi,
        model.subspace_restriction_module_lo,
        model.anomaly_detection_module,
    ]
    optimizer = torch.optim.Adam((weight for part in trained for weight in part.parameters()), lr=2e-4)
    images = torch.rand(batch, 3, size, size)
    names = ("recon_feat_hi", "recon_feat_lo", "embedding_bot", "embedding_top")
    while clock():
        found = model(images, generator.augment_batch(images))
        loss = criterion(
            *(found[name] for name in names),
            images,
            *(found[name] for name in ("obj_spec_image", "anomaly_map", "true_anomaly_map")),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def padim_fit(clock: Clock, images: int, size: int = 256) -> None:
    """Features of all images and the normal distributions."""
    while clock():
        _fitted(size, images)


def padim_export(clock: Clock, size: int = 256) -> None:
    """Writes an ONNX model; what is exported is fitted before."""
    from anomalib.models import Padim

    padim = Padim(**BACKBONE)
    padim.model = _fitted(size, images=4)
    padim.eval()
    while clock():
        with tempfile.TemporaryDirectory() as folder:
            padim.to_onnx(Path(folder), input_size=(size, size))


def pixel_metrics(clock: Clock, images: int, size: int = 256) -> None:
    """Pixel AUROC, average precision and AUPRO of maps of noise with a square defect in every second."""
    from anomalib.metrics.aupr import _AUPR
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from maps import make_maps

    maps, masks = (torch.from_numpy(arrays) for arrays in make_maps(images, size))
    while clock():
        for metric in (_AUROC(), _AUPR(), _AUPRO()):
            metric.update(maps, masks.int())
            metric.compute()


def _fitted(size: int, images: int) -> torch.nn.Module:
    from anomalib.models.image.padim.torch_model import PadimModel

    torch.manual_seed(0)
    model = PadimModel(**BACKBONE).train()
    model.feature_extractor.eval()
    for _ in range(max(1, images // 16)):
        model(torch.rand(min(16, images), 3, size, size))
    model.fit()
    return model.eval()


@torch.inference_mode()
def _judge(clock: Clock, model: torch.nn.Module, size: int, batch: int) -> None:
    model, images = model.eval(), torch.rand(batch, 3, size, size)
    while clock():
        model(images)


CASES = {
    case.__name__: case
    for case in (dsr_inference, padim_inference, dsr_step, padim_fit, padim_export, pixel_metrics)
}

if __name__ == "__main__":
    CASES[sys.argv[1]](Clock(), **json.loads(sys.argv[2]))
