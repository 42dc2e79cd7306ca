"""The commands from end to end, their exit codes, and what the command line itself decides."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import subspect
from commands import RUN, assert_fails, said
from subspect.cli import main
from subspect.detectors.configuration import configure, to_yaml
from subspect.detectors.dsr.config import PRESETS
from subspect.storage import load_detector, read_description
from terminated import terminated
from tiny import DSR, write_backbone, write_data_set, write_latent_model, write_pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Data, a latent model, a configuration, and a detector trained by the command."""
    folder = tmp_path_factory.mktemp("cli")
    write_data_set(folder / "data", normal=12, defective=3)
    write_latent_model(folder / "latent.safetensors")
    (folder / "tiny.yaml").write_text(to_yaml(DSR))
    assert main(train_words(folder, "run")) == 0
    return folder


def train_words(place: Path, output: str, *more: str) -> list[str]:
    files = {"config": "tiny.yaml", "weights": "latent.safetensors", "output": output}
    options = [f"--{name}={place / file}" for name, file in files.items()]
    return ["train", str(place / "data"), *options, "--steps", "2", *RUN, *more]


def test_train_writes_a_detector_and_says_so(place):
    assert {path.name for path in (place / "run").iterdir()} == {
        ".lock", "run.json", "conditions.json", "split.csv", "logs", "previews", "checkpoints", "detector",
    }  # fmt: skip
    detector = load_detector(place / "run/detector")
    assert (detector.config.detection_stage.steps, detector.config.upsampling_stage.steps) == (1, 1)
    assert detector.config.detection_width == 4
    # A fifth of 12 normal ones is tested on; a fifth of the 10 left is held out, 1 / (2 + 1) supported.
    assert len(detector.calibration.scores) == 2
    data = read_description(place / "run/detector")["provenance"]["run"]["data"]
    assert data == {
        "root": str(place / "data"),
        "layout": "folder",
        "category": None,
        "seed": 0,
        "calibration_fraction": 0.2,
        "anomalies": 0,
    }


def test_train_again_is_refused_and_overwrites_nothing(place, capsys):
    before = (place / "run/detector/weights.safetensors").read_bytes()
    assert_fails(train_words(place, "run"), capsys, "detector exists already")
    assert_fails(train_words(place, "run", "--resume"), capsys, "detector exists already")
    assert (place / "run/detector/weights.safetensors").read_bytes() == before


def test_the_same_words_give_the_same_detector_and_another_seed_another(place, tmp_path, capsys):
    words = train_words(place, "run", "--set", "simulation.nearest_share=0.05")
    outputs = {name: [*words, f"--output={tmp_path / name}", *more] for name, more in (
        ("same", []), ("other", ["--seed", "1"]))}  # fmt: skip
    first = load_file(place / "run/detector/weights.safetensors")
    for name, repeated in outputs.items():
        code, out, _ = said(repeated, capsys)
        assert code == 0
        assert "threshold" in out
        assert f"written: {tmp_path / name / 'detector'}" in out
        weights = load_file(tmp_path / name / "detector/weights.safetensors")
        assert all(torch.equal(weights[key], first[key]) for key in first) == (name == "same")


def test_options_of_train_reach_the_run(place, tmp_path):
    options = ["--image-size=64x96", "--anomalies=2", "--calibration-fraction=0.5", "--false-alarm-rate=0.25"]
    words = [*train_words(place, "run", *options), f"--output={tmp_path / 'run'}", "--set", "refine=false"]
    assert main([*words, "--set=detection_stage.batch_size=3"]) == 0
    detector = load_detector(tmp_path / "run/detector")
    assert detector.config.image_size == (64, 96)
    assert not detector.config.refine
    assert detector.config.detection_stage.batch_size == 3
    assert len(detector.calibration.scores) == 5
    assert detector.calibration.false_alarm_rate == 0.25
    data = read_description(tmp_path / "run/detector")["provenance"]["run"]["data"]
    assert data["anomalies"] == 2


