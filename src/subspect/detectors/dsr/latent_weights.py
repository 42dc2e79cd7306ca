"""Discrete latent models on disk: one safetensors file, its configuration and report in the metadata."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from subspect.detectors.dsr.config import PRESETS, LatentConfig
from subspect.detectors.dsr.latent_model import LatentModel
from subspect.detectors.dsr.perceptual_model import make_latent_model
from subspect.detectors.pretrained import WeightsError, find_weights, read_weights, write_weights

FILENAME = "latent.safetensors"
# What only stage 1 needs of a codebook.
_TRAINING_ONLY = ("average_sum", "average_count")


def save_latent_model(model: LatentModel, path: Path, report: dict[str, Any]) -> str:
    """Writes a latent model in half precision, with a checksum file beside it.

    Args:
        model: What to write; the codebooks' moving averages are left out.
        path: File to write; must not exist.
        report: How it was trained and how good it is, values JSON can hold.

    Returns:
        The SHA-256 of the file.

    Raises:
        FileExistsError: The file exists.
    """
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(_TRAINING_ONLY)}
    return write_weights(path, tensors, asdict(model.config), report)


def load_latent_model(source: str | None, config: LatentConfig) -> tuple[LatentModel, dict[str, Any]]:
    """Reads a latent model of a configuration.

    Args:
        source: A file or hub id (see ``subspect.detectors.pretrained``); None takes the one that ships with the
            package.
        config: What the detector needs.

    Returns:
        The model, and where it came from with its report.

    Raises:
        WeightsError: It cannot be found, is damaged, has another configuration, or none ships.
    """
    path = shipped_latent_model(config) if source is None else find_weights(source, FILENAME)
    kind = "a latent model written by subspect pretrain"
    tensors, values, report = read_weights(path, kind)
    try:
        stored_config = LatentConfig(**values)
    except TypeError as error:
        raise WeightsError(f"{path} is not {kind}: {error}") from error
    if stored_config != config:
        raise WeightsError(f"{path} is a latent model of {stored_config}, but the detector needs {config}")
    model = make_latent_model(config)
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
