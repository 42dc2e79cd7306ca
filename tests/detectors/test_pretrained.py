"""Finding pretrained weights: checksums, and what an error tells someone without a network."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subspect.detectors.pretrained import WeightsError, find_weights, write_checksum

CONTENT = b"some weights"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other weights").hexdigest()


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "w.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("suffix", ["", "#", f"#{CHECKSUM}", f"#{CHECKSUM.upper()}"])
def test_a_local_file_is_found(weights, suffix):
    assert find_weights(f"{weights}{suffix}", "latent.safetensors") == weights


def test_a_wrong_checksum_is_named(weights):
    with pytest.raises(WeightsError, match=rf"{weights} has the SHA-256 {CHECKSUM}, but {OTHER} is expected"):
        find_weights(f"{weights}#{OTHER}", "latent.safetensors")


def test_the_checksum_is_what_sha256sum_writes(weights):
    assert write_checksum(weights) == CHECKSUM
    note = weights.with_name("w.safetensors.sha256")
    assert note.read_text() == f"{CHECKSUM}  w.safetensors\n"
    checked = subprocess.run(["sha256sum", "--check", note.name], cwd=weights.parent, capture_output=True)
    assert checked.returncode == 0
    assert find_weights(str(weights), "latent.safetensors") == weights


def test_a_file_that_is_not_what_its_checksum_file_says_is_refused(weights):
    write_checksum(weights)
    weights.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match=rf"but {CHECKSUM} is expected"):
        find_weights(str(weights), "latent.safetensors")


def test_an_empty_checksum_file_says_nothing(weights):
    weights.with_name("w.safetensors.sha256").touch()
    assert find_weights(str(weights), "latent.safetensors") == weights


def test_a_file_named_by_another_checksum_is_refused(tmp_path):
    blob = tmp_path / OTHER  # as the hub's cache keeps what it downloads
    blob.write_bytes(CONTENT)
    (tmp_path / "snapshot.safetensors").symlink_to(blob)
    with pytest.raises(WeightsError, match=rf"but {OTHER} is expected"):
        find_weights(str(tmp_path / "snapshot.safetensors"), "latent.safetensors")


@pytest.mark.parametrize(
    "source", ["missing.safetensors", "runs/latent.safetensors", "/no/such/file.safetensors", "a/b/c", ""]
)
def test_what_is_neither_file_nor_hub_id_is_said(source):
    said = f"no file or folder {source} here, and it is no hub id OWNER/REPOSITORY either"
    with pytest.raises(WeightsError, match=said):
        find_weights(source, "latent.safetensors")


def test_a_folder_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "runs/latent").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="runs/latent is a folder without a trained detector"):
        find_weights("runs/latent", "latent.safetensors")


_ASK = """
from subspect.detectors.pretrained import WeightsError, find_weights
try:
    print(find_weights("somebody/some-weights", "latent.safetensors"))
except WeightsError as error:
    print(error)
"""


def ask_the_hub(cache: Path) -> str:
    """What a process says that is told to stay offline."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True).stdout


def test_offline_the_error_says_what_to_put_where(tmp_path):
    said = ask_the_hub(tmp_path)
    assert said.startswith("no file or folder somebody/some-weights here, and latent.safetensors of somebody/")
    assert "copy the file here by hand and give its path instead of somebody/some-weights" in said


def test_offline_the_hubs_cache_serves(tmp_path):
    repository, commit = tmp_path / "models--somebody--some-weights", "0" * 40
    snapshot = repository / "snapshots" / commit
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "blobs" / CHECKSUM).write_bytes(CONTENT)
    (snapshot / "latent.safetensors").symlink_to(repository / "blobs" / CHECKSUM)
    assert ask_the_hub(tmp_path).strip() == str(snapshot / "latent.safetensors")
    (repository / "blobs" / CHECKSUM).write_bytes(CONTENT[:-1])
    assert f"but {CHECKSUM} is expected" in ask_the_hub(tmp_path)
