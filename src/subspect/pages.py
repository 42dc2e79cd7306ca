"""Pages: metrics and pictures as one HTML file that needs nothing beside it, for looking at results."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image

from subspect.files import write_text
from subspect.pictures import as_rgb

LARGEST_SIDE = 320
"""Pictures are shrunk to this many pixels a side, which keeps a page of hundreds of them light."""


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures of one image.

    Attributes:
        caption: What image it is and what was found, e.g. ``scratch 003: anomalous, score 0.8``.
        pictures: Arrays by name, see `subspect.pictures.as_rgb`; shown in this order.
    """

    caption: str
    pictures: Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """Numbers of one group, e.g. of the near-in-distribution kinds of defect.

    Attributes:
        caption: What the group is.
        columns: Names of the columns, without that of the rows.
        rows: For each row its name and a value a column: a share in [0, 1]; None or nan where undefined.
    """

    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page, usually one category.

    Attributes:
        title: Its heading.
        text: A few sentences under the heading; plain text.
        tables: Tables of metrics.
        rows: Rows of pictures.
    """

    title: str
    text: str
    tables: Sequence[MetricsTable]
    rows: Sequence[Row]


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes a page; pictures are embedded, so that the file can be opened or sent on its own.

    Args:
        path: The HTML file; one that is there already is replaced.
        title: Heading of the page.
        sections: Its parts, in order.

    Raises:
        ValueError: A row of a table has another number of values than there are columns, or an array is no
            picture.
        FileNotFoundError: The folder of the file does not exist.
    """
    for table in (table for section in sections for table in section.tables):
        _check_table(table)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("subspect", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data_uri=_data_uri, percent=_percent)
    html = environment.get_template("page.html.jinja").render(title=title, sections=sections)
    write_text(path, html)


def _check_table(table: MetricsTable) -> None:
    for name, values in table.rows.items():
        if len(values) != len(table.columns):
            raise ValueError(
                f"row {name!r} of table {table.caption!r} has {len(values)} values"
                f" for {len(table.columns)} columns"
            )


def _data_uri(array: npt.NDArray[np.generic]) -> str:
    """A picture as PNG within an address."""
    image = Image.fromarray(as_rgb(array))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"
