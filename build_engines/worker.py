"""The child: reads one request on standard input, builds, reports JSON lines on standard output.

Started by ``build_engines.run``. It works at the lowest priority, is the first that the system
kills when memory runs out, and ends when its standard input does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from build_engines.cache import EngineCache
from build_engines.pictures import read_pictures
from build_engines.recipe import FailureKind
from build_engines.run import BuildRequest
from engines.artifact import EngineArtifact
from engines.base import Array, EngineError
from engines.files import STAGING_PREFIX

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_REPORT_EVERY_S = 0.5
_GREY = 114


def main() -> None:
    """Do what standard input asks for."""
    reporter = Reporter()
    request = BuildRequest.decode(sys.stdin.buffer.readline())
    grace_s = request.recipe.kill_grace_s
    threading.Thread(target=_watch_parent, args=(reporter, grace_s), daemon=True).start()
    os.nice(19)  # the kernel derives the lowest I/O priority from it
    if _OOM_SCORE.exists():
        _OOM_SCORE.write_text("800")
    os.environ["CUDA_MODULE_LOADING"] = "LAZY"
    failure, message = _attempt(request, reporter)
    reporter.say(result={"failure": failure, "message": message})


class Reporter:
    """Writes JSON lines for the parent. Thread-safe.

    Attributes:
        cancelled: set when the parent wants no more.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        # Libraries print what they like to standard output: keep it for us, give them the other.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._last = 0.0

    def say(self, **line: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Write a line now."""
        with self._lock:
            self._last = time.monotonic()
            print(json.dumps(line), file=self._out, flush=True)

    def progress(self, fraction: float | None, phase: str) -> bool:
        """Write a line now and then; False once the build is cancelled. For ``build_plan``."""
        if time.monotonic() - self._last > _REPORT_EVERY_S:
            if fraction is None:
                self.say(alive=True)
            else:
                self.say(state="building", fraction=fraction, phase=phase)
        return not self.cancelled.is_set()


def _watch_parent(reporter: Reporter, grace_s: float) -> None:
    """Standard input ends when the parent cancels, and when it dies."""
    while os.read(0, 1):  # unbuffered: a buffer's lock held here would abort the end of the process
        pass
    reporter.cancelled.set()
    time.sleep(grace_s)  # TensorRT 8 cannot be interrupted
    os._exit(1)


def _attempt(request: BuildRequest, reporter: Reporter) -> tuple[FailureKind | None, str]:
    try:
        from build_engines.builder import BuildError
    except ImportError as error:
        return "other", f"TensorRT cannot be used by {sys.executable}: {error}."
    cache = EngineCache(request.cache, request.secret)
    try:
        while True:
            try:
                with cache.build_lock(request.key.host):
                    _build(request, reporter, cache)
                return None, ""
            except BlockingIOError:
                reporter.say(state="queued")
                time.sleep(1)
    except BuildError as error:
        return error.kind, str(error)
    except MemoryError:
        return "out_of_memory", "The build ran out of memory."
    except Exception as error:  # noqa: BLE001 - the edge of the process: it says how it ended
        traceback.print_exc()
        return "other", f"{type(error).__name__}: {error}"


def _build(request: BuildRequest, reporter: Reporter, cache: EngineCache) -> None:
    from build_engines.builder import build_plan

    if cache.find(request.model, request.key) is not None:
        return  # somebody else built it while we waited
    recipe, key, began = request.recipe, request.key, time.monotonic()
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=cache.folder(key.host)) as name:
        reporter.say(state="converting")
        network = _prepare(request, Path(name), reporter)
        reporter.say(state="building")
        plan, outputs = build_plan(network, recipe, cache.timing_cache(key.host), reporter.progress)
        facts = {
            "build_s": round(time.monotonic() - began, 1),
            "workspace_mib": recipe.workspace_mib,
            "optimization_level": recipe.optimization_level,
        }
        reporter.say(state="testing")
        trial = cache.write(Path(name), key, plan, outputs=outputs, facts=facts)
        _try(trial)
        reporter.say(state="publishing")
        cache.publish(request.model, trial)


def _prepare(request: BuildRequest, folder: Path, reporter: Reporter) -> Path:
    """The network that the builder is to parse: the weights as they are when onnx is missing."""
    if importlib.util.find_spec("onnx") is None:
        return request.weights
    from build_engines.graph import prepare_graph

    network = folder / "network.onnx"
    pictures = None
    if request.calibration is not None:
        pictures = read_pictures(request.calibration, request.recipe.size_wh)
        pictures = _audibly(pictures, reporter)
    prepare_graph(request.weights, network, request.recipe, pictures)
    return network


def _audibly(pictures: Iterator[Array], reporter: Reporter) -> Iterator[Array]:
    for picture in pictures:
        reporter.progress(None, "")  # calibration takes minutes and says nothing itself
        yield picture


def _try(trial: EngineArtifact) -> None:
    """Load a plan for the first time, where a crash costs nothing, and run it once.

    Raises:
        BuildError: it cannot be loaded or run, or answers with what is no number.
    """
    from build_engines.builder import BuildError, explain
    from engines.trt import open_tensorrt

    batch, (width, height) = trial.key.batch[0], trial.key.size_wh
    try:
        with closing(open_tensorrt(trial)) as engine:
            (spec,) = engine.inputs
            shape = (height, width, 3) if spec.dtype == np.uint8 else (3, height, width)
            outputs = engine.run({spec.name: np.full((batch, *shape), _GREY, spec.dtype)})
    except EngineError as error:
        raise explain(str(error), f"The new engine does not run: {error}") from error
    for name, output in outputs.items():
        if not np.isfinite(output).all():
            raise BuildError("refused", f"The engine answers a grey picture with infinite {name}.")


if __name__ == "__main__":
    main()
