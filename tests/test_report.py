"""Reports: figures against the runs they come from, tables in the paper's shape, the page in a browser."""

import base64
import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import grids
from outcomes import results_of
from subspect.benchmark.cells import list_cells
from subspect.benchmark.execution import run_grid
from subspect.benchmark.grid import read_grid
from subspect.cli import main
from subspect.detectors.configuration import configure
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.registry import find_preset
from subspect.evaluation.results import ImageRow, Metrics, read_results
from subspect.evaluation.statistics import compare
from subspect.report.budget import budget
from subspect.report.cases import telling_images
from subspect.report.comparison import comparisons, run_intervals
from subspect.report.entries import Entry, Estimate, Setting, estimate, read_entries
from subspect.report.formats import Marks, mean_text, published_text, to_csv, to_latex, to_markdown
from subspect.report.page import overview
from subspect.report.published import published
from subspect.report.tables import Figure, paper_tables
from subspect.report.writing import write_report
from subspect.storage import StorageError
from tiny import QUIET


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """DSR, whole and ablated, and DRAEM, with two seeds, on one category."""
    place = tmp_path_factory.mktemp("report")
    grid = grids.tiny_grid(place)
    grid["methods"]["draem"] = {
        "settings": [
            "image_size=[64, 64]", "reconstructive_width=4", "discriminative_width=4", "training_crop=64",
            "training.batch_size=2",
        ],
        "steps": 2,
    }  # fmt: skip
    path = grids.write_grid(place, methods=grid["methods"])
    cells = list_cells(read_grid(path), place / "runs")
    assert run_grid(cells, place / "runs", QUIET) == {"finished": 6}
    return place / "runs"


@pytest.fixture(scope="module")
def report(runs) -> Path:
    words = ["report", str(runs), f"--output={runs.parent / 'report'}"]
    assert main(words) == 0
    return runs.parent / "report"


def entry(category="bottle", seed=0, method="dsr", variant="full", anomalies=0, dataset="mvtec_ad", **metrics):
    """A run of made-up metrics."""
    values = {**dict.fromkeys(asdict(Metrics(*[0.5] * 6)), 0.5), **metrics}
    results = replace(
        results_of([0.0, 1.0], [False, True]), category=category, overall=Metrics(**values), by_defect={}
    )
    setting = Setting(dataset, method, method, variant, anomalies, "paper")
    return Entry(Path(category), setting, seed, "", PRESETS["paper"], {}, results)


def test_published_averages_are_the_means_of_their_categories():
    """An independent check of the data file."""
    for table in (3, 4):
        figures = [one for one in published() if one.table == table]
        for method in {one.method for one in figures}:
            percent = {one.category: one.percent for one in figures if one.method == method}
            average = percent.pop("average")
            assert len(percent) == 15
            assert np.mean(list(percent.values())) == pytest.approx(average, abs=0.16), (table, method)


def test_a_metric_is_the_mean_over_categories_then_over_seeds():
    found = estimate(
        [
            entry("bottle", 0, pixel_ap=0.4),
            entry("cable", 0, pixel_ap=0.6),
            entry("bottle", 1, pixel_ap=0.7),
            entry("cable", 1, pixel_ap=0.9),
            entry("bottle", 2, pixel_ap=0.1),  # a seed that lacks a category says nothing of the mean
        ],
        "pixel_ap",
    )
    assert found.mean == pytest.approx((0.5 + 0.8) / 2)
    assert found.spread == pytest.approx(math.sqrt(2) * 0.15)
    assert found.seeds == 2
    assert estimate([entry()], "pixel_ap").spread is None
    assert estimate([entry(pixel_ap=math.nan)], "pixel_ap") is None
    assert estimate([entry()], "pixel_ap", "scratch") is None


def test_seeds_with_different_categories_are_not_averaged():
    bolt = entry("bolt", 0, pixel_ap=0.4)
    others = [entry("nut", seed, pixel_ap=0.8) for seed in (1, 2)]
    found = estimate([bolt, *others], "pixel_ap")
    assert (found.mean, found.seeds, found.categories) == (0.8, 2, {"nut"})


