"""Pages: metrics and pictures as one HTML file that needs nothing beside it, for looking at results."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jinja2
import markupsafe
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
class Cell:
    """What a table shows in one place where a number alone does not do.

    Attributes:
        text: The main text, e.g. ``97.5 ± 0.3``.
        note: Smaller text beside it, e.g. ``98.2, −0.7``.
        mark: A letter above it that refers to a remark.
        value: What the column is sorted by; None comes last.
    """

    text: str
    note: str = ""
    mark: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """Numbers of one group, e.g. of the near-in-distribution kinds of defect; sorted by a click on a column.

    Attributes:
        caption: What the group is.
        columns: Names of the columns, without that of the rows.
        rows: For each row its name and a value a column: a cell, or a share in [0, 1]; None or nan where
            undefined.
        remarks: Remarks below the table, by letter.
        unit: Of the numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[float | Cell | None]]
    remarks: Mapping[str, str] = field(default_factory=dict)
    unit: str = "%"


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing.

    Attributes:
        caption: What it shows.
        svg: An ``svg`` element, see `subspect.report.charts`.
    """

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page, usually one category.

    Attributes:
        title: Its heading.
        text: A few sentences under the heading; plain text.
        tables: Tables of metrics.
        rows: Rows of pictures.
        charts: Drawings.
    """

    title: str
    text: str
    tables: Sequence[MetricsTable]
    rows: Sequence[Row]
    charts: Sequence[Chart] = ()


def write_page(path: Path, title: str, sections: Sequence[Section], *, light: bool = False) -> None:
    """Writes a page; pictures are embedded, so that the file can be opened or sent on its own.

    Args:
        path: The HTML file; one that is there already is replaced.
        title: Heading of the page.
        sections: Its parts, in order.
        light: Whether pictures may lose detail that people do not see, for pages of hundreds of them.

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
    environment.filters.update(data_uri=partial(_data_uri, light=light), cell=_cell, inline=markupsafe.Markup)
    html = environment.get_template("page.html.jinja").render(title=title, sections=sections)
    write_text(path, html)


def _check_table(table: MetricsTable) -> None:
    for name, values in table.rows.items():
        if len(values) != len(table.columns):
            raise ValueError(
                f"row {name!r} of table {table.caption!r} has {len(values)} values"
                f" for {len(table.columns)} columns"
            )


def _data_uri(array: npt.NDArray[np.generic], *, light: bool) -> str:
    """A picture within an address: PNG, or WebP if it is to be light."""
    image = Image.fromarray(as_rgb(array))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if light:
        image.save(buffer, format="WEBP", quality=85)
    else:
        image.save(buffer, format="PNG", optimize=True)
    kind = "webp" if light else "png"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _cell(value: float | Cell | None) -> Cell:
    """A value as it is shown: shares in percent, a dash for what is undefined."""
    if isinstance(value, Cell):
        return value
    return Cell("–") if value is None or np.isnan(value) else Cell(f"{100 * value:.1f}", value=value)
