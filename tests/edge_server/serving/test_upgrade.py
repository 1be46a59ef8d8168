"""From the CPU to TensorRT beside running requests, on doubles of five TensorRT versions."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from edge_server.appliance import Appliance
from edge_server.serving import model as serving_model
from edge_server.settings import Settings
from edge_server.vision.params import InferParams
from tests.doubles.gpu import FakeGpu
from tests.doubles.install import child_environment, doubles
from tests.doubles.tensorrt import VERSIONS
from tests.upgrades import CPU, MODEL, install, picture, wait_for


@pytest.fixture
def data(tmp_path):
    """A data directory with a model that has a golden picture."""
    return install(tmp_path / "data")


@pytest.fixture
def start(data, monkeypatch):
    """An appliance on doubles, as a server starts it."""

    @contextmanager
    def run(version="10.3.0", *, gpu=None, faults=None, lost=lambda: None, **settings):
        """``faults``: of the children that build."""
        with monkeypatch.context() as patch, doubles(version, FakeGpu(**(gpu or {}))) as installed:
            for name, value in child_environment(version, gpu, faults).items():
                patch.setenv(name, value)
            appliance = Appliance(Settings(data_dir=data, engine_threads=1, **settings), lost)
            appliance.gpu = installed.gpu
            appliance.upgrader.start()
            try:
                yield appliance
            finally:
                appliance.upgrader.close()
                appliance.pool.clear()
        if not installed.gpu.sticky:  # on a broken GPU nothing can be freed
            assert installed.gpu.left == {}
        assert installed.gpu.violations == []

    return run


def ask(appliance):
    """The name of the engine that answers, and its answer."""
    with appliance.pool.lease(MODEL) as (model, _):
        (found,), _ = model.predict([picture()], InferParams())
        return model.engine_name, found


def engine(appliance):
    return next((state.model.engine_name for state in appliance.pool.states() if state.model), None)


def upgraded(appliance):
    wait_for(lambda: (engine(appliance) or CPU) != CPU, lambda: appliance.upgrader.state(MODEL))
    return engine(appliance)


def settled(appliance, state):
    wait_for(lambda: getattr(appliance.upgrader.state(MODEL), "state", None) == state)
    return str(appliance.upgrader.state(MODEL))


@pytest.fixture
def sessions(monkeypatch):
    """Every ONNX Runtime session that is opened for a model from now on."""
    opened = []
    open_onnx = serving_model.open_onnx
    monkeypatch.setattr(
        serving_model,
        "open_onnx",
        lambda path, **more: opened.append(path) or open_onnx(path, **more),
    )
    return opened


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_answers_on_the_cpu_then_on_tensorrt_then_at_once(version, start, sessions):
    with start(version) as appliance:
        first, expected = ask(appliance)
        assert first == CPU
        assert upgraded(appliance) == "tensorrt-fp16"
        wait_for(lambda: appliance.upgrader.state(MODEL) is None)
        name, found = ask(appliance)
        assert name == "tensorrt-fp16"
        assert sorted(found.class_ids) == sorted(expected.class_ids)
        assert len(found) >= 3
    sessions.clear()
    with start(version, faults={"build": ["crash"]}) as appliance:
        assert ask(appliance)[0] == "tensorrt-fp16"
        assert sessions == []
        assert appliance.upgrader.state(MODEL) is None


def test_another_tensorrt_builds_anew(start):
    with start("10.3.0") as appliance:
        ask(appliance)
        upgraded(appliance)
    with start("10.13.3") as appliance:
        assert ask(appliance)[0] == CPU
        assert upgraded(appliance) == "tensorrt-fp16"


def test_another_driver_compares_anew_without_a_build(start):
    with start() as appliance:
        ask(appliance)
        upgraded(appliance)
    with start(gpu={"driver_version": 13000}, faults={"build": ["crash"]}) as appliance:
        assert ask(appliance)[0] == CPU
        assert upgraded(appliance) == "tensorrt-fp16"
    with start(gpu={"driver_version": 13000}) as appliance:
        assert ask(appliance)[0] == "tensorrt-fp16"


def test_a_damaged_plan_is_built_anew(start, data):
    with start() as appliance:
        ask(appliance)
        upgraded(appliance)
    (plan,) = data.rglob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1] + b"!")
    with start() as appliance:
        assert ask(appliance)[0] == CPU
        assert upgraded(appliance) == "tensorrt-fp16"


def test_only_the_precision_of_the_settings_is_built_and_used(start):
    with start(precision="fp32") as appliance:
        ask(appliance)
        assert upgraded(appliance) == "tensorrt-fp32"
    with start(precision="fp16") as appliance:
        assert ask(appliance)[0] == CPU
    with start(precision="off") as appliance:
        assert ask(appliance)[0] == CPU
        assert appliance.upgrader.state(MODEL) is None
    with start(precision="int8") as appliance:
        ask(appliance)
        assert "the settings allow no precision" in settled(appliance, "refused")


def test_a_bad_engine_is_refused_and_the_cpu_stays(start, data):
    with start(faults={"build": ["wrong weights"]}) as appliance:
        expected = ask(appliance)
        told = settled(appliance, "refused")
        assert told.startswith("serving on onnxruntime-cpu, tensorrt-fp32 refused: picture 1: ")
        name, found = ask(appliance)
        assert name == CPU
        assert np.array_equal(found.boxes, expected[1].boxes)
    assert not list(data.rglob("*.plan"))
    assert len(list(data.rglob("*.bad.json"))) == 2, "fp16 and fp32, for people"
    with start() as appliance:  # nothing is tried again
        ask(appliance)
        settled(appliance, "refused")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param("killed", "tensorrt-fp16 out_of_memory: The system ran out", id="SIGKILL"),
        pytest.param(
            "crash", "tensorrt-fp16 crashed: The build crashed with SIGSEGV", id="SIGSEGV"
        ),
        pytest.param("none", "tensorrt-fp16 other: TensorRT built nothing", id="no plan"),
    ],
)
def test_a_build_that_dies_changes_nothing_but_the_state(fault, told, start):
    with start(faults={"build": [fault]}) as appliance:
        ask(appliance)
        text = settled_with(appliance, "Next try in 1 min.")
        assert text.startswith(f"serving on onnxruntime-cpu, {told}")
        assert ask(appliance)[0] == CPU


def settled_with(appliance, words):
    wait_for(lambda: words in str(appliance.upgrader.state(MODEL)))
    return str(appliance.upgrader.state(MODEL))


def test_a_build_waits_for_memory(start, monkeypatch):
    monkeypatch.setattr("build_engines.run._available_mib", lambda: 100)
    with start() as appliance:
        ask(appliance)
        told = settled_with(appliance, "memory")
    assert told.startswith("serving on onnxruntime-cpu, waiting for memory: 100 MiB of memory are")


def test_progress_is_told_and_the_end_does_not_wait_for_the_build(start):
    with start(gpu={"seconds_per_step": 0.5}) as appliance:
        ask(appliance)
        settled_with(appliance, "serving on onnxruntime-cpu, building tensorrt-fp16, ")
        began = time.monotonic()
        appliance.upgrader.close()
        assert time.monotonic() - began < 5
        assert not [t for t in threading.enumerate() if t.name == "upgrade"]


def test_a_model_that_is_removed_meanwhile_stays_removed(start):
    with start(gpu={"seconds_per_step": 0.1}) as appliance:
        ask(appliance)
        settled_with(appliance, "building")
        appliance.pool.remove(MODEL)
        wait_for(lambda: appliance.upgrader.state(MODEL) is None)
        assert engine(appliance) is None


def test_the_weights_are_not_read_again_to_find_their_engine(start, data):
    with start() as appliance:
        ask(appliance)
        upgraded(appliance)
    weights = data / "models" / MODEL / "weights.onnx"
    opened = []
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    with start() as appliance:
        assert ask(appliance)[0] == "tensorrt-fp16"
    assert opened
    assert str(weights) not in map(str, opened)
