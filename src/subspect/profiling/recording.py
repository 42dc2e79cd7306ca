"""Recording spans with PyTorch's tools: time and memory by its profiler, arithmetic by its counter of FLOPs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, schedule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from subspect.spans import PREFIX, Span

_STEP = "ProfilerStep#"  # what PyTorch's profiler calls a step


@dataclass(frozen=True)
class Part:
    """What all spans of one name took together.

    Attributes:
        name: Of the spans.
        calls: How many they were.
        seconds: From begin to end, with the spans inside.
        own_seconds: Without the spans inside.
        memory: Most bytes of tensors held at once in a call, above what was held at its beginning.
        flops: Multiplications and additions, with the spans inside.
        own_flops: Without the spans inside.
    """

    name: str
    calls: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0
    memory: int = 0
    flops: int = 0
    own_flops: int = 0


Parts = dict[str, Part]


class Recorded(NamedTuple):
    """One of several repetitions, as it was recorded.

    Attributes:
        seconds: All of it.
        memory: Most bytes of tensors held at once, above what was held at its beginning.
        parts: Its spans by name, without FLOPs, in the order of their first begin.
    """

    seconds: float
    memory: int
    parts: Parts


class _Event(NamedTuple):
    name: str
    start: float  # microseconds
    duration: float

    @property
    def end(self) -> float:
        return self.start + self.duration


class Recorder:
    """Records repetitions of the same work, one after the other; the first warms up and is not kept.

    Use as a context manager, and call ``step`` after each repetition.

    Args:
        repetitions: How many are kept.
        device: Whose memory is watched.

    Attributes:
        recorded: The repetitions, once all are done.
    """

    def __init__(self, repetitions: int, device: torch.device) -> None:
        self.recorded: list[Recorded] = []
        self._device = device
        self._recording = ExitStack()
        self._profiler = profile(
            activities=[ProfilerActivity.CPU],
            schedule=schedule(wait=0, warmup=1, active=repetitions, repeat=1),
            on_trace_ready=self._read,
            profile_memory=True,
            acc_events=True,
        )

    def __enter__(self) -> Recorder:
        self._recording.enter_context(self._profiler)
        return self

    def __exit__(self, *error: Any) -> None:
        self._recording.__exit__(*error)

    def step(self) -> None:
        """Ends a repetition."""
        self._profiler.step()

    def _read(self, profiler: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        held = _Held(events, on_gpu=self._device.type == "cuda")
        spans = [
            _Event(event["name"], event["ts"], event["dur"])
            for event in events
            if event.get("cat") == "user_annotation" and event["name"].startswith((PREFIX, _STEP))
        ]
        steps = [span for span in spans if span.name.startswith(_STEP)]
        for step in sorted(steps, key=lambda span: span.start):
            inside = [
                span._replace(name=span.name.removeprefix(PREFIX))
                for span in spans
                if span is not step and step.start <= span.start < step.end
            ]
            self.recorded.append(Recorded(step.duration / 1e6, held.most(step), _joined(inside, held)))


class _Held:
    """How much memory tensors held at any time, from the trace of PyTorch's profiler."""

    def __init__(self, events: Sequence[dict[str, Any]], *, on_gpu: bool) -> None:
        changes = sorted(
            (event["ts"], event["args"]["Total Allocated"], event["args"]["Bytes"])
            for event in events
            if event["name"] == "[memory]" and (event["args"]["Device Type"] == 1) == on_gpu
        )
        before = changes[0][1] - changes[0][2] if changes else 0
        self._times = np.array([change[0] for change in changes])
        self._totals = np.array([before, *(change[1] for change in changes)])  # each until the next change

    def most(self, span: _Event) -> int:
        """Most bytes held at once during a span, above those held at its begin."""
        first, last = np.searchsorted(self._times, (span.start, span.end))
        return int(self._totals[first : last + 1].max() - self._totals[first])


def _joined(spans: Sequence[_Event], held: _Held) -> Parts:
    """Spans of one thread, nested in each other or apart, put together by name."""
    parts: Parts = {}
    around: list[_Event] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.duration)):
        while around and around[-1].end <= span.start:
            around.pop()
        seconds = span.duration / 1e6
        if around:
            outer = parts[around[-1].name]
            parts[outer.name] = replace(outer, own_seconds=outer.own_seconds - seconds)
        part = parts.get(span.name, Part(span.name))
        parts[span.name] = replace(
            part,
            calls=part.calls + 1,
            seconds=part.seconds + seconds,
            own_seconds=part.own_seconds + seconds,
            memory=max(part.memory, held.most(span)),
        )
        around.append(span)
    return parts


class Counted(NamedTuple):
    """Multiplications and additions.

    Attributes:
        total: Of everything.
        parts: Of spans by name, with the spans inside of them.
        own: Without these.
    """

    total: int
    parts: dict[str, int]
    own: dict[str, int]


def count_flops(run: Callable[[], object]) -> Counted:
    """Counts multiplications and additions of convolutions and matrix products, by ``FlopCounterMode``."""
    counter = FlopCounterMode(display=False)
    with counter, _SpanReader(counter) as reader:
        run()
    return Counted(counter.get_total_flops(), reader.parts, reader.own)


class _SpanReader(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of PyTorch's, which has no types
    """Reads a counter wherever a span begins or ends; both are operations to PyTorch."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts: dict[str, int] = {}
        self.own: dict[str, int] = {}
        self._counter = counter
        self._around: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "profiler":
            begins = func.name() == "profiler::_record_function_enter_new"
            self._begin(args[0]) if begins else self._end()
        return func(*args, **(kwargs or {}))

    def _begin(self, name: str) -> None:
        self._around.append((name, self._counter.get_total_flops()))

    def _end(self) -> None:
        name, before = self._around.pop()
        if not name.startswith(PREFIX):
            return
        name, counted = name.removeprefix(PREFIX), self._counter.get_total_flops() - before
        self.parts[name] = self.parts.get(name, 0) + counted
        self.own[name] = self.own.get(name, 0) + counted
        outer = next((outer for outer, _ in reversed(self._around) if outer.startswith(PREFIX)), None)
        if outer is not None:
            outer = outer.removeprefix(PREFIX)
            self.own[outer] = self.own.get(outer, 0) - counted


def with_flops(parts: Parts, counted: Counted) -> Parts:
    """Recorded parts with what was counted."""
    return {
        name: replace(part, flops=counted.parts.get(name, 0), own_flops=counted.own.get(name, 0))
        for name, part in parts.items()
    }


@contextmanager
def marked_modules(root: nn.Module) -> Iterator[None]:
    """Makes every call of a module inside ``root`` a span of the module's name."""
    handles = []
    for name, module in root.named_modules():
        if name:
            span = Span(name)
            handles.append(module.register_forward_pre_hook(_opening(span)))
            handles.append(module.register_forward_hook(_closing(span), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _opening(span: Span) -> Callable[[nn.Module, Any], None]:
    def open_span(module: nn.Module, inputs: Any) -> None:
        span.__enter__()

    return open_span


def _closing(span: Span) -> Callable[[nn.Module, Any, Any], None]:
    def close_span(module: nn.Module, inputs: Any, output: Any) -> None:
        span.__exit__()

    return close_span


def typical(repetitions: Sequence[Recorded]) -> Recorded:
    """The repetition of median duration, so that its parts belong together."""
    return sorted(repetitions, key=lambda one: one.seconds)[len(repetitions) // 2]