def test_a_terminated_training_says_how_to_continue(place, tmp_path, capsys):
    with terminated():
        code, _, err = said(
            [*train_words(place, "run", "--steps=5000"), f"--output={tmp_path / 'run'}"], capsys
        )
    assert code == 143
    assert err.endswith("subspect train: stopped; the same command with --resume continues it\n")
    assert (tmp_path / "run/run.json").exists()
    assert not (tmp_path / "run/detector").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--layout=sorted"], ["no layout 'sorted'", "mvtec_ad"]),
        (["--method=unheard-of"], ["no method 'unheard-of'", "dsr"]),
        (["--preset=slow"], ["no preset 'slow'", "paper, fast"]),
        (["--set=refine"], ["FIELD=VALUE", "refine"]),
        (["--set=unheard_of=1"], ["unheard_of"]),
        (["--image-size=large"], ["an image size is S or HxW", "'large'"]),
        (["--image-size=32"], ["at least 64x64", "32x32"]),
        (["--steps=0"], ["at least one step"]),
        (["--false-alarm-rate=0.001"], ["needs 999 normal images", "2 are held out"]),
        (["--calibration-fraction=1"], ["calibration fraction", "got 1"]),
        (["--anomalies=9"], ["9 annotated anomalous images", "has 3"]),
        (["--weights=missing.safetensors"], ["no file or folder missing.safetensors"]),
        (["--weights=runs/latent.safetensors"], ["no file or folder runs/latent.safetensors"]),
        (["--resume"], ["nothing to resume"]),
        (["--accelerator=abacus"], ["this machine cannot train with accelerator abacus"]),
        (["--precision=7-true"], ["7-true"]),
        (["--devices=0"], ["at least one device", "devices 0"]),
        (["--devices=3"], ["batch size of detection", "does not divide among 3 devices"]),
    ],
)
def test_what_train_cannot_do_is_one_line(place, tmp_path, capsys, words, parts):
    assert_fails([*train_words(place, "new"), f"--output={tmp_path / 'new'}", *words], capsys, *parts)
    assert not (tmp_path / "new").exists()


def test_evaluate_judges_the_test_split(place, tmp_path, capsys):
    words = ["evaluate", str(place / "run"), str(place / "data")]
    code, out, _ = said([*words, "--output", str(tmp_path / "new")], capsys)
    assert code == 0
    assert "image AUROC" in out
    results = json.loads((tmp_path / "new/results.json").read_text())
    assert [one["protocol"] for one in results["categories"]] == ["whole"]
    rows = (tmp_path / "new/images.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 + 3
    assert said(words, capsys)[0] == 0
    assert (place / "run/evaluation-whole/results.json").is_file()


def test_evaluate_refuses_a_folder_that_exists_before_it_works(place, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    words = ["evaluate", str(place / "run"), str(place / "no data"), f"--output={tmp_path}"]
    assert_fails(words, capsys, f"{tmp_path} exists and is not overwritten")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nowhere", "data"], ["nowhere is no detector"]),
        (["run", "nowhere"], ["nowhere: no such folder"]),
        (["run", "data", "--protocol=strict"], ["strict"]),
        (["run", "data", "--device=abacus"], ["abacus"]),
    ],
)
def test_what_evaluate_cannot_do_is_one_line(place, tmp_path, capsys, monkeypatch, words, parts):
    monkeypatch.chdir(place)
    assert_fails(["evaluate", *words, f"--output={tmp_path / 'out'}"], capsys, *parts)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def products(tmp_path_factory) -> Path:
    """Two categories in layout ``mvtec_ad``, a detector of each trained by one command."""
    folder = tmp_path_factory.mktemp("products")
    write_latent_model(folder / "latent.safetensors")
    (folder / "tiny.yaml").write_text(to_yaml(DSR))
    for number, category in enumerate(("bolt", "nut")):
        for index, (kind, count) in enumerate((("train/good", 6), ("test/good", 3), ("test/dent", 3 + number))):
            write_pictures(folder / "data" / category / kind, count, seed=10 * number + index)
    assert main([*train_words(folder, "runs"), "--layout=mvtec_ad"]) == 0
    return folder


