"""Folders that are there completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engines.files import (
    STAGING_PREFIX,
    folder_lock,
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
