"""Discrete latent models on disk: one safetensors file, its configuration and report in the metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from subspect.detectors.dsr.config import PRESETS, LatentConfig
from subspect.detectors.dsr.latent_model import DiscreteLatentModel
from subspect.files import share, write_atomically
from subspect.pretrained import WeightsError, find_weights, write_checksum

FILENAME = "latent.safetensors"
# What only stage 1 needs of a codebook.
_TRAINING_ONLY = ("average_sum", "average_count")


def save_latent_model(
    model: DiscreteLatentModel, path: Path, report: dict[str, Any], *, half: bool = True
) -> str:
    """Writes a latent model, with a checksum file beside it.

    Args:
        model: What to write; the codebooks' moving averages are left out.
        path: File to write; must not exist.
        report: How it was trained and how good it is, values JSON can hold.
        half: In half precision.

    Returns:
        The SHA-256 of the file.

    Raises:
        FileExistsError: The file exists.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten; choose another name")
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: tensor.detach().cpu().contiguous().to(dtype)
        for name, tensor in model.state_dict().items()
        if not name.endswith(_TRAINING_ONLY)
    }
    metadata = {"config": json.dumps(asdict(model.config)), "report": json.dumps(report)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    share(path)
    return write_checksum(path)


def load_latent_model(source: str | None, config: LatentConfig) -> tuple[DiscreteLatentModel, dict[str, Any]]:
    """Reads a latent model of a configuration.

    Args:
        source: A file or hub id (see ``subspect.pretrained``); None takes the one that ships with the package.
        config: What the detector needs.

    Returns:
        The model, and where it came from with its report.

    Raises:
        WeightsError: It cannot be found, is damaged, has another configuration, or none ships.
    """
    path = shipped_latent_model(config) if source is None else find_weights(source, FILENAME)
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        stored_config = LatentConfig(**json.loads(metadata["config"]))
        report = json.loads(metadata.get("report", "{}"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a latent model written by subspect pretrain: {error}") from error
    if stored_config != config:
        raise WeightsError(f"{path} is a latent model of {stored_config}, but the detector needs {config}")
    model = DiscreteLatentModel(config)
    averages = {name: value for name, value in model.state_dict().items() if name.endswith(_TRAINING_ONLY)}
    try:
        model.load_state_dict({**averages, **tensors})
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the configuration in it: {error}") from error
    origin = "shipped with subspect" if source is None else source
    return model, {"source": origin, "report": report}


def shipped_latent_model(config: LatentConfig) -> Path:
    """The file that ships with the package for a configuration.

    Raises:
        WeightsError: None ships for it.
    """
    for name, preset in PRESETS.items():
        path = Path(str(files("subspect") / "assets" / f"dsr_latent_{name}.safetensors"))
        if preset.latent == config and path.is_file():
            return find_weights(str(path), FILENAME)
    raise WeightsError(
        f"no latent model of {config} ships with subspect; train one with `subspect pretrain FOLDER…` and give"
        " its file (or a hub id) as --weights"
    )
