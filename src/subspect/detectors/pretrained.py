"""Pretrained weights: found by file or hub id, checksums checked; written and read with what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from subspect.files import content_digest, share, write_atomically, write_text

_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsError(ValueError):
    """Pretrained weights that cannot be had or trusted; the message says what to put where."""


def find_weights(source: str, filename: str) -> Path:
    """The local file of pretrained weights.

    Its SHA-256 is checked wherever one is known: after a ``#`` in ``source``, in a file ``NAME.sha256`` beside
    it, or the one under which the hub keeps it.

    Args:
        source: A file, or a hub id ``OWNER/REPOSITORY`` (downloaded once, then taken from the hub's cache);
            either may be followed by ``#SHA256``.
        filename: Which file of a hub repository.

    Raises:
        WeightsError: Nothing is found, the hub cannot be reached, or the checksum differs.
    """
    name, _, wanted = source.partition("#")
    path = Path(name)
    if not path.is_file():
        path = _from_hub(name, filename)
    actual = content_digest(path)
    for expected in (wanted, _beside(path), _hub_name(path)):
        if expected and expected.lower() != actual:
            raise WeightsError(
                f"{path} has the SHA-256 {actual}, but {expected} is expected: it is damaged or not the file"
                " that was meant; fetch it again"
            )
    return path


class StoredWeights(NamedTuple):
    """What ``write_weights`` wrote.

    Attributes:
        tensors: By name, float32.
        config: Of the network.
        report: How it was trained and how good it is.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    report: dict[str, Any]


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], report: Mapping[str, Any]
) -> str:
    """Writes weights in half precision as one safetensors file, with a checksum file beside it.

    It is written completely or not at all.

    Args:
        path: File to write; must not exist.
        tensors: Weights by name.
        config: What the network is, values JSON can hold.
        report: How it was trained and how good it is, values JSON can hold.

    Returns:
        The SHA-256 of the file.

    Raises:
        FileExistsError: The file exists.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten; choose another name")
    kept = {name: tensor.detach().cpu().contiguous().half() for name, tensor in tensors.items()}
    metadata = {"config": json.dumps(config), "report": json.dumps(report)}
    write_atomically(path, lambda temporary: save_file(kept, temporary, metadata))
    share(path)
    return write_checksum(path)


def read_weights(path: Path, kind: str) -> StoredWeights:
    """Reads what ``write_weights`` wrote.

    Args:
        path: The file.
        kind: What it should be, for the error, e.g. ``a latent model written by subspect pretrain``.

    Raises:
        WeightsError: It is something else.
    """
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        config, report = json.loads(metadata["config"]), json.loads(metadata.get("report", "{}"))
        return StoredWeights(tensors, dict(config), dict(report))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not {kind}: {error}") from error


def write_checksum(path: Path) -> str:
    """Writes ``NAME.sha256`` beside a file, as ``sha256sum`` does, and returns the checksum."""
    checksum = content_digest(path)
    write_text(path.with_name(path.name + ".sha256"), f"{checksum}  {path.name}\n")
    return checksum


def _beside(path: Path) -> str:
    note = path.with_name(path.name + ".sha256")
    words = note.read_text(encoding="utf-8").split() if note.is_file() else []
    return words[0] if words else ""


def _hub_name(path: Path) -> str:
    """The hub's cache links to files that are named by their SHA-256."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else ""


def _from_hub(name: str, filename: str) -> Path:
    if name and Path(name).is_dir():
        raise WeightsError(f"{name} is a folder without a trained detector; give a file or a hub id instead")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.endswith(Path(filename).suffix):
        raise WeightsError(f"no file or folder {name} here, and it is no hub id OWNER/REPOSITORY either")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, filename))
    except Exception as error:  # the hub's client has a dozen kinds, and its transport more
        raise WeightsError(
            f"no file or folder {name} here, and {filename} of {name} could not be fetched from the hub"
            f" ({error}); without a network, copy the file here by hand and give its path instead of {name}"
        ) from error