def test_means_over_fewer_categories_or_seeds_than_the_table_has_are_marked():
    whole = [entry(category, seed) for category in ("bottle", "cable") for seed in (0, 1)]
    (table,) = overview([*whole, entry("bottle", 0, method="riad"), entry("bottle", 1, method="riad")]).tables
    marks = {name: cells[0].mark for name, cells in table.rows.items()}
    assert marks == {"dsr": "", "riad": "a"}
    assert table.remarks == {"a": "mean of 1 of 2 categories"}
    (table,) = overview([*whole, entry("bottle", 0, method="riad"), entry("cable", 0, method="riad")]).tables
    assert table.remarks == {"a": "1 of 2 seeds"}


def pairs(entries):
    return [(one.first.setting.name, one.second.setting.name) for one in comparisons(run_intervals(entries))]


def test_every_two_methods_are_compared_and_every_two_variants_of_one(caplog):
    others = [entry(method=method) for method in ("draem", "padim", "riad")]
    assert pairs(others) == [("draem", "padim"), ("draem", "riad"), ("padim", "riad")]
    dsr = [entry(variant=variant) for variant in ("full", "no upsampling")]
    assert pairs([others[0], *dsr]) == [("dsr", "draem"), ("dsr", "dsr, no upsampling")]
    assert pairs([others[0], entry(seed=1)]) == []
    assert not caplog.records
    results = others[1].results
    fewer = replace(
        others[1], results=replace(results, rows=tuple(replace(r, path=f"x{r.path}") for r in results.rows))
    )
    assert pairs([others[0], fewer]) == []
    assert "no comparison draem − padim, seed 0: two detectors are compared on the same images" in caplog.text


def test_shared_replicates_give_what_comparing_alone_gives():
    scores, truth = [0.1, 0.4, 0.3, 0.9, 0.7, 0.2], [False, False, False, True, True, True]
    names = [f"/data/{index}.png" for index in range(6)]
    first = replace(entry(method="dsr"), results=results_of(scores, truth, names=names))
    second = replace(
        entry(method="riad"),
        results=results_of(scores[::-1], truth[::-1], names=[f"/copy{n}" for n in names[::-1]]),
    )
    (found,) = comparisons(run_intervals([second, first]))
    assert found.first is first
    assert found.differences == compare(first.results, second.results)


def figures(entries, number, dataset):
    (table,) = [one for one in paper_tables(entries) if (one.number, one.dataset) == (number, dataset)]
    return table.figures


def test_tables_have_the_papers_shape_and_figures_without_any_run_of_ours():
    tables = {table.number: table for table in paper_tables([])}
    assert list(tables) == [1, 2, 3, 4, 5, 6]
    assert tables[1].rows == ["US", "MAD", "DRAEM", "PaDiM", "DSR"]
    assert tables[2].rows == ["N=0", "N=16", "N=53", "N=246"]
    assert len(tables[3].rows) == len(tables[4].rows) == 16
    assert tables[3].columns == ["US", "RIAD", "MAD", "PaDiM", "CutPaste", "DRAEM", "DSR"]
    assert len(tables[5].columns) == 6
    assert tables[6].rows[-1] == "no upsampling"
    assert sum(len(table.figures) for table in tables.values()) == len(published())
    assert all(figure.ours is None for table in tables.values() for figure in table.figures.values())


def test_ours_stand_where_they_belong():
    entries = [
        entry("bottle", image_auroc=0.99, pixel_ap=0.80),
        entry("bottle", method="riad", image_auroc=0.9),
        entry("bottle", variant="uniform sampling", image_auroc=0.7),
        entry("ksdd2", dataset="ksdd2", image_ap=0.6),
        entry("ksdd2", dataset="ksdd2", anomalies=16, image_ap=0.75),
    ]
    found = figures(entries, 3, "mvtec_ad")
    assert found["bottle", "DSR"].ours.mean == 0.99
    assert found["bottle", "DSR"].difference == pytest.approx(99 - 100)
    assert found["bottle", "RIAD"].difference == pytest.approx(90 - 99.9)
    assert found["cable", "DSR"].ours is None
    assert found["average", "DSR"].ours.budgets == ("mean of 1 of 15 categories",)
    assert figures(entries, 4, "mvtec_ad")["bottle", "DSR"].difference == pytest.approx(80 - 91.5)
    assert figures(entries, 1, "ksdd2")["DSR", "image AP"].difference == pytest.approx(60 - 87.2)
    assert figures(entries, 2, "ksdd2")["N=16", "DSR image AP"].difference == pytest.approx(75 - 91.4)
    assert figures(entries, 2, "ksdd2")["N=53", "DSR image AP"].ours is None
    # The preset's own λs is 0.05, so the unchanged variant stands there.
    assert figures(entries, 5, "mvtec_ad")["image AUROC", "lambda_s=0.05"].ours.mean == 0.99
    assert figures(entries, 5, "mvtec_ad")["image AUROC", "lambda_s=0.1"].ours is None
    assert figures(entries, 6, "mvtec_ad")["uniform sampling", "image AUROC"].ours.mean == 0.7


