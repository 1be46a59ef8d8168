"""From the CPU to TensorRT beside the running server: build, prove, swap, one model at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from build_engines.recipe import Precision
from build_engines.run import BuildRequest, run_build
from edge_server.errors import ModelFailedError
from edge_server.models.package import ModelPackage
from edge_server.models.store import BUNDLED_MODELS
from edge_server.serving.accelerator import Accelerator, RefusedError, why_not
from edge_server.serving.model import Model
from edge_server.serving.pool import ModelPool
from edge_server.vision.predictions import Image
from engines.artifact import EngineArtifact, EngineKey
from engines.base import EngineError
from engines.onnx_cpu import OnnxCpuEngine

log = logging.getLogger(__name__)

_MOST_PICTURES = 8
_MOST_KEPT_BYTES = 32 << 20
_KEEP_EVERY_S = 1.0
_MEMORY_WAIT_S = 60.0
_ERROR_WAIT_S = 300.0
_LOAD_WAIT_S = 0.5
_JOIN_S = 5.0


@dataclass(frozen=True)
class Upgrade:
    """Where a model is on its way to a faster engine: ``state`` for machines, the rest for people.

    Attributes:
        state: ``waiting`` for its turn, for memory or for the next try; ``building``; ``refused``:
            it stays on the CPU.
        text: a clause that says more.
    """

    state: Literal["waiting", "building", "refused"]
    text: str

    def __str__(self) -> str:
        return f"serving on onnxruntime-cpu, {self.text}"


@dataclass
class Job:
    """From the weights of one model to the fastest engine that answers like them.

    Attributes:
        accelerator: the device.
        package: the model.
        lend: the model on the CPU while the block runs, None when it is not in memory any more.
        install: what becomes of that model and of the one that is to stand in for it.
        tell: what is happening.
        cancel: set it to end the job.
        calibration: a folder of pictures, for int8.
        insist: try even what has failed before, but once.
    """

    accelerator: Accelerator
    package: ModelPackage
    lend: Callable[[], AbstractContextManager[Model | None]]
    install: Callable[[Model, Model], object]
    tell: Callable[[Upgrade], None]
    cancel: threading.Event = field(default_factory=threading.Event)
    calibration: Path | None = None
    insist: bool = False
    _tried: set[EngineKey] = field(default_factory=set)

    def run(self) -> float | None:
        """Do it: takes minutes.

        Returns:
            seconds until it should be tried again; None when nothing is left to do.
        """
        recent = RecentPictures()
        with self.lend() as cpu:
            if cpu is None:
                return None
            batches = (cpu.static_batch, cpu.max_pass)
            cpu.watch = recent.add
        try:
            self._run(batches, recent)
        except _NotNowError as problem:
            self.tell(Upgrade("waiting", str(problem)))
            return problem.wait_s
        finally:
            with self.lend() as cpu:
                if cpu is not None:
                    cpu.watch = None
        return None

    def _run(self, batches: tuple[int | None, int], recent: RecentPictures) -> None:
        last = "the settings allow no precision that can be built here"
        refused = set[Precision]()
        for artifact in () if self.insist else self.accelerator.artifacts(self.package):
            # Built before: under another driver, or by hand.
            if self._is_due(artifact.key) and self._take(artifact, recent):
                return
        while not self.cancel.is_set():
            request = self.accelerator.request(self.package, batches, refused, self.calibration)
            if request is None:
                self.tell(Upgrade("refused", self.accelerator.lost or last))
                return
            if self._is_due(request.key):
                if self._build(request) and self._take(self._found(request.key), recent):
                    return
            else:
                last = self._story(request.key)
                refused.add(request.recipe.precision)

    def _is_due(self, key: EngineKey) -> bool:
        """Whether to try now; False for never again."""
        if self.insist:
            first = key not in self._tried
            self._tried.add(key)
            return first
        wait = self.accelerator.wait_s(self.package, key)
        if wait:
            raise _NotNowError(f"{self._story(key)} Next try in {-int(-wait // 60)} min.", wait)
        return wait == 0

    def _story(self, key: EngineKey) -> str:
        failure = self.accelerator.failure(self.package, key)
        told = f"{failure.kind}: {failure.message}" if failure else "not tried"
        return f"tensorrt-{key.precision} {told}"

    def _build(self, request: BuildRequest) -> bool:
        result = run_build(
            request, lambda progress: self.tell(Upgrade("building", str(progress))), self.cancel
        )
        if result.failure == "no_memory_yet":
            raise _NotNowError(f"waiting for memory: {result.message}", _MEMORY_WAIT_S)
        return result.failure is None

    def _found(self, key: EngineKey) -> EngineArtifact:
        return next(each for each in self.accelerator.artifacts(self.package) if each.key == key)

    def _take(self, artifact: EngineArtifact, recent: RecentPictures) -> bool:
        """Let an engine serve if it answers like the weights."""
        name, model_id = f"tensorrt-{artifact.key.precision}", self.package.model_id
        with self.lend() as cpu:
            if cpu is None:
                return True  # nobody waits for it any more
            self.tell(Upgrade("building", f"comparing {name} with the weights"))
            pictures = golden_pictures(self.package, recent.pictures())
            try:
                new = self.accelerator.prove(artifact, cpu, pictures)
            except (RefusedError, EngineError, ModelFailedError) as error:
                log.warning("%s does not go over to %s: %s", model_id, name, error)
                return False
            self.install(cpu, new)
        self.accelerator.prune()
        return True


class _NotNowError(Exception):
    """To be tried again after ``wait_s`` seconds."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Upgrader:
    """A thread that takes the models of a pool to TensorRT, one after the other."""

    def __init__(self, accelerator: Accelerator, pool: ModelPool) -> None:
        self._accelerator = accelerator
        self._pool = pool
        self._waiting: dict[str, tuple[float, ModelPackage]] = {}
        self._states: dict[str, Upgrade] = {}
        self._changed = threading.Condition()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; without a device the thread ends at once."""
        self._thread = threading.Thread(target=self._work, name="upgrade", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End a build that is running, and the thread."""
        with self._changed:
            self._cancel.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def offer(self, package: ModelPackage) -> None:
        """Take a model to TensorRT that is being loaded on the CPU."""
        if self._thread is None or self._accelerator.device is None:
            return
        reason = why_not(package)
        with self._changed:
            if reason:
                self._states[package.model_id] = Upgrade("refused", f"for good: {reason}")
                return
            self._states[package.model_id] = Upgrade("waiting", "waiting for its turn")
            self._waiting[package.model_id] = (time.monotonic(), package)
            self._changed.notify()

    def state(self, model_id: str) -> Upgrade | None:
        """Where a model is on its way; None when it has arrived or never set out."""
        if self._accelerator.lost:
            return Upgrade("refused", f"the GPU is lost until a restart: {self._accelerator.lost}")
        return self._states.get(model_id)

    def _work(self) -> None:
        while (package := self._next()) is not None:
            model_id = package.model_id
            job = Job(
                self._accelerator,
                package,
                lend=partial(self._lend, model_id),
                install=self._install,
                tell=partial(self._tell, model_id),
                cancel=self._cancel,
            )
            try:
                wait = job.run()
            except Exception as error:  # the other models go on
                log.exception("the engine of %s cannot be made", model_id)
                self._tell(model_id, Upgrade("waiting", f"not possible now: {error}"))
                wait = _ERROR_WAIT_S
            with self._changed:
                if wait is not None:
                    self._waiting.setdefault(model_id, (time.monotonic() + wait, package))
                elif model_id not in self._waiting and self._states[model_id].state != "refused":
                    del self._states[model_id]  # it has arrived, or was removed

    def _next(self) -> ModelPackage | None:
        """The next model that is due and in memory; None at the end."""
        while True:
            with self._changed:
                if self._cancel.is_set():
                    return None
                due, model_id = min(
                    ((due, model_id) for model_id, (due, _) in self._waiting.items()),
                    default=(None, ""),
                )
                wait = None if due is None else due - time.monotonic()
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, package = self._waiting.pop(model_id)
            found = {state.model_id: state for state in self._pool.states()}.get(model_id)
            if found is not None and found.state == "loaded":
                return package
            with self._changed:
                if found is not None and found.state == "loading":
                    retry = (time.monotonic() + _LOAD_WAIT_S, package)
                    self._waiting.setdefault(model_id, retry)
                else:
                    self._states.pop(model_id, None)

    @contextmanager
    def _lend(self, model_id: str) -> Iterator[Model | None]:
        """The model, unless it is not in memory, or on TensorRT by now: it proves no engine."""
        with self._pool.peek(model_id) as model:
            yield model if model and model.engine_name == OnnxCpuEngine.name else None

    def _install(self, old: Model, new: Model) -> None:
        if self._pool.replace(old, new):
            log.info("%s: serving on %s", old.package.model_id, new.engine_name)

    def _tell(self, model_id: str, upgrade: Upgrade) -> None:
        before = self._states.get(model_id)
        self._states[model_id] = upgrade
        if before is None or before.text.split(",")[0] != upgrade.text.split(",")[0]:
            log.info("%s: %s", model_id, upgrade)


