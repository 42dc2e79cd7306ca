"""The worked example of docs/add_a_method.md: its code taken from the page and put where the page says."""

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import subspect.detectors
from subspect.detectors import registry

PAGE = Path(__file__).resolve().parents[1] / "docs/add_a_method.md"
_FILE = re.compile(
    r"^`src/subspect/detectors/(\w+/\w+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINE = re.compile(r"registry\.py`[^`]*:\n\n```python\n(.*)\n```")


def documented_line() -> str:
    """What the page adds to the registry."""
    (line,) = _LINE.findall(PAGE.read_text(encoding="utf-8"))
    (name,) = ast.literal_eval(f"({line})")
    return name


@contextmanager
def documented_method(folder: Path) -> Iterator[str]:
    """Adds the page's method, by its folder and its line, and takes it out again; gives its name."""
    for place, code in _FILE.findall(PAGE.read_text(encoding="utf-8")):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(code, encoding="utf-8")
    name = documented_line()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subspect.detectors, "__path__", [*subspect.detectors.__path__, str(folder)])
        patch.setattr(registry, "METHODS", (*registry.METHODS, name))
        try:
            yield name
        finally:
            for module in [module for module in sys.modules if f".{name}" in module]:
                del sys.modules[module]
