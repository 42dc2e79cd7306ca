import pytest

from subspect.files import write_atomically


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
