"""Files and folders that survive a power cut. Lowest package: everything above may need it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STAGING_PREFIX = ".staging-"


def publish_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Make ``target`` appear complete or not at all.

    ``fill`` writes into a staging folder beside the target; then every file and folder is
    synced, the staging folder renamed, and the parent folder synced. A crash at any step
    leaves the old state and at most a staging folder for ``sweep_staging``.

    Args:
        target: the folder to create; it must not exist.
        fill: writes the contents into the folder it is given.

    Raises:
        FileExistsError: ``target`` exists already.
        OSError: the disk is full, read-only or failing.
    """
    if target.exists():
        raise FileExistsError(str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=target.parent))
    try:
        fill(staging)
        _sync_tree(staging)
        staging.chmod(0o755)  # mkdtemp makes it 0700: the service's group must be able to read
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync_folder(target.parent)


def remove_folder(target: Path) -> None:
    """Delete ``target`` so that a crash leaves all of it or nothing that looks like it."""
    doomed = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=target.parent))
    target.rename(doomed / target.name)
    _sync_folder(target.parent)
    shutil.rmtree(doomed)


def sweep_staging(root: Path) -> None:
    """Delete what an interrupted ``publish_folder`` or ``remove_folder`` left below ``root``."""
    for leftover in list(root.rglob(STAGING_PREFIX + "*")):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def folder_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep other processes that take this lock out of ``folder`` until the block ends.

    The kernel drops the lock when the process dies, so that a crash never leaves it taken.

    Raises:
        BlockingIOError: ``wait`` is false and another process has the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def writable_folder(path: Path) -> bool:
    """Whether this process can create files in ``path``, or create ``path`` itself."""
    for folder in (path, *path.parents):
        if folder.exists():
            return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return False


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_folder(path) if path.is_dir() else _sync_file(path)
    _sync_folder(folder)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
