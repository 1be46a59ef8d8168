"""Folders that are there completely or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from engines.files import (
    STAGING_PREFIX,
    content_hash,
    folder_lock,
    publish_file,
    publish_folder,
    remove_folder,
    sweep_staging,
    writable_folder,
)


def test_a_published_folder_is_complete_and_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    real_fsync, target = os.fsync, tmp_path / "a" / "b"

    def fsync(descriptor):
        events.append(("fsync", target.exists()))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    publish_folder(target, lambda staging: (staging / "file").write_text("x") and None)
    assert (target / "file").read_text() == "x"
    before = [exists for _, exists in events[:-1]]
    assert len(before) >= 2
    assert not any(before), "everything is synced before the rename"
    assert events[-1] == ("fsync", True), "the parent folder is synced after it"
    assert os.listdir(target.parent) == ["b"]


def test_a_fill_that_fails_leaves_nothing(tmp_path):
    def fill(staging):
        (staging / "half").write_text("x")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        publish_folder(tmp_path / "models" / "m", fill)
    assert os.listdir(tmp_path / "models") == []


def test_an_existing_folder_is_never_replaced(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError):
        publish_folder(tmp_path / "m", lambda staging: None)


def test_a_process_killed_while_it_publishes_leaves_only_staging_which_is_swept(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from engines.files import publish_folder\n"
        "def fill(staging):\n"
        "    (staging / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), 9)\n"
        "publish_folder(pathlib.Path(sys.argv[1]), fill)\n"
    )
    target = tmp_path / "project" / "1"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9
    (left,) = os.listdir(target.parent)
    assert left.startswith(STAGING_PREFIX)
    sweep_staging(tmp_path)
    assert os.listdir(target.parent) == []


def test_a_removed_folder_is_gone(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "file").write_text("x")
    remove_folder(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_the_lock_keeps_others_out_until_it_is_released(tmp_path):
    with folder_lock(tmp_path):
        with pytest.raises(BlockingIOError), folder_lock(tmp_path, wait=False):
            pass
    with folder_lock(tmp_path, wait=False):
        pass


def test_a_folder_that_can_be_made_counts_as_writable(tmp_path):
    assert writable_folder(tmp_path / "not" / "yet")
    (tmp_path / "file").write_text("x")
    assert not writable_folder(tmp_path / "file" / "below")


def test_a_published_file_has_its_mode_and_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    target, events = tmp_path / "a" / "file", []
    real_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(target.exists()), real_fsync(fd)))
    publish_file(target, b"secret", mode=0o600)
    assert target.read_bytes() == b"secret"
    assert target.stat().st_mode & 0o777 == 0o600
    assert events == [False, True], "the file before the rename, its folder after it"
    publish_file(target, b"new")
    assert (target.read_bytes(), os.listdir(target.parent)) == (b"new", ["file"])


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    publish_file(tmp_path / "file", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        publish_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_staged_files_are_swept_as_well(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / (STAGING_PREFIX + "x")).write_text("half")
    sweep_staging(tmp_path)
    assert os.listdir(tmp_path / "sub") == []


def test_a_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    weights, cache = tmp_path / "weights.onnx", tmp_path / "state" / "hashes.json"
    other = tmp_path / "other.onnx"
    weights.write_bytes(b"abc")
    other.write_bytes(b"xyz")
    assert content_hash(weights, cache) == hashlib.sha256(b"abc").hexdigest()
    assert content_hash(other, cache) == hashlib.sha256(b"xyz").hexdigest()
    known = hashlib.sha256(b"abc").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr("engines.files.hashlib.sha256", None)
        assert content_hash(weights, cache) == known
    status = weights.stat()
    weights.write_bytes(b"abd")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hash(weights, cache) == hashlib.sha256(b"abd").hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"[1]", b'{"x": 3}'])
def test_a_damaged_cache_of_hashes_costs_one_more_reading(tmp_path, damage):
    cache = tmp_path / "hashes.json"
    cache.write_bytes(damage)
    (tmp_path / "weights").write_bytes(b"abc")
    for _ in range(2):
        assert content_hash(tmp_path / "weights", cache) == hashlib.sha256(b"abc").hexdigest()
