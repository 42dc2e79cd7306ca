"""The published figures, ``assets/published_results.csv``, in percent.

Source: Zavrtanik, Kristan and Skočaj, "DSR – A dual subspace re-projection network for surface anomaly
detection", ECCV 2022 (arXiv 2208.01521), Tables 1 to 6. The column ``note`` marks the few that are not read off
there: pixel AP of ``hazelnut`` in Table 4 is restored from the DRAEM paper (Zavrtanik et al., ICCV 2021) or,
for DSR, derived from the mean.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

AVERAGE = "average"

NAMES = {
    "uninformed_students": "US",
    "riad": "RIAD",
    "padim": "PaDiM",
    "draem": "DRAEM",
    "dsr": "DSR",
}
"""What the paper calls the methods of the registry."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure.

    Attributes:
        table: Number of the table in the paper.
        dataset: ``mvtec_ad`` or ``ksdd2``.
        category: One of the data set's, ``average``, or empty where there is one only.
        setting: ``unsupervised``, ``N=16``, ``lambda_s=0.05``, or the name of an ablation.
        method: As the paper calls it.
        metric: One of `subspect.evaluation.results.HEADINGS`.
        percent: The figure.
    """

    table: int
    dataset: str
    category: str
    setting: str
    method: str
    metric: str
    percent: float


@cache
def published() -> tuple[Published, ...]:
    """All published figures, in the order of the paper's tables' rows and columns."""
    text = (files("subspect") / "assets" / "published_results.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            int(row["table"]),
            row["dataset"],
            row["category"],
            row["setting"],
            row["method"],
            row["metric"],
            float(row["value"]),
        )
        for row in csv.DictReader(text.splitlines())
    )
