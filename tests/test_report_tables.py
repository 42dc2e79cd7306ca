"""Tables of reports: figures over seeds and categories, in the paper's shape, compared, marked, written."""

import csv
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from outcomes import results_of
from subspect.detectors.configuration import configure
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.registry import find_preset
from subspect.evaluation.results import ImageRow, Metrics
from subspect.evaluation.statistics import compare
from subspect.report.budget import budget
from subspect.report.cases import telling_images
from subspect.report.comparison import comparisons, run_intervals
from subspect.report.entries import Entry, Estimate, Setting, estimate
from subspect.report.formats import Marks, mean_text, published_text, to_csv, to_latex, to_markdown
from subspect.report.page import category_section, overview
from subspect.report.published import published
from subspect.report.tables import Figure, paper_tables


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


def test_budgets_of_runs_that_do_not_count_leave_no_remark():
    whole = [entry("bolt", 0), entry("nut", 0)]
    found = estimate([*whole, replace(entry("bolt", 1), budget="preset fast")], "pixel_ap")
    assert (found.seeds, found.budgets) == (1, ())
    assert estimate([*whole[:1], replace(whole[1], budget="preset fast")], "pixel_ap").budgets == (
        "preset fast",
    )


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


def test_the_papers_tables_mark_them_too():
    full = [entry(category, seed, dataset="steel") for category in ("a", "b", "c") for seed in (0, 1)]
    ablated = entry("a", 0, dataset="steel", variant="no upsampling")
    found = figures([*full, ablated], 6, "steel")
    assert found["full", "image AUROC"].ours.budgets == ()
    remarks = ("mean of 1 of 3 categories", "1 of 2 seeds")
    assert found["no upsampling", "image AUROC"].ours.budgets == remarks
    seeds = [entry("ksdd2", seed, dataset="ksdd2") for seed in (0, 1)]
    found = figures([*seeds, entry("ksdd2", 0, dataset="ksdd2", method="padim")], 1, "ksdd2")
    assert found["PaDiM", "image AP"].ours.budgets == ("1 of 2 seeds",)
    assert found["DSR", "image AP"].ours.budgets == ()


def test_curves_name_the_seeds_that_they_are_of():
    runs = [entry(seed=0), entry(seed=1), entry(seed=1, method="riad")]
    captions = [
        category_section(chosen, run_intervals(chosen), []).charts[0].caption for chosen in (runs[:2], runs)
    ]
    assert captions == ["Curves of seed 0.", "Curves of dsr seed 0, riad seed 1."]


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
        ("dsr", "fast", ["detection_stage.steps=100000"], "", "dsr: preset fast"),
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
