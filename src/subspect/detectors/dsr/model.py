"""DSR as a detector: the latent model and the modules around it, put together for inference."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.datasets.loading import TrainingImages
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.colour import in_order
from subspect.detectors.dsr.blocks import doubled
from subspect.detectors.dsr.config import DsrConfig
from subspect.detectors.dsr.latent_model import HIGH_STRIDE, LOW_STRIDE, GeneralDecoder, LatentModel
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.detectors.dsr.light_modules import LightDetection, LightSubspaceRestriction, LightUNet
from subspect.detectors.dsr.modules import ObjectDecoder, SubspaceRestriction, UNet
from subspect.detectors.dsr.normal_codes import NormalCodes, Origin
from subspect.detectors.dsr.perceptual_model import make_latent_model
from subspect.detectors.dsr.quantizer import Quantized
from subspect.detectors.initialisation import normal_start, zero_start
from subspect.detectors.scoring import image_score
from subspect.sizes import crop, pad_to_multiple
from subspect.training.stage import Stage

SIZE_MULTIPLE = 32
# The light modules' resolutions, as fractions of the image's: that of the high features, and half.
_DETECTION_STRIDE = HIGH_STRIDE
_UPSAMPLING_STRIDE = 2
_NATS = 4.0  # the unit of rarity in which its groups are of the size of the other features


class Evidence(NamedTuple):
    """What the light detection module sees beside both reconstructions, without gradient.

    Attributes:
        features: How rare the code of each group is, in units of 4 nats, and the inverse hyperbolic sine of
            what restriction changed, F̃ - Q in units of the codes' spread: ``(N, G + D, H/4, W/4)`` with G the
            groups and D the channels of both levels.
        rarity: Of the low and the high codes together, ``(N, 2, H/4, W/4)``.
    """

    features: Tensor
    rarity: Tensor


class Restricted(NamedTuple):
    """Quantised features projected onto the normal ones.

    Attributes:
        low: F̃ before quantisation, ``(N, D, H/8, W/8)``.
        high: F̃ before quantisation, ``(N, D, H/4, W/4)``.
        image: The object-specific reconstruction, ``(N, 3, H, W)``.
        evidence: With light modules.
    """

    low: Tensor
    high: Tensor
    image: Tensor
    evidence: Evidence | None = None


class Comparison(NamedTuple):
    """Both reconstructions of an image and where they disagree.

    Attributes:
        image: What was reconstructed, in the weights' channel order, ``(N, 3, H, W)``.
        general: ``(N, 3, H, W)``.
        specific: ``(N, 3, H, W)``.
        mask: M, the probabilities normal and anomalous at image size, ``(N, 2, H, W)``.
    """

    image: Tensor
    general: Tensor
    specific: Tensor
    mask: Tensor


class Dsr(Detector):
    """DSR (paper, section 3). Anomaly map: M_r, or M; anomaly score: maximum of M after a 21x21 mean filter.

    Images of any size are padded by reflection to multiples of 32 and the map is cropped back.

    Args:
        config: The defaults have the reference's shapes and parameter counts.
    """

    method = "dsr"
    learns_from_anomalies = True
    config: DsrConfig
    low_subspace: nn.Module
    high_subspace: nn.Module
    object_decoder: nn.Module
    detection: nn.Module
    upsampling: nn.Module

    def __init__(self, config: DsrConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_model = make_latent_model(config.latent)
        # Rounded to int8, what chooses among codes would choose others, and everything after it would follow.
        self.exact = tuple(f"latent_model.{name}" for name in self.latent_model.before_codes)
        if config.light:
            self._make_light_modules()
            # They read rarities and logarithms of probabilities: seldom large, and then it matters how large.
            self.exact += ("detection", "upsampling") if config.refine else ("detection",)
        else:
            self._make_paper_modules()
        self.latent_source: dict[str, Any] = {}

    def _make_paper_modules(self) -> None:
        config, latent = self.config, self.config.latent
        self.low_subspace, self.high_subspace = (
            SubspaceRestriction(width, config.subspace_width) for width in self._feature_widths()
        )
        self.object_decoder = ObjectDecoder(latent.width, latent.residual_width)
        self.detection = UNet(6, config.detection_width)
        normal_start(self.detection)  # the upsampling module keeps PyTorch's start, as in the reference
        if config.refine:
            self.upsampling = UNet(8, config.upsampling_width)

    def _make_light_modules(self) -> None:
        config, latent = self.config, self.config.latent
        low, high = self._feature_widths()
        self.low_subspace = LightSubspaceRestriction(low, config.subspace_width)
        self.high_subspace = LightSubspaceRestriction(high, config.subspace_width)
        joined = self.latent_model.decoder.conv.in_channels
        self.object_decoder = GeneralDecoder(joined, latent.width, latent.residual_width)
        self.low_normal = NormalCodes(latent.low_groups, latent.codes)
        self.high_normal = NormalCodes(latent.counted_groups, latent.codes)
        evidence = latent.low_groups + latent.counted_groups + low + high
        self.detection = LightDetection(6 * _DETECTION_STRIDE**2 + evidence, config.detection_width)
        if config.refine:
            self.upsampling = LightUNet(5 * _UPSAMPLING_STRIDE**2, config.upsampling_width)
            zero_start(self.upsampling.out)

    def _feature_widths(self) -> tuple[int, int]:
        return self.latent_model.low_width, self.latent_model.high_width

    def adopt_latent_model(self, model: LatentModel, source: dict[str, Any]) -> None:
        """Takes over a trained latent model, and starts the object-specific decoder from it if so configured.

        Args:
            model: Of the same configuration.
            source: Where it comes from; stored with the detector.
        """
        self.latent_model.load_state_dict(model.state_dict())
        self.latent_source = source
        if self.config.light:
            self.object_decoder.load_state_dict(model.decoder.state_dict())

    def forward(self, images: Tensor) -> Prediction:
        """Anomaly maps and scores of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        compared = self.reconstruct_and_detect(self.reorder(padded))
        score = image_score(crop(compared.mask[:, 1:], size))
        return Prediction(crop(self.refine(compared)[:, 1:], size), score)

    def reorder(self, images: Tensor) -> Tensor:
        """RGB images in the channel order that the weights expect, and back."""
        return in_order(images, self.config.colour)

    def reconstruct_and_detect(self, images: Tensor, origin: Origin | None = None) -> Comparison:
        """Reconstructs images ``(N, 3, H, W)``, H and W multiples of 32, in both ways and compares.

        Args:
            images: The pictures.
            origin: Of crops of training images; None for whole images.
        """
        latents = self.latent_model.encode(images)
        low, high = latents.quantized_low, latents.quantized_high
        general = self.latent_model.decoder(self.latent_model.join(low.features, high.features))
        restricted = self.restrict(low, high, origin)
        return Comparison(images, general, restricted.image, self.detect(restricted, general).softmax(1))

    def restrict(self, low: Quantized, high: Quantized, origin: Origin | None = None) -> Restricted:
        """Projects quantised features of both levels onto the normal ones and draws the image from them.

        Args:
            low: Q, ``(N, D, H/8, W/8)``, and which codes they are.
            high: Q, ``(N, D, H/4, W/4)``, and which codes they are.
            origin: As ``reconstruct_and_detect`` takes it.
        """
        model = self.latent_model
        restricted_low, restricted_high = self.low_subspace(low.features), self.high_subspace(high.features)
        joined = model.join_nearest(restricted_low, restricted_high)
        evidence = None
        if self.config.light:
            changes = restricted_low - low.features, restricted_high - high.features
            evidence = self._evidence(low.indices, high.indices, changes, origin)
        return Restricted(restricted_low, restricted_high, self.object_decoder(joined), evidence)

    @torch.no_grad()
    def _evidence(
        self, low: Tensor, high: Tensor, changes: tuple[Tensor, Tensor], origin: Origin | None
    ) -> Evidence:
        """Of the codes ``(N, G, h, w)`` of both levels, and what restriction changed of their features."""
        low_rarity = self.low_normal(low, _pooled(origin, LOW_STRIDE))
        high_rarity = self.high_normal(high, _pooled(origin, HIGH_STRIDE))
        # A change may be a hundredfold, which is more than a training without normalisation stands.
        low_change = _asinh(changes[0] / self.latent_model.low_codebook.spread())
        high_change = _asinh(changes[1] / self.latent_model.high_codebook.spread())
        from_low = doubled(torch.cat((low_rarity.groups / _NATS, low_change, low_rarity.together), 1))
        features = torch.cat((from_low[:, :-1], high_rarity.groups / _NATS, high_change), 1)
        return Evidence(features, torch.cat((from_low[:, -1:], high_rarity.together), 1))

    def detect(self, restricted: Restricted, general: Tensor) -> Tensor:
        """Logits ``(N, 2, H, W)`` of the detection module, at the images' size."""
        pictures = torch.cat((restricted.image, general), 1)
        if restricted.evidence is None:
            return self.detection(pictures)
        features, rarity = restricted.evidence
        seen = torch.cat((F.pixel_unshuffle(pictures, _DETECTION_STRIDE), features), 1)
        return _enlarge(self.detection(seen, rarity), _DETECTION_STRIDE)

    def refine(self, compared: Comparison) -> Tensor:
        """M_r: the probabilities ``(N, 2, H, W)`` after the upsampling module; M itself if that is off."""
        return self.refine_logits(compared).softmax(1) if self.config.refine else compared.mask

    def refine_logits(self, compared: Comparison) -> Tensor:
        """Logits ``(N, 2, H, W)`` of the upsampling module; the light one corrects M, at first by nothing."""
        if not self.config.light:
            return self.upsampling(torch.cat((compared.specific, compared.general, compared.mask), 1))
        pictures = torch.cat((compared.image, compared.mask), 1)  # as the paper's text
        correction = self.upsampling(F.pixel_unshuffle(pictures, _UPSAMPLING_STRIDE))
        least = torch.finfo(torch.float16).tiny  # of a probability, whose logarithm every precision can hold
        return compared.mask.clamp(min=least).log() + _enlarge(correction, _UPSAMPLING_STRIDE)

    def stages(self, images: TrainingImages, seed: int) -> Sequence[Stage]:
        """Stage 2 and, unless switched off, stage 3 (paper, section 3.6); light modules need a pass before."""
        from subspect.detectors.dsr.normal_codes_stage import NormalCodesStage
        from subspect.detectors.dsr.stages import DetectionStage, UpsamplingStage

        stages: list[Stage] = [NormalCodesStage(self, images, seed)] if self.config.light else []
        stages.append(DetectionStage(self, images, seed))
        if self.config.refine:
            stages.append(UpsamplingStage(self, images, seed))
        return stages

    @torch.no_grad()
    def inner_pictures(self, images: Tensor) -> dict[str, Tensor]:
        """Both reconstructions of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        padded, size = pad_to_multiple(images, SIZE_MULTIPLE)
        compared = self.reconstruct_and_detect(self.reorder(padded))
        pictures = {
            "general reconstruction": compared.general,
            "object-specific reconstruction": compared.specific,
        }
        return {name: crop(self.reorder(drawn), size).clamp(0, 1) for name, drawn in pictures.items()}

    def exportable(self) -> Detector:
        """The same without what the light modules' training needs to know of normal codes."""
        if not self.config.light:
            return self
        exported = copy.deepcopy(self)
        exported.low_normal.forget_folds()
        exported.high_normal.forget_folds()
        return exported

    def start(self, weights: str | None) -> None:
        """Takes over a discrete latent model: the one named, or the one shipped for this configuration."""
        model, source = load_latent_model(weights, self.config.latent)
        self.adopt_latent_model(model, source)

    def provenance(self) -> dict[str, Any]:
        """Where the latent model comes from."""
        return {"latent_model": self.latent_source}

    def restore_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Takes back where the latent model came from."""
        self.latent_source = dict(provenance.get("latent_model", {}))


def _pooled(origin: Origin | None, stride: int) -> Origin | None:
    return None if origin is None else origin._replace(places=F.avg_pool2d(origin.places, stride))


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def _asinh(values: Tensor) -> Tensor:
    """The inverse hyperbolic sine to 1e-6, spelt out: neither PyTorch nor what runs exports vectorises it."""
    size = values.float().abs()  # the square of a large change is beyond float16
    return values.sign() * (size + (size.square() + 1).sqrt()).log()
