"""Files and folders that survive a power cut. Lowest package: everything above may need it."""

from __future__ import annotations

import fcntl
import hashlib
import json
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


def publish_file(target: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Make ``target`` hold ``content``; a crash leaves the old file, or none, never a part.

    Args:
        target: replaced if it exists; its folder is made if it does not.
        content: the whole file.
        mode: permissions, which the file has before it gets its name.

    Raises:
        OSError: the disk is full, read-only or failing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=STAGING_PREFIX, dir=target.parent)  # mode 0600
    staging = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        staging.replace(target)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def remove_folder(target: Path) -> None:
    """Delete ``target`` so that a crash leaves all of it or nothing that looks like it."""
    doomed = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=target.parent))
    target.rename(doomed / target.name)
    _sync_folder(target.parent)
    shutil.rmtree(doomed)


def sweep_staging(root: Path) -> None:
    """Delete what an interrupted ``publish_…`` or ``remove_folder`` left below ``root``."""
    for leftover in list(root.rglob(STAGING_PREFIX + "*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def content_hash(path: Path, cache: Path) -> str:
    """SHA-256 of a file in hexadecimal; a file that was hashed before is not read again.

    Args:
        path: the file.
        cache: a JSON file that remembers hashes of files by their size, times and inode.

    Raises:
        OSError: the file cannot be read, or the cache not be written.
    """
    status = path.stat()
    # The change time cannot be set by a program, so restoring the other times hides nothing.
    now = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    try:
        known = dict(json.loads(cache.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}  # not there yet, or damaged: everything is hashed once more
    if known.get(str(path), [])[:-1] == now:
        return str(known[str(path)][-1])
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    known[str(path)] = [*now, digest.hexdigest()]
    publish_file(cache, json.dumps(known, indent=1).encode())
    return digest.hexdigest()


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
