"""The TensorRT engine on doubles of every version: discipline, failures, and what is left over."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engines.artifact import EngineArtifact, read_artifact
from engines.base import (
    Engine,
    EngineError,
    EngineLostError,
    EngineOpenError,
    FeedError,
    PlanMismatchError,
)
from tests.doubles.gpu import FakeGpu
from tests.doubles.install import Doubles, child_environment, doubles
from tests.doubles.plans import SECRET, make_artifact
from tests.doubles.tensorrt import MAGIC, VERSIONS
from tests.engines.graphs import doubling, rows_above
from tests.support import ROOT


def numbers(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value, -value] for value in values], np.float32)}


@dataclass
class Bench:
    """TensorRT of one version, a plan for it, and a way to open it."""

    doubles: Doubles
    artifact: EngineArtifact

    @property
    def gpu(self) -> FakeGpu:
        return self.doubles.gpu

    def open(self, artifact: EngineArtifact | None = None) -> Engine:
        return self.doubles.module("engines.trt").open_tensorrt(artifact or self.artifact)

    def assert_clean(self) -> None:
        assert self.gpu.left == {}
        assert self.gpu.violations == []


@pytest.fixture(params=VERSIONS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with doubles(request.param) as installed:
        path = doubling(tmp_path / "net.onnx")
        yield Bench(installed, make_artifact(installed.gpu, installed.tensorrt, path))


@pytest.fixture(params=[True, False], ids=["shared memory", "memory of its own"])
def bench_10(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with doubles("10.3.0", FakeGpu(integrated=request.param)) as installed:
        path = doubling(tmp_path / "net.onnx")
        yield Bench(installed, make_artifact(installed.gpu, installed.tensorrt, path))


def test_what_is_sealed_and_read_back_can_be_opened(bench):
    trt = bench.doubles.module("engines.trt")
    artifact = read_artifact(bench.artifact.plan, SECRET, trt.this_host())
    engine = bench.open(artifact)
    assert (engine.name, engine.precision) == ("tensorrt-fp32", "fp32")
    assert engine.nbytes > artifact.nbytes
    np.testing.assert_array_equal(engine.run(numbers(1, 2))["y"], [[2, -2], [4, -4]])
    engine.close()
    bench.assert_clean()


def test_sixteen_threads_get_their_own_answers(bench):
    engine = bench.open()

    def ask(number: int) -> None:
        values = [number + 1000 * row for row in range(1 + number % 4)]
        answer = engine.run(numbers(*values))["y"]
        np.testing.assert_array_equal(answer, 2 * numbers(*values)["x"])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(1000)))
    engine.close()
    bench.assert_clean()


def test_shapes_are_told_only_when_they_change(bench):
    engine = bench.open()
    before = bench.gpu.calls["set_input_shape"]
    for batch in (2, 2, 2, 3, 3, 2):
        engine.run(numbers(*range(batch)))
    assert bench.gpu.calls["set_input_shape"] - before == 3
    engine.close()


@pytest.mark.parametrize("batch", [0, 5])
def test_batches_that_the_plan_was_not_built_for_are_refused_in_words(bench_10, batch):
    engine = bench_10.open()
    with pytest.raises(FeedError, match=rf"\({batch}, 2\).*\(1, 2\) to \(4, 2\)"):
        engine.run(numbers(*range(batch)) if batch else {"x": np.zeros((0, 2), np.float32)})
    engine.close()


OPENING = [
    pytest.param("context", "none", EngineOpenError, "OutOfMemory", id="no memory for a context"),
    pytest.param("deserialize", "none", PlanMismatchError, "cannot load", id="plan refused"),
    pytest.param("deserialize", "out of memory", EngineOpenError, "OutOfMemory", id="memory"),
    pytest.param("shape", "false", EngineOpenError, "refuses", id="shape refused"),
    pytest.param("alloc", "out of memory", EngineOpenError, "enough memory", id="buffers"),
]


@pytest.mark.parametrize(("point", "kind", "error", "reason"), OPENING)
def test_an_engine_that_cannot_be_opened_says_why_and_leaves_nothing(
    bench, point, kind, error, reason
):
    bench.gpu.fail(point, kind)
    with pytest.raises(EngineOpenError, match=reason) as caught:
        bench.open()
    assert type(caught.value) is error, "only what a new build would heal is a mismatch"
    bench.assert_clean()
    engine = bench.open()  # the next try finds everything in order
    assert engine.run(numbers(1))["y"].tolist() == [[2, -2]]
    engine.close()
    bench.assert_clean()


def damaged(artifact: EngineArtifact, change: Callable[[bytes], bytes], *, sealed: bool):
    """The artifact with other bytes, which its manifest knows of or not."""
    content = change(artifact.plan.read_bytes())
    artifact.plan.write_bytes(content)
    if not sealed:
        return artifact
    return replace(artifact, sha256=hashlib.sha256(content).hexdigest(), nbytes=len(content))


@pytest.mark.parametrize(
    ("change", "sealed", "reason"),
    [
        pytest.param(lambda plan: plan[:-7], False, "damaged", id="truncated"),
        pytest.param(lambda plan: plan[:-1] + b"?", False, "damaged", id="one byte differs"),
        pytest.param(lambda plan: b"", True, "empty memory buffer", id="empty"),
        pytest.param(lambda plan: b"{}" + plan, True, "magicTag", id="prefixed by another tool"),
        pytest.param(lambda plan: plan[:-7], True, "blobSize", id="built truncated"),
        pytest.param(lambda plan: MAGIC, True, "blobSize", id="only a beginning"),
    ],
)
def test_a_plan_that_is_no_plan_must_be_built_again(bench, change, sealed, reason):
    artifact = damaged(bench.artifact, change, sealed=sealed)
    with pytest.raises(PlanMismatchError, match=reason):
        bench.open(artifact)
    assert bench.gpu.calls["deserialize"] == (1 if sealed else 0), "TensorRT saw it only if sealed"
    bench.assert_clean()


def test_outputs_must_be_those_of_the_manifest(bench_10):
    with pytest.raises(PlanMismatchError, match="manifest says"):
        bench_10.open(replace(bench_10.artifact, outputs=("other",)))
    bench_10.assert_clean()


@pytest.mark.parametrize(
    ("there", "here", "reason"),
    [
        pytest.param("10.3.0", "10.13.3", "not compatible with this version", id="TensorRT"),
        pytest.param(
            "8.6.1", "10.3.0", "not compatible with this version", id="JetPack 6.0 to 6.2"
        ),
    ],
)
def test_a_plan_of_another_tensorrt_must_be_built_again(tmp_path, there, here, reason):
    path = doubling(tmp_path / "net.onnx")
    with doubles(there) as installed:
        artifact = make_artifact(installed.gpu, installed.tensorrt, path)
    with doubles(here) as installed:
        bench = Bench(installed, artifact)
        with pytest.raises(PlanMismatchError, match=reason):
            bench.open()
        bench.assert_clean()


def test_a_plan_of_another_gpu_must_be_built_again(bench_10):
    bench_10.gpu.compute_capability = (11, 0)
    with pytest.raises(PlanMismatchError, match="incompatible device"):
        bench_10.open()
    bench_10.assert_clean()


def test_without_a_driver_there_is_no_engine_and_no_rebuild(bench_10):
    bench_10.gpu.driver = False
    with pytest.raises(EngineOpenError, match="no CUDA-capable device") as caught:
        bench_10.open()
    assert not isinstance(caught.value, PlanMismatchError)


RUNNING = [
    pytest.param("execute", "false", EngineError, id="refused"),
    pytest.param("execute", "out of memory", EngineError, id="out of memory"),
    pytest.param("shape", "false", EngineError, id="shape refused"),
    pytest.param("execute", "sticky", EngineLostError, id="illegal address"),
]


@pytest.mark.parametrize(("point", "kind", "error"), RUNNING)
def test_a_run_that_fails(bench, point, kind, error):
    engine = bench.open()
    assert engine.run(numbers(1, 2, 3))["y"].tolist() == [[2, -2], [4, -4], [6, -6]]
    bench.gpu.fail(point, kind)
    with pytest.raises(EngineError) as caught:
        engine.run(numbers(1))
    assert type(caught.value) is error
    if error is EngineLostError:
        with pytest.raises(EngineLostError):
            engine.run(numbers(1))
    else:
        assert engine.run(numbers(1))["y"].tolist() == [[2, -2]], "the next one works"
    engine.close()
    bench.assert_clean()


@pytest.mark.parametrize(("kind", "error"), [("sticky", EngineLostError), ("once", EngineError)])
def test_copies_that_fail(tmp_path, kind, error):
    with doubles("10.3.0", FakeGpu(integrated=False)) as installed:
        path = doubling(tmp_path / "net.onnx")
        bench = Bench(installed, make_artifact(installed.gpu, installed.tensorrt, path))
        engine = bench.open()
        bench.gpu.fail("copy", kind)
        with pytest.raises(EngineError, match="CUDA failed") as caught:
            engine.run(numbers(1))
        assert type(caught.value).__mro__[1 if kind == "once" else 0] is error
        engine.close()
        bench.assert_clean()


def test_an_output_that_finds_no_memory_to_grow_costs_one_run(tmp_path):
    with doubles("10.3.0") as installed:
        path = rows_above(tmp_path / "net.onnx")
        bench = Bench(installed, make_artifact(installed.gpu, installed.tensorrt, path))
        engine = bench.open()
        dark, bright = (np.full((1, 1, 8, 8), level, np.float32) for level in (0.0, 1.0))
        assert engine.run({"images": dark})["rows"].shape == (0, 4)
        bench.gpu.fail("alloc", "out of memory")
        with pytest.raises(EngineError, match="returned no memory"):
            engine.run({"images": bright})
        assert engine.run({"images": bright})["rows"].shape == (64, 4)
        engine.close()
        bench.assert_clean()


def test_everyone_hears_that_the_gpu_is_lost(bench_10):
    engine = bench_10.open()
    bench_10.gpu.fail("execute", "sticky")

    def ask(number: int) -> type:
        try:
            engine.run(numbers(number))
        except EngineError as error:
            return type(error)
        return int

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(ask, range(200)))
    assert set(outcomes) == {EngineLostError}
    engine.close()
    bench_10.assert_clean()


def test_what_cannot_be_freed_keeps_nothing_else_from_being_freed(bench_10, caplog):
    engine = bench_10.open()
    bench_10.gpu.fail("free", "once")
    engine.close()
    assert sum(bench_10.gpu.left.values()) == 1
    assert "Leaving" in caplog.text


def test_an_engine_that_is_dropped_frees_itself(bench_10):
    engine = bench_10.open()
    engine.run(numbers(1))
    del engine
    gc.collect()
    bench_10.assert_clean()


def test_two_engines_live_side_by_side(bench_10):
    first, second = bench_10.open(), bench_10.open()
    first.close()
    assert second.run(numbers(1))["y"].tolist() == [[2, -2]]
    second.close()
    bench_10.assert_clean()


def test_an_engine_that_is_open_when_the_program_ends_does_not_abort_it(bench_10):
    program = (
        "import atexit, sys\n"
        "from pathlib import Path\n"
        "import tensorrt\n"
        "gpu = tensorrt._gpu\n"
        "atexit.register(lambda: print(gpu.left, gpu.violations))\n"
        "from engines.artifact import read_artifact\n"
        "from engines.trt import open_tensorrt, this_host\n"
        "engine = open_tensorrt(read_artifact(Path(sys.argv[1]), bytes(range(32)), this_host()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bench_10.artifact.plan)],
        env=child_environment("10.3.0"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{} []\n", "")


def test_types_that_numpy_lacks_are_refused_by_name(bench_10):
    trt = bench_10.doubles.tensorrt
    trt.ICudaEngine.get_tensor_dtype = lambda self, name: trt.DataType.BF16
    with pytest.raises(EngineOpenError, match="BF16"):
        bench_10.open()
    bench_10.assert_clean()
