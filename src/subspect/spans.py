"""Spans: named parts of a computation that profilers tell apart; without a profiler they cost microseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from types import TracebackType

import torch
from torch.profiler import record_function

PREFIX = "subspect."
_waited_for: list[torch.device] = []


class Span(ContextDecorator):
    """Marks what runs inside of it by PyTorch's ``record_function``; also a decorator of functions.

    Args:
        name: What it is called, after ``PREFIX``, in traces.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: list[ExitStack] = []  # several where what it marks calls itself

    def __enter__(self) -> Span:
        _wait()
        self._opened.append(ExitStack())
        self._opened[-1].enter_context(record_function(PREFIX + self.name))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        _wait()
        self._opened.pop().close()


@contextmanager
def waiting_for(device: torch.device) -> Iterator[None]:
    """Lets every span begin and end when a GPU has done what it was given, so that its time is the work's."""
    _waited_for.append(device)
    try:
        yield
    finally:
        _waited_for.pop()


def _wait() -> None:
    for device in _waited_for:
        wait_for(device)


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done what it was given; a processor has at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
