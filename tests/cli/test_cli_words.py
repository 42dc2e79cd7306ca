"""The command line before any work: sizes, wrong words, what is imported, how a failure ends."""

import os
import subprocess
import sys

import pytest

from subspect.cli import main
from subspect.cli.values import image_size, picture_files
from subspect.datasets.pictures import normal_pictures_in, pictures_in
from subspect.datasets.reading import LayoutError
from tiny import write_data_set, write_pictures


@pytest.mark.parametrize(
    ("text", "size"), [("256", (256, 256)), ("640x232", (640, 232)), ("640X232", (640, 232)), ("1x2", (1, 2))]
)
def test_image_sizes_are_read(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "0", "0x64", "-64", "64x", "x64", "64x64x3", "64.5", "big", "64 64"])
def test_image_sizes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="an image size is S or HxW"):
        image_size(text)


def test_masks_and_defects_are_no_normal_pictures(tmp_path, caplog):
    write_data_set(tmp_path / "data", normal=2, defective=1)
    (tmp_path / "data/masks").rename(tmp_path / "data/Masks")
    caplog.set_level("INFO")
    names = {
        "all": picture_files([tmp_path / "data"], pictures_in),
        "normal": picture_files([tmp_path / "data"], normal_pictures_in),
        "asked for": picture_files([tmp_path / "data/Masks"], pictures_in),
    }
    found = {
        key: [path.relative_to(tmp_path / "data").as_posix() for path in paths] for key, paths in names.items()
    }
    normal = ["normal/00.png", "normal/01.png"]
    assert found == {"all": ["defective/00.png", *normal], "normal": normal, "asked for": ["Masks/00.png"]}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "1 of 4 images left out (masks)",
        "2 of 4 images left out (masks, defective ones)",
    ]


def test_where_nothing_says_what_is_normal_all_pictures_or_none_are_taken(tmp_path):
    for folder in ("good", "normal", "test/scratch", "Ground_Truth/scratch"):  # two folders of normal ones
        write_pictures(tmp_path / folder, 1)
    assert [path.parent.name for path in pictures_in(tmp_path)] == ["good", "normal", "scratch"]
    with pytest.raises(LayoutError, match="good, normal say the same"):
        normal_pictures_in(tmp_path)


def test_words_that_cannot_be_are_named_with_the_usage(capsys):
    for words, part in (
        (["train", "data"], "output"),
        (["train", "--steps=many"], "--steps"),
        (["paint"], "'paint'"),
        (["probe", "run", "data", "--output=out", "--seed=-1"], "--seed"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code != 0
        assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["benchmark", "grid.yaml"],
        ["calibrate", "run", "pictures"],
        ["evaluate", "run", "data"],
        ["export", "run"],
        ["inspect", "run", "pictures"],
        ["pretrain", "pictures"],
        ["probe", "run", "data"],
        ["report", "runs"],
        ["train", "data"],
    ],
    ids=lambda words: words[0],
)
def test_an_output_that_is_a_file_is_named_before_anything_else(words, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for output in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "inside"):
        assert main([*words, f"--output={output}"]) == 1
        expected = f"subspect {words[0]}: {tmp_path / 'notes.txt'} is a file; choose a folder for the output\n"
        assert capsys.readouterr().err == expected
    assert (tmp_path / "notes.txt").read_text() == "mine"


def process(code: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


_RUN = """
import sys
try:
    from subspect.cli import main
    main({words})
finally:
    print("modules:", *sys.modules)
"""
_IMPORT = "import subspect, sys; print('modules:', *sys.modules)"


@pytest.mark.parametrize(
    "code", [_IMPORT, _RUN.format(words=["--help"]), _RUN.format(words=["train", "--help"])]
)
def test_nothing_heavy_is_imported_for_help(code):
    ended = process(code)
    modules = set(ended.stdout.rpartition("modules:")[2].split())
    assert "subspect" in modules, ended.stderr
    heavy = {"torch", "torchvision", "lightning", "matplotlib", "scipy", "skimage", "tensorboard"}
    assert not modules & heavy


def test_a_failure_is_one_line_and_exit_code_1(tmp_path):
    code = f"import sys; from subspect.cli import main; sys.exit(main(['check', {str(tmp_path / 'gone')!r}]))"
    ended = process(code)
    assert ended.returncode == 1
    assert ended.stderr == f"subspect check: {tmp_path / 'gone'}: no such folder\n"
    assert ended.stdout == ""


def test_a_list_of_files_may_come_from_windows_and_have_blanks(tmp_path):
    pictures = write_pictures(tmp_path / "my pictures", 2)
    (tmp_path / "list.txt").write_bytes(f"\ufeff{pictures[0]}\r\n \r\n{pictures[1]} \r\n".encode())
    assert picture_files([tmp_path / "list.txt"], pictures_in) == pictures
