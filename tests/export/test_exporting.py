"""Exporting as a whole: what is written, refused, does not fit; on a detector that can be foreseen."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch

from brightness import BrightnessDetector
from subspect.calibration import calibrate
from subspect.cli import main
from subspect.export import exporting
from subspect.export.checking import Comparison
from subspect.export.combinations import TOLERANCES, ExportOptions, Tolerance, existing
from subspect.export.exporting import export_detector
from subspect.export.graph import InspectionGraph, trace
from subspect.export.pictures import choose_pictures
from subspect.files import content_digest
from subspect.inspection.inspecting import DetectorError, Inspection
from subspect.inspection.prediction import DetectorInspector
from subspect.loading import load
from subspect.runs.data import DataOptions
from subspect.serving.description import ExportError
from subspect.serving.engines import float32_at_most
from tiny import write_data_set, write_pictures


def with_spot(level, size=(32, 32)):
    picture = np.full(size, 0.5, np.float32)
    picture[4:8, 10:20] = level
    return picture


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brightness") / "export"
    export_detector(BrightnessDetector(), {"made": "here"}, folder, ExportOptions())
    return folder


@pytest.fixture
def damaged(exported, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(exported, tmp_path / "damaged")


def rewrite(folder, **changes):
    path = folder / "export.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_defect_is_scored_judged_and_located(exported):
    inspection = load(exported)(with_spot(1.0))
    assert inspection.score == 0.5
    assert inspection.threshold == pytest.approx(0.099)
    assert inspection.anomalous
    assert [(region.box, region.area) for region in inspection.regions] == [((10, 4, 20, 8), 40)]
    expected = np.zeros((32, 32), np.float32)
    expected[4:8, 10:20] = 0.5
    np.testing.assert_array_equal(inspection.anomaly_map, expected)


def test_large_pictures_are_reduced_with_averaging_and_maps_enlarged(exported):
    picture = np.full((96, 64), 0.5, np.float32)
    picture[48:] = 1.0
    picture[48:, ::2] = 0.0  # averages to 0.5 with its neighbours
    inspection = load(exported)(picture)
    assert inspection.anomaly_map.shape == (96, 64)
    # But in the first column, where the triangle 1, 3, 3, 1 loses an end: (3 · 0 + 3 · 1 + 1 · 0) / 7 is left.
    assert inspection.score == pytest.approx(0.5 - 3 / 7, abs=1e-6)


def test_the_report_stands_beside_it(exported):
    report = json.loads((exported / "check.json").read_text())
    assert report["pictures"] == 6
    assert report["origin"] == "built-in surfaces"
    assert report["map_difference"]["maximum"] < 1e-6 < report["map_difference"]["relative_to"]
    assert report["verdicts_changed"] == []
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0]
    description = json.loads((exported / "export.json").read_text())
    assert description["detector"]["provenance"] == {"made": "here"}
    assert description["image_size"] == [32, 32]
    assert sorted(path.name for path in exported.iterdir()) == ["check.json", "export.json", "model.onnx"]


def test_thresholds_can_be_changed_afterwards(exported):
    picture = with_spot(0.55)  # score 0.05; the calibration has 0, 0.001, … 0.099
    assert not load(exported)(picture).anomalous
    assert load(exported, threshold=0.04)(picture).anomalous
    half = load(exported, false_alarm_rate=0.5)
    assert half.threshold == pytest.approx(0.050, abs=1e-3)
    assert load(exported, false_alarm_rate=0.6)(picture).anomalous
    with pytest.raises(ValueError, match="smallest rate they support"):
        load(exported, false_alarm_rate=0.001)
    with pytest.raises(ValueError, match="exclude each other"):
        load(exported, threshold=0.1, false_alarm_rate=0.5)


def test_without_a_calibration_a_threshold_is_needed(tmp_path):
    export_detector(
        BrightnessDetector(calibrated=False), {}, tmp_path / "export", ExportOptions(format="torch")
    )
    with pytest.raises(ValueError, match="no calibration"):
        load(tmp_path / "export")
    assert load(tmp_path / "export", threshold=0.2)(with_spot(1.0)).regions[0].area == 40
    with pytest.raises(ValueError, match="needs a calibrated detector"):
        load(tmp_path / "export", false_alarm_rate=0.1)


def test_a_fixed_size_is_kept_to(tmp_path):
    images = tuple(write_pictures(tmp_path / "pictures", 2, (40, 56)))
    options = ExportOptions(picture_size=(40, 56), images=images)
    export_detector(BrightnessDetector(), {}, tmp_path / "export", options)
    inspector = load(tmp_path / "export")
    assert len(inspector([with_spot(1.0, (40, 56))] * 3)) == 3
    with pytest.raises(DetectorError, match=r"56x40 pixels \(height x width\).* exported for 40x56 only"):
        inspector(with_spot(1.0, (56, 40)))
    with pytest.raises(ValueError, match=r"00\.png has 40x56 pixels, but the export is to take 64x64 only"):
        export_detector(
            BrightnessDetector(), {}, tmp_path / "other", ExportOptions(picture_size=(64, 64), images=images)
        )
    assert not (tmp_path / "other").exists()


def test_nothing_is_resized_where_pictures_have_the_detectors_size():
    def resizings(picture_size):
        program = trace(InspectionGraph(BrightnessDetector().eval(), None, picture_size))
        names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        return [name for name in names if "index_select" in name or "upsample" in name]

    detector = BrightnessDetector().eval()
    pixels = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    maps, scores, _ = trace(InspectionGraph(detector, None, (32, 32))).module()(pixels, torch.tensor(0.5))
    expected = detector(pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close((maps, scores), (expected.anomaly_map[:, 0], expected.score), rtol=0, atol=0)
    assert resizings((32, 32)) == []
    for picture_size in (None, (32, 40)):
        assert len(resizings(picture_size)) == 3  # rows, columns; the map back


def test_combinations_that_do_not_exist_name_those_that_do():
    for format_, precision, why in (
        ("onnx", "bfloat16", "no bfloat16 convolution"),
        ("torch", "int8", "only simulates"),
        ("tflite", "float32", "there are"),
        ("onnx", "float64", "there are"),
    ):
        with pytest.raises(ValueError, match=rf"no {format_} export in {precision}.*{why}.*") as refused:
            ExportOptions(format_, precision)
        assert "onnx in float32, float16, int8; openvino in float32" in str(refused.value)
    with pytest.raises(ValueError, match="--normal-images"):
        ExportOptions("onnx", "int8")
    assert len(existing()) == 10


def test_damage_is_found(damaged):
    model = damaged / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx is damaged: its SHA-256"):
        load(damaged)
    model.unlink()
    with pytest.raises(ExportError, match=r"model\.onnx is missing"):
        load(damaged)
    (damaged / "export.json").write_text("{")
    with pytest.raises(ExportError, match=r"export\.json is missing or damaged"):
        load(damaged)


def test_what_a_newer_version_wrote_is_refused(damaged):
    rewrite(damaged, format_version=2)
    with pytest.raises(ExportError, match="format version 2, and this version of subspect reads up to 1"):
        load(damaged)


@pytest.mark.parametrize(
    "changes", [{"precision": "int3"}, {"files": {}}, {"image_size": None}, {"calibration": {}}]
)
def test_descriptions_that_make_no_sense_are_refused(damaged, changes):
    rewrite(damaged, **changes)
    with pytest.raises(ExportError, match=r"export\.json is damaged"):
        load(damaged)


def test_devices_that_are_not_there_are_named(exported):
    with pytest.raises(ExportError, match=r"no device 'abacus' here; there are: cpu"):
        load(exported, device="abacus")


def test_nothing_is_overwritten(exported):
    before = (exported / "model.onnx").read_bytes()
    with pytest.raises(FileExistsError, match="not overwritten"):
        export_detector(BrightnessDetector(), {}, exported, ExportOptions())
    assert (exported / "model.onnx").read_bytes() == before


def test_an_export_that_is_not_the_detector_is_an_error_and_leaves_nothing(tmp_path):
    class Changing(BrightnessDetector):
        def forward(self, images):
            found = super().forward(images)
            return found._replace(score=found.score + 0.1) if torch.compiler.is_exporting() else found

    with pytest.raises(ExportError, match=r"largest difference of a score is 0\.1"):
        export_detector(Changing(), {}, tmp_path / "export", ExportOptions(format="torch"))
    assert list(tmp_path.iterdir()) == []


def test_what_exporters_cannot_write_is_one_error(tmp_path):
    class Deciding(BrightnessDetector):
        def forward(self, images):
            return super().forward(images * 2 if images.sum() > 0 else images)

    message = r"brightness cannot be exported as torch in float32: .+ \(there are exports as onnx in float32"
    with pytest.raises(ExportError, match=message) as refused:
        export_detector(Deciding(), {}, tmp_path / "export", ExportOptions(format="torch"))
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None
    assert list(tmp_path.iterdir()) == []


def test_libraries_that_are_missing_are_named_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "openvino" else name)
    normal = (tmp_path / "never read.png",)
    options = ExportOptions("onnx", "int8", normal_images=normal)
    with pytest.raises(ExportError, match=r"a onnx export in int8 takes openvino, not installed here"):
        export_detector(BrightnessDetector(), {}, tmp_path / "out", options)


def test_the_option_that_gave_a_picture_of_the_wrong_size_is_named(tmp_path):
    normal = tuple(write_pictures(tmp_path / "normal", 1, (32, 32)))
    options = ExportOptions("onnx", "int8", (64, 64), normal_images=normal)
    with pytest.raises(ValueError, match=r"00\.png has 32x32 pixels.* or give --normal-images of that size"):
        export_detector(BrightnessDetector(), {}, tmp_path / "out", options)


def test_what_is_too_large_for_int8_is_refused_before_work(tmp_path):
    normal = tuple(write_pictures(tmp_path / "normal", 1, (32, 32)))
    detector = BrightnessDetector()
    detector.register_buffer("large", torch.zeros(1).expand(2**29))  # 2 GB in name, 4 bytes in memory
    message = r"as onnx in int8: its weights take 2\.1 GB, and NNCF needs .* holds 2\.1 GB at most \(there are"
    with pytest.raises(ExportError, match=message):
        export_detector(detector, {}, tmp_path / "export", ExportOptions("onnx", "int8", normal_images=normal))


def test_the_check_looks_for_images_of_the_detectors_own(tmp_path, caplog):
    data = DataOptions(str(write_data_set(tmp_path / "data", normal=12)), "folder")
    held_out = [sample.path for sample in data.read().select(split="calibration")]
    provenance = {"run": {"data": asdict(data)}, "held_out": [content_digest(path) for path in held_out]}
    normal = tuple(write_pictures(tmp_path / "normal", 3, (40, 56), seed=5))

    def chosen(provenance, size=None, **options):
        return choose_pictures(ExportOptions(**options), provenance, size)

    assert [name for name, _ in chosen(provenance)] == [str(path) for path in held_out]
    assert chosen(provenance, normal_images=normal).origin == "2 held-out images of the detector's run"
    assert chosen(provenance, (40, 56), normal_images=normal).paths == normal  # the others are 64x64
    assert chosen(provenance, images=normal).origin == "3 files given"
    assert "--images" not in caplog.text
    assert chosen(provenance, (40, 56)).origin == "built-in surfaces"
    assert "held out were found of 40x56 pixels" in caplog.text
    assert "--images" in caplog.text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--images", "--images: no image files in {}"),
        ("--normal-images", "{}: no images found as layout folder"),
    ],
)
def test_a_folder_without_images_is_an_error(tmp_path, capsys, option, message):
    (tmp_path / "empty").mkdir()
    words = ["export", str(tmp_path / "run"), option, str(tmp_path / "empty"), f"--output={tmp_path / 'out'}"]
    assert main(words) == 1
    assert message.format(tmp_path / "empty") in capsys.readouterr().err


def test_verdicts_of_the_graph_that_deny_its_scores_are_an_error(tmp_path, monkeypatch):
    forward = InspectionGraph.forward

    def contradicting(self, pixels, threshold):
        maps, scores, anomalous = forward(self, pixels, threshold)
        return maps, scores, ~anomalous

    monkeypatch.setattr(InspectionGraph, "forward", contradicting)
    with pytest.raises(ExportError, match="6 verdicts of the graph are not what its scores say"):
        export_detector(BrightnessDetector(), {}, tmp_path / "export", ExportOptions(format="torch"))


def test_verdicts_that_change_are_warned_of(tmp_path, caplog):
    class Brighter(BrightnessDetector):
        def forward(self, images):
            found = super().forward(images)
            return found._replace(score=found.score + 1e-4) if torch.compiler.is_exporting() else found

    paths = write_pictures(tmp_path / "pictures", 2, (32, 32))
    detector = Brighter()
    scores = [inspection.score for inspection in DetectorInspector(detector)(list(paths))]
    detector.calibration = calibrate([max(scores) + 5e-5] * 3, [np.zeros(9, np.float32)], 0.5)
    export_detector(detector, {}, tmp_path / "export", ExportOptions("torch", images=tuple(paths)))
    name = str(paths[int(np.argmax(scores))])
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "1 of 2 verdicts changed" in warning
    assert f"{name} ({max(scores):.4g}, {max(scores) + 1e-4:.4g})" in warning
    (changed,) = json.loads((tmp_path / "export/check.json").read_text())["verdicts_changed"]
    assert changed == {"name": name, "score": max(scores), "export_score": pytest.approx(max(scores) + 1e-4)}


def test_unreadable_pictures_are_found_before_any_work(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.png"):
        export_detector(
            BrightnessDetector(), {}, tmp_path / "export", ExportOptions(images=(tmp_path / "broken.png",))
        )


def test_differences_are_gathered_over_pictures():
    def inspection(level, score):
        return Inspection(np.full((4, 4), level, np.float32), score, score > 0.5, 0.5, ())

    found = Comparison()
    found.add("one", inspection(1.0, 0.75), inspection(1.25, 0.75))
    found.add("two", inspection(2.0, 0.625), inspection(2.0, 0.375))
    assert found == Comparison(2, 2.0, 0.25, 0.125, 0.75, [0.0, 0.25], [("two", 0.625, 0.375)])
    assert len(found.violations(TOLERANCES["float32"])) == 3
    assert found.violations(Tolerance(mean_map=0.0625, score=0.34, any_score=0.34)) == []


@pytest.mark.parametrize(("pictures", "refused"), [(10, True), (11, False), (19, False)])
def test_one_score_in_ten_may_hang_on_a_code_as_near_as_another(pictures, refused):
    nothing, bounds = np.zeros((4, 4), np.float32), Tolerance(0.1, 0.002, 0.02)
    found = Comparison()
    for number in range(pictures):
        other = 0.5 + (0.009 if number == 3 else 1e-6)
        found.add(
            str(number), Inspection(nothing, 0.5, True, 0.4, ()), Inspection(nothing, other, True, 0.4, ())
        )
    assert found.score_maximum == pytest.approx(0.009)
    assert bool(found.violations(bounds)) is refused
    (*_, message) = found.violations(bounds._replace(any_score=0.017))
    assert message == "the largest difference of a score is 0.009, more than 0.017 of 0.5"
    found.score_differences[:2] = [0.009, 0.009]
    (message,) = found.violations(bounds)
    assert message == "the difference that nine in ten scores keep within is 0.009, more than 0.002 of 0.5"


def test_the_image_that_became_the_threshold_has_no_verdict_to_lose():
    nothing = np.zeros((4, 4), np.float32)
    found = Comparison()
    for score, other in ((0.5, 0.5000001), (0.4999999, 0.6), (0.499, 0.501)):
        found.add(
            str(score), Inspection(nothing, score, False, 0.5, ()), Inspection(nothing, other, True, 0.5, ())
        )
    assert [one.name for one in found.changed] == ["0.499"]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 1 / 3, 0.5, 1e-300, 7.0, -0.1])
def test_thresholds_are_rounded_down_to_what_the_graph_compares_with(threshold):
    rounded = float32_at_most(threshold)
    assert float(rounded) <= threshold < float(np.nextafter(rounded, np.float32(np.inf)))
