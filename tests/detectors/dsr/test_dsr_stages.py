"""DSR's stages 2 and 3: which images they see, what each loss counts, and that every switch is connected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.table import Table, take_anomalies
from subspect.detectors.dsr.config import DsrConfig
from subspect.detectors.dsr.folds import FOLDS, fold_of_each
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.stages import DetectionStage, UpsamplingStage
from subspect.losses import focal_loss
from subspect.training.stage import Stage
from tiny import DSR, latent_model, settle, write_data_set

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Table:
    return read_table(write_data_set(tmp_path_factory.mktemp("stages") / "data"), "folder")


def build(config: DsrConfig = DSR) -> Dsr:
    torch.manual_seed(0)
    detector = Dsr(config)
    detector.adopt_latent_model(latent_model(), {})
    torch.manual_seed(1)
    # These change nothing at the start, and what rarity says by itself is too sure of it.
    for module in (detector.low_subspace, detector.high_subspace, detector.detection.unet):
        torch.nn.init.normal_(module.out.weight, std=0.05)
    torch.nn.init.normal_(detector.detection.first_guess.weight, std=0.05)
    torch.nn.init.zeros_(detector.detection.first_guess.bias)
    settle(detector)
    return detector


def configured(*, batch_size: int = 2, simulation: dict | None = None, **changes: object) -> DsrConfig:
    """The tiny configuration without rotations, which would make pictures black in the corners."""
    unmoved = {"rotation_share": 0.0, "smudge_rotation_share": 0.0}
    return replace(
        DSR,
        simulation=replace(DSR.simulation, **(unmoved | (simulation or {}))),
        detection_stage=replace(DSR.detection_stage, batch_size=batch_size),
        **changes,
    )


CALM = {"normal_share": 1.0}
"""No simulated anomalies."""


def images_of(table: Table, detector: Dsr, anomalies: int) -> TrainingImages:
    samples = take_anomalies(table, anomalies, 0).select(split="train").samples
    return TrainingImages(samples, detector.prepare, detector.config.image_size)


def prepared(stage: Stage) -> Stage:
    """A stage ready for its first step, outside of a training."""
    stage.setup("fit")
    stage.on_fit_start()
    return stage


def detection(table: Table, config: DsrConfig, anomalies: int = 0) -> DetectionStage:
    detector = build(config)
    return prepared(DetectionStage(detector, images_of(table, detector, anomalies), seed=0))


def loss_of(stage: Stage, images: Tensor, mask: Tensor | None = None) -> Tensor:
    """Of normal images, and annotated ones where the mask shows a defect."""
    mask = torch.zeros(len(images), 1, 64, 64) if mask is None else mask
    return stage.training_step((images, mask, FOLDS * mask.flatten(1).any(1)), 0)


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def square() -> Tensor:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10:30, 20:50] = 1
    return mask


@pytest.mark.parametrize(
    ("anomalies", "batch_size", "annotated"), [(0, 8, 0), (1, 8, 2), (3, 8, 2), (3, 4, 1), (1, 2, 1)]
)
def test_annotated_images_take_their_share_of_every_batch(table, anomalies, batch_size, annotated):
    stage = detection(table, configured(batch_size=batch_size), anomalies)
    batches = list(stage.loader(0, 0, 1).batch_sampler)
    assert len(batches) == stage.config.steps
    for batch in batches:
        assert len(batch) == batch_size
        assert sum(index in stage.images.anomalous_indices for index in batch) == annotated


def test_two_processes_share_a_batch(table):
    stage = detection(table, configured(batch_size=8), 3)
    parts = [next(iter(stage.loader(0, rank, 2).batch_sampler)) for rank in (0, 1)]
    assert [len(part) for part in parts] == [4, 4]
    assert [sum(index in stage.images.anomalous_indices for index in part) for part in parts] == [1, 1]
    normals = [set(part) - set(stage.images.anomalous_indices) for part in parts]
    assert not normals[0] & normals[1]


def test_batches_tell_the_folds_of_their_images(table):
    stage = detection(table, configured(batch_size=8), 3)
    loader, folds = stage.loader(0, 0, 1), fold_of_each(stage.images.samples)
    seen = set()
    for (images, masks, found), indices in zip(loader, loader.batch_sampler, strict=True):
        assert torch.equal(found, folds[indices])
        assert torch.equal(masks.float(), torch.stack([stage.images[index][1] for index in indices]))
        assert images.dtype == torch.float16
        assert torch.equal(images[0].float(), stage.images[indices[0]][0])
        seen |= set(found.tolist())
    assert seen == {*range(FOLDS), FOLDS}


@torch.no_grad()
def test_training_compares_with_the_counts_of_other_folds(table):
    """Once the others of the first fold know no code, its images look odd, and they only."""
    stage, images = detection(table, configured(simulation=CALM)), pictures(2)
    detector = stage.detector
    latents = detector.latent_model.encode(images)
    detector.low_normal.rarity[0], detector.high_normal.rarity[0] = 20.0, 20.0
    found = []
    for folds in ([0, 1], [1, 1]):
        origin = Origin(coordinates((64, 64), images.device).expand(2, -1, -1, -1), torch.tensor(folds))
        evidence = detector.restrict(latents.quantized_low, latents.quantized_high, origin).evidence
        found.append(evidence.rarity.mean((1, 2, 3)))
    assert found[0][0] > found[1][0] + 5
    assert found[0][1] == found[1][1]


def test_stage_3_sees_normal_images_only(table):
    detector = build(configured())
    stage = UpsamplingStage(detector, images_of(table, detector, 3), seed=0)
    seen = {index for batch in stage.loader(0, 0, 1).batch_sampler for index in batch}
    assert seen
    assert seen <= set(stage.images.normal_indices)


def reconstruction_loss(table: Table, images: Tensor, mask: Tensor) -> float:
    """Feature and image loss: the loss with them less the loss without them."""
    with_them = configured(simulation=CALM)
    without = configured(simulation=CALM, feature_loss_weight=0.0, image_loss_weight=0.0)
    return float(
        loss_of(detection(table, with_them), images, mask) - loss_of(detection(table, without), images, mask)
    )


@torch.no_grad()
def test_annotated_images_count_in_the_focal_loss_only(table):
    normal, mask = pictures(1), torch.cat((torch.zeros(1, 1, 64, 64), square()))
    # In a batch of the same size, for another may round features to the other side of a tie between codes.
    alone = reconstruction_loss(table, normal.expand(2, -1, -1, -1), torch.zeros_like(mask))
    assert alone > 0.01
    for seed in (1, 2):
        joined = torch.cat((normal, pictures(1, seed)))
        assert reconstruction_loss(table, joined, mask) == pytest.approx(alone, rel=1e-4)
        assert reconstruction_loss(table, joined, torch.zeros_like(mask)) != pytest.approx(alone, rel=1e-3)


@torch.no_grad()
def test_an_annotated_image_whose_mask_did_not_survive_its_rotation_is_not_taken_for_normal(table):
    stage = detection(table, configured(simulation={"normal_share": 0.0}))
    fine = torch.zeros(2, 1, 64, 64)
    fine[..., 20, 30] = 0.4  # of a pixel's mask, what is left between pixels
    annotated = stage.training_step((pictures(2), fine, torch.full((2,), FOLDS)), 0)
    predicted = stage.detector.reconstruct_and_detect(pictures(2)).mask
    assert float(annotated) == pytest.approx(float(focal_loss(predicted, torch.zeros(2, 1, 64, 64))), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("side", [None, 64])
def test_places_are_those_in_the_image_as_it_is_padded_in_use(table, side):
    """At 72x100, codes are counted and looked up in cells of 96x128 pixels."""
    stage = detection(table, configured(training_crop=side, simulation=CALM))
    batch = (torch.rand(3, 3, 72, 100), torch.zeros(3, 1, 72, 100), torch.zeros(3, dtype=torch.long))
    places = stage.varied(batch, 0.0).origin.places
    assert places.shape[2:] == ((96, 128) if side is None else (64, 64))
    steps = places.diff(dim=3)[:, 0], places.diff(dim=2)[:, 1]
    torch.testing.assert_close(steps[0], torch.full_like(steps[0], 2 / 128))
    torch.testing.assert_close(steps[1], torch.full_like(steps[1], 2 / 96))
    if side is None:
        torch.testing.assert_close(places[0], coordinates((96, 128), places.device))


@torch.no_grad()
def test_the_focal_loss_of_annotated_images_is_towards_their_masks(table):
    config = configured(simulation=CALM, feature_loss_weight=0.0, image_loss_weight=0.0)
    stage, images = detection(table, config), pictures(2)
    mask = torch.cat((torch.zeros(1, 1, 64, 64), square()))
    predicted = stage.detector.reconstruct_and_detect(images).mask
    probability = torch.where(mask.bool(), predicted[:, 1:], predicted[:, :1]).clamp(min=1e-6)
    by_hand = (-((1 - probability) ** 2) * probability.log()).mean()
    expected = focal_loss(predicted, mask)
    assert float(expected) == pytest.approx(float(by_hand), rel=1e-3)
    # All of them as annotated ones, which are compared with the counts of every image, as in use.
    annotated = stage.training_step((images, mask, torch.full((2,), FOLDS)), 0)
    assert float(annotated) == pytest.approx(float(expected), rel=1e-4)
    assert float(loss_of(stage, images)) != pytest.approx(float(expected), rel=1e-2)


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [value.grad for value in module.parameters() if value.grad is not None]


def decoder_gradients(table: Table, **weights: float) -> list[Tensor]:
    stage = detection(table, configured(simulation={"normal_share": 0.0}, **weights))
    loss_of(stage, pictures(2)).backward()
    assert gradients(stage.detector.detection), "the focal loss always teaches the detection module"
    assert not gradients(stage.detector.latent_model)
    assert not gradients(stage.detector.upsampling)
    return gradients(stage.detector.object_decoder)


def test_with_an_image_loss_the_decoder_learns_from_it_alone(table):
    single = decoder_gradients(table, image_loss_weight=1.0, feature_loss_weight=0.0)
    tenfold = decoder_gradients(table, image_loss_weight=10.0, feature_loss_weight=0.0)
    assert any(gradient.abs().max() > 0 for gradient in single)
    for one, ten in zip(single, tenfold, strict=True):
        torch.testing.assert_close(ten, 10 * one)


def test_without_an_image_loss_the_decoder_learns_from_the_focal_loss(table):
    found = decoder_gradients(table, image_loss_weight=0.0)
    assert all(torch.isfinite(gradient).all() for gradient in found)
    assert any(gradient.abs().max() > 0 for gradient in found)


def test_the_feature_loss_is_the_squared_error_of_the_restricted_features(table):
    weighted = [configured(simulation=CALM, feature_loss_weight=weight) for weight in (0.0, 3.0)]
    images = pictures(2)
    with torch.no_grad():
        stages = [detection(table, config) for config in weighted]
        without, with_it = (float(loss_of(stage, images)) for stage in stages)
        # In the stage's layout in memory: another may round features to the other side of a tie between codes.
        detector = stages[0].detector
        latents = detector.latent_model.encode(images.contiguous(memory_format=torch.channels_last))
        low, high = latents.quantized_low.features, latents.quantized_high.features
        model = detector.latent_model
        expected = sum(
            ((module(features) - features) ** 2).mean((0, 2, 3)).div(codebook.codes.var(0, correction=0)).mean()
            for module, features, codebook in (
                (detector.low_subspace, low, model.low_codebook),
                (detector.high_subspace, high, model.high_codebook),
            )
        )
    assert with_it - without == pytest.approx(3 * float(expected), rel=1e-3)
    assert float(expected) > 1e-4


@pytest.mark.parametrize("sampling", ["table", "exact", "uniform"])
@pytest.mark.parametrize("image_share", [0.0, 0.5, 1.0])
def test_every_kind_of_simulation_trains(table, sampling, image_share):
    simulation = {"image_share": image_share, "sampling": sampling, "normal_share": 0.0}
    stage = detection(table, configured(simulation=simulation))
    loss = loss_of(stage, pictures(2))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(stage))


@torch.no_grad()
def test_the_kinds_of_simulation_differ(table):
    kinds = [
        {"sampling": "table"},
        {"sampling": "uniform"},
        {"sampling": "table", "nearest_share": 0.6, "minimum_strength": 0.7},
        {"image_share": 1.0},
        {"image_share": 1.0, "fills": ("gain",)},
        {"image_share": 1.0, "shapes": ("strokes",)},
        {"normal_share": 1.0},
    ]
    losses = [
        float(loss_of(detection(table, configured(simulation={"normal_share": 0.0} | kind)), pictures(4)))
        for kind in kinds
    ]
    assert len(set(losses)) == len(kinds)


@torch.no_grad()
@pytest.mark.parametrize("stage_of", [DetectionStage, UpsamplingStage])
def test_rotation_reaches_the_images(table, stage_of):
    images, losses = pictures(4), []
    for share in (0.0, 1.0):
        changes = {"rotation_share": share, "smudge_rotation_share": share}
        detector = build(configured(simulation=changes))
        stage = prepared(stage_of(detector, images_of(table, detector, 0), seed=0))
        losses.append(float(loss_of(stage, images)))
    assert losses[0] != losses[1]


@pytest.mark.parametrize("size", [(64, 64), (70, 101)])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_rotation_keeps_image_and_mask_together(table, size, colour):
    stage = detection(table, configured(colour=colour, training_crop=None))
    mask = torch.zeros(4, 1, *size)
    mask[:, :, 12:25, 30:55] = 1
    images, turned, _ = stage.varied((mask.expand(-1, 3, -1, -1), mask, torch.zeros(4)), rotated=1.0)
    assert images.shape[2:] == turned.shape[2:] == tuple(-(-side // 32) * 32 for side in size)
    assert torch.equal((images > 0.5).float(), turned.expand(-1, 3, -1, -1))
    assert (images - turned).abs().mean() < 0.03  # at the edges only, where pixels are interpolated
    same_place = turned[..., : size[0], : size[1]]
    moved = [not torch.equal(one, before) for one, before in zip(same_place, mask, strict=True)]
    assert sum(moved) >= 3  # one angle is 0.6°, too little for a square of this size


def test_no_share_of_annotated_images_takes_none(table):
    stage = detection(table, configured(batch_size=8, simulation={"annotated_share": 0.0}), 3)
    drawn = {index for batch in stage.loader(0, 0, 1).batch_sampler for index in batch}
    assert drawn <= set(stage.images.normal_indices)
    assert [len(batch) for batch in stage.loader(0, 0, 1).batch_sampler] == [8] * stage.config.steps


def test_annotated_images_have_no_place_in_batches_of_one(table):
    with pytest.raises(ValueError, match="a batch_size of at least 2 in detection_stage, got 1"):
        detection(table, configured(batch_size=1), 3)


def test_all_of_a_batch_is_never_annotated(table):
    stage = detection(table, configured(batch_size=4, simulation={"annotated_share": 1.0}), 3)
    for batch in stage.loader(0, 0, 1).batch_sampler:
        assert sum(index in stage.images.anomalous_indices for index in batch) == 3


@torch.no_grad()
def test_the_upsampling_stage_is_taught_where_smudges_are(table):
    detector = build(configured(simulation=CALM))
    stage = prepared(UpsamplingStage(detector, images_of(table, detector, 0), seed=0))
    images = pictures(2)
    refined = detector.refine(detector.reconstruct_and_detect(images))
    expected = focal_loss(refined, torch.zeros(2, 1, 64, 64))
    known = torch.full((2,), FOLDS)  # compared with the counts of every image, as in use
    loss = stage.training_step((images, torch.zeros(2, 1, 64, 64), known), 0)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_without_refinement_there_is_no_stage_3_and_the_map_is_m(table):
    detector = build(replace(DSR, refine=False)).eval()
    images = images_of(table, detector, 0)
    assert [stage.name for stage in detector.stages(images, 0)] == ["normal_codes", "detection"]
    assert not hasattr(detector, "upsampling")
    assert {"detection"} <= set(detector.exact) <= dict(detector.named_modules()).keys()
    refined = [stage.name for stage in build().stages(images, 0)]
    assert refined == ["normal_codes", "detection", "upsampling"]
    with torch.no_grad():
        mask = detector.reconstruct_and_detect(pictures(2)).mask
        assert torch.equal(detector(pictures(2)).anomaly_map, mask[:, 1:])
        refining = build().eval()
        untrained = refining(pictures(2))
        torch.nn.init.normal_(refining.upsampling.out.weight, std=0.5)
        trained = refining(pictures(2))
    torch.testing.assert_close(untrained.anomaly_map, mask[:, 1:])  # it begins where M is
    assert (trained.anomaly_map - mask[:, 1:]).abs().max() > 0.01
    assert torch.equal(trained.score, detector(pictures(2)).score)


@pytest.mark.parametrize("size", [(70, 101), (33, 64), (95, 97)])
@torch.no_grad()
def test_other_sizes_are_reflected_to_the_next_multiple_of_32(size):
    detector, images = build().eval(), torch.rand(2, 3, *size)
    padding = [(0, 0), (0, 0), (0, -size[0] % 32), (0, -size[1] % 32)]
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    anomaly_map, score = detector(images)
    assert torch.equal(anomaly_map, detector(padded).anomaly_map[..., : size[0], : size[1]])
    m = detector.reconstruct_and_detect(padded).mask[:, 1, : size[0], : size[1]].double().numpy()
    means = [uniform_filter(one, 21, mode="constant").max() for one in m]
    np.testing.assert_allclose(score.numpy(), means, rtol=1e-5)


@torch.no_grad()
def test_channels_in_the_references_order_are_those_of_a_flipped_image(table):
    rgb, bgr = (detection(table, configured(colour=colour)) for colour in ("rgb", "bgr"))
    images = pictures(2)
    assert torch.equal(rgb.detector(images).anomaly_map, bgr.detector(images.flip(1)).anomaly_map)
    assert float(loss_of(rgb, images)) == pytest.approx(float(loss_of(bgr, images.flip(1))), rel=1e-6)
    assert float(loss_of(rgb, images)) != float(loss_of(bgr, images))
    inner = [stage.detector.inner_pictures(images) for stage in (rgb, bgr)]
    flipped = bgr.detector.inner_pictures(images.flip(1))
    for name, drawn in inner[0].items():
        assert torch.equal(drawn, flipped[name].flip(1))


def test_a_warm_start_begins_where_both_reconstructions_agree():
    torch.manual_seed(0)
    detector = Dsr(DSR)
    detector.adopt_latent_model(latent_model(), {})
    with torch.no_grad():
        compared = detector.reconstruct_and_detect(pictures(2))
    torch.testing.assert_close(compared.specific, compared.general, rtol=1e-4, atol=1e-5)