def test_an_average_of_all_categories_bears_no_remark():
    categories = {one.category for one in published() if one.table == 3} - {"average"}
    found = figures([entry(category, image_auroc=0.9) for category in categories], 3, "mvtec_ad")
    assert found["average", "DSR"].ours == Estimate(pytest.approx(0.9), None, 1, (), frozenset(categories))


def test_other_data_sets_get_ablations_without_published_figures():
    entries = [entry("tile", dataset="tiles", variant=name) for name in ("full", "no upsampling")]
    found = figures(entries, 6, "tiles")
    rows, columns = ("full", "no upsampling"), ("image AUROC", "pixel AP")
    assert set(found) == {(row, column) for row in rows for column in columns}
    assert {figure.published for figure in found.values()} == {None}
    assert [table.dataset for table in paper_tables(entries) if table.number == 2] == ["ksdd2"]
    # Two settings are enough, whatever their number.
    two_shares = [
        entry("tile", dataset="tiles", variant=f"lambda_s={share}", image_auroc=share) for share in (0.05, 0.1)
    ]
    found = figures(two_shares, 5, "tiles")
    assert {column: figure.ours.mean for (_, column), figure in found.items()} == {
        "lambda_s=0.05": 0.05, "lambda_s=0.1": 0.1
    }  # fmt: skip
    some = [entry("tile", dataset="tiles", anomalies=count, image_ap=count / 10) for count in (0, 7)]
    found = figures(some, 2, "tiles")
    assert [found[f"N={count}", "DSR image AP"].ours.mean for count in (0, 7)] == [0, 0.7]
    with pytest.raises(ValueError, match="not enough values"):
        figures(two_shares[:1], 5, "tiles")


def test_two_names_of_one_method_are_told(caplog):
    one = entry()
    paper_tables([one, replace(one, setting=replace(one.setting, label="longer"))])
    (record,) = caplog.records
    assert record.getMessage().startswith("mvtec_ad: dsr, longer all are dsr; the paper's tables show one")


def test_undefined_metrics_parts_and_negative_numbers_of_pictures(runs, tmp_path):
    place = tmp_path / "runs/dsr-seed0"
    shutil.copytree(runs / "squares/data/dsr-seed0", place)
    values = json.loads((place / "evaluation-whole/results.json").read_text())
    values["categories"][0]["metrics"]["pixel_ap"] = None
    (place / "evaluation-whole/results.json").write_text(json.dumps(values))
    images = (place / "evaluation-whole/images.csv").read_text()
    (place / "evaluation-whole/images.csv").write_text(images.replace(",\n", ",roll\n"))
    text = write_report([tmp_path / "runs"], tmp_path / "report", pictures=0).read_text()
    assert "nan to nan" not in text
    assert "(whole parts, of seed 0 1 normal and 1 anomalous ones, resampled)" in text
    with pytest.raises(ValueError, match="at least 0, got -1"):
        write_report([tmp_path / "runs"], tmp_path / "negative", pictures=-1)


@pytest.mark.parametrize(
    ("figure", "mean", "known"),
    [
        (Figure(Estimate(0.9751, 0.00349, 2), 98.2), "97.5 ± 0.3", "98.2, −0.7"),
        (Figure(Estimate(0.99, None, 1), 98.2), "99.0", "98.2, +0.8"),
        (Figure(None, 98.2), "–", "98.2"),
        (Figure(Estimate(0.99, None, 1), None), "99.0", ""),
    ],
)
def test_figures_are_written_as_people_read_them(figure, mean, known):
    assert (mean_text(figure), published_text(figure)) == (mean, known)


