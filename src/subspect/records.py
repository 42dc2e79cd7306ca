"""What a run says of itself: ``run.json`` in its folder, so that only the very same run is ever resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subspect.files import write_text

RECORD = "run.json"


def claim(run: Mapping[str, Any], output: Path, result: Path, *, resume: bool) -> None:
    """Makes sure that a folder is free, or holds the very run that is to be resumed.

    Args:
        run: Everything that decides what the run gives, values JSON can hold.
        output: Its folder.
        result: What a finished run leaves, there or beside it.
        resume: Whether a run that was stopped is to be continued.

    Raises:
        FileExistsError: The folder holds a finished run, or one that was stopped and ``resume`` is not set.
        ValueError: There is nothing to resume, or another run; the message names every value that differs.
    """
    recorded = output / RECORD
    if result.exists():
        raise FileExistsError(f"{result} exists already: the run is finished; choose another --output")
    if not recorded.exists():
        if resume:
            raise ValueError(f"nothing to resume: {output} holds no {RECORD}")
        return
    if not resume:
        raise FileExistsError(
            f"{output} holds a run already: --resume continues it, or choose another --output"
        )
    changed = differences(run, recorded)
    if changed:
        raise ValueError(
            f"{output} holds another run, which cannot be resumed as this one: {'; '.join(changed)}"
        )


def differences(values: Mapping[str, Any], recorded: Path) -> list[str]:
    """What is no longer as a JSON file recorded it, e.g. ``seed was 0, now 1``; nothing if there is no file.

    Raises:
        ValueError: The file is damaged.
    """
    if not recorded.exists():
        return []
    before, now = _read(recorded), _flatten(values)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)}, now {now.get(name)}" for name in names]


def record(run: Mapping[str, Any], output: Path) -> None:
    """Writes ``run.json``."""
    write_text(output / RECORD, json.dumps(run, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        return _flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, so nothing says what can be resumed: {error}") from error


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
