"""``edge-server engines …``: build, list, verify and prune TensorRT engines by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from build_engines.cache import EngineCache
from edge_server.errors import EdgeServerError, ModelFailedError
from edge_server.models.store import ModelStore
from edge_server.serving.accelerator import Accelerator, RefusedError, why_not
from edge_server.serving.model import Model, load_model
from edge_server.serving.upgrade import Job, Upgrade, golden_pictures
from edge_server.settings import Settings
from engines.artifact import EngineArtifact
from engines.base import EngineError
from engines.device import usable_cpus

_SAY_EVERY_S = 5.0


class EngineCommandError(EdgeServerError):
    """Nothing came of a command about engines; the message says why."""


def build(settings: Settings, model_id: str, calibration: Path | None) -> None:
    """Build an engine for an installed model, compare it, and keep it if it answers alike.

    Raises:
        EngineCommandError: there is no such engine afterwards.
    """
    accelerator, store = _accelerator(settings), ModelStore(settings.data_dir / "models")
    package = store.find(model_id)
    if reason := why_not(package):
        raise EngineCommandError(f"{model_id} stays on the CPU: {reason}.")
    say = _Teller(print)
    with closing(load_model(package, threads=settings.engine_threads or usable_cpus())) as cpu:
        job = Job(
            accelerator,
            package,
            lend=lambda: nullcontext(cpu),
            install=say.install,
            tell=say,
            calibration=calibration,
            insist=True,
        )
        try:
            job.run()
        except ValueError as error:
            raise EngineCommandError(f"{error}") from error
    if say.engine is None:
        raise EngineCommandError(f"{model_id} has no new engine: {say.last}")
    print(f"{model_id} has the engine {say.engine}. A server uses it when it loads the model next.")


def show(settings: Settings) -> None:
    """Print every engine on disk, and why there are none."""
    cache = _cache(settings)
    for path, entry in cache.entries():
        name = f"{_model_of(cache, path)}  {path.parent.relative_to(cache.root).parts[0]}"
        if not isinstance(entry, EngineArtifact):
            print(f"{name}  OUT OF USE: {entry}")
            continue
        key = entry.key
        known = cache.approval(_model_of(cache, path), key)
        state = f"proved under {known['driver']}" if known else "not compared yet"
        print(
            f"{name}  tensorrt-{key.precision}  TensorRT {key.host.tensorrt}  "
            f"{entry.nbytes / 1e6:.1f} MB  {state}"
        )
    for path, failure in cache.failures():
        print(f"{_model_of(cache, path)}  none, {failure.kind}: {failure.message}")


def verify(settings: Settings) -> None:
    """Compare every engine for this device with its weights again.

    Raises:
        EngineCommandError: one or more do not answer alike, or not at all.
    """
    accelerator, store, bad = _accelerator(settings), ModelStore(settings.data_dir / "models"), 0
    for model_id in store.ids():
        package = store.find(model_id)
        artifacts = accelerator.artifacts(package)
        if not artifacts:
            continue
        with closing(load_model(package, threads=settings.engine_threads or usable_cpus())) as cpu:
            for artifact in artifacts:
                name = f"{model_id}  tensorrt-{artifact.key.precision}"
                try:
                    pictures = golden_pictures(package)
                    accelerator.prove(artifact, cpu, pictures, again=True).close()
                    print(f"{name}  agrees with its weights on {len(pictures)} pictures")
                except RefusedError as error:
                    print(f"{name}  OUT OF USE: {error}")
                    bad += 1
                except (ModelFailedError, EngineError) as error:
                    print(f"{name}  cannot be compared now: {error}")
                    bad += 1
    if bad:
        raise EngineCommandError(f"{bad} engines were not found to answer like their weights.")


def prune(settings: Settings, max_mib: int) -> None:
    """Delete engines, those unused longest first, until the rest fits into ``max_mib``."""
    deleted = _cache(settings).prune(max_mib << 20)
    for engine in deleted:
        print(f"Deleted {engine.plan}")
    print(f"{len(deleted)} engines deleted.")


def _accelerator(settings: Settings) -> Accelerator:
    accelerator = Accelerator(
        settings.data_dir, precision=settings.precision, cache_mib=settings.engine_cache_mib
    )
    if accelerator.device is None:
        raise EngineCommandError(accelerator.missing)
    return accelerator


def _cache(settings: Settings) -> EngineCache:
    return EngineCache(settings.data_dir / "engines", settings.data_dir / "state" / "device.key")


def _model_of(cache: EngineCache, path: Path) -> str:
    return "/".join(path.parent.relative_to(cache.root).parts[1:])


class _Teller:
    """Says what happens on a build, not more often than somebody wants to read."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._next = 0.0
        self.last = ""
        self.engine: str | None = None

    def __call__(self, upgrade: Upgrade) -> None:
        news = upgrade.text.partition(",")[0] != self.last.partition(",")[0]
        self.last = upgrade.text
        if upgrade.state == "building" and (news or time.monotonic() > self._next):
            self._next = time.monotonic() + _SAY_EVERY_S
            self._say(upgrade.text)

    def install(self, old: Model, new: Model) -> None:
        """A server would swap the two; here it is enough that the new one is proved."""
        self.engine = new.engine_name
        new.close()