def test_marks_are_letters_that_do_not_run_out():
    marks = Marks()
    letters = [marks.of(Figure(Estimate(0.5, None, 1, (f"remark {index}",)), None)) for index in range(60)]
    assert letters[:2] + letters[25:28] + letters[52:54] == ["a", "b", "z", "aa", "ab", "ba", "bb"]
    assert marks.of(Figure(Estimate(0.5, None, 1, ("remark 0", "remark 26")), None)) == "aaa"


def test_markdown_latex_and_csv_say_the_same():
    budget = "dsr: preset fast, 2,400 of 150,000 steps"
    entries = [replace(entry("bottle", seed, image_auroc=0.9 + 0.02 * seed), budget=budget) for seed in (0, 1)]
    tables = [table for table in paper_tables(entries) if table.number == 3]
    markdown, latex = to_markdown(tables), to_latex(tables)
    (row,) = [line for line in markdown.splitlines() if line.startswith("| bottle")]
    assert row.split("|")[-2].strip() == "91.0 ± 1.4 ^a^ (100.0, −9.0)"
    assert f"a: {budget}" in markdown
    (row,) = [line for line in latex.splitlines() if line.startswith("bottle")]
    assert row.endswith(r"91.0\,$\pm$\,1.4$^{a}$ {\scriptsize(100.0, $-$9.0)} \\")
    assert all(line.count("&") == 7 for line in latex.splitlines() if line.endswith(r"\\") and "&" in line)
    assert not re.search(r"(?<!\\)_", latex)
    lines = list(csv.DictReader(to_csv(tables).splitlines()))
    (line,) = [one for one in lines if (one["row"], one["column"]) == ("bottle", "DSR")]
    assert (line["ours"], line["spread"], line["seeds"]) == ("91.00", "1.41", "2")
    assert (line["published"], line["difference"], line["remarks"]) == ("100.00", "-9.00", budget)


def test_images_are_chosen_by_score():
    rows = [ImageRow(f"bad{index}", "hole", index / 10, "") for index in (3, 1, 5, 2, 4)]
    rows += [ImageRow(f"good{index}", "good", index / 10, "") for index in (1, 9, 0)]
    chosen = [(why, row.path) for why, row in telling_images(rows, 1)]
    assert chosen == [
        ("best", "bad5"), ("median", "bad3"), ("worst", "bad1"), ("worst normal", "good9")
    ]  # fmt: skip
    assert [row.path for _, row in telling_images(rows, 2)][:2] == ["bad5", "bad4"]


@pytest.mark.parametrize(
    ("method", "preset", "settings", "grid", "expected"),
    [
        ("padim", "fast", [], "", "padim: preset fast"),  # without a grid nothing records the preset
        ("dsr", "fast", ["detection_stage.steps=149600"], "", "dsr: preset fast"),
        ("dsr", "paper", [], "", ""),
        ("dsr", "paper", [], "paper", ""),
        (
            "dsr", "paper", ["detection_stage.batch_size=1"], "paper", "dsr: batch size 1 instead of 8"
        ),
        (
            "dsr", "paper", ["detection_stage.learning_rate=0.1"], "",
            "dsr: other settings (detection_stage.learning_rate)",
        ),
    ],
)  # fmt: skip
def test_whatever_is_not_the_papers_is_named(method, preset, settings, grid, expected):
    assert budget(method, configure(find_preset(method, preset), settings=settings), grid) == expected


def test_a_variant_is_named_by_itself_but_for_its_training():
    config = replace(PRESETS["paper"], refine=False)
    assert budget("dsr", config, "paper", variant=True) == ""
    assert budget("dsr", config, "paper") == "dsr: other settings (refine)"
    slow = replace(config, detection_stage=replace(config.detection_stage, learning_rate=1e-5))
    expected = "dsr: other settings (detection_stage.learning_rate)"
    assert budget("dsr", slow, "paper", variant=True) == expected


def test_entries_are_the_runs_with_their_budgets(runs):
    entries = read_entries([runs])
    assert [(e.setting.name, e.seed) for e in entries] == [
        ("draem", 0), ("draem", 1), ("dsr", 0), ("dsr", 1), ("dsr, no upsampling", 0), ("dsr, no upsampling", 1)
    ]  # fmt: skip
    assert entries[0].budget == (
        "draem: preset fast, 2 of 21,000 steps, images of 64x64 instead of 256x256, batch size 2 instead of 8,"
        " other settings (reconstructive_width, discriminative_width, training_crop)"
    )
    assert {e.setting.dataset for e in entries} == {"squares"}


