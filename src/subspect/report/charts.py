"""Charts as SVG that stands inside a page and takes its colours for text and lines from there."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspect.datasets.table import NORMAL
from subspect.evaluation.histograms import pixel_curves
from subspect.evaluation.metrics import AUPRO_LIMIT, image_curves
from subspect.evaluation.results import Results

_INK, _LINE = "#010203", "#040506"
"""Stand-ins that the page's own colours replace."""

_COLOURS = ("#2f7fd6", "#d9822b", "#1a9c72", "#c2539b", "#8f6bd8", "#9a8420", "#d0504a", "#4aa3b5")
_NORMAL_COLOUR, _ANOMALOUS_COLOUR = _COLOURS[0], _COLOURS[1]
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "subspect",
    "font.size": 9,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
_POINTS = 300
_BINS = 30
_ENLARGED = 1.4
"""Pixels on the page for a point of the drawing."""


class Curve(NamedTuple):
    """A line of a chart, x and y in [0, 1]."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def curves_chart(results: Mapping[str, Results]) -> str:
    """ROC and precision-recall by image, precision-recall and PRO by pixel, of several detectors."""
    panels = [
        ("image ROC", "false positive rate", "true positive rate", 1.0),
        ("image precision-recall", "recall", "precision", 1.0),
        ("pixel precision-recall", "recall", "precision", 1.0),
        ("PRO", "false positive rate (pixels)", "per-region overlap", AUPRO_LIMIT),
    ]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 3.4), layout="constrained")
        all_axes: Sequence[Axes] = figure.subplots(1, len(panels))
        for place, (axes, (title, x, y, limit)) in enumerate(zip(all_axes, panels, strict=True)):
            for colour, one in zip(_cycled(len(results)), results.values(), strict=True):
                curve = _thinned(_curves(one)[place])
                axes.plot(curve.x, curve.y, color=colour)
            axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, limit), ylim=(0, 1.02))
            axes.grid(linewidth=0.5, alpha=0.6)
        figure.legend(all_axes[0].get_lines(), list(results), loc="outside lower center", ncols=8)
        return _inline(figure)


def histograms_chart(results: Mapping[str, Results]) -> str:
    """For each detector how the scores of normal and anomalous images lie, and its threshold."""
    columns = min(5, len(results))
    rows = -(-len(results) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(max(2.4 * columns, 4.8), 2.2 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(results) :]:
            axes.remove()
        for axes, (name, one) in zip(panels, results.items(), strict=False):
            _draw_histogram(axes, name, one)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return _inline(figure)


def _draw_histogram(axes: Axes, name: str, results: Results) -> None:
    normal, anomalous = (
        [row.score for row in results.rows if (row.defect == NORMAL) == kind] for kind in (True, False)
    )
    edges = np.histogram_bin_edges([*normal, *anomalous], _BINS)
    for scores, label, colour in (
        (normal, "normal", _NORMAL_COLOUR),
        (anomalous, "anomalous", _ANOMALOUS_COLOUR),
    ):
        axes.hist(scores, edges.tolist(), label=label, color=colour, alpha=0.6)
    if results.threshold is not None:
        axes.axvline(results.threshold, color=_INK, linestyle="--", linewidth=1, label="threshold")
    axes.set(title=name, xlabel="score", ylabel="images")


def _curves(results: Results) -> tuple[Curve, Curve, Curve, Curve]:
    """The four curves of a detector, in the order of the panels."""
    images = image_curves([row.score for row in results.rows], [row.defect != NORMAL for row in results.rows])
    found_all = int(np.searchsorted(images.recall, 1)) + 1  # beyond, only precision falls
    pixels = pixel_curves(results.pixels)
    middle = (pixels.recall[0, 1:] + pixels.recall[0, :-1]) / 2
    return (
        Curve(images.false_rate, images.recall),
        Curve(images.recall[1:found_all], images.precision[1:found_all]),
        Curve(middle, pixels.precision[0]),
        Curve(pixels.false_rate[0], pixels.overlap[0]),
    )


def _thinned(curve: Curve) -> Curve:
    """At most so many points that a page stays light, the ends among them."""
    count = len(curve.x)
    places = np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))
    return Curve(curve.x[places], curve.y[places])


def _cycled(count: int) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]


def _inline(figure: Figure) -> str:
    """A figure as an ``svg`` element without addresses, identifiers or colours of its own for text."""
    buffer = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    width = round(_ENLARGED * float(figure.get_figwidth()) * 72)
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg width="{width}"', 1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    return svg.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)").strip()
