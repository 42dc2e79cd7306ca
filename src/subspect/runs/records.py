"""What a run says of itself in its folder.

``run.json``, so that only the very same run is ever resumed, and ``conditions.json``, on what it ran.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from subspect.files import locked, remove_leftovers, storable, write_json, write_text

logger = logging.getLogger("subspect")
_JsonT = TypeVar("_JsonT", dict[str, Any], list[Any])
RECORD, CONDITIONS = "run.json", "conditions.json"


def check_output(root: Path, output: Path) -> None:
    """Makes sure that a run's own pictures cannot be taken for pictures that it uses.

    Args:
        root: A folder whose pictures are used: a data set, textures, photographs.
        output: Where the run writes.

    Raises:
        ValueError: The output folder lies in the other.
    """
    if output.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"--output {output} lies inside {root}, and pictures in there are used; choose a folder elsewhere"
        )


@dataclass(frozen=True)
class Claim:
    """A run's claim to its folder: free it must be, or hold the very run that is to be resumed.

    Attributes:
        run: Everything that decides what the run gives, values JSON can hold.
        folder: Its folder.
        result: What a finished run leaves, there or beside it.
        resume: Whether a run that was stopped is to be continued.
    """

    run: Mapping[str, Any]
    folder: Path
    result: Path
    resume: bool

    def check(self) -> None:
        """Finds out what stands against it, before any work.

        Raises:
            FileExistsError: There is a finished run, or one that was stopped and ``resume`` is not set.
            ValueError: There is nothing to resume, or another run; the message names every value that differs.
        """
        recorded = self.folder / RECORD
        if self.result.exists():
            raise FileExistsError(f"{self.result} exists already: the run is finished; choose another --output")
        if not recorded.exists():
            if self.resume:
                raise ValueError(f"nothing to resume: {self.folder} holds no {RECORD}")
            return
        if not self.resume:
            raise FileExistsError(
                f"{self.folder} holds a run already: --resume continues it, or choose another --output"
            )
        check_same(self.run, self.folder)

    @contextmanager
    def begun(self, images: Mapping[str, str], conditions: Mapping[str, Any]) -> Iterator[None]:
        """The time during which the run is at work in its folder, to the exclusion of others; recorded first.

        Args:
            images: What else to record, a text by the name of its file: which images the run uses. Of a resumed
                run it must be what it was.
            conditions: On what it runs: devices, precision; values JSON can hold. If a resumed run ran on
                others, a warning says so, and both are recorded.

        Raises:
            BlockingIOError: Another process is at work in the folder.
            FileExistsError: As `check`, which is made again: others may have been at work meanwhile.
            ValueError: As `check`, or the images are no longer the same.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            self.check()
            self._check_images(images)
            remove_leftovers(self.folder)
            write_json(self.folder / RECORD, self.run)
            for name, text in images.items():
                write_text(self.folder / name, text)
            self._note_conditions(conditions)
            yield

    def _check_images(self, images: Mapping[str, str]) -> None:
        for name, text in images.items():
            path = self.folder / name
            if path.exists() and path.read_text(encoding="utf-8") != storable(text):
                raise ValueError(
                    f"the images are no longer those of {path}: a run is resumed on the same images only"
                )

    def _note_conditions(self, conditions: Mapping[str, Any]) -> None:
        path = self.folder / CONDITIONS
        before = _load(path, list) if path.exists() else []
        if before and before[-1] == conditions:
            return
        if before:
            logger.warning(
                "%s ran on %s before, now on %s: the result is not quite that of an uninterrupted run",
                self.folder,
                _spoken(before[-1]),
                _spoken(conditions),
            )
        write_json(path, [*before, conditions])


def check_same(run: Mapping[str, Any], folder: Path) -> None:
    """Makes sure that a folder holds this run and no other.

    Raises:
        ValueError: It holds another; the message names every value that differs.
    """
    if changed := differences(run, folder / RECORD):
        raise ValueError(
            f"{folder} holds another run, which cannot be resumed as this one: {'; '.join(changed)}"
        )


def differences(values: Mapping[str, Any], recorded: Path) -> list[str]:
    """What is no longer as a JSON file recorded it, e.g. ``seed was 0, now 1``; nothing if there is no file.

    Raises:
        ValueError: The file is damaged.
    """
    if not recorded.exists():
        return []
    before, now = _flatten(_load(recorded, dict)), _flatten(values)
    names = [name for name in {**before, **now} if not _same(before.get(name), now.get(name))]
    return [f"{name} was {before.get(name)}, now {now.get(name)}" for name in names]


def _same(before: Any, now: Any) -> bool:
    """Whether two values are equal; earlier versions recorded some paths relative that are absolute now."""
    if isinstance(before, str) and isinstance(now, str) and Path(now).is_absolute():
        return str(Path(before).absolute()) == now
    return bool(before == now)


def _spoken(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items())


def _load(path: Path, kind: type[_JsonT]) -> _JsonT:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, kind):
            raise ValueError(f"it holds no {kind.__name__}")
        return values
    except ValueError as error:
        raise ValueError(f"{path} is damaged, so nothing says what can be resumed: {error}") from error


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
