"""Nothing that training or calibration has seen judges a detector, told by content wherever it lies."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from subspect.datasets.table import Table
from subspect.runs.data import (
    DataOptions,
    digests_held_out,
    digests_not_to_judge,
    held_out_images,
    read_test_table,
)
from subspect.runs.run import RunOptions, train
from subspect.storage import read_description
from tiny import DSR, QUIET, tiny_run, write_data_set, write_latent_model, write_pictures


def provenance_of(data: DataOptions) -> dict[str, object]:
    """What a training on these data records, without the training."""
    table = data.read()
    digests = {"held_out": digests_held_out(table), "not_to_judge": digests_not_to_judge(table)}
    return {"run": {"data": asdict(data)}, **digests}


def contents(samples: Table) -> set[bytes]:
    return {sample.path.read_bytes() for sample in samples}


@pytest.fixture
def grown(tmp_path) -> tuple[Path, dict[str, object], set[bytes]]:
    """A data set whose folder ``good`` alone was trained on: 8 pictures then, 12 more and defects now."""
    root = tmp_path / "data"
    write_pictures(root / "good", 8)
    seen = {path.read_bytes() for path in (root / "good").iterdir()}
    provenance = provenance_of(DataOptions(str(root / "good"), "folder"))
    for path in write_pictures(tmp_path / "new", 12, seed=7):
        path.rename(root / "good" / f"new{path.name}")
    write_pictures(root / "defective", 3, seed=1)
    return root, provenance, seen


def test_a_training_records_what_it_has_seen_and_is_not_judged_by_it(tmp_path, caplog):
    write_pictures(tmp_path / "data/good", 6)
    write_pictures(tmp_path / "data/defective", 2, seed=1)
    weights = write_latent_model(tmp_path / "latent.safetensors")
    train(tiny_run(tmp_path / "data/good", weights, DSR.with_steps(2)), tmp_path / "run", RunOptions(QUIET))
    provenance = read_description(tmp_path / "run/detector")["provenance"]
    assert len(provenance["not_to_judge"]) == 6
    with pytest.raises(ValueError, match="no normal test images that the detector has not seen"):
        read_test_table(provenance, tmp_path / "data")
    assert "1 of 3 test images were used in training or calibration and are left out" in caplog.text


def test_whatever_was_added_since_no_image_seen_is_judged(grown):
    root, provenance, seen = grown
    judged_normals, drew_seen_ones = [], False
    for seed in range(8):
        data = {**provenance["run"]["data"], "seed": seed}
        drawn = DataOptions(str(root), "folder", seed=seed).read().select(split="test")
        drew_seen_ones |= bool(contents(drawn) & seen)
        table = read_test_table({**provenance, "run": {"data": data}}, root)
        judged = table.select(split="test")
        assert contents(judged) == contents(drawn) - seen
        assert contents(table.select(split="unused")) == contents(drawn) & seen
        judged_normals.append(len(judged.select(anomalous=False)))
    assert drew_seen_ones
    assert min(judged_normals) >= 1


def test_images_held_out_are_found_again(tmp_path):
    data = DataOptions(str(write_data_set(tmp_path / "data")), "folder", seed=3, calibration_fraction=0.4)
    table = data.read()
    provenance = provenance_of(data)
    held_out = [sample.path for sample in table.select(split="calibration")]
    assert len(held_out) == 3
    assert held_out_images(provenance) == held_out
    write_pictures(tmp_path / "new", 5, seed=7)
    for path in (tmp_path / "new").iterdir():  # the split would be another one now
        path.rename(tmp_path / "data/normal" / f"new{path.name}")
    assert held_out_images(provenance) == held_out
    held_out[0].write_bytes(next(iter(table.select(split="test"))).path.read_bytes())
    assert held_out_images(provenance) == held_out[1:]  # one is no longer what it was
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert held_out_images(provenance) == held_out_images({}) == []


def test_one_image_leaves_none_for_the_threshold(tmp_path):
    write_pictures(tmp_path / "data", 1)
    with pytest.raises(ValueError, match=r"no image of .*data can be held out to set the threshold"):
        DataOptions(str(tmp_path / "data"), "folder").read()
    assert len(DataOptions(str(tmp_path / "data"), "folder", calibration_fraction=0.0).read()) == 1


def test_a_copy_of_a_training_image_is_left_out_under_any_name(tmp_path, caplog):
    category = tmp_path / "data/nut"
    trained = write_pictures(category / "train/good", 5)
    write_pictures(category / "test/good", 2, seed=1)
    write_pictures(category / "test/dent", 2, seed=2)
    shutil.copy(trained[3], category / "test/good/copy.png")
    provenance = provenance_of(DataOptions(str(tmp_path / "data"), "mvtec_ad", "nut"))
    moved = category.rename(tmp_path / "nut")
    judged = read_test_table(provenance, moved).select(split="test")
    assert sorted(sample.path.relative_to(moved).as_posix() for sample in judged) == [
        "test/dent/00.png", "test/dent/01.png", "test/good/00.png", "test/good/01.png",
    ]  # fmt: skip
    assert "1 of 5 test images" in caplog.text


def test_anomalies_learnt_from_are_not_looked_for_in_other_data(tmp_path):
    mine = write_data_set(tmp_path / "mine", normal=10, defective=4)
    provenance = provenance_of(DataOptions(str(mine), "folder", anomalies=3))
    assert len(read_test_table(provenance, mine).select(split="test", anomalous=True)) == 1
    write_pictures(tmp_path / "other/normal", 10, seed=8)
    write_pictures(tmp_path / "other/defective", 2, seed=9)
    judged = read_test_table(provenance, tmp_path / "other")
    assert len(judged.select(split="test", anomalous=True)) == 2
    assert len(judged.select(split="test", anomalous=False)) == 2


def test_without_defects_there_is_nothing_to_judge_by(tmp_path):
    write_pictures(tmp_path / "data", 5)
    with pytest.raises(ValueError, match="has no normal test images"):
        read_test_table({}, tmp_path / "data", "folder")


def test_an_output_folder_inside_the_data_is_refused_before_work(tmp_path):
    root = write_data_set(tmp_path / "data")
    run = tiny_run(root, write_latent_model(tmp_path / "latent.safetensors"))
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    for output in (root, root / "run", linked / "run"):
        with pytest.raises(ValueError, match=r"--output .* lies inside"):
            train(run, output, RunOptions(QUIET))
    assert sorted(path.name for path in root.iterdir()) == ["defective", "masks", "normal"]
    other = replace(run.data, root=str(tmp_path / "dat"))  # the beginning of a name is not a folder
    with pytest.raises(ValueError, match="no such folder"):
        train(replace(run, data=other), root.with_name("data2"), RunOptions(QUIET))