def test_several_categories_are_trained_into_folders_of_their_own(products, tmp_path, capsys):
    weights = {
        category: products / "runs" / category / "detector/weights.safetensors" for category in ("bolt", "nut")
    }
    for category, path in weights.items():
        data = read_description(path.parent)["provenance"]["run"]["data"]
        assert (data["category"], data["layout"]) == (category, "mvtec_ad")
    words = [*train_words(products, "runs"), "--layout=mvtec_ad"]
    assert_fails(words, capsys, "detector exists already")
    before = {category: (path.stat().st_mtime_ns, load_file(path)) for category, path in weights.items()}
    weights["nut"].parent.rename(tmp_path / "nut")
    assert_fails([*words, "--resume", "--seed=7"], capsys, "runs/bolt holds another run", "seed was 0, now 7")
    code, out, _ = said([*words, "--resume"], capsys)
    assert code == 0
    assert "bolt is finished" in out
    assert "nut is finished" not in out
    assert weights["bolt"].stat().st_mtime_ns == before["bolt"][0]
    again = load_file(weights["nut"])
    assert all(torch.equal(again[name], tensor) for name, tensor in before["nut"][1].items())


def test_several_categories_are_evaluated_together(products, capsys):
    code, out, _ = said(["evaluate", str(products / "runs"), str(products / "data")], capsys)
    assert code == 0
    assert "mean" in out
    folder = products / "runs/evaluation-whole"
    results = json.loads((folder / "results.json").read_text())
    assert [one["category"] for one in results["categories"]] == ["bolt", "nut"]
    assert [sum(one["counts"].values()) for one in results["categories"]] == [6, 7]
    values = [one["metrics"]["image_auroc"] for one in results["categories"]]
    assert results["mean"]["image_auroc"] == pytest.approx((values[0] + values[1]) / 2)
    assert len((folder / "images.csv").read_text().splitlines()) == 1 + 6 + 7


