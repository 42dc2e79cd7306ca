"""Teachers on disk: one safetensors file a patch size, its configuration and report in the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from subspect.detectors.pretrained import WeightsError, find_weights, read_weights, write_weights
from subspect.detectors.uninformed_students.config import TEACHERS, NetworkConfig
from subspect.detectors.uninformed_students.patch_network import PatchNetwork

_KIND = "a teacher written by subspect pretrain-teacher"
Teacher = tuple[dict[str, Tensor], dict[str, Any]]
"""The state of a teacher, and where it came from with its report."""


def filename(patch_size: int) -> str:
    """What a teacher's file is called in folders and repositories."""
    return f"teacher_{patch_size}.safetensors"


def save_teacher(teacher: PatchNetwork, config: NetworkConfig, path: Path, report: dict[str, Any]) -> str:
    """Writes a teacher in half precision, with a checksum file beside it, and returns the checksum.

    Args:
        teacher: What to write.
        config: Its widths.
        path: File to write; must not exist.
        report: How it was trained and how good it is, values JSON can hold.

    Raises:
        FileExistsError: The file exists.
    """
    values = {"patch_size": teacher.patch_size, **asdict(config)}
    return write_weights(path, teacher.state_dict(), values, report)


def load_teachers(weights: str | None, patch_sizes: Sequence[int], config: NetworkConfig) -> list[Teacher]:
    """Reads the teachers of some patch sizes, in their order.

    Args:
        weights: A folder with ``teacher_17.safetensors`` and so on, a hub id, or files with commas between,
            each followed by ``#SHA256`` if you like; None takes those that ship with the package.
        patch_sizes: Which.
        config: Widths that the detector needs.

    Raises:
        WeightsError: One cannot be found, is damaged, or has other widths.
    """
    if weights is None:
        return [_load(_shipped(size, config), "shipped with subspect", size, config) for size in patch_sizes]
    if Path(weights).is_dir() or ("," not in weights and _is_hub_id(weights)):
        return [_load(_in_place(weights, size, config), weights, size, config) for size in patch_sizes]
    found = {}
    for name in weights.split(","):
        path = find_weights(name, filename(0))
        found[read_weights(path, _KIND).config.get("patch_size")] = (path, name)
    if missing := [size for size in patch_sizes if size not in found]:
        sizes = ", ".join(str(size) for size in missing)
        raise WeightsError(
            f"{weights} has no teacher for patches of {sizes} pixels; {_how_to(missing[0], config)}"
        )
    return [_load(*found[size], size, config) for size in patch_sizes]


def _is_hub_id(weights: str) -> bool:
    name = weights.partition("#")[0]
    return not Path(name).is_file() and not name.endswith(".safetensors")


def _in_place(weights: str, patch_size: int, config: NetworkConfig) -> Path:
    """The teacher of a size in a folder or hub repository."""
    name = filename(patch_size)
    if not Path(weights).is_dir():
        return find_weights(weights, name)
    if not (Path(weights) / name).is_file():
        raise WeightsError(f"{weights} has no {name}; {_how_to(patch_size, config)}")
    return find_weights(str(Path(weights) / name), name)


def _shipped(patch_size: int, config: NetworkConfig) -> Path:
    path = Path(str(files("subspect") / "assets" / f"students_{filename(patch_size)}"))
    if path.is_file() and _config_of(path, patch_size) == config:
        return find_weights(str(path), filename(patch_size))
    raise WeightsError(
        f"no teacher of {config} for patches of {patch_size} pixels ships with subspect;"
        f" {_how_to(patch_size, config)}"
    )


def _how_to(patch_size: int, config: NetworkConfig) -> str:
    """The command that makes a teacher."""
    presets = [name for name, teacher in TEACHERS.items() if teacher.network == config]
    if not presets:
        return f"no preset of subspect pretrain-teacher has {config}; take the network of a preset"
    return (
        f"train it with `subspect pretrain-teacher PICTURES --patch-size {patch_size} --preset {presets[0]}"
        f" --weights BACKBONE --output teachers/{filename(patch_size)}` and give --weights teachers"
    )


def _load(path: Path, source: str, patch_size: int, config: NetworkConfig) -> Teacher:
    stored = read_weights(path, _KIND)
    found = _config_of(path, patch_size)
    if found != config:
        raise WeightsError(f"{path} is a teacher of {found}, but the detector needs {config}")
    try:
        PatchNetwork(patch_size, config).load_state_dict(stored.tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the configuration in it: {error}") from error
    return stored.tensors, {"source": source, "report": stored.report}


def _config_of(path: Path, patch_size: int) -> NetworkConfig:
    values = read_weights(path, _KIND).config
    found = values.pop("patch_size", None)
    if found != patch_size:
        raise WeightsError(f"{path} is a teacher for patches of {found} pixels, not {patch_size}")
    try:
        return NetworkConfig(**values)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not {_KIND}: {error}") from error
