"""Build again and again, killed at the first, second, third ... change on disk, until one ends.

    python killed_builds.py FOLDER

Prints what was found after each kill, as JSON. TensorRT and CUDA are doubles.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import engines.trt  # noqa: F401 - heavy: once, before the forks
from build_engines import builder, graph, worker  # noqa: F401
from build_engines.cache import EngineCache
from engines.base import EngineError
from tests.build_engines.support import ORIN, recipe, request
from tests.networks import BY_NAME

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime"}


class Silent:
    def say(self, **line: object) -> None:
        pass

    def progress(self, fraction: float | None, phase: str) -> bool:
        return True


def changes(event: str, args: tuple, root: str) -> bool:
    if event not in EVENTS or not str(args[0]).startswith(root):
        return False
    return event != "open" or bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def die_at(number: int, root: str) -> None:
    """Kill this process just before its n-th change below ``root``, or its n-th fsync."""
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, args: count() if changes(event, args, root) else None)
    fsync = os.fsync
    os.fsync = lambda descriptor: (count(), fsync(descriptor))[1]


def build(wanted, number: int) -> int:
    pid = os.fork()
    if pid == 0:
        die_at(number, str(wanted.cache))
        failure, message = worker._attempt(wanted, Silent())
        print(failure, message, file=sys.stderr)
        os._exit(1 if failure else 0)
    return os.waitpid(pid, 0)[1]


def main(folder: Path) -> None:
    wanted = request(folder)
    cache = EngineCache(wanted.cache, wanted.secret)
    old = recipe(precision="fp16").key("0" * 64, ORIN)
    trial = cache.write(folder / "trial", old, b"old plan", outputs=("y",), facts={})
    cache.publish(wanted.model, trial)
    told = {"kills": 0, "old": 0, "new": 0, "broken": [], "left": []}
    while True:
        status = build(wanted, told["kills"] + 1)
        found = EngineCache(wanted.cache, wanted.secret)
        found.sweep()
        told["old"] += found.find(wanted.model, old).load_plan() == b"old plan"
        told["left"] += [str(path) for path in wanted.cache.rglob(".staging*")]
        told["left"] += [str(p) for p, entry in found.entries() if isinstance(entry, EngineError)]
        artifact = found.find(wanted.model, wanted.key)
        if artifact is not None:
            try:
                engines.trt.open_tensorrt(artifact).close()
            except EngineError as error:
                told["broken"].append(f"{told['kills']}: {error}")
            artifact.manifest.unlink()
            artifact.plan.unlink()
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, "the build that was not killed failed"
            assert artifact is not None
            break
        told["kills"] += 1
        told["new"] += artifact is not None
    print(json.dumps(told))


if __name__ == "__main__":
    BY_NAME["yolov8-raw"].save(Path(sys.argv[1]) / "weights.onnx")
    main(Path(sys.argv[1]))
