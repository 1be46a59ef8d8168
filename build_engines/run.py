"""One build in a child process, seen from its parent, which it can never take down.

A build lasts minutes, takes gigabytes and may be killed by the system at any time. The child is
watched: its memory, its silence, its time. Whatever ends it becomes a ``BuildResult``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, TypeAlias

import msgspec

from build_engines.cache import EngineCache
from build_engines.recipe import BuildRecipe, FailureKind, minutes_left, needed_mib, next_rung
from engines.artifact import EngineKey

CHILD = (sys.executable, "-m", "build_engines.worker")
_TICK_S = 0.5


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built and where it is to go.

    Attributes:
        weights: the ``.onnx`` file.
        model: name that the engine is filed under.
        key: of the engine; ``recipe.key(...)``.
        recipe: to begin with.
        cache: folder of engines.
        secret: file of the key that seals them.
        calibration: folder of pictures for INT8.
    """

    weights: Path
    model: str
    key: EngineKey
    recipe: BuildRecipe
    cache: Path
    secret: Path
    calibration: Path | None = None

    def encode(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self, enc_hook=str) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> BuildRequest:
        """What ``encode`` wrote."""
        return msgspec.json.decode(line, type=cls, dec_hook=lambda kind, value: kind(value))


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        engine: what is built, such as ``tensorrt-fp16``.
        state: ``queued``, ``converting``, ``building``, ``testing`` or ``publishing``.
        fraction: of ``building`` that is done; None when TensorRT does not say.
        phase: in TensorRT's words.
        minutes_left: None while too little is known.
    """

    engine: str
    state: str
    fraction: float | None = None
    phase: str = ""
    minutes_left: int | None = None

    def __str__(self) -> str:
        done = "" if self.fraction is None else f", {100 * self.fraction:.0f} %"
        left = "" if self.minutes_left is None else f", about {self.minutes_left} min left"
        return f"{self.state} {self.engine}{done}{left}"


@dataclass(frozen=True)
class BuildResult:
    """How a build ended: ``failure`` is None when the engine is in the cache.

    ``recipe`` is the one that was built, or that failed last; ``message`` says why and what to do.
    """

    recipe: BuildRecipe
    failure: FailureKind | None = None
    message: str = ""


OnProgress: TypeAlias = Callable[[BuildProgress], None]


def run_build(
    request: BuildRequest,
    on_progress: OnProgress,
    cancel: threading.Event,
    command: Sequence[str] = CHILD,
) -> BuildResult:
    """Build an engine, with less and less means while memory runs out, and note how it ended.

    Takes minutes. May be called from any thread; builds on one GPU wait for each other.

    Args:
        request: what is to be built.
        on_progress: called from this thread.
        cancel: set it to stop the build.
        command: the child; it reads a request and reports as ``build_engines.worker`` does.
    """
    recipe, free = request.recipe, _available_mib()
    needed = needed_mib(request.weights.stat().st_size)
    if free < needed:
        message = f"{free} MiB of memory are free, a build of this model needs {needed} MiB."
        return BuildResult(recipe, "no_memory_yet", message)
    cache = EngineCache(request.cache, request.secret)
    while True:
        result = _Attempt(replace(request, recipe=recipe), on_progress, cancel).run(command)
        if result.failure is None:
            return result
        cache.sweep()
        rung = next_rung(recipe, result.failure)
        if rung is None:
            break
        recipe = rung
    if result.failure != "cancelled":
        cache.note_failure(request.model, request.key, result.failure, result.message)
    return result


class _Attempt:
    """One child from start to end."""

    def __init__(
        self, request: BuildRequest, on_progress: OnProgress, cancel: threading.Event
    ) -> None:
        self._request, self._recipe = request, request.recipe
        self._on_progress, self._cancel = on_progress, cancel
        self._began = self._heard = self._building = time.monotonic()
        self._result: BuildResult | None = None

    def run(self, command: Sequence[str]) -> BuildResult:
        lines: SimpleQueue[bytes | None] = SimpleQueue()
        pipe = subprocess.PIPE
        with subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=pipe, stdout=pipe, start_new_session=True
        ) as child:  # in a session of its own: a signal to the server is none to the build
            threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
            _tell(child.stdin, self._request.encode())
            while (line := _next(lines)) is not None:
                if line.startswith(b"{"):
                    self._hear(json.loads(line))
                if (failure := self._reason_to_stop(child.pid)) is not None:
                    _stop(child, self._recipe.kill_grace_s)
                    return failure
            return self._result or self._death(child.wait())

    def _hear(self, said: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        if "result" in said:
            self._result = BuildResult(self._recipe, **said["result"])
        elif "state" in said:
            if said["state"] == "queued":
                self._began = self._heard  # waiting for another build is not this one's time
            fraction, left = said.get("fraction"), None
            if fraction is None:
                self._building = self._heard
            else:
                left = minutes_left(self._heard - self._building, fraction)
            engine = f"tensorrt-{self._recipe.precision}"
            self._on_progress(BuildProgress(engine, minutes_left=left, **said))

    def _reason_to_stop(self, pid: int) -> BuildResult | None:
        recipe, now, resident = self._recipe, time.monotonic(), _resident_mib(pid)
        if self._cancel.is_set():
            return BuildResult(recipe, "cancelled", "The build was cancelled.")
        if resident > recipe.memory_mib:
            message = f"The build took {resident} MiB of memory, more than {recipe.memory_mib}."
            return BuildResult(recipe, "out_of_memory", message)
        if now - self._heard > recipe.no_progress_s:
            message = f"The build was silent for {recipe.no_progress_s:.0f} s."
            return BuildResult(recipe, "timed_out", message)
        if now - self._began > recipe.total_s:
            message = f"The build took longer than {recipe.total_s:.0f} s."
            return BuildResult(recipe, "timed_out", message)
        return None

    def _death(self, status: int) -> BuildResult:
        if status == -signal.SIGKILL:  # nobody else does that
            message = "The system ran out of memory and killed the build."
            return BuildResult(self._recipe, "out_of_memory", message)
        if status < 0:
            name = signal.Signals(-status).name
            return BuildResult(self._recipe, "crashed", f"The build crashed with {name}.")
        return BuildResult(self._recipe, "crashed", f"The build ended with status {status}.")


def _read(stdout: IO[bytes], lines: SimpleQueue[bytes | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _next(lines: SimpleQueue[bytes | None]) -> bytes | None:
    """The next line, nothing after a while, None at the end."""
    try:
        return lines.get(timeout=_TICK_S)
    except Empty:
        return b""


def _tell(stdin: IO[bytes] | None, line: bytes) -> None:
    """The pipe stays open: its end tells the child that nobody waits any more."""
    try:
        if stdin is not None:
            stdin.write(line)
            stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; its status says more


def _stop(child: subprocess.Popen[bytes], grace_s: float) -> None:
    try:
        if child.stdin is not None:
            child.stdin.close()
        child.wait(grace_s)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        os.killpg(child.pid, signal.SIGKILL)


def _available_mib() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:"))


def _resident_mib(pid: int) -> int:
    """Memory that the child holds, files mapped into it included; 0 when it is gone.

    Not its address space: CUDA reserves tens of gigabytes of that.
    """
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return resident * os.sysconf("SC_PAGE_SIZE") >> 20
