"""DSR against outputs of the authors' released code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golden_weights import GOLDEN, golden_input, reference_state
from subspect.cli import main
from subspect.detectors.dsr.model import Dsr, image_score
from subspect.detectors.dsr.reference import import_reference
from subspect.losses import focal_loss
from subspect.storage import load_detector

CHECKPOINTS = {
    "latent_model": "vq_model",
    "low_subspace": "subspace_restriction",
    "high_subspace": "subspace_restriction",
    "object_decoder": "image_recon_module",
    "detection": "anomaly_det_module",
    "upsampling": "upsample_module",
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "dsr_official.npz"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Dsr:
    """The reference's checkpoints, imported by the command and read back from disk."""
    folder = tmp_path_factory.mktemp("reference")
    options = []
    for module, file in write_checkpoints(folder).items():
        options += [f"--{module.replace('_', '-')}", str(file)]
    assert main(["import-dsr", *options, "--output", str(folder / "detector")]) == 0
    detector = load_detector(folder / "detector")
    assert isinstance(detector, Dsr)
    return detector


def write_checkpoints(folder: Path) -> dict[str, Path]:
    files = {module: folder / f"{module}.pckl" for module in CHECKPOINTS}
    for module, checkpoint in CHECKPOINTS.items():
        torch.save(reference_state("dsr_official_keys.json", checkpoint), files[module])
    return files


def every_fourth(image: torch.Tensor) -> np.ndarray:
    return image[..., ::4, ::4].numpy()


@torch.no_grad()
def test_codes_features_and_maps_agree(detector: Dsr, golden: dict[str, np.ndarray]) -> None:
    x = golden_input()
    latents = detector.latent_model.encode(x)
    assert (latents.quantized_low.indices[0].numpy() == golden["index_low"]).mean() >= 0.999
    assert (latents.quantized_high.indices[0].numpy() == golden["index_high"]).mean() >= 0.999
    restricted = detector.restrict(latents.quantized_low, latents.quantized_high)
    for ours, name in ((restricted.low, "feature_low"), (restricted.high, "feature_high")):
        np.testing.assert_allclose(every_fourth(ours[:, ::8]), golden[name], atol=1e-3)
    compared = detector.reconstruct_and_detect(x)
    pictures = {
        "image_general": compared.general,
        "image_specific": compared.specific,
        "mask": compared.mask,
        "mask_refined": detector.refine(compared),
    }
    for name, ours in pictures.items():
        np.testing.assert_allclose(every_fourth(ours), golden[name], atol=1e-3, err_msg=name)
    assert float(image_score(compared.mask[:, 1:])) == pytest.approx(float(golden["image_score"]), abs=1e-4)
    loss = focal_loss(compared.mask, (x[:, :1] > 0.7).float())
    assert float(loss) == pytest.approx(float(golden["focal_loss"]), abs=1e-6)


@torch.no_grad()
def test_detector_reads_rgb_for_weights_that_want_bgr(detector: Dsr) -> None:
    x = golden_input()
    prediction = detector(x.flip(1))
    compared = detector.reconstruct_and_detect(x)
    torch.testing.assert_close(prediction.anomaly_map, detector.refine(compared)[:, 1:])


def test_parameter_counts_are_the_papers(detector: Dsr) -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    latent = detector.latent_model
    learnt = {"codes", "average_sum"}
    codebooks = sum(b.numel() for n, b in latent.named_buffers() if n.rsplit(".", 1)[-1] in learnt)
    counts = {
        "latent": count(latent) + codebooks,
        "high_encoder": count(latent.high_encoder),
        "low_encoder": count(latent.low_encoder),
        "decoder": count(latent.decoder),
        "low_subspace": count(detector.low_subspace),
        "high_subspace": count(detector.high_subspace),
        "object_decoder": count(detector.object_decoder),
        "detection": count(detector.detection),
        "upsampling": count(detector.upsampling),
    }
    assert counts == {
        "latent": 4_021_379,
        "high_encoder": 445_760,
        "low_encoder": 573_696,
        "decoder": 593_091,
        "low_subspace": 7_818_240,
        "high_subspace": 7_818_240,
        "object_decoder": 9_418_371,
        "detection": 5_610_690,
        "upsampling": 5_611_842,
    }


def test_the_subspaces_of_both_levels_are_told_apart(tmp_path: Path) -> None:
    files = write_checkpoints(tmp_path)
    low = reference_state("dsr_official_keys.json", "subspace_restriction")
    high = {name: 3 * tensor for name, tensor in low.items()}
    torch.save(high, files["high_subspace"])
    detector = import_reference(files)
    for module, checkpoint in (("low_subspace", low), ("high_subspace", high)):
        ours = sorted(float(tensor.double().sum()) for tensor in getattr(detector, module).parameters())
        learnt = [tensor for name, tensor in checkpoint.items() if "running" not in name and "num_" not in name]
        assert ours == pytest.approx(sorted(float(tensor.double().sum()) for tensor in learnt))


def test_a_checkpoint_of_another_module_is_named(tmp_path: Path) -> None:
    files = write_checkpoints(tmp_path)
    files["detection"] = files["upsampling"]
    with pytest.raises(ValueError, match=r"upsampling\.pckl does not hold the reference's detection"):
        import_reference(files)
