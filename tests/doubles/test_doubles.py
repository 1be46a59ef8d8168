"""The doubles are as strict, and as unhelpful, as what they stand for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.doubles.gpu import FakeGpu
from tests.doubles.install import doubles
from tests.doubles.plans import build_plan
from tests.doubles.pycuda import fake_pycuda
from tests.doubles.tensorrt import VERSIONS, fake_tensorrt
from tests.networks import NETWORKS

HANG = 30
WEAK = [version for version in VERSIONS if not version.startswith("11")]


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with doubles(request.param) as installed:
        yield installed.tensorrt


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return NETWORKS[0].save(tmp_path_factory.mktemp("nets") / "net.onnx")


class Build:
    """A network being built, and what TensorRT logs meanwhile."""

    def __init__(self, trt: Any, path: Path, *, profile: bool = True, flags: int | None = None):
        self.lines: list[str] = []
        lines = self.lines

        class Log(trt.ILogger):
            def __init__(self):
                trt.ILogger.__init__(self)

            def log(self, severity, msg):
                lines.append(f"{severity.name}: {msg}")

        creation = trt.NetworkDefinitionCreationFlag
        explicit = 1 << int(creation.EXPLICIT_BATCH) if hasattr(creation, "EXPLICIT_BATCH") else 0
        self.builder = trt.Builder(Log())
        self.network = self.builder.create_network(explicit if flags is None else flags)
        self.parser = trt.OnnxParser(self.network, self.builder.logger or Log())
        self.parsed = self.parser.parse_from_file(str(path))
        self.config = self.builder.create_builder_config()
        if profile:
            shapes = self.builder.create_optimization_profile()
            shapes.set_shape("images", (1, 3, 64, 64), (1, 3, 64, 64), (4, 3, 64, 64))
            self.config.add_optimization_profile(shapes)

    def run(self) -> Any:
        return self.builder.build_serialized_network(self.network, self.config)


MISSING = [
    pytest.param("8.6.1", lambda trt: trt.IProgressMonitor, id="no progress in 8.6"),
    pytest.param("10.3.0", lambda trt: trt.Builder.build_engine, id="no build_engine since 10"),
    pytest.param("10.3.0", lambda trt: trt.ICudaEngine.num_bindings, id="no bindings since 10"),
    pytest.param("10.3.0", lambda trt: trt.IBuilderConfig.max_workspace_size, id="no workspace"),
    pytest.param("11.4.0", lambda trt: trt.BuilderFlag.FP16, id="no precision flags in 11"),
    pytest.param("11.4.0", lambda trt: trt.ICudaEngine.device_memory_size, id="only _v2 in 11"),
    pytest.param(
        "11.4.0", lambda trt: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH, id="batch in 11"
    ),
    pytest.param("10.3.0", lambda trt: trt.NoSuchThing, id="what never was"),
]


@pytest.mark.parametrize(("version", "use"), MISSING)
def test_what_a_version_lacks_is_an_attribute_error(version, use):
    with pytest.raises(AttributeError):
        use(fake_tensorrt(version, FakeGpu()))


def test_what_is_there_but_not_doubled_says_so(trt):
    with pytest.raises(NotImplementedError, match="IActivationLayer"):
        _ = trt.IActivationLayer


def test_wrong_arguments_are_type_errors(trt, detector):
    build = Build(trt, detector)
    for wrong in (
        lambda: build.config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size=1),
        lambda: build.config.set_memory_pool_limit("WORKSPACE", 1),
        lambda: build.config.set_flag(0),
        lambda: build.builder.create_network(flags="0"),
        lambda: build.builder.build_serialized_network(build.network),
        lambda: trt.Builder(None, None),
        lambda: trt.IBuilderConfig(),
        lambda: trt.Runtime(trt.Logger()).deserialize_cuda_engine("a string"),
        lambda: 1 << trt.TensorIOMode.INPUT,
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        build.config.optimisation_level = 3
    with pytest.raises(AttributeError):
        build.builder.num_DLA_cores = 2


def test_a_subclass_must_run_the_constructor_below_it(trt):
    class Careless(trt.ILogger):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="must be called"):
        Careless()


def test_a_plan_has_bytes_but_no_length(trt, detector):
    plan = Build(trt, detector).run()
    assert plan.nbytes == len(bytes(plan)) > 1000
    assert plan
    with pytest.raises(TypeError):
        len(plan)


FAULTS = [
    pytest.param("none", "Internal Error", id="no reason"),
    pytest.param("out of memory", "OutOfMemory", id="memory"),
    pytest.param("workspace", "insufficient workspace", id="workspace"),
]


@pytest.mark.parametrize(("kind", "reason"), FAULTS)
def test_a_failed_build_is_none_and_a_line_in_the_log(trt, detector, kind, reason):
    trt._gpu.fail("build", kind)
    build = Build(trt, detector)
    assert build.run() is None
    assert reason in build.lines[-1]
    assert build.run() is not None, "the fault was used up"


def test_a_build_needs_a_profile_for_what_is_dynamic(trt, detector):
    build = Build(trt, detector, profile=False)
    assert build.run() is None
    assert "no optimization profile has been defined" in build.lines[-1]
    profile = build.builder.create_optimization_profile()
    profile.set_shape("images", (4, 3, 64, 64), (1, 3, 64, 64), (4, 3, 64, 64))
    assert build.config.add_optimization_profile(profile) == -1
    assert "MIN<=OPT<=MAX" in build.lines[-1]


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_progress_is_reported_in_phases_and_can_be_cancelled(version, detector):
    trt, seen = fake_tensorrt(version, FakeGpu()), []

    class Monitor(trt.IProgressMonitor):
        def __init__(self, steps, cancel):
            trt.IProgressMonitor.__init__(self)
            self.steps, self.cancel = steps, cancel

        def phase_start(self, phase_name, parent_phase, num_steps):
            seen.append((phase_name, parent_phase))

        def step_complete(self, phase_name, step):
            self.steps -= 1
            if self.steps < 0:
                return self.cancel()
            return True

        def phase_finish(self, phase_name):
            seen.append(phase_name)

    build = Build(trt, detector)
    build.config.progress_monitor = Monitor(1000, lambda: True)
    assert build.run() is not None
    assert seen[:2] == [("Building engine", None), ("Tactic timing", "Building engine")]
    assert seen[2:] == ["Tactic timing", "Building engine"]
    for cancel in (lambda: False, lambda: 1 / 0):
        build.config.progress_monitor = Monitor(3, cancel)
        assert build.run() is None
        assert "BuildCanceled" in build.lines[-1]


def test_unknown_operators_are_told_by_node(trt, tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Wobble", ["x"], ["y"], name="w0")],
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "net.onnx")
    build = Build(trt, tmp_path / "net.onnx", profile=False)
    assert not build.parsed
    error = build.parser.get_error(0)
    assert (error.node(), error.code().name) == (0, "INVALID_NODE")
    assert "Plugin not found" in error.desc()
    assert hasattr(error, "node_operator") == (not trt.__version__.startswith("8"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(None, "INVALID_VALUE", id="no file"),
        pytest.param(lambda model: model[: len(model) // 2], "MODEL_DESERIALIZE_FAILED", id="half"),
    ],
)
def test_files_that_are_no_network_fail_in_the_parser(trt, detector, tmp_path, content, code):
    path = tmp_path / "broken.onnx"
    if content:
        path.write_bytes(content(detector.read_bytes()))
    build = Build(trt, path, profile=False)
    assert not build.parsed
    assert build.parser.get_error(0).code().name == code


def test_11_parses_nonsense_into_an_empty_network(detector):
    build = Build(fake_tensorrt("11.4.0", FakeGpu()), detector)
    network = build.builder.create_network(0)
    parser = type(build.parser)(network, build.builder._logger)
    assert parser.parse(b"hello world")
    assert (network.num_inputs, network.num_outputs, parser.num_errors) == (0, 0, 0)


def test_unknown_creation_flags_make_no_network(trt):
    assert trt.Builder(trt.Logger()).create_network(1 << 7) is None


def test_flags_and_strong_typing_do_not_mix(detector):
    trt = fake_tensorrt("10.3.0", FakeGpu())
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    build = Build(trt, detector, flags=strong)
    build.config.set_flag(trt.BuilderFlag.FP16)
    assert build.run() is None
    assert "strongly typed" in build.lines[-1]
    build.config.clear_flag(trt.BuilderFlag.FP16)
    assert build.run() is not None


def test_8_6_needs_the_explicit_batch(detector):
    build = Build(fake_tensorrt("8.6.1", FakeGpu()), detector, flags=0)
    assert not build.parsed
    assert "explicit batch" in build.parser.get_error(0).desc()


def test_a_timing_cache_saves_timing_and_fits_one_device(trt, detector):
    gpu, build = trt._gpu, Build(trt, detector)
    cache = build.config.create_timing_cache(b"")
    assert build.config.set_timing_cache(cache, ignore_mismatch=False)
    assert build.run() is not None
    first = gpu.calls["tactic"]
    blob = bytes(build.config.get_timing_cache().serialize())
    again = Build(trt, detector)
    again.config.set_timing_cache(again.config.create_timing_cache(blob), ignore_mismatch=False)
    assert again.run() is not None
    assert gpu.calls["tactic"] == first > 0
    gpu.sm_count = 4
    other = Build(trt, detector)
    assert not other.config.set_timing_cache(other.config.create_timing_cache(blob), False)
    assert other.config.set_timing_cache(other.config.create_timing_cache(b"rot"), False)
    assert "WARNING: The timing cache is corrupt" in other.lines[-1]


@pytest.mark.parametrize("version", WEAK)
def test_half_precision_weights_need_the_flag_where_typing_is_weak(version, tmp_path):
    path = NETWORKS[0].save(tmp_path / "net.onnx", dtype=TensorProto.FLOAT16)
    build = Build(fake_tensorrt(version, FakeGpu()), path)
    assert build.run() is None
    build.config.set_flag(build.builder._trt.BuilderFlag.FP16)
    assert build.run() is not None


def test_a_plan_of_wrong_weights_answers_something_else(trt, detector):
    good = build_plan(trt, detector, (1, 1, 4))
    trt._gpu.fail("build", "wrong weights")
    assert build_plan(trt, detector, (1, 1, 4)) != good


def test_without_a_driver_the_builder_is_a_null_pointer():
    trt = fake_tensorrt("10.3.0", FakeGpu(driver=False))
    for make in (trt.Builder, trt.Runtime):
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            make(trt.Logger())


# CUDA


@pytest.fixture
def cuda() -> Any:
    return fake_pycuda(FakeGpu())[1]


def on_a_thread(work: Any) -> None:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join(HANG)


def test_nothing_works_before_init_and_without_a_context(cuda):
    with pytest.raises(cuda.LogicError, match="initialization error"):
        cuda.Device(0)
    cuda.init()
    for use in (cuda.Stream, cuda.mem_get_info, lambda: cuda.mem_alloc(1)):
        with pytest.raises(cuda.LogicError, match="no currently active context"):
            use()


def test_a_thread_that_ends_with_a_context_is_noticed(cuda):
    cuda.init()
    on_a_thread(lambda: cuda.Device(0).retain_primary_context().push())
    assert cuda.Device.gpu.violations == ["thread worker ended with a context: abort"]


def test_what_another_thread_frees_is_noticed(cuda):
    cuda.init()
    kept = []

    def work():
        context = cuda.Device(0).retain_primary_context()
        context.push()
        kept.append(cuda.mem_alloc(16))
        context.detach()

    on_a_thread(work)
    assert cuda.Device.gpu.left == {"device memory": 1}
    kept.clear()
    assert cuda.Device.gpu.violations == ["device memory freed on another thread"]


def test_copies_happen_when_somebody_waits(cuda):
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    stream, memory = cuda.Stream(), cuda.mem_alloc(4)
    host = np.array([1, 2, 3, 4], np.uint8)
    cuda.memcpy_htod_async(memory, host, stream)
    host[0] = 9
    stream.synchronize()
    assert bytes(cuda.Device.gpu.at(int(memory), 4)) == bytes([9, 2, 3, 4])
    del stream, memory
    context.detach()
    assert cuda.Device.gpu.left == {}
    assert cuda.Device.gpu.violations == []


def test_a_sticky_error_stays_and_a_pop_is_refused(cuda):
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    stream, memory = cuda.Stream(), cuda.mem_alloc(4)
    cuda.memcpy_htod_async(int(memory) + 4, np.zeros(4, np.uint8), stream)
    with pytest.raises(cuda.LogicError, match="illegal memory access"):
        stream.synchronize()
    for use in (cuda.Context.synchronize, cuda.mem_get_info, cuda.Context.pop):
        with pytest.raises(cuda.LogicError, match="illegal memory access"):
            use()
    del stream, memory
    context.detach()
    assert cuda.Device.gpu.left == {}
