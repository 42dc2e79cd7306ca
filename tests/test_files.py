import json
import os
import shutil

import pytest

from subspect.files import complete_folder, remove_leftovers, write_atomically, write_json


def test_a_file_is_replaced_by_the_complete_new_one(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    names = []

    def write(temporary):
        names.append(temporary)
        temporary.write_text("new")
        assert path.read_text() == "old"  # untouched until the new one is complete

    write_atomically(path, write)
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert names[0].parent == tmp_path
    assert names[0].suffix == ".json"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_is_then(tmp_path, monkeypatch):
    path, synced = tmp_path / "results.json", []

    def noted(opened, sync=os.fsync):
        synced.append((os.fstat(opened).st_ino, path.exists()))
        sync(opened)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(path, lambda temporary: temporary.write_text("new"), durable=False)
    assert synced == []
    path.unlink()
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_names_as_long_as_file_systems_take_them_and_of_any_bytes(tmp_path):
    path = tmp_path / f"{'n' * 250}.json"
    name = os.fsdecode(b"caf\xe9")
    write_json(path, {name: 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {name: 1}
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_what_killed_writers_leave_is_removed_and_nothing_else(tmp_path):
    for name in ("map.npy", ".hidden-map.npy", ".nfs0123456789abcdef"):
        (tmp_path / name).touch()

    def killed(temporary):
        temporary.touch()
        temporary.rename(tmp_path / "aside")  # so that nothing cleans up
        raise KeyboardInterrupt(temporary.name)

    with pytest.raises(KeyboardInterrupt) as stopped:
        write_atomically(tmp_path / "map.npy", killed)
    (tmp_path / "aside").rename(tmp_path / str(stopped.value))
    with complete_folder(tmp_path / "detector") as left:
        (left / "half").touch()
        shutil.copytree(left, tmp_path / "aside")
    (tmp_path / "aside").rename(left)
    assert len(list(tmp_path.iterdir())) == 6
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    kept = {"map.npy", ".hidden-map.npy", ".nfs0123456789abcdef", "detector"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    folder = tmp_path / "new/detector"
    with complete_folder(folder) as made:
        (made / "weights").write_text("all of them")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["weights"]
    with pytest.raises(FileNotFoundError), complete_folder(tmp_path / "new/other") as made:
        (made / "missing/weights").touch()
    with pytest.raises(OSError, match="not empty"), complete_folder(folder):
        pass
    assert [path.name for path in folder.parent.iterdir()] == ["detector"]
    assert (folder / "weights").read_text() == "all of them"
