"""DRAEM's training (paper, sections 3.1 to 3.3; details of the reference)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from subspect.datasets.loading import StepSampler, TrainingImages, as_loaded
from subspect.datasets.textures import PreparedTextures, Textures
from subspect.detectors.draem.model import SIZE_MULTIPLE, Draem
from subspect.losses import focal_loss, ssim_loss
from subspect.simulation.cropping import crop_randomly
from subspect.simulation.overlay import blend
from subspect.simulation.perlin import perlin_masks
from subspect.simulation.rotation import rotate_some
from subspect.simulation.textures import augment, choose_augmentations
from subspect.sizes import pad_to_multiple
from subspect.spans import Span
from subspect.training.stage import Stage, seeded_generator

_PREVIEWED = 4
_CPU = torch.device("cpu")


class Simulated(NamedTuple):
    """A batch as the networks take it, sides multiples of 32.

    Attributes:
        defective: Images with simulated defects, ``(N, 3, H, W)``.
        normal: The same images without.
        mask: Where the defects are, ``(N, 1, H, W)``, 0 or 1.
    """

    defective: Tensor
    normal: Tensor
    mask: Tensor


class JointStage(Stage):
    """Both networks together, on images with textures blended in.

    Loss: L2(I_r, I) + SSIM(I_r, I) + focal(M, M_gt), all of weight 1 (paper, equations 1 to 4; the SSIM loss
    is 1 - the mean, as in the reference). The focal loss reaches the reconstructive network, too.

    Args:
        detector: Trained here.
        images: Training images of one category; the normal ones are used.
        textures: What defects are made of.
        seed: Decides everything random.
    """

    def __init__(self, detector: Draem, images: TrainingImages, textures: Textures, seed: int) -> None:
        super().__init__("joint", detector.config.training, seed)
        self.detector = detector
        self.images = images
        self.textures = PreparedTextures(textures, detector.prepare)
        self.simulation = detector.config.simulation

    def trained(self) -> Sequence[nn.Module]:
        """Both networks."""
        return [self.detector.reconstructive, self.detector.discriminative]

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Any]:
        """Normal images, each with a texture."""
        size = self.config.batch_size // world_size

        def sampler(length: int, seed: int) -> StepSampler:
            return StepSampler(length, size, self.config.steps, seed, start_step, rank, world_size)

        # The next seed, or equal numbers of images and textures would always make the same pairs.
        images = sampler(len(self.images.normal_indices), self.seed)
        textures = sampler(len(self.textures), self.seed + 1)
        pairs = _Pairs(self.images, self.textures)
        return DataLoader(pairs, batch_sampler=_PairSampler(images, textures), collate_fn=as_loaded)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch of images ``(N, 3, H, W)`` and textures of the same shape, uint8."""
        images, textures = batch
        simulated = self._simulated(images.float(), textures)
        compared = self.detector.compare(simulated.defective)
        reconstruction = compared.reconstruction.float()
        losses = {
            "reconstruction": F.mse_loss(reconstruction, simulated.normal),
            "ssim": ssim_loss(reconstruction, simulated.normal),
            "focal": focal_loss(compared.logits.float().softmax(1), simulated.mask),
        }
        self.report(losses)
        return torch.stack(list(losses.values())).sum()

    @Span("simulation")
    def _simulated(self, images: Tensor, textures: Tensor) -> Simulated:
        """This step's defects, painted into a batch."""
        images, textures = self._varied(images, textures)
        mask = perlin_masks(
            len(images),
            (images.shape[2], images.shape[3]),
            self.step_generator("masks"),
            normal_share=self.simulation.normal_share,
        )
        chosen = choose_augmentations(len(images), self.step_generator("augmentations", _CPU))
        return self.simulate(images, textures, mask, chosen, self.step_generator("textures"))

    def _varied(self, images: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
        """A share of the images rotated; then images and textures cropped, if the configuration says so."""
        images = rotate_some(images, self.simulation.rotation_share, self.step_generator("rotation"))
        side = self.detector.config.training_crop
        if side is None:
            return images, textures
        joined = torch.cat((images, textures.to(images.dtype)), 1)
        anywhere = torch.zeros_like(images[:, :1])
        joined = crop_randomly(joined, anywhere, side, self.step_generator("crop"))
        return joined[:, :3], joined[:, 3:]

    def simulate(
        self, images: Tensor, textures: Tensor, mask: Tensor, chosen: Tensor, generator: torch.Generator
    ) -> Simulated:
        """Defects painted into RGB images under a mask; padded and ordered as for inference.

        Args:
            images: ``(N, 3, H, W)``, RGB in [0, 1].
            textures: Of the same shape, 0 to 255.
            mask: ``(N, 1, H, W)``, 0 or 1.
            chosen: Augmentations of the textures, see ``choose_augmentations``.
            generator: Random source, on the images' device.
        """
        with torch.autocast(images.device.type, enabled=False):  # 8 bits of colour need more than bfloat16
            foreign = augment(textures.float() / 255, chosen, generator)
            defective = blend(images, foreign, mask, generator)
        padded, _ = pad_to_multiple(torch.cat((defective, images, mask), 1), SIZE_MULTIPLE)
        defective, normal, mask = padded[:, :3], padded[:, 3:6], padded[:, 6:]
        defective = self.detector.reorder(defective).contiguous(memory_format=torch.channels_last)
        return Simulated(defective, self.detector.reorder(normal), mask)

    def preview(self) -> dict[str, Tensor]:
        """Images with a simulated defect, their reconstructions, the anomaly map and where the defect is."""
        indices = self.images.normal_indices[:_PREVIEWED]
        images = torch.stack([self.images[index][0] for index in indices]).to(self.device)
        textures = torch.stack([self.textures[index % len(self.textures)] for index in range(len(images))])
        generator = seeded_generator(self.device, self.seed, self.name, "preview")
        mask = perlin_masks(len(images), (images.shape[2], images.shape[3]), generator, normal_share=0.0)
        chosen = choose_augmentations(
            len(images), seeded_generator(_CPU, self.seed, self.name, "preview augmentations")
        )
        simulated = self.simulate(images, textures.to(self.device), mask, chosen, generator)
        compared = self.detector.compare(simulated.defective)
        return {
            "image with a simulated defect": self.detector.reorder(simulated.defective),
            "reconstruction": self.detector.reorder(compared.reconstruction),
            "anomaly map": compared.logits.softmax(1)[:, 1:].expand(-1, 3, -1, -1),
            "simulated defect": simulated.mask.expand(-1, 3, -1, -1),
        }


class _Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Normal images, each with a texture."""

    def __init__(self, images: TrainingImages, textures: PreparedTextures) -> None:
        self.images = images
        self.textures = textures

    def __getitem__(self, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image ``(3, h, w)``, float16 in [0, 1], and texture ``(3, h, w)``, uint8."""
        images, textures = self.__getitems__([pair])
        return images[0], textures[0]

    def __getitems__(self, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """A batch of them."""
        images, _no_masks = self.images.batch([self.images.normal_indices[image] for image, _ in pairs])
        return images, torch.stack([self.textures[texture] for _, texture in pairs])


class _PairSampler(Sampler[list[tuple[int, int]]]):
    """Batches of pairs: the place of an image among the normal ones, the number of a texture."""

    def __init__(self, images: StepSampler, textures: StepSampler) -> None:
        self.images = images
        self.textures = textures

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for images, textures in zip(self.images, self.textures, strict=True):
            yield list(zip(images, textures, strict=True))