def test_inspect_goes_on_after_a_broken_file(place, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    write_pictures(pictures, 2, size=(80, 70))
    (pictures / "broken.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    words = ["inspect", str(place / "run"), str(pictures), "--output", str(output), "--raw-maps"]
    code, out, _ = said(words, capsys)
    assert code == 2
    assert "1 could not be inspected" in out
    rows = {Path(row["path"]).name: row for row in map(json.loads, (output / "results.jsonl").open())}
    assert rows.keys() == {"00.png", "01.png", "broken.png"}
    assert "broken.png" in rows["broken.png"]["error"]
    inspector = subspect.load(place / "run")
    for name in ("00.png", "01.png"):
        expected = inspector(pictures / name)
        assert rows[name]["score"] == expected.score
        assert rows[name]["verdict"] == expected.verdict
        assert rows[name]["threshold"] == inspector.detector.calibration.threshold
        np.testing.assert_array_equal(np.load(output / rows[name]["map"]), expected.anomaly_map)
        assert Image.open(output / rows[name]["picture"]).width >= 2 * 70
    assert_fails(words, capsys, "already holds results.jsonl")


def test_inspect_takes_lists_of_files(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures", 3)
    write_pictures(tmp_path / "more ones", 2)
    (tmp_path / "list.txt").write_text("pictures/02.png\n\nmore ones\npictures/00.png\n")
    words = ["inspect", str(place / "run"), "list.txt", "pictures/01.png", "--output"]
    assert said([*words, "out"], capsys)[0] == 0
    rows = [json.loads(line)["path"] for line in (tmp_path / "out/results.jsonl").open()]
    assert rows == [
        "pictures/02.png", "more ones/00.png", "more ones/01.png", "pictures/00.png", "pictures/01.png"
    ]  # fmt: skip
    (tmp_path / "list.txt").write_text("pictures/02.png\ngone.png\n")
    assert_fails([*words, "other"], capsys, "no such file or folder: gone.png")
    (tmp_path / "list.txt").unlink()
    assert_fails([*words, "other"], capsys, "list.txt")
    assert not (tmp_path / "other").exists()


def test_inspect_takes_other_thresholds(place, tmp_path, capsys):
    picture = place / "data/normal/00.png"
    for name, option, verdict in (("a", "--threshold=-1", "anomalous"), ("b", "--threshold=2", "normal")):
        words = ["inspect", str(place / "run/detector"), str(picture), f"--output={tmp_path / name}", option]
        assert said(words, capsys)[0] == 0
        row = json.loads((tmp_path / name / "results.jsonl").read_text())
        assert (row["verdict"], row["threshold"]) == (verdict, float(option.partition("=")[2]))
    words = [
        "inspect",
        str(place / "run"),
        str(picture),
        f"--output={tmp_path / 'c'}",
        "--false-alarm-rate=0.5",
    ]
    assert said(words, capsys)[0] == 0
    calibration = load_detector(place / "run/detector").calibration
    row = json.loads((tmp_path / "c/results.jsonl").read_text())
    assert row["threshold"] == calibration.with_rate(0.5).threshold


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "nowhere.png", "gone"], ["no such file or folder: nowhere.png, gone"]),
        (["run", "empty"], ["no image files"]),
        (["run", "data", "--false-alarm-rate=0.01"], ["cannot be had from 2", "0.3333"]),
        (["run", "data", "--false-alarm-rate=0.5", "--threshold=1"], ["exclude each other"]),
        (["run", "data", "--device=abacus"], ["abacus"]),
        (["run", "data", "--executor=abacus"], ["no executor 'abacus'; there are: local, ray"]),
    ],
)
def test_what_inspect_cannot_do_is_one_line(place, tmp_path, capsys, monkeypatch, words, parts):
    monkeypatch.chdir(place)
    (place / "empty").mkdir(exist_ok=True)
    assert_fails(["inspect", *words, f"--output={tmp_path / 'out'}"], capsys, *parts)


def test_check_says_whether_training_would_start(place, tmp_path, capsys):
    code, out, _ = said(["check", str(place / "data")], capsys)
    assert code == 0
    assert "defective" in out
    write_data_set(tmp_path / "data", normal=3, defective=1)
    (tmp_path / "data/normal/broken.png").write_bytes(b"no picture")
    code, out, _ = said(["check", str(tmp_path / "data")], capsys)
    assert code == 1
    assert "broken.png" in out
    assert_fails(["check", str(tmp_path / "nowhere")], capsys, "nowhere: no such folder")


def test_surfaces_are_data_that_check_and_train_take(tmp_path, capsys):
    root = tmp_path / "surfaces"
    assert said(["surfaces", str(root), "--only", "metal", "--size", "64"], capsys)[0] == 0
    assert [path.name for path in root.iterdir() if path.is_dir()] == ["metal"]
    assert Image.open(next((root / "metal/train/good").iterdir())).size == (64, 64)
    assert said(["check", str(root), "--layout", "mvtec_ad"], capsys)[0] == 0
    assert_fails(["surfaces", str(root), "--only", "metal", "--size", "64"], capsys, "surfaces")
    assert_fails(["surfaces", str(tmp_path / "new"), "--only", "cheese"], capsys, "cheese", "metal")


