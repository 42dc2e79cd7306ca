"""Evaluation of a detector whose maps are known, against scikit-learn over the same pixels."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from brightness import BrightnessDetector
from subspect.datasets.table import Sample, Table
from subspect.evaluation.evaluating import align, evaluate
from subspect.evaluation.results import Metrics, average, read_results, render_categories, write_results

SIZE = (48, 40)


def write_png(path, values):
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def write_sample(root, index, defect, rng, *, masked=True, split="test"):
    """Noise around mid-grey; defects are a brighter square, with or without a mask."""
    values = rng.normal(128, 12, SIZE)
    mask = np.zeros(SIZE)
    if defect != "good":
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 10, left : left + 10] = 255
        values += mask / 255 * (60 if defect == "stain" else 25)
    path = write_png(root / f"{index}.png", np.clip(values, 0, 255))
    masks = (write_png(root / f"{index}_mask.png", mask),) if defect != "good" and masked else ()
    return Sample(path, split, "tile", defect, masks)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("tile"), np.random.default_rng(0)
    kinds = ["good"] * 9 + ["stain"] * 5 + ["dent"] * 6
    samples = [write_sample(root, index, kind, rng, masked=index != 19) for index, kind in enumerate(kinds)]
    return Table((write_sample(root, 99, "good", rng, split="train"), *samples), "folder", root)


def truth(table, kinds):
    """Scores and labels of images and pixels, worked out without the code under test."""
    images, pixels = [], []
    for sample in table.samples[1:]:
        if sample.defect in kinds:
            deviation = np.abs(np.asarray(Image.open(sample.path)).astype(np.float32) / 255 - 0.5)
            images.append((deviation.max(), sample.anomalous))
            if sample.mask_paths or not sample.anomalous:
                mask = np.asarray(Image.open(sample.mask_paths[0])) > 0 if sample.mask_paths else deviation < 0
                pixels.append((deviation.ravel(), mask.ravel()))
    return np.array(images).T, np.concatenate([np.stack(pair) for pair in pixels], axis=1)


def test_metrics_equal_scikit_learn_overall_and_for_each_defect(table):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    groups = {"stain": results.by_defect["stain"], "dent": results.by_defect["dent"]}
    for kinds, metrics in [
        (("good", "stain", "dent"), results.overall),
        *((("good", kind), metrics) for kind, metrics in groups.items()),
    ]:
        (scores, labels), (deviations, defective) = truth(table, kinds)
        assert metrics.image_auroc == pytest.approx(roc_auc_score(labels, scores))
        assert metrics.image_ap == pytest.approx(average_precision_score(labels, scores))
        assert metrics.pixel_auroc == pytest.approx(roc_auc_score(defective, deviations))
        assert metrics.pixel_ap == pytest.approx(average_precision_score(defective, deviations))
    assert set(results.by_defect) == {"stain", "dent"}


def test_counts_and_images_without_a_mask_are_told(table):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    assert results.counts == {"good": 9, "dent": 6, "stain": 5}
    assert results.without_mask == 1
    assert "1 anomalous images have no mask" in results.render()


def test_a_defect_too_small_for_the_map_is_no_truth_except_for_the_paper(table, tmp_path):
    values, mask = np.full((520, 520), 128), np.zeros((520, 520))
    values[0, 0] = mask[0, 0] = 255  # the map's first pixel takes the truth of the second
    masks = (write_png(tmp_path / "mask.png", mask),)
    tiny = Sample(write_png(tmp_path / "tiny.png", values), "test", "tile", "speck", masks)
    detector = BrightnessDetector(image_size=(256, 256))
    with_it = table.with_samples((*table, tiny))
    plain, results = evaluate(detector, table), evaluate(detector, with_it)
    assert (plain.without_mask, results.without_mask) == (1, 2)
    assert results.overall.pixel_ap == plain.overall.pixel_ap
    assert len(results.rows) == len(plain.rows) + 1
    assert len(results.rows) - 1 not in results.pixels.rows
    assert evaluate(detector, with_it, protocol="paper").without_mask == 1


def test_rates_at_the_calibrated_threshold(table):
    detector = BrightnessDetector(image_size=SIZE)
    detector.calibration = replace(detector.calibration, threshold=0.17)
    results = evaluate(detector, table)
    (scores, labels), _ = truth(table, ("good", "stain", "dent"))
    assert results.false_alarm_rate == pytest.approx((scores[labels == 0] > 0.17).mean())
    assert results.detection_rate == pytest.approx((scores[labels == 1] > 0.17).mean())
    assert 0 < results.false_alarm_rate < results.detection_rate <= 1
    assert [row.verdict for row in results.rows] == [
        "anomalous" if score > 0.17 else "normal" for score in scores
    ]


def test_without_a_calibration_there_are_no_verdicts(table):
    results = evaluate(BrightnessDetector(image_size=SIZE, calibrated=False), table)
    assert results.threshold is None
    assert math.isnan(results.false_alarm_rate)
    assert {row.verdict for row in results.rows} == {""}


def test_normal_images_alone_leave_the_metrics_undefined(table):
    normals = table.with_samples(sample for sample in table if not sample.anomalous)
    results = evaluate(BrightnessDetector(image_size=SIZE), normals)
    assert all(value is None for value in results.to_dict()["metrics"].values())
    assert results.by_defect == {}
    assert not math.isnan(results.false_alarm_rate)
    assert "–" in results.render()


def test_the_whole_protocol_takes_the_mask_under_each_pixel():
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :6] = True
    anomaly_map = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    same, small = align(anomaly_map, mask, "whole")
    np.testing.assert_array_equal(same, anomaly_map)
    np.testing.assert_array_equal(small, mask[1::2, 1::2])


def test_the_paper_protocol_crops_and_counts_only_full_pixels():
    mask = np.zeros((512, 512), dtype=bool)
    mask[101:141, 201:240] = True  # odd edges: the outermost pixels of the half-sized mask are half covered
    anomaly_map = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)
    cropped, strict = align(anomaly_map, mask, "paper")
    np.testing.assert_array_equal(cropped, anomaly_map[16:240, 16:240])
    expected = np.zeros((256, 256), dtype=bool)
    expected[51:70, 101:120] = True
    np.testing.assert_array_equal(strict, expected[16:240, 16:240])
    _, inside = align(anomaly_map, np.ones((700, 300), dtype=bool), "paper")
    assert inside.all()


def test_the_paper_protocol_is_named_and_bound_to_its_size(table):
    assert evaluate(BrightnessDetector(image_size=(256, 256)), table, protocol="paper").protocol == "paper"
    with pytest.raises(ValueError, match="256x256"):
        evaluate(BrightnessDetector(image_size=SIZE), table, protocol="paper")


def test_wrong_requests_are_refused_before_any_work(table):
    detector = BrightnessDetector(image_size=SIZE)
    with pytest.raises(ValueError, match="whole, paper"):
        evaluate(detector, table, protocol="papper")
    other = table.with_samples([*table.samples, replace(table.samples[1], category="bottle")])
    with pytest.raises(ValueError, match="bottle, tile"):
        evaluate(detector, other)
    with pytest.raises(ValueError, match="no test images"):
        evaluate(detector, table.select(split="train"))
    assert detector.batches == []


def test_written_results_say_what_was_measured(table, tmp_path):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    results.write(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["categories"][0] == json.loads(json.dumps(results.to_dict()))
    assert content["categories"][0]["protocol"] == "whole"
    assert content["mean"]["pixel_ap"] == results.overall.pixel_ap
    with (tmp_path / "out" / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["defect"], float(row["score"]), row["verdict"]) for row in rows] == [
        (row.path, row.defect, row.score, row.verdict) for row in results.rows
    ]
    with pytest.raises(FileExistsError, match=r"results\.json, images\.csv, pixels\.npz"):
        results.write(tmp_path / "out")


def test_the_mean_counts_each_category_once_and_leaves_out_what_is_undefined(table, tmp_path):
    first = evaluate(BrightnessDetector(image_size=SIZE), table)
    second = replace(first, category="bottle", overall=Metrics(0.5, 0.25, 0.75, math.nan, 1.0, 0.0))
    mean = average([first, second])
    assert mean.image_auroc == pytest.approx((first.overall.image_auroc + 0.5) / 2)
    assert mean.pixel_auroc == first.overall.pixel_auroc
    text = render_categories([first, second])
    assert f"{100 * mean.image_auroc:.1f} %" in text.splitlines()[-2]
    write_results([first, second], tmp_path)
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 1 + 2 * 20


def test_one_folder_takes_one_result_a_category(table, tmp_path):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    with pytest.raises(ValueError, match="several results of tile; a folder holds one"):
        write_results([results, replace(results, category="bottle"), results], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rendered_tables_show_every_metric_of_every_defect(table):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    text = results.render()
    for metrics in (results.overall, *results.by_defect.values()):
        for value in (metrics.image_auroc, metrics.image_f1_max, metrics.pixel_aupro):
            assert f"{100 * value:.1f} %" in text
    assert "stain (5)" in text
    assert "image F1-max" in text
    assert "tile, protocol whole" in text


def test_results_are_read_back_as_they_were(table, tmp_path):
    first = evaluate(BrightnessDetector(image_size=SIZE), table)
    normals = table.with_samples(sample for sample in table if not sample.anomalous)
    in_pairs = normals.with_samples(
        replace(sample, group="block", part=f"pair {(place - 1) // 2}")
        for place, sample in enumerate(normals)  # the first is no test image
    )
    second = replace(evaluate(BrightnessDetector(image_size=SIZE), in_pairs), category="bottle")
    write_results([first, second], tmp_path)
    read = read_results(tmp_path)
    assert read[0] == first
    assert math.isnan(read[1].overall.image_auroc)
    assert read[1].rows == second.rows
    assert [row.part for row in read[1].rows][:3] == ["pair 0", "pair 0", "pair 1"]
    for name in ("rows", "edges", "normal", "defective", "regions"):
        np.testing.assert_array_equal(getattr(read[0].pixels, name), getattr(first.pixels, name))


def test_results_written_before_parts_were_are_read(table, tmp_path):
    in_groups = table.with_samples(replace(sample, group="roll") for sample in table)
    results = evaluate(BrightnessDetector(image_size=SIZE), in_groups)
    assert {row.part for row in results.rows} == {"roll"}
    results.write(tmp_path)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["category", "path", "defect", "score", "verdict"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (read,) = read_results(tmp_path)
    assert read.rows == tuple(replace(row, part="") for row in results.rows)


def test_each_counted_image_is_the_one_of_its_row(table):
    results = evaluate(BrightnessDetector(image_size=SIZE), table)
    assert sorted(results.pixels.rows) == [row for row in range(20) if row != 19]  # that one has no mask
    for place, row in enumerate(results.pixels.rows):
        sample = table.samples[1:][row]
        size = np.asarray(Image.open(sample.mask_paths[0])).astype(bool).sum() if sample.mask_paths else 0
        assert results.pixels.defective[place].sum() == size


def test_damaged_results_are_named(table, tmp_path):
    evaluate(BrightnessDetector(image_size=SIZE), table).write(tmp_path / "out")
    (tmp_path / "out/pixels.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"out holds no results that can be read.*evaluate again"):
        read_results(tmp_path / "out")
