"""Probability-of-detection curves and scores as pictures, one panel a family."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from subspect.files import write_atomically
from subspect.probe.curves import TARGET, DetectionCurve
from subspect.probe.results import FamilyResult, ProbeResult

_HIT_MISS, _SCORES, _FOUND, _MISSED = "#2f7fd6", "#d9822b", "#1a9c72", "#c2304b"
_STYLE: Any = {"font.size": 8, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
_COLUMNS = 3
_SPREAD = 0.025
"""How far the marks of single defects are moved apart, so that each is seen."""


def draw_curves(result: ProbeResult, path: Path) -> None:
    """Writes a picture of the curves of every family.

    Found defects stand above 1 and missed ones below 0, curves come with their bounds, and lines from 90 % down
    to the size axis mark a90 (dashed) and a90/95 (dotted), in the colour of the curve. A curve that the data
    contradict is dash-dotted.
    """
    _draw(result, path, _curve_panel)


def draw_scores(result: ProbeResult, path: Path) -> None:
    """Writes a picture of the scores of every family over size, with the fitted line and the threshold."""

    def panel(axes: Axes, one: FamilyResult) -> None:
        _score_panel(axes, one, result.threshold)

    _draw(result, path, panel)


def _draw(result: ProbeResult, path: Path, panel: Callable[[Axes, FamilyResult], None]) -> None:
    rows = -(-len(result.families) // _COLUMNS)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6 * _COLUMNS, 2.7 * rows + 0.5), dpi=130, layout="constrained")
        panels: list[Axes] = figure.subplots(rows, _COLUMNS, squeeze=False).ravel().tolist()
        for axes in panels[len(result.families) :]:
            axes.remove()
        labelled: dict[str, Any] = {}
        for axes, one in zip(panels, result.families, strict=False):
            panel(axes, one)
            axes.set(title=one.family.name, xlabel=f"{one.family.quantity} (pixels)", xscale="log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            handles, labels = axes.get_legend_handles_labels()
            labelled = dict(zip(labels, handles, strict=True)) | labelled
        figure.legend(
            list(labelled.values()), list(labelled), loc="outside lower center", ncols=5, frameon=False
        )
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def _curve_panel(axes: Axes, one: FamilyResult) -> None:
    offsets = _SPREAD * (1 + np.arange(len(one.findings)) % 4)
    for found, colour, label in ((True, _FOUND, "found"), (False, _MISSED, "missed")):
        chosen = [finding.found == found for finding in one.findings]
        sizes = np.array([finding.size for finding in one.findings])[chosen]
        heights = 1 + offsets[chosen] if found else -offsets[chosen]
        axes.plot(sizes, heights, "|", color=colour, markersize=4, label=label)
    for curve, colour, label in (
        (one.hit_miss, _HIT_MISS, "hit/miss"),
        (one.scores, _SCORES, "â vs a"),
    ):
        _draw_curve(axes, curve, colour, label)
    axes.axhline(TARGET, color="0.75", linewidth=0.6, zorder=0)
    axes.set(ylim=(-0.14, 1.14), ylabel="probability of detection", yticks=[0, 0.5, TARGET, 1])
    if one.hit_miss.a90.reason:
        axes.text(0.02, 0.45, _wrapped(one.hit_miss.a90.reason), transform=axes.transAxes, fontsize=6)


def _draw_curve(axes: Axes, curve: DetectionCurve, colour: str, label: str) -> None:
    if not curve.fitted:
        return
    if curve.remarks:
        label += ", contradicted"
    style = "-." if curve.remarks else "-"
    axes.plot(curve.sizes, curve.probability, style, color=colour, linewidth=1.4, label=label)
    axes.fill_between(curve.sizes, curve.lower, curve.upper, color=colour, alpha=0.15, linewidth=0)
    for size, mark in ((curve.a90, "--"), (curve.a90_95, ":")):
        if size.value is not None:
            axes.plot([size.value] * 2, [0, TARGET], color=colour, linestyle=mark, linewidth=1)


def _wrapped(reason: str) -> str:
    """A reason in lines that fit a panel."""
    return "\n".join(textwrap.wrap(f"no a90 by hit/miss: {reason}", 48))


def _score_panel(axes: Axes, one: FamilyResult, threshold: float) -> None:
    for found, colour, label in ((True, _FOUND, "found"), (False, _MISSED, "missed")):
        chosen = [finding for finding in one.findings if finding.found == found]
        axes.plot(
            [finding.size for finding in chosen],
            [finding.score for finding in chosen],
            ".",
            color=colour,
            markersize=4,
            label=label,
        )
    if one.scores.fitted:
        line = one.scores.parameters
        scores = line["intercept"] + line["slope"] * np.log(one.scores.sizes)
        axes.plot(one.scores.sizes, scores, color=_SCORES, linewidth=1.2, label="line")
    axes.axhline(threshold, color="0.3", linestyle="--", linewidth=0.8, label="threshold")
    axes.set(ylabel="anomaly score (â)")
