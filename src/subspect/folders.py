"""Folders: written so that an interrupted run leaves nothing half-done behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, under a temporary name beside the one that it gets once everything is in it.

    Args:
        folder: The final name; what is there already is kept, unless it is an empty folder.

    Raises:
        OSError: The final name is taken by now.
        Exception: Whatever is raised meanwhile; the temporary folder is removed and ``folder`` left as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".subspect-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp shuts others out
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
