"""Put the doubles where ``import tensorrt`` and ``import pycuda.driver`` find them."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.doubles.gpu import FakeGpu
from tests.doubles.pycuda import fake_pycuda
from tests.doubles.tensorrt import fake_tensorrt
from tests.support import ROOT

IMPORTABLE = Path(__file__).parent / "importable"
# They import TensorRT or CUDA at their top, so that each version needs a copy of its own.
BOUND = ("engines.cuda", "engines.trt", "build_engines.builder")


@dataclass
class Doubles:
    """What a test gets: the GPU, the module, and our modules that were imported on them."""

    gpu: FakeGpu
    tensorrt: ModuleType

    def module(self, name: str) -> ModuleType:
        """One of our modules, such as ``engines.trt``, bound to these doubles."""
        return importlib.import_module(name)


@contextmanager
def doubles(version: str, gpu: FakeGpu | None = None) -> Iterator[Doubles]:
    """TensorRT of this version and CUDA, in this process, until the block ends."""
    gpu = gpu or FakeGpu()
    trt = fake_tensorrt(version, gpu)
    package, driver = fake_pycuda(gpu)
    replaced = {"tensorrt": trt, "pycuda": package, "pycuda.driver": driver}
    before = {name: sys.modules.pop(name, None) for name in (*replaced, *BOUND)}
    sys.modules.update(replaced)
    try:
        yield Doubles(gpu, trt)
    finally:
        for name in (*replaced, *BOUND):
            sys.modules.pop(name, None)
        sys.modules.update({name: old for name, old in before.items() if old is not None})


def child_environment(
    version: str,
    gpu: Mapping[str, Any] | None = None,
    faults: Mapping[str, list[str]] | None = None,
) -> dict[str, str]:
    """The environment of a child process that finds the doubles.

    Args:
        version: of TensorRT.
        gpu: attributes of its ``FakeGpu`` that differ from the default.
        faults: by point, what is to go wrong: ``{"build": ["killed"]}``.
    """
    told = json.dumps({"version": version, "gpu": dict(gpu or {}), "faults": dict(faults or {})})
    paths = [str(IMPORTABLE), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "FAKE_TENSORRT": told,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def from_environment() -> tuple[ModuleType, ModuleType, ModuleType]:
    """For ``importable``: the three modules as ``FAKE_TENSORRT`` tells."""
    told = json.loads(os.environ["FAKE_TENSORRT"])
    facts = told["gpu"]
    if "compute_capability" in facts:
        facts["compute_capability"] = tuple(facts["compute_capability"])
    gpu = FakeGpu(**facts)
    for point, kinds in told["faults"].items():
        gpu.fail(point, *kinds)
    return fake_tensorrt(told["version"], gpu), *fake_pycuda(gpu)
