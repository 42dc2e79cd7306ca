"""Reports of real runs: the figures they come from, what is refused, the page in a browser."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import grids
from subspect.benchmark.cells import list_cells
from subspect.benchmark.execution import run_grid
from subspect.benchmark.grid import read_grid
from subspect.cli import main
from subspect.evaluation.results import read_results, write_results
from subspect.report.entries import estimate, read_entries
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
    assert main(["report", str(tmp_path / "nowhere"), f"--output={tmp_path / 'new'}"]) == 1
    assert f"no such folder: {tmp_path / 'nowhere'}" in capsys.readouterr().err
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


def test_runs_judged_together_are_reported_like_runs_judged_alone(runs, tmp_path):
    alone = runs / "squares/data/dsr-seed0"
    (results,) = read_results(alone / "evaluation-whole")
    for category in ("bolt", "nut"):
        place = tmp_path / "several" / category
        place.mkdir(parents=True)
        shutil.copy(alone / "run.json", place)
    together = [replace(results, category=category) for category in ("bolt", "nut")]
    write_results(together, tmp_path / "several/evaluation-whole")
    entries = read_entries([tmp_path / "several"])
    assert [(one.folder.name, one.results) for one in entries] == [("bolt", together[0]), ("nut", together[1])]


def test_runs_judged_on_images_elsewhere_are_named(runs, tmp_path, caplog):
    place = tmp_path / "runs/dsr-seed0"
    shutil.copytree(runs / "squares/data/dsr-seed0", place)
    images = place / "evaluation-whole/images.csv"
    root = json.loads((place / "run.json").read_text())["data"]["root"]
    images.write_text(images.read_text().replace(root, "elsewhere"))
    page = write_report([tmp_path / "runs"], tmp_path / "report")
    assert f"no pictures of {place}: it was judged on images elsewhere than in {root} (elsewhere" in caplog.text
    assert "img" not in Addresses(page.read_text()).tags


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
