"""Finding pretrained weights: a local file or a Hugging Face hub id, with its checksum checked."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

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
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    for expected in (wanted, _beside(path), _hub_name(path)):
        if expected and expected.lower() != actual:
            raise WeightsError(
                f"{path} has the SHA-256 {actual}, but {expected} is expected: it is damaged or not the file"
                " that was meant; fetch it again"
            )
    return path


def write_checksum(path: Path) -> str:
    """Writes ``NAME.sha256`` beside a file, as ``sha256sum`` does, and returns the checksum."""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{checksum}  {path.name}\n", encoding="utf-8")
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
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.endswith(Path(filename).suffix):
        raise WeightsError(f"no file {name}, and it is no hub id OWNER/REPOSITORY either")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, filename))
    except Exception as error:  # the hub's client has a dozen kinds, and its transport more
        raise WeightsError(
            f"{filename} of {name} is neither on this machine nor could it be fetched from the hub ({error});"
            f" without a network, copy the file here by hand and give its path instead of {name}"
        ) from error
