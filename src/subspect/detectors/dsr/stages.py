"""DSR's stages 2 and 3 (paper, section 3.6; schedules and details of the reference)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from subspect.datasets.loading import StepSampler, TrainingImages, as_loaded
from subspect.detectors.config import StageConfig
from subspect.detectors.dsr.folds import FOLDS, Batch, FoldedImages
from subspect.detectors.dsr.latent_model import Latents
from subspect.detectors.dsr.lessons import Lesson, LessonsAhead, block_start
from subspect.detectors.dsr.model import SIZE_MULTIPLE, Comparison, Dsr, Restricted
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.quantizer import Quantized
from subspect.detectors.dsr.simulation import AnomalousLatents, LatentSimulator
from subspect.losses import excess_certainty, focal_loss
from subspect.simulation.cropping import crop_randomly
from subspect.simulation.overlay import smudge
from subspect.simulation.rotation import rotate_some
from subspect.simulation.shapes import choose_shapes, draw_masks
from subspect.sizes import pad_to_multiple
from subspect.spans import Span
from subspect.training.stage import Stage, seeded_generator

Groups = Sequence[tuple[Sequence[int], StepSampler]]
"""Numbers of images, and what draws places among them."""

_PREVIEWED = 4
_CPU = torch.device("cpu")
_PIXELS_AHEAD = 2**21  # that anomalies are simulated in at a time, on a GPU
_LEAST_COUNT = 1e-3  # below one image of a batch over all processes; nothing is divided by 0


class Varied(NamedTuple):
    """A batch that training sees.

    Attributes:
        images: ``(N, 3, H, W)``, as the detector takes them.
        masks: ``(N, 1, H, W)``, 1 where annotated as anomalous.
        origin: Where they come from.
    """

    images: Tensor
    masks: Tensor
    origin: Origin


class _DsrStage(Stage):
    """What stages 2 and 3 share: the frozen latent model and previews."""

    def __init__(
        self, name: str, config: StageConfig, detector: Dsr, images: TrainingImages, seed: int
    ) -> None:
        super().__init__(name, config, seed)
        self.detector = detector
        self.images = images
        self.simulation = detector.config.simulation

    def previewed(self) -> tuple[Tensor, Tensor, torch.Generator]:
        """Normal images as the detector takes them, defect masks, a generator: always the same ones."""
        indices = self.images.normal_indices[:_PREVIEWED]
        images, _ = pad_to_multiple(torch.stack([self.images[index][0] for index in indices]), SIZE_MULTIPLE)
        images = images.to(self.device)
        generator = seeded_generator(self.device, self.seed, self.name, "preview")
        size = (images.shape[2], images.shape[3])
        shapes = self.simulation.shapes
        drawn = seeded_generator(_CPU, self.seed, self.name, "preview shapes")
        chosen = choose_shapes(len(images), shapes, 0.0, drawn)
        mask = draw_masks(chosen, size, shapes, generator)
        return self.detector.reorder(images), mask, generator

    def batches(self, groups: Groups, rank: int, world_size: int) -> DataLoader[Any]:
        """One process's part of batches joined from groups of images."""
        sampler = _JoinedSampler(groups, rank, world_size)
        return DataLoader(FoldedImages(self.images), batch_sampler=sampler, collate_fn=as_loaded)

    def masks(
        self, images: Tensor, drawn: torch.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Shapes of defects, drawn on the CPU, and masks ``(N, 1, H, W)`` of them; see ``choose_shapes``."""
        shapes = self.simulation.shapes
        chosen = choose_shapes(len(images), shapes, self.simulation.normal_share, drawn)
        return chosen, draw_masks(chosen, (images.shape[2], images.shape[3]), shapes, generator)

    def pictures(self, compared: Comparison, anomaly_map: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What previews of both stages show of a simulated defect."""
        return {
            "general reconstruction": self.detector.reorder(compared.general),
            "object-specific reconstruction": self.detector.reorder(compared.specific),
            "anomaly map": anomaly_map.expand(-1, 3, -1, -1),
            "simulated defect": mask.expand(-1, 3, -1, -1),
        }

    @Span("simulation")
    def varied(self, batch: Batch, rotated: float, step: int | None = None) -> Varied:
        """Images as the detector takes them: padded as for inference, a share rotated, cropped.

        Args:
            batch: As the loader has it, on the device.
            rotated: Which share.
            step: That everything random is drawn for; None for the one that the training is at.
        """
        images, masks, folds = batch
        joined, _ = pad_to_multiple(torch.cat((images.float(), masks.float()), 1), SIZE_MULTIPLE)
        # Of the padded images, as those that normal codes are counted in and looked up with in use.
        places = coordinates((joined.shape[2], joined.shape[3]), joined.device)
        joined = torch.cat((joined, places.expand(len(images), -1, -1, -1)), 1)
        if rotated:
            joined = rotate_some(joined, rotated, self.step_generator("rotation", step=step))
        if self.detector.config.training_crop:
            side = self.detector.config.training_crop
            joined = crop_randomly(joined, joined[:, 3:4], side, self.step_generator("crop", step=step))
        joined = joined.contiguous(memory_format=torch.channels_last)
        images, masks, places = joined[:, :3], joined[:, 3:4], joined[:, 4:]
        return Varied(self.detector.reorder(images), (masks > 0.5).float(), Origin(places, folds))


class DetectionStage(_DsrStage):
    """Stage 2: subspace modules, object-specific decoder and detection module, on latent anomalies.

    Loss: focal(M_gt, M) + L2(F̃, Q) over both levels + 10·L2(I, I_spc), with the weights of the
    configuration, and, which the paper has not, `excess_certainty` beside the focal loss. Annotated anomalous
    images, where there are any, take part in these two only: their normal appearance is not known.

    Args:
        detector: Trained here.
        images: Training images of one category, anomalous ones with masks.
        seed: Decides everything random.

    Raises:
        ValueError: Annotated anomalous images would have no place in batches of one.
    """

    def __init__(self, detector: Dsr, images: TrainingImages, seed: int) -> None:
        super().__init__("detection", detector.config.detection_stage, detector, images, seed)
        if images.anomalous_indices and self.simulation.annotated_share and self.config.batch_size < 2:
            raise ValueError(
                "annotated anomalous images are learnt from beside normal ones: that takes a batch_size of at"
                f" least 2 in detection_stage, got {self.config.batch_size}"
            )

    def trained(self) -> Sequence[nn.Module]:
        """Everything but the latent model and the upsampling module."""
        detector = self.detector
        return [
            detector.low_subspace, detector.high_subspace, detector.object_decoder, detector.detection
        ]  # fmt: skip

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Normal images, and in each batch a share of annotated anomalous ones if there are any."""
        size = self.config.batch_size
        annotated = self._annotated_in_batch()
        groups = [(self.images.normal_indices, size - annotated)]
        if annotated:
            groups.append((self.images.anomalous_indices, annotated))
        samplers = [
            (indices, StepSampler(len(indices), share, self.config.steps, self.seed, start_step))
            for indices, share in groups
        ]
        return self.batches(samplers, rank, world_size)

    def _annotated_in_batch(self) -> int:
        """How many images of a batch are annotated anomalous ones."""
        if not self.images.anomalous_indices or not self.simulation.annotated_share:
            return 0
        size = self.config.batch_size
        return min(size - 1, max(1, round(self.simulation.annotated_share * size)))

    def on_fit_start(self) -> None:
        """Makes the simulator, with tables on the device of the training."""
        self.simulator = LatentSimulator(self.detector.latent_model, self.simulation)

    def train_dataloader(self) -> Any:
        """Batches, or on a GPU lessons."""
        ahead = self.steps_ahead()
        if ahead == 1:
            return super().train_dataloader()
        start, rank, world_size = self.global_step, self.trainer.global_rank, self.trainer.world_size
        loader = self.loader(block_start(start, ahead), rank, world_size)
        return LessonsAhead(loader, self._prepare_ahead, ahead, start)

    def steps_ahead(self) -> int:
        """For how many steps anomalies are simulated at a time; on a CPU that would gain nothing."""
        if self.device.type != "cuda" or not self.may_prepare_ahead:
            return 1
        height, width = self.detector.config.image_size
        side = self.detector.config.training_crop
        pixels = self.config.batch_size * (side**2 if side else height * width)
        return max(1, _PIXELS_AHEAD // pixels)

    def _prepare_ahead(self, batch: Batch, step: int) -> Lesson:
        """As ``prepare``, where the trainer takes a batch only from here on."""
        images, masks, folds = (values.to(self.device, non_blocking=True) for values in batch)
        with self.trainer.precision_plugin.train_step_context():
            return self.prepare((images, masks, folds), step)

    def training_step(self, batch: Batch | Lesson, _: int) -> Tensor:
        """The loss of a batch."""
        lesson = batch if isinstance(batch, Lesson) else self.prepare(batch, self.global_step)
        # As many a process as there are on average, so that all images weigh the same over all processes.
        losses = self.losses(lesson, self.mean_over_processes(lesson.normal.sum()))
        self.report(losses)
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def prepare(self, batch: Batch, step: int) -> Lesson:
        """A batch with anomalies simulated for a step."""
        images, annotation, origin = self.varied(batch, self.simulation.rotation_share, step)
        annotated = origin.folds == FOLDS  # a fine defect's mask may not survive its rotation
        model = self.detector.latent_model
        latents = model.encode(images)
        anomalous = self._simulate(images, latents, annotated, step)
        return Lesson(
            images=images,
            normal=~annotated,
            target=torch.where(annotated[:, None, None, None], annotation, anomalous.mask),
            normal_low=latents.quantized_low.features,
            normal_high=latents.quantized_high.features,
            low=anomalous.low.features,
            low_codes=anomalous.low.indices,
            high=anomalous.high.features,
            high_codes=anomalous.high.indices,
            general=model.decoder(model.join(anomalous.low.features, anomalous.high.features)),
            places=origin.places,
            folds=origin.folds,
        )

    def preview(self) -> dict[str, Tensor]:
        """Normal images, both reconstructions with simulated latent anomalies, M, and where they are."""
        images, mask, generator = self.previewed()
        model = self.detector.latent_model
        drawn = seeded_generator(_CPU, self.seed, self.name, "preview painted")
        painted = self.simulator.choose_painted(torch.ones(len(images), dtype=torch.bool), drawn)
        anomalous = self.simulator(images, model.encode(images), mask, painted, generator)
        general = model.decoder(model.join(anomalous.low.features, anomalous.high.features))
        restricted = self.detector.restrict(anomalous.low, anomalous.high)
        mask = self.detector.detect(restricted, general).softmax(1)
        compared = Comparison(images, general, restricted.image, mask)
        shown = self.pictures(compared, compared.mask[:, 1:], anomalous.mask)
        return {"image": self.detector.reorder(images), **shown}

    @Span("simulation")
    def _simulate(self, images: Tensor, latents: Latents, annotated: Tensor, step: int) -> AnomalousLatents:
        generator = self.step_generator("anomalies", step=step)
        drawn = self.step_generator("choices", _CPU, step=step)
        chosen, mask = self.masks(images, drawn, generator)
        painted = self.simulator.choose_painted(chosen >= 0, drawn)
        mask = mask * ~annotated[:, None, None, None]
        return self.simulator(images, latents, mask, painted, generator)

    def losses(self, lesson: Lesson, count: Tensor) -> dict[str, Tensor]:
        """Weighted losses; those of reconstruction over the images whose normal appearance is known.

        Args:
            lesson: What to learn from.
            count: How many such images there are, as a mean over the processes.
        """
        config = self.detector.config
        origin = Origin(lesson.places, lesson.folds)
        low, high = Quantized(lesson.low, lesson.low_codes), Quantized(lesson.high, lesson.high_codes)
        restricted = self.detector.restrict(low, high, origin)
        low_unit: Tensor | float = 1.0
        high_unit: Tensor | float = 1.0
        if config.light:
            model = self.detector.latent_model
            low_unit, high_unit = model.low_codebook.spread(), model.high_codebook.spread()

        def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
            return _squared_error(predicted, target, lesson.normal, count)

        feature = squared_error(restricted.low / low_unit, lesson.normal_low / low_unit)
        feature = feature + squared_error(restricted.high / high_unit, lesson.normal_high / high_unit)
        image = squared_error(restricted.image, lesson.images)
        # As the reference; without an image loss only the focal loss is left to teach the decoder.
        drawn = restricted.image.detach() if config.image_loss_weight else restricted.image
        seen = Restricted(restricted.low, restricted.high, drawn, restricted.evidence)
        logits = self.detector.detect(seen, lesson.general)
        focal = focal_loss(logits.softmax(1).float(), lesson.target)
        return {
            "feature": config.feature_loss_weight * feature,
            "image": config.image_loss_weight * image,
            "focal": focal + excess_certainty(logits, lesson.target),
        }


class UpsamplingStage(_DsrStage):
    """Stage 3: the upsampling module alone, on smudged images, with the focal loss.

    Args:
        detector: Trained here.
        images: Training images of one category; the normal ones are used.
        seed: Decides everything random.
    """

    def __init__(self, detector: Dsr, images: TrainingImages, seed: int) -> None:
        super().__init__("upsampling", detector.config.upsampling_stage, detector, images, seed)

    def trained(self) -> Sequence[nn.Module]:
        """The upsampling module."""
        return [self.detector.upsampling]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Normal images."""
        indices = self.images.normal_indices
        sampler = StepSampler(len(indices), self.config.batch_size, self.config.steps, self.seed, start_step)
        return self.batches([(indices, sampler)], rank, world_size)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The focal loss of the refined mask of smudged images."""
        images, _no_mask, origin = self.varied(batch, self.simulation.smudge_rotation_share)
        generator = self.step_generator("smudges")
        with Span("simulation"):
            _chosen, mask = self.masks(images, self.step_generator("choices", _CPU), generator)
            smudged = smudge(images, mask, generator)
        with torch.no_grad():
            coarse = self.detector.reconstruct_and_detect(smudged, origin)
        logits = self.detector.refine_logits(coarse)
        loss = focal_loss(logits.softmax(1).float(), mask)
        self.report({"focal": loss})
        return loss

    def preview(self) -> dict[str, Tensor]:
        """Smudged images, both their reconstructions, M_r, and where the smudges are."""
        images, mask, generator = self.previewed()
        smudged = smudge(images, mask, generator)
        compared = self.detector.reconstruct_and_detect(smudged)
        shown = self.pictures(compared, self.detector.refine(compared)[:, 1:], mask)
        return {"smudged image": self.detector.reorder(smudged), **shown}


class _JoinedSampler(Sampler[list[int]]):
    """One process's part of batches joined from groups of images, each with a sampler of places in its group.

    The processes take turns, so that each has its part of every group.
    """

    def __init__(self, groups: Groups, rank: int, world_size: int) -> None:
        self.groups = groups
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.groups[0][1])

    def __iter__(self) -> Iterator[list[int]]:
        samplers = [sampler for _, sampler in self.groups]
        for parts in zip(*samplers, strict=True):
            joined = [
                indices[place] for (indices, _), part in zip(self.groups, parts, strict=True) for place in part
            ]
            yield joined[self.rank :: self.world_size]


def _squared_error(predicted: Tensor, target: Tensor, counted: Tensor, count: Tensor) -> Tensor:
    """Sum of the mean squared errors of the samples where ``counted`` (N,) is true, by ``count``, or 0."""
    errors = F.mse_loss(predicted.float(), target.float(), reduction="none").mean((1, 2, 3))
    return (errors * counted).sum() / count.clamp(min=_LEAST_COUNT)
