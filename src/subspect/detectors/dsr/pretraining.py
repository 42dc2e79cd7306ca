"""Stage 1: the discrete latent model on natural images (paper, section 3.6)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from subspect.codes import flatten_features
from subspect.datasets.crops import (
    Crops,
    NumberSampler,
    check_readable,
    crop_loader,
    find_pictures,
    held_out_text,
    read_byte_image,
    split_held_out,
)
from subspect.detectors.colour import Colour, in_order
from subspect.detectors.configuration import configure
from subspect.detectors.dsr.config import PRESETS, PRETRAINING, LatentConfig, PretrainingConfig
from subspect.detectors.dsr.latent_model import LatentModel, Latents
from subspect.detectors.dsr.latent_weights import FILENAME, load_latent_model, save_latent_model
from subspect.detectors.dsr.perceptual_model import PerceptualLatentModel, make_latent_model
from subspect.detectors.dsr.quantizer import AnyCodebook, Codebook
from subspect.files import write_json
from subspect.runs.records import Claim, check_output
from subspect.training.fitting import fit
from subspect.training.options import FitOptions, check_options, conditions
from subspect.training.stage import Stage

logger = logging.getLogger("subspect")

_SHIPPED = "shipped"
_LEAST_USED = 0.02  # of a level's codes
_REMEDY = "train in float32, at a smaller learning rate, or go on from a latent model"
_REVIVE_EVERY = 50
_K_MEANS_VECTORS = 16_384


class LatentStage(Stage):
    """Trains a discrete latent model on random crops.

    For the first ``quantise_from`` steps it is a plain autoencoder; then k-means on the features of the batch
    sets the codebooks; from there on the codes follow their features, and codes out of use are moved onto
    features of the batch. After ``early_steps`` the model keeps its early copy, unless it was trained before
    and has one. Loss: weighted squared error + commitment.

    Args:
        model: What is trained.
        paths: Pictures to crop from.
        config: Schedule and weights.
        seed: Decides crops, starts and revivals.
        trained_before: Whether the model has codes already, which it goes on from at once.
    """

    def __init__(
        self,
        model: LatentModel,
        paths: Sequence[Path],
        config: PretrainingConfig,
        seed: int,
        *,
        trained_before: bool = False,
    ) -> None:
        super().__init__("latent", config.stage, seed)
        self.model = model
        self.trained_before = trained_before
        self.quantise_from = 0 if trained_before else config.quantise_from
        self.pretraining = config
        self.crops = Crops(paths, config.crop_size, seed)

    def trained(self) -> Sequence[nn.Module]:
        """What of the model learns."""
        return self.model.learning()

    def loader(self, start_step: int, rank: int, world_size: int) -> DataLoader[Tensor]:
        """Batches of crops from ``start_step`` on."""
        sampler = NumberSampler(self.config.batch_size, self.config.steps, start_step, rank, world_size)
        return crop_loader(self.crops, sampler, self.device)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """The loss of a batch of crops ``(N, 3, H, W)``; moves the codebooks on the way."""
        images = in_order(batch, self.pretraining.colour).contiguous(memory_format=torch.channels_last)
        if self.global_step == self.pretraining.early_steps and not self.trained_before:
            self.model.keep_early()
        if self.global_step < self.quantise_from:
            loss = F.mse_loss(self._unquantized(images), images)
            self.report({"reconstruction": loss})
            return self.pretraining.reconstruction_weight * loss
        if self.global_step == self.quantise_from:
            self._start_codebooks(images)
        return self._quantized_loss(images)

    def _unquantized(self, images: Tensor) -> Tensor:
        model = self.model
        encoded, low = model.low_features(images)
        return model.decoder(model.join(low, model.high_features(encoded, low)))

    def _quantized_loss(self, images: Tensor) -> Tensor:
        model = self.model
        latents = model.encode(images)
        drawn = model.decoder(model.join(latents.quantized_low.features, latents.quantized_high.features))
        reconstruction = F.mse_loss(drawn, images)
        commitment = _commitment(latents, model)
        self._move_codebooks(latents)
        self.report({"reconstruction": reconstruction, "commitment": commitment})
        weights = self.pretraining
        return weights.reconstruction_weight * reconstruction + weights.commitment * commitment

    @torch.no_grad()
    def _start_codebooks(self, images: Tensor) -> None:
        model, generator = self.model, self.step_generator("k-means", shared=True)
        encoded, low = model.low_features(images)
        self._start(model.low_codebook, self.of_all_processes(low), generator)
        high = model.high_features(encoded, model.low_codebook(low).features)
        self._start(model.high_codebook, self.of_all_processes(high), generator)

    def _start(self, codebook: AnyCodebook, features: Tensor, generator: torch.Generator) -> None:
        books = [module for module in codebook.modules() if isinstance(module, Codebook)]
        for book, part in zip(books, features.chunk(len(books), 1), strict=True):
            vectors = flatten_features(part)
            count = len(vectors) / len(book.codes)
            if self.trained_before:
                book.go_on(count)
                continue
            chosen = torch.randperm(len(vectors), generator=generator, device=vectors.device)[:_K_MEANS_VECTORS]
            book.start_from(vectors[chosen], count, generator)

    @torch.no_grad()
    def _move_codebooks(self, latents: Latents) -> None:
        decay = self.pretraining.decay
        revive = self.global_step % _REVIVE_EVERY == 0 and self.global_step < 0.8 * self.config.steps
        books = (
            *self.model.low_codebook.books(latents.low.detach(), latents.quantized_low.indices),
            *self.model.high_codebook.books(latents.high.detach(), latents.quantized_high.indices),
        )
        for book, features, indices in books:
            book.update(features, indices, decay)
            if revive:
                vectors = flatten_features(self.of_all_processes(features))
                generator = self.step_generator("revive", shared=True)
                book.revive(vectors, 0.05 * len(vectors) / len(book.codes), generator)

    @torch.no_grad()
    def preview(self) -> dict[str, Tensor]:
        """Four crops and their reconstructions."""
        crops = torch.stack([self.crops[number] for number in range(4)]).to(self.device)
        quantised, colour = self.global_step > self.quantise_from, self.pretraining.colour
        seen = in_order(crops, colour)
        drawn = self.model(seen) if quantised else self._unquantized(seen)
        return {"crop": crops, "reconstruction": in_order(drawn, colour)}


def _commitment(latents: Latents, model: LatentModel) -> Tensor:
    """Mean squared distance of the features from their codes, summed over both levels."""
    low = model.low_codebook.lookup(latents.quantized_low.indices)
    high = model.high_codebook.lookup(latents.quantized_high.indices)
    return F.mse_loss(latents.low, low) + F.mse_loss(latents.high, high)


@dataclass(frozen=True)
class PretrainingRun:
    """Everything that decides what a pretraining gives.

    Attributes:
        latent: The model.
        pretraining: Schedule and weights.
        folders: Where the pictures are.
        held_out: Share of the pictures kept for the report.
        seed: Of weights, crops and held-out pictures.
        weights: Of the backbone, a file or hub id, where the model has one; None takes timm's.
        start: A latent model to go on from: a file, a hub id, or ``shipped``; None starts anew. What it held
            out stays held out with the same folders and seed.
    """

    latent: LatentConfig
    pretraining: PretrainingConfig
    folders: tuple[str, ...]
    held_out: float = 0.05
    seed: int = 0
    weights: str | None = None
    start: str | None = None

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        folders: tuple[str, ...],
        weights: str | None = None,
        start: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        settings: Sequence[str] = (),
    ) -> PretrainingRun:
        """The run of a preset.

        Args:
            preset: Its name.
            folders: Where the pictures are.
            weights: Of the backbone.
            start: A latent model to go on from.
            seed: Of weights, crops and held-out pictures.
            steps: Instead of the preset's.
            settings: ``FIELD=VALUE`` of `PretrainingConfig`, dotted for nested fields; they have the last word.

        Raises:
            ValueError: There is no such preset (the message lists those there are), or a value cannot be.
        """
        if preset not in PRETRAINING:
            raise ValueError(f"no preset {preset!r} to pretrain; there are: {', '.join(PRETRAINING)}")
        config = PRETRAINING[preset]
        if steps is not None and steps < 1:
            raise ValueError(f"a pretraining needs at least one step, got {steps}")
        stage = config.stage if steps is None else config.stage.scaled_to(steps)
        half = stage.steps // 2
        config = replace(
            config,
            stage=stage,
            quantise_from=min(config.quantise_from, half),
            early_steps=min(config.early_steps, half),
        )
        config = configure(config, settings=settings)
        return cls(PRESETS[preset].latent, config, folders, seed=seed, weights=weights, start=start)


def pretrain(run: PretrainingRun, output: Path, options: FitOptions, *, resume: bool = False) -> dict[str, Any]:
    """Stage 1: trains a latent model on folders of pictures, judges it on held-out ones, writes both.

    Args:
        run: What to train on what.
        output: Receives ``run.json``, ``latent.safetensors`` with its checksum, ``report.json``, logs and
            checkpoints.
        options: How to run.
        resume: Continue from the newest checkpoint.

    Returns:
        The report: the run, the number of pictures, and under ``held_out`` what ``judge`` says.

    Raises:
        ImageError: There are too few pictures, or some cannot be read; the message lists them.
        FileExistsError: The output folder holds a run and ``resume`` is not set, or a finished model.
        BlockingIOError: Another process is at work in the output folder.
        ValueError: The run to resume was another one, the output lies among the pictures, or this machine
            cannot train so.
    """
    values = json.loads(json.dumps(asdict(run)))
    check_options(options)
    model = _fresh_model(run)
    for root in run.folders:
        check_output(Path(root), output)
    claim = Claim(values, output, output / FILENAME, resume)
    claim.check()
    paths = find_pictures(run.folders)
    check_readable(paths)
    trained, judged = split_held_out(paths, run.held_out, run.seed)
    stage = LatentStage(model, trained, run.pretraining, run.seed, trained_before=run.start is not None)
    with claim.begun({"split.csv": held_out_text(trained, judged)}, conditions(options)):
        fit([stage], output, options, resume=resume)
        held_out = judge(model, judged, run.pretraining.colour)
        _warn_of_dead_levels(held_out, run.latent)
        report = {"run": values, "pictures": len(trained), "held_out": held_out}
        write_json(output / "report.json", report)
        save_latent_model(model, output / FILENAME, report)
    return report


def _warn_of_dead_levels(held_out: dict[str, Any], config: LatentConfig) -> None:
    """A level that the decoder draws without is of no use to DSR, however well it draws."""
    for level, groups in (("low", config.low_groups), ("high", config.high_groups)):
        used, codes = held_out[f"{level}_used"], groups * config.codes
        if used < _LEAST_USED * codes:
            logger.warning("the %s level died: %d of %d codes are in use; %s", level, used, codes, _REMEDY)


def _fresh_model(run: PretrainingRun) -> LatentModel:
    """As training finds it: random but for a backbone's weights, or trained before.

    Raises:
        ValueError: Weights of a backbone are given, but there is none to take them, or it has them already.
        WeightsError: They cannot be had, or do not fit.
    """
    if run.start is not None:
        if run.weights is not None:
            raise ValueError(
                "a latent model to go on from has all its weights: leave out those of the backbone"
            )
        return load_latent_model(None if run.start == _SHIPPED else run.start, run.latent)[0]
    torch.manual_seed(run.seed)
    model = make_latent_model(run.latent)
    if isinstance(model, PerceptualLatentModel):
        model.backbone.load_weights(run.weights)
    elif run.weights is not None:
        raise ValueError(
            f"a latent model without a backbone starts from no weights, but {run.weights!r} was given; what it"
            " can go on from is a latent model (start)"
        )
    return model


@torch.no_grad()
def judge(model: LatentModel, paths: Sequence[Path], colour: Colour, size: int = 256) -> dict[str, Any]:
    """How well a latent model draws pictures it has not seen.

    Args:
        model: The model, in evaluation mode.
        paths: Held-out pictures; each is judged on its central square of ``size`` pixels (or less, rounded
            down to a multiple of 8).
        colour: Channel order that the model expects.
        size: See above.

    Returns:
        ``psnr`` in dB, mean over pictures, and for each level ``LEVEL_used`` (codes that occur, of all groups
        together) and ``LEVEL_perplexity`` (exponential of the entropy of their frequencies, mean over groups).
    """
    model = model.eval().cpu()
    errors: list[float] = []
    config = model.config
    counts = {
        "low": torch.zeros(config.low_groups, config.codes),
        "high": torch.zeros(config.high_groups, config.codes),
    }
    for path in paths:
        image = in_order(_centre(read_byte_image(path), size)[None].float() / 255, colour)
        latents = model.encode(image)
        drawn = model.decoder(model.join(latents.quantized_low.features, latents.quantized_high.features))
        errors.append(float(F.mse_loss(drawn.clamp(0, 1), image)))
        for level, quantized in (("low", latents.quantized_low), ("high", latents.quantized_high)):
            groups = quantized.indices.view(len(counts[level]), -1)
            counts[level] += torch.stack([torch.bincount(group, minlength=config.codes) for group in groups])
    report: dict[str, Any] = {"pictures": len(paths), "size": size}
    report["psnr"] = float(-10 * torch.tensor(errors).log10().mean())
    for level, count in counts.items():
        frequency = count / count.sum(1, keepdim=True)
        report[f"{level}_used"] = int((count > 0).sum())
        report[f"{level}_perplexity"] = float(torch.exp(torch.special.entr(frequency).sum(1)).mean())
    return report


def _centre(picture: Tensor, size: int) -> Tensor:
    _, height, width = picture.shape
    tall, wide = min(size, height) // 8 * 8, min(size, width) // 8 * 8
    top, left = (height - tall) // 2, (width - wide) // 2
    return picture[:, top : top + tall, left : left + wide]
