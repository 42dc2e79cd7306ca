"""DRAEM against outputs of the authors' released code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golden_weights import GOLDEN, golden_input, reference_state
from subspect.cli import main
from subspect.detectors.draem.model import Draem
from subspect.detectors.draem.reference import MODULES, import_reference
from subspect.detectors.scoring import image_score
from subspect.losses import ssim_loss
from subspect.storage import load_detector


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "draem_official.npz"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reference")
    files = {module: folder / f"{module}.pckl" for module in MODULES}
    for module, file in files.items():
        torch.save(reference_state("draem_official_keys.json", module), file)
    return files


@pytest.fixture(scope="module")
def detector(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Draem:
    """The reference's checkpoints, imported by the command and read back from disk."""
    folder = tmp_path_factory.mktemp("imported") / "detector"
    options = [f"--{module}={file}" for module, file in checkpoints.items()]
    assert main(["import-draem", *options, "--output", str(folder)]) == 0
    detector = load_detector(folder)
    assert isinstance(detector, Draem)
    return detector


@torch.no_grad()
def test_reconstruction_mask_score_and_ssim_loss_agree(detector: Draem, golden: dict[str, np.ndarray]) -> None:
    x = golden_input()
    compared = detector.compare(x)
    mask = compared.logits.softmax(1)
    np.testing.assert_allclose(compared.reconstruction[..., ::4, ::4], golden["reconstruction"], atol=1e-3)
    np.testing.assert_allclose(mask[..., ::4, ::4], golden["mask"], atol=1e-3)
    assert float(image_score(mask[:, 1:])) == pytest.approx(float(golden["image_score"]), abs=1e-4)
    loss = ssim_loss(compared.reconstruction, x)
    assert float(loss) == pytest.approx(float(golden["ssim_loss"]), abs=1e-4)


def test_a_checkpoint_of_the_other_network_is_named(checkpoints: dict[str, Path]) -> None:
    swapped = {"reconstructive": checkpoints["discriminative"], "discriminative": checkpoints["discriminative"]}
    with pytest.raises(ValueError, match=r"discriminative\.pckl does not hold the reference's reconstructive"):
        import_reference(swapped)
    with pytest.raises(ValueError, match="no checkpoint given for: reconstructive"):
        import_reference({"discriminative": checkpoints["discriminative"]})


def test_an_imported_detector_says_so(detector: Draem) -> None:
    names = {"reconstructive": "reconstructive.pckl", "discriminative": "discriminative.pckl"}
    assert detector.provenance() == {"imported_from": names}
