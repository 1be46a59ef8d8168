"""Engines on disk by key: found, published, put out of use, pruned. Survives a power cut.

<root>/<gpu>/<model>/<digest>.plan, .json     an engine and its manifest
                     <digest>.failed.json     why there is none, and when to try again
<root>/<gpu>/timing-<tensorrt>.cache          what makes builds on this GPU faster
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from build_engines.recipe import FailureKind
from engines.artifact import (
    ArtifactError,
    EngineArtifact,
    EngineHost,
    EngineKey,
    device_secret,
    read_artifact,
    write_artifact,
)
from engines.files import STAGING_PREFIX, folder_lock, publish_file, sweep_staging

log = logging.getLogger(__name__)

_BACKOFF_S = (60, 300, 1800)
_FAILED = ".failed.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Failure:
    """Why there is no engine for a key.

    Attributes:
        kind: for decisions.
        message: for people.
        tries: builds that failed so far.
        uptime_s: seconds between boot and the last of them: clocks of many boards start in 1970.
        boot: which boot that was.
    """

    kind: FailureKind
    message: str
    tries: int
    uptime_s: float
    boot: str


def wait_s(failure: Failure, uptime_s: float, boot: str) -> float | None:
    """Seconds until the next try is due, 0 for now, None for never. A boot starts waits anew."""
    if failure.kind in ("parser", "unsupported", "refused") or failure.tries >= len(_BACKOFF_S):
        return None
    waited = uptime_s - failure.uptime_s if boot == failure.boot else uptime_s
    return max(0.0, _BACKOFF_S[failure.tries - 1] - waited)


def now() -> tuple[float, str]:
    """Seconds since boot, and which boot this is: the last arguments of ``wait_s``."""
    return time.monotonic(), _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


class EngineCache:
    """Engines of this device. Any number of processes may use one folder at the same time."""

    def __init__(self, root: Path, secret_file: Path) -> None:
        """Makes the key that seals engines, if there is none.

        Raises:
            EngineOpenError: others may have read the key.
            OSError: the key can be neither read nor made.
        """
        self.root = root
        self._secret = device_secret(secret_file)

    def find(self, model: str, key: EngineKey) -> EngineArtifact | None:
        """The engine for ``key``; one that must not be used is put out of use and not found."""
        manifest = self._path(model, key, ".json")
        try:
            artifact = read_artifact(manifest, self._secret, key.host)
        except ArtifactError as error:
            if error.reason != "missing":
                log.warning("An engine of %s is put out of use: %s", model, error)
                _discard(manifest)
            return None
        os.utime(artifact.manifest)  # prune goes by last use
        return artifact

    def publish(self, model: str, trial: EngineArtifact) -> EngineArtifact:
        """Let all find what ``write`` made. An engine that is there already is as good and stays.

        Raises:
            ArtifactError: ``trial`` was damaged meanwhile.
            OSError: the disk is full, read-only or failing.
        """
        folder, key = self._path(model, trial.key, ".json").parent, trial.key
        artifact = self.find(model, key) or self.write(
            folder, key, trial.load_plan(), outputs=trial.outputs, facts=trial.facts
        )
        self._path(model, key, _FAILED).unlink(missing_ok=True)
        return artifact

    def write(
        self,
        folder: Path,
        key: EngineKey,
        plan: bytes,
        *,
        outputs: tuple[str, ...],
        facts: Mapping[str, Any],
    ) -> EngineArtifact:
        """A sealed engine in any folder, to be tried before it is published."""
        return write_artifact(folder, plan, key, self._secret, outputs=outputs, facts=facts)

    def quarantine(self, model: str, key: EngineKey, reason: str) -> None:
        """Put an engine out of use for good, because it does not answer like its weights."""
        _discard(self._path(model, key, ".json"))  # first: a crash between the two builds it again
        self.note_failure(model, key, "refused", reason)

    def note_failure(self, model: str, key: EngineKey, kind: FailureKind, message: str) -> None:
        """Remember that a build failed, or that what it gave must not be used."""
        known = self.failure(model, key)
        failure = Failure(kind, message, known.tries + 1 if known else 1, *now())
        content = json.dumps(asdict(failure), indent=2).encode() + b"\n"
        publish_file(self._path(model, key, _FAILED), content)

    def failure(self, model: str, key: EngineKey) -> Failure | None:
        """What ``note_failure`` remembered last, if no engine was published since."""
        try:
            return Failure(**json.loads(self._path(model, key, _FAILED).read_bytes()))
        except (OSError, ValueError, TypeError):  # none, or damaged: then it is tried again
            return None

    def entries(self) -> Iterator[tuple[Path, EngineArtifact | ArtifactError]]:
        """Every manifest, with its engine or the reason why that must not be used."""
        for manifest in sorted(self.root.rglob(f"{'?' * 32}.json")):
            if manifest.parent.name.startswith(STAGING_PREFIX):
                continue  # the trial of a running build
            try:
                yield manifest, read_artifact(manifest, self._secret, None)
            except ArtifactError as error:
                yield manifest, error

    def prune(self, max_bytes: int, in_use: Set[Path] = frozenset()) -> list[EngineArtifact]:
        """Delete engines, those unused longest first, until the rest fits; what was deleted.

        Args:
            max_bytes: for all plans together.
            in_use: plans that stay whatever they take.
        """
        engines = [entry for _, entry in self.entries() if isinstance(entry, EngineArtifact)]
        engines.sort(key=lambda engine: engine.manifest.stat().st_mtime_ns)
        total, deleted = sum(engine.nbytes for engine in engines), []
        for engine in engines:
            if total > max_bytes and engine.plan not in in_use:
                engine.manifest.unlink()  # first: a plan alone is never used
                engine.plan.unlink()
                total -= engine.nbytes
                deleted.append(engine)
        return deleted

    def sweep(self) -> None:
        """Delete what interrupted writers left, except where a build is running."""
        for folder in self.root.glob("*/"):
            try:
                with folder_lock(folder, wait=False):
                    sweep_staging(folder)
                    used = {e.plan for _, e in self.entries() if isinstance(e, EngineArtifact)}
                    for plan in set(folder.rglob("*.plan")) - used:
                        plan.unlink()
            except BlockingIOError:
                pass  # whoever starts next sweeps there

    def folder(self, host: EngineHost) -> Path:
        """Of everything for one GPU; made if it does not exist."""
        folder = self.root / host.folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def build_lock(self, host: EngineHost) -> AbstractContextManager[None]:
        """One build at a time on a GPU: timings taken beside another build are worth nothing.

        Raises:
            BlockingIOError: another process builds.
        """
        return folder_lock(self.folder(host), wait=False)

    def timing_cache(self, host: EngineHost) -> Path:
        """The file of kernel timings; to be used under ``build_lock`` only."""
        return self.folder(host) / f"timing-{host.tensorrt}.cache"

    def _path(self, model: str, key: EngineKey, suffix: str) -> Path:
        parts = model.split("/")  # ids are such as project/1
        if any(not part or part.startswith(".") for part in parts):
            raise ValueError(f"{model!r} is no name for a model.")
        return self.root.joinpath(key.host.folder, *parts, f"{key.digest}{suffix}")


def _discard(manifest: Path) -> None:
    """Keep the manifest for people, under a name that nobody reads as one."""
    if manifest.exists():
        manifest.replace(manifest.with_suffix(".bad.json"))
    for plan in manifest.parent.glob(f"{manifest.stem}.*.plan"):
        plan.unlink()
