"""Files and folders: written so that whatever stops a writer leaves the old one or the new one.

Also: folders that only one process may work in, and files told apart by content.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("subspect")
_MARK = 12  # hexadecimal digits that tell temporary names apart
_ENDING = 40  # letters of the name that a temporary one keeps: names have a limit, and suffixes a meaning


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, complete or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_text(storable(text), encoding="utf-8")

    write_atomically(path, write)


def storable(text: str) -> str:
    """A text as UTF-8 can hold it: what is none, such as bytes of old file names, escaped in JSON's way."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes values as JSON, complete or not at all."""
    write_text(path, json_text(values))


def json_text(values: Any) -> str:
    """Values as the text of a JSON file."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under a header as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def share(path: Path) -> None:
    """Gives a file the permissions that new files have; some writers make theirs readable to one user only."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def content_digest(path: Path) -> str:
    """A hash of a file's bytes, the same wherever the file lies."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """Writes a file under a temporary name in the same folder, then puts it in place in one step.

    Args:
        path: The file to write; one that is there already is replaced only once the new one is complete.
        write: Writes the content to the path it is given, which ends in the same suffixes as ``path``.
        durable: So that a power cut, too, leaves the old file or the new one. It costs about ten milliseconds,
            for nothing where whatever was stopped is begun anew.

    Raises:
        FileNotFoundError: The folder of ``path`` does not exist.
        Exception: Whatever ``write`` raises; the temporary file is removed and ``path`` left as it was.
    """
    temporary = _temporary_name(path)
    try:
        write(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Makes a folder that appears with everything in it, or not at all.

    Args:
        folder: Must not exist, or be empty.

    Yields:
        The folder under a temporary name beside its later place, to be filled.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(folder)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                share(path)
            _sync(path)
        _sync(temporary)
        temporary.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder; the lock goes with the process, however it ends.

    Raises:
        BlockingIOError: Another process is at work in the folder.
    """
    if os.name != "posix":
        yield  # Windows has no such locks
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another process is at work in {folder}; wait for it, stop it, or choose another --output"
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): see that no other process works in it", folder, error)
        yield


def remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed have left in a folder; no writer may be at work in it."""
    for path in folder.glob(f".{'[0-9a-f]' * _MARK}-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _temporary_name(path: Path) -> Path:
    """Beside a path, and hidden: nothing that lists the folder meanwhile takes it for something finished."""
    return path.with_name(f".{uuid.uuid4().hex[:_MARK]}-{path.name[-_ENDING:]}")


def _sync(path: Path) -> None:
    """Waits until a file, or which names a folder holds, is on the disk and no longer in memory alone."""
    if os.name != "posix":
        return  # Windows takes neither a folder nor a file that is open for reading
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
