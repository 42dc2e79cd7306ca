"""The tables of what was measured, in Markdown."""

from __future__ import annotations

from typing import Any

_HEADINGS = ("", "ours", "anomalib", "times as fast", "of the peak", "our memory", "theirs")


def render(results: dict[str, Any]) -> str:
    """A table a group, under a line on the machine."""
    machine, peak = results["machine"], results.get("peak", 0.0)
    time = "processor time" if machine["cores"] == 1 else "wall-clock time"
    lines = [
        f"{machine['date']}, {machine['cores']} of {machine['of']} cores of {machine['processor']}, {time},"
        f" load {machine['load']:.1f}, {machine['ours']}, {machine['peer']};"
        f" peak {peak / 1e9:.1f} GFLOP/s (float32 matrix product)"
    ]
    group = ""
    for key, measured in results["comparisons"].items():
        of, _, name = key.partition(": ")
        if of != group:
            group = of
            lines += ["", f"**{group}**", "", _row(_HEADINGS), _row(["---"] + ["---:"] * (len(_HEADINGS) - 1))]
        lines.append(_row([name, *_cells(measured, peak)]))
    return "\n".join(lines)


def _cells(measured: dict[str, Any], peak: float) -> list[str]:
    ratio, flops = measured["ratio"], measured["flops"]
    return [
        _time(measured["our_median"]),
        _time(measured["peer_median"]) if measured["peer_median"] else "",
        f"{ratio['median']:.3g} ({ratio['least']:.3g} to {ratio['most']:.3g})" if ratio else "",
        f"{flops / measured['our_median'] / peak:.0%}" if flops and peak else "",
        f"{measured['our_memory'] / 1e6:.0f} MB",
        f"{measured['peer_memory'] / 1e6:.0f} MB" if measured["peer_memory"] else "",
    ]


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
