"""RIAD's inpainting, anomaly map and training against their definitions."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.detectors.config import StageConfig
from subspect.detectors.riad import model
from subspect.detectors.riad.config import PRESETS, RiadConfig
from subspect.detectors.riad.gradient_similarity import msgms_loss, msgms_map
from subspect.detectors.riad.model import Riad
from subspect.detectors.riad.stages import InpaintingStage
from subspect.losses import ssim_map
from subspect.simulation.erasure import cell_count, erasure_masks
from subspect.sizes import pad_to_multiple
from subspect.training.fitting import fit
from subspect.training.stage import learning_rate_factor
from tiny import QUIET, RIAD, write_data_set


class Seen(torch.nn.Module):
    """In place of the network: draws the images it is shown, plus a constant."""

    def __init__(self, added: float) -> None:
        super().__init__()
        self.added = added
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return images + self.added


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def masks(size: tuple[int, int], cell: int = 4, sets: int = 3) -> torch.Tensor:
    order = torch.randperm(cell_count(size, cell), generator=torch.Generator().manual_seed(0))
    return erasure_masks(order, size, cell, sets)


@pytest.fixture
def detector() -> Riad:
    torch.manual_seed(0)
    return Riad(RIAD).eval()


@pytest.mark.parametrize("training", [False, True])
def test_no_pixel_is_drawn_by_a_network_that_sees_it(detector, training):
    detector.train(training)
    detector.unet = Seen(0.25)
    # What is assembled of images with erased pixels is nothing but what stands for an erased pixel.
    assert torch.equal(
        detector.inpaint(pictures(5, 3, 32, 48), masks((32, 48))), torch.full((5, 3, 32, 48), 0.25)
    )


@torch.no_grad()
def test_inpaintings_are_those_of_each_set_of_each_image_alone(detector):
    detector, images, erased = detector.double(), pictures(2, 3, 32, 48).double(), masks((32, 48))
    expected = torch.zeros_like(images)
    for number in range(2):
        for mask in erased:
            drawn = detector.unet((images[number] * ~mask)[None])
            expected[number] += (drawn * mask)[0]
    torch.testing.assert_close(detector.inpaint(images, erased), expected)


def test_inference_is_cut_into_parts_and_training_is_not(detector, monkeypatch):
    monkeypatch.setattr(model, "_PIXELS_AT_ONCE", 4 * 32 * 32 + 5)
    detector.unet = seen = Seen(0.0).eval()
    detector.inpaint(pictures(3, 3, 32, 32), masks((32, 32)))
    assert seen.batches == [4, 4, 1]
    seen.batches.clear()
    detector.inpaint(pictures(2, 3, 96, 96), masks((96, 96)))
    assert seen.batches == [1] * 6
    seen.batches.clear()
    seen.train()
    detector.inpaint(pictures(3, 3, 32, 32), masks((32, 32)))
    assert seen.batches == [9]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (41, 70)])
def test_the_map_is_one_minus_the_smoothed_similarity_averaged_over_cells(detector, size):
    images = pictures(2, 3, *size)
    padded, _ = pad_to_multiple(images, 16)
    inside = (Ellipsis, slice(size[0]), slice(size[1]))
    maps = []
    for cell in (2, 4, 8, 16):
        similarity = msgms_map(padded, detector.inpaint_in_turn(padded, cell))[inside].double().numpy()
        sums = ndimage.uniform_filter(similarity, (1, 1, 21, 21), mode="constant")
        share_inside = ndimage.uniform_filter(np.ones_like(similarity), (1, 1, 21, 21), mode="constant")
        maps.append(1 - sums / share_inside)
    expected = np.mean(maps, axis=0)
    anomaly_map, score = detector(images)
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-5)
    np.testing.assert_allclose(score, expected.max((1, 2, 3)), atol=1e-5)


def test_a_perfect_inpainting_is_no_anomaly_and_a_missing_edge_is_found_where_it_is(detector):
    images = torch.full((1, 3, 64, 96), 0.5)
    detector.unet = Seen(0.5)  # draws grey where cells were erased
    flat = detector(images)
    torch.testing.assert_close(flat.anomaly_map, torch.zeros(1, 1, 64, 96), atol=1e-6, rtol=0)
    images[..., 40:48, 20:28] = 1.0
    anomaly_map, score = detector(images)
    down, right = divmod(int(anomaly_map.argmax()), 96)
    assert 36 <= down < 52
    assert 16 <= right < 32
    assert score == anomaly_map.max() > 0.05
    assert anomaly_map[..., 70:].max() < 1e-6


@pytest.mark.parametrize("cell", [2, 16])
def test_the_cells_of_inference_are_the_same_for_every_image_and_in_every_process(detector, cell):
    size = (64, 48)
    order = np.random.RandomState(0).permutation(cell_count(size, cell))
    erased = erasure_masks(torch.from_numpy(order), size, cell, 3)
    seen = []
    detector.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    detector.inpaint_in_turn(torch.ones(2, 3, *size), cell)
    assert torch.equal(torch.cat(seen), erased.repeat(2, 3, 1, 1))
    assert np.random.RandomState(0).permutation(10).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


@torch.no_grad()
def test_inner_pictures_are_the_inpaintings(detector):
    images = pictures(2, 3, 48, 64)
    shown = detector.inner_pictures(images)
    assert list(shown) == [f"inpainting of {cell}x{cell} px" for cell in (2, 4, 8, 16)]
    for cell, drawn in zip((2, 4, 8, 16), shown.values(), strict=True):
        assert torch.equal(drawn, detector.inpaint_in_turn(images, cell).clamp(0, 1))


def test_the_exported_graph_has_the_same_cells():
    torch.manual_seed(0)
    detector, images = Riad(replace(RIAD, cell_sizes=(4,))).eval(), pictures(1, 3, 32, 48)
    program = torch.export.export(detector, (images,)).module()
    with torch.no_grad():
        expected = detector(images)
        for _ in range(2):  # a generator in the graph would go on drawing
            torch.testing.assert_close(program(images)[0], expected.anomaly_map, atol=1e-6, rtol=0)


def training_stage(root: Path, config: RiadConfig = RIAD) -> InpaintingStage:
    torch.manual_seed(0)
    detector = Riad(config)
    table = read_table(write_data_set(root), "folder")
    images = TrainingImages(table.select(split="train").samples, detector.prepare, config.image_size)
    return detector.stages(images, seed=3)[0]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_loss_is_l2_and_msgms_and_ssim_of_the_assembled_inpainting(tmp_path, monkeypatch, bfloat16):
    stage = training_stage(tmp_path, replace(RIAD, training_crop=None))
    logged = {}
    monkeypatch.setattr(stage, "report", logged.update)
    monkeypatch.setattr(InpaintingStage, "global_step", 7)
    monkeypatch.setattr(InpaintingStage, "global_rank", 0)
    stage.detector.eval()
    images = pictures(2, 3, 64, 64)
    # The network rounds to bfloat16, the losses never do.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = stage.training_step((images, torch.zeros(2, 1, 64, 64)), 0)
        inpainted = stage.detector.inpaint(images, stage._erased((64, 64)))
    expected = {
        "l2": ((inpainted - images) ** 2).mean(),
        "msgms": msgms_loss(images, inpainted),
        "ssim": 1 - ssim_map(images, inpainted).mean(),
    }
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(logged[name], value)
    torch.testing.assert_close(loss, sum(expected.values()))


def test_every_size_of_cells_has_its_turn_and_cells_change_from_step_to_step(tmp_path, monkeypatch):
    stage = training_stage(tmp_path)
    monkeypatch.setattr(InpaintingStage, "global_rank", 0)
    drawn: Counter[int] = Counter()
    seen = set()
    for step in range(200):
        monkeypatch.setattr(InpaintingStage, "global_step", step)
        erased = stage._erased((64, 64))
        assert (erased.sum(0) == 1).all()
        # The shortest run of one set along the rows, within cells that all begin at multiples of their side.
        changes = (erased[:, 0, :, 1:] != erased[:, 0, :, :-1]).any(0).any(0).nonzero().flatten() + 1
        drawn[int(np.gcd.reduce(changes.numpy()))] += 1
        seen.add(erased.numpy().tobytes())
    assert drawn.keys() == {2, 4, 8, 16}
    assert all(30 < count < 70 for count in drawn.values())
    assert len(seen) == 200


def write_waves(folder: Path, count: int = 12, side: int = 32) -> Path:
    """Two periods of a sine across each picture, each at another phase."""
    folder.mkdir(parents=True)
    for number in range(count):
        phase = 4 * np.pi * np.arange(side) / side + 2 * np.pi * number / count
        wave = (255 * (0.5 + 0.4 * np.sin(phase))).astype(np.uint8)
        Image.fromarray(np.tile(wave, (side, 1))).save(folder / f"{number:02d}.png")
    return folder


def test_training_learns_to_inpaint_and_counts_no_batch_but_its_own(tmp_path):
    stage_config = StageConfig(60, 6, learning_rate=5e-3, schedule="cosine")
    config = RiadConfig((32, 32), width=8, cell_sizes=(4, 8), inpainting_stage=stage_config)
    torch.manual_seed(0)
    detector = Riad(config).eval()
    samples = read_table(write_waves(tmp_path / "waves"), "folder").samples
    data = TrainingImages(samples, detector.prepare, config.image_size)
    fit(detector.stages(data, seed=0), tmp_path / "run", QUIET)
    assert int(detector.unet.first[1].num_batches_tracked) == 60
    images = torch.stack([image for image, _ in data])
    with torch.no_grad():
        error = F.mse_loss(detector.eval().inpaint_in_turn(images, 4), images)
    assert error < 0.1 * images.var()


def test_previews_change_nothing_that_is_trained(tmp_path):
    weights = []
    for every in (1, 1000):
        stage = training_stage(tmp_path / f"data{every}")
        fit([stage], tmp_path / f"run{every}", replace(QUIET, preview_every=every))
        weights.append(stage.detector.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_bfloat16_gives_about_the_same_map(detector):
    images = pictures(2, 3, 64, 80)
    with torch.no_grad():
        exact = detector(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = detector(images)
    assert rounded.anomaly_map.dtype == torch.float32
    torch.testing.assert_close(rounded.anomaly_map, exact.anomaly_map, atol=0.02, rtol=0)


def test_the_paper_schedule_is_300_epochs_of_mvtecs_average_category():
    stage = PRESETS["paper"].inpainting_stage
    assert stage.steps == pytest.approx(300 * (3629 / 15) / 4, rel=1e-3)
    assert learning_rate_factor(stage.steps * 79 // 100, stage) == 1
    assert learning_rate_factor(stage.steps * 81 // 100, stage) == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_sizes": ()}, "cell sizes"),
        ({"cell_sizes": (4, 0)}, "cell sizes"),
        ({"sets": 1}, "fewer than 2 sets"),
        ({"training_crop": 40}, "multiple of 16"),
        ({"cell_sizes": (4, 256)}, "256x256 pixels have 1 of 256x256"),
        ({"image_size": (300, 400), "cell_sizes": (4, 200), "sets": 5}, "300x400 pixels have 4 of 200x200"),
        ({"training_crop": 16}, "16x16 pixels have 1 of 16x16"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RiadConfig(**changes)