class RecentPictures:
    """The last few pictures that a model was asked about, as far as they fit. Thread-safe."""

    def __init__(self) -> None:
        self._pictures: deque[Image] = deque(maxlen=_MOST_PICTURES)
        self._lock = threading.Lock()
        self._next = 0.0

    def add(self, pictures: Sequence[Image]) -> None:
        """Keep one of these now and then: takes no time that a caller would notice."""
        now = time.monotonic()
        if now < self._next or not pictures or pictures[0].nbytes > _MOST_KEPT_BYTES:
            return
        copy = pictures[0].copy()
        with self._lock:
            self._next = now + _KEEP_EVERY_S
            self._pictures.append(copy)
            while sum(picture.nbytes for picture in self._pictures) > _MOST_KEPT_BYTES:
                self._pictures.popleft()

    def pictures(self) -> list[Image]:
        """Those that are kept, oldest first."""
        with self._lock:
            return list(self._pictures)


def golden_pictures(package: ModelPackage, recent: Sequence[Image] = ()) -> list[Image]:
    """What to compare engines on: the package's golden set, else ``recent``, else demo pictures."""
    folder = package.weights.parent
    return (
        _read(folder.glob("golden/*"))
        or list(recent)
        or _read(folder.glob("examples/*"))
        or _read(BUNDLED_MODELS.glob("*/*/examples/*"))
    )


def _read(files: Iterable[Path]) -> list[Image]:
    pictures = []
    for path in sorted(files)[:_MOST_PICTURES]:
        picture = cv2.imread(str(path))
        if picture is not None:
            pictures.append(np.asarray(picture, np.uint8))
    return pictures