def test_runs_that_a_report_cannot_tell_apart_are_refused(runs, tmp_path):
    """Another grid's run of the same name would replace the first in every mean."""
    here = runs / "squares/data/dsr-seed0/evaluation-whole"
    there = tmp_path / "other/dsr-seed0"
    shutil.copytree(here.parent, there)
    with pytest.raises(ValueError, match="report them apart") as refused:
        read_entries([runs, tmp_path])
    assert str(here) in str(refused.value)
    assert str(there / "evaluation-whole") in str(refused.value)
    # Under another name it is a method of its own.
    cell = json.loads((there / "cell.json").read_text())
    (there / "cell.json").write_text(json.dumps({**cell, "method": "longer"}))
    assert len(read_entries([runs, tmp_path])) == 7


def test_the_report_holds_the_figures_of_the_runs(report, runs):
    assert {path.name for path in report.iterdir()} == {
        "index.html", "tables.md", "tables.tex", "tables.csv", "intervals.csv", "comparisons.csv"
    }  # fmt: skip
    values = [
        read_results(runs / f"squares/data/dsr-seed{seed}/evaluation-whole")[0].overall.image_auroc
        for seed in (0, 1)
    ]
    with (report / "tables.csv").open(newline="") as file:
        (row,) = [
            row
            for row in csv.DictReader(file)
            if (row["table"], row["dataset"]) == ("6", "squares")
            and (row["row"], row["column"]) == ("full", "image AUROC")
        ]
    assert float(row["ours"]) == pytest.approx(100 * np.mean(values), abs=0.005)
    assert float(row["spread"]) == pytest.approx(100 * np.std(values, ddof=1), abs=0.005)
    with (report / "intervals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 6
    assert all(0 <= float(row["low"]) <= float(row["high"]) <= 1 for row in rows)
    with (report / "comparisons.csv").open(newline="") as file:
        compared = {(row["compared_with"], row["seed"]) for row in csv.DictReader(file)}
    assert compared == {(name, seed) for name in ("draem", "dsr, no upsampling") for seed in "01"}


class Addresses(HTMLParser):
    """Everything a page would fetch, and its headings."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.headings, self.tags, self._in_heading = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._in_heading = tag == "h2"
        self.found += [value for name, value in attributes if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data):
        if self._in_heading and data.strip():
            self.headings.append(data.strip())


def test_the_page_needs_nothing_beside_it_and_shows_every_part(report):
    text = (report / "index.html").read_text()
    page = Addresses(text)
    assert all(address.startswith(("#", "data:image/")) for address in page.found)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert page.headings == [
        "All runs",
        "The paper's tables",
        "squares, data",
        "squares, data: what draem saw",
        "squares, data: what dsr saw",
        "squares, data: normal appearance restored by dsr",
        "squares, data: reconstructions side by side",
    ]
    assert page.tags.count("svg") == 2
    assert page.tags.count("metadata") == 0
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "#ffffff" not in drawings, "a white ground in dark surroundings"
    assert "var(--ink)" in drawings
    # Four images of each of two detectors, then of one, then side by side.
    assert page.tags.count("img") == 4 * (5 + 6) + 4 * 2 + 4 * 4
    for words in ("pixel AP by kind of defect", ">threshold<", "per-region overlap", "false positive rate"):
        assert words in text


def test_a_report_overwrites_nothing_and_needs_runs(report, runs, tmp_path, capsys):
    before = (report / "index.html").read_bytes()
    with pytest.raises(FileExistsError, match="choose another"):
        write_report([runs], report)
    assert (report / "index.html").read_bytes() == before
    assert main(["report", str(tmp_path), f"--output={tmp_path / 'new'}"]) == 1
    assert "no judged runs" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_report_that_fails_half_way_leaves_nothing_that_refuses_the_next(runs, tmp_path):
    place = tmp_path / "runs/dsr-seed0"
    shutil.copytree(runs / "squares/data/dsr-seed0", place)
    weights = (place / "detector/weights.safetensors").read_bytes()
    (place / "detector/weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(StorageError, match="cannot be used"):
        write_report([tmp_path / "runs"], tmp_path / "report")
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    (place / "detector/weights.safetensors").write_bytes(weights)
    assert write_report([tmp_path / "runs"], tmp_path / "report").is_file()


def test_without_the_data_set_the_page_goes_without_pictures(runs, tmp_path, caplog):
    shutil.copytree(runs / "squares/data/dsr-seed0", tmp_path / "runs/dsr-seed0")
    record = tmp_path / "runs/dsr-seed0/run.json"
    values = json.loads(record.read_text())
    values["data"]["root"] = str(tmp_path / "gone")
    record.write_text(json.dumps(values))
    page = write_report([tmp_path / "runs"], tmp_path / "report")
    assert "no pictures of data" in caplog.text
    assert "img" not in Addresses(page.read_text()).tags
    assert not any("saw" in heading for heading in Addresses(page.read_text()).headings)
    shutil.rmtree(tmp_path / "runs/dsr-seed0/detector")
    without = write_report([tmp_path / "runs"], tmp_path / "without")
    assert "img" not in Addresses(without.read_text()).tags
    assert (tmp_path / "without/tables.csv").read_text() == (tmp_path / "report/tables.csv").read_text()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


WIDTH, HEIGHT = 1400, 2400


def browse(page: Path, folder: Path, *more: str, height: int = HEIGHT) -> subprocess.CompletedProcess:
    """Headless Chromium without a network."""
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars",  # they would narrow the page in low windows only
        "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=3000",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{height}",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        [CHROMIUM, *flags, *more, page.as_uri()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_in_a_browser(report, tmp_path):
    """Sections, charts and pictures are on a screenshot in their places; a click on a head sorts its table."""
    text = (report / "index.html").read_text()
    probe = """<script>
      const box = p => [p.left, p.top, p.right, p.bottom].map(Math.round);
      const boxes = {};
      for (const kind of ["section", "svg", "img"])
        boxes[kind] = [...document.querySelectorAll(kind)].map(e => box(e.getBoundingClientRect()));
      const height = document.documentElement.scrollHeight;
      const shown = [...document.images].every(i => i.complete && i.naturalWidth > 0);
      const charts = [...document.querySelectorAll("svg")].map(s => s.getBoundingClientRect().width);
      const head = document.querySelector("thead th[tabindex]"), sorted = [];
      for (let click = 0; click < 3; click++) {
        head.click();
        sorted.push([...head.closest("table").tBodies[0].rows].map(r => r.cells[0].textContent.trim()));
      }
      document.title = JSON.stringify({boxes, height, shown, charts, sorted});
    </script></body>"""
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe))
    dom = browse(probed, tmp_path, "--dump-dom").stdout
    found = json.loads(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1].replace("&quot;", '"'))
    assert found["shown"], "a picture could not be decoded"
    assert all(width > 300 for width in found["charts"])
    down, up, original = found["sorted"]
    first_table = [name.strip() for name in original]
    means = {
        setting: estimate(
            [e for e in read_entries([report.parent / "runs"]) if e.setting.name == setting], "image_auroc"
        ).mean
        for setting in first_table
    }
    assert [means[name] for name in down] == sorted(means.values(), reverse=True)
    assert [means[name] for name in up] == sorted(means.values())
    check_screenshot(report / "index.html", tmp_path, found["boxes"], found["height"])


def check_screenshot(page: Path, folder: Path, boxes: dict, height: int) -> None:
    """The whole page in one window: no section or chart is blank, and every picture is the one embedded."""
    browse(page, folder, f"--screenshot={folder / 'page.png'}", height=height)
    screenshot = np.asarray(Image.open(folder / "page.png").convert("L")).astype(float)
    assert screenshot.shape == (height, WIDTH)
    texts = Addresses(page.read_text())
    assert len(boxes["section"]) == len(texts.headings) == 7
    assert len(boxes["svg"]) == 2
    for left, top, right, bottom in boxes["section"] + boxes["svg"]:
        assert 0 <= left < right <= WIDTH, "a section reaches beyond the window"
        # Not an empty card: text and lines are far from the ground.
        assert screenshot[top:bottom, left:right].std() > 8
    sources = [one for one in texts.found if one.startswith("data:image/")]
    for (left, top, right, bottom), source in zip(boxes["img"], sources, strict=True):
        embedded = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("L")
        resized = np.asarray(embedded.resize((right - left, bottom - top))).astype(float)
        # Up to the scaling of the browser and a line at the border.
        assert np.abs(screenshot[top:bottom, left:right] - resized).mean() < 12