def test_pretrain_gives_weights_that_train_takes(place, tmp_path, capsys):
    output, backbone = tmp_path / "pre", write_backbone(tmp_path / "resnet18.safetensors", "resnet18.tv_in1k")
    words = ["pretrain", str(place / "data/normal"), "--output", str(output), f"--weights={backbone}"]
    words += ["--steps=2", "--set=stage.batch_size=2"]
    code, out, _ = said([*words, "--set=crop_size=32", *RUN], capsys)
    assert code == 0
    assert "psnr" in out
    train = ["train", str(place / "data"), f"--weights={output / 'latent.safetensors'}", "--steps=2", *RUN]
    small = ["--image-size=64", "--set=detection_stage.batch_size=1", "--set=upsampling_stage.batch_size=1"]
    assert main([*train, f"--output={tmp_path / 'run'}", *small]) == 0
    report = json.loads((output / "report.json").read_text())
    provenance = read_description(tmp_path / "run/detector")["provenance"]
    assert provenance["latent_model"]["report"] == report
    assert_fails([*words, *RUN], capsys, "latent.safetensors exists already")
    for option, part in (("--steps=0", "at least one step"), ("--set=crop_size=100", "multiple of 8")):
        assert_fails([*words, option], capsys, part)


def test_config_prints_what_config_reads(tmp_path, capsys):
    code, out, _ = said(
        ["config", "--preset=paper", "--set=simulation.nearest_share=0.25", "--set=refine=false"], capsys
    )
    assert code == 0
    (tmp_path / "c.yaml").write_text(out)
    expected = configure(PRESETS["paper"], settings=["simulation.nearest_share=0.25", "refine=false"])
    assert expected.simulation.nearest_share == 0.25
    assert configure(PRESETS["fast"], tmp_path / "c.yaml") == expected
    assert said(["config", f"--config={tmp_path / 'c.yaml'}"], capsys)[1] == out


def test_python_takes_what_the_commands_made(place, tmp_path):
    inspector = subspect.load(str(place / "run"), threshold=0.75)
    assert inspector.threshold == 0.75
    by_path = inspector(place / "data/defective/00.png")
    by_array = inspector(np.array(Image.open(place / "data/defective/00.png")))
    np.testing.assert_array_equal(by_path.anomaly_map, by_array.anomaly_map)
    with pytest.raises(ValueError, match=f"{tmp_path} is no detector"):
        subspect.load(tmp_path)
    with pytest.raises(ValueError, match="no device 'nowhere' on this machine"):
        subspect.evaluate(place / "run", place / "data", device="nowhere")


def test_an_output_inside_the_data_is_one_line(place, capsys):
    output = place / "data/run"
    assert_fails([*train_words(place, "run"), f"--output={output}"], capsys, f"--output {output} lies inside")
    assert not output.exists()


def test_a_text_file_is_no_checkpoint(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no checkpoint\n")
    modules = ("latent-model", "low-subspace", "high-subspace", "object-decoder", "detection", "upsampling")
    options = [f"--{module}={tmp_path / 'notes.txt'}" for module in modules]
    said_of = f"{tmp_path / 'notes.txt'} does not hold the reference's latent_model"
    assert_fails(["import-dsr", *options, f"--output={tmp_path / 'out'}"], capsys, said_of)
    assert not (tmp_path / "out").exists()


def test_what_pretrain_cannot_crop_is_one_line(tmp_path, capsys):
    folders = [str(tmp_path / name) for name in ("elsewhere", "pictures")]
    words = ["pretrain", *folders, "--preset=paper", f"--output={tmp_path / 'out'}", "--steps=2", *RUN]
    write_pictures(tmp_path / "elsewhere", 3)
    assert_fails(words, capsys, f"no such folder: {tmp_path / 'pictures'}")
    write_pictures(tmp_path / "pictures", 3)
    Image.new("RGB", (64, 1)).save(tmp_path / "pictures/line.png")
    code, out, err = said(words, capsys)
    assert (code, out) == (1, "")
    assert f"{tmp_path / 'pictures/line.png'}: 1x64 pixels, too small to crop" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
