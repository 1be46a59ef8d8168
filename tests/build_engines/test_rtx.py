"""The real builder of TensorRT-RTX, which parses and builds on a CPU: see ``tests/rtx``."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
from onnx import helper, numpy_helper

from benchmarks.networks import save_nano_yolo
from build_engines.graph import prepare_graph
from build_engines.recipe import PixelInput
from build_engines.run import run_build
from engines.onnx_cpu import open_onnx
from tests.build_engines.support import ORIN, pixels_of, recipe, request
from tests.build_engines.test_graph import save_nodes
from tests.networks import BY_NAME
from tests.support import ROOT

pytestmark = pytest.mark.trt_rtx
DEMOS = sorted((ROOT / "edge_server" / "bundled").glob("*/1/weights.onnx"))


@pytest.fixture
def build(rtx_environment, tmp_path):
    """Build a network as it is; what came of it."""

    def run(network, wanted, stop_at=2.0):
        script = ROOT / "tests" / "rtx" / "build.py"
        told = (network, msgspec.json.encode(wanted).decode(), tmp_path / "timing", stop_at)
        done = subprocess.run(
            [sys.executable, str(script), *map(str, told)],
            env=rtx_environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def prepared(weights, tmp_path, pictures=None, **changes):
    height, width = open_onnx(weights, threads=1).inputs[0].shape[2:]
    wanted = recipe(size_wh=(width, height), **changes)
    prepare_graph(weights, tmp_path / "network.onnx", wanted, pictures)
    return tmp_path / "network.onnx", wanted


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("weights", DEMOS, ids=lambda path: path.parts[-3])
def test_the_demo_models_become_plans(weights, precision, build, tmp_path):
    told = build(*prepared(weights, tmp_path, precision=precision))
    assert told["bytes"] > 100_000, told
    assert len(told["outputs"]) == len(open_onnx(weights, threads=1).outputs)


def test_half_weights_make_a_smaller_plan(build, tmp_path):
    weights = save_nano_yolo(tmp_path / "a.onnx", size=128)
    full, half = (
        build(*prepared(weights, tmp_path, precision=precision, batch=(1, 1, 1)))["bytes"]
        for precision in ("fp32", "fp16")
    )
    assert half < 0.7 * full


@pytest.mark.parametrize("name", ["demo-parts", "demo-trays"])
def test_int8_is_read(name, build, tmp_path):
    folder = ROOT / "edge_server" / "bundled" / name / "1"
    height, width = open_onnx(folder / "weights.onnx", threads=1).inputs[0].shape[2:]
    pictures = [
        cv2.resize(cv2.imread(str(path)), (width, height))
        for path in (folder / "examples").glob("*.jpg")
    ]
    network = prepared(folder / "weights.onnx", tmp_path, pictures, precision="int8")
    assert build(*network)["bytes"] > 100_000


@pytest.mark.parametrize("name", ["yolov8-seg", "yolov5-raw-heads", "resnet", "yolo26-sem"])
def test_layouts_of_other_families_become_plans(name, build, tmp_path):
    weights = BY_NAME[name].save(tmp_path / "a.onnx")
    network = prepared(weights, tmp_path, precision="fp16", pixels=pixels_of(BY_NAME[name]))
    assert build(*network).get("bytes", 0) > 1000


def test_progress_rises_and_can_cancel(build, tmp_path):
    network = prepared(DEMOS[0], tmp_path)
    told = build(*network)
    assert len(told["fractions"]) > 50
    assert told["fractions"] == sorted(told["fractions"])
    assert 0 < told["fractions"][0] < 0.1
    assert 0.7 < told["fractions"][-1] <= 1
    told = build(*network, stop_at=0.3)
    assert (told["kind"], told["message"]) == ("cancelled", "The build was cancelled.")
    assert told["fractions"][-1] < 0.9


def foreign(path):
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="the node", domain="mine")
    save_one(path, node, domain="mine")


def unsupported(path):
    save_one(path, helper.make_node("Det", ["x"], ["y"], name="the node"))


def malformed(path):
    weights = numpy_helper.from_array(np.ones((4, 5, 3, 3), np.float32), "w")
    save_one(path, helper.make_node("Conv", ["x", "w"], ["y"], name="the node"), weights)


def cut(path):
    content = DEMOS[0].read_bytes()
    path.write_bytes(content[: len(content) // 2])


def save_one(path, node, *constants, domain=None):
    values = [helper.make_tensor_value_info(name, 1, [1, 3, 64, 64]) for name in ("x", "y")]
    save_nodes(path, [node], values[:1], values[1:], constants)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(foreign, "has no operation Frobnicate (node 0, 'the node')", id="foreign"),
        pytest.param(unsupported, "has no operation Det (node 0, 'the node')", id="unsupported"),
        pytest.param(
            malformed, "malformed at operation Conv (node 0, 'the node').", id="malformed"
        ),
        pytest.param(cut, "it is damaged", id="cut"),
        pytest.param(lambda path: path.write_bytes(b"hello world"), "is damaged", id="garbage"),
        pytest.param(lambda path: path.write_bytes(b""), "is damaged", id="empty"),
    ],
)
def test_a_broken_network_is_refused_in_plain_words(write, message, build, tmp_path):
    write(tmp_path / "broken.onnx")
    told = build(tmp_path / "broken.onnx", recipe(pixels=None))
    assert told["kind"] == "parser"
    assert message in told["message"]


def test_too_little_workspace_is_told_as_such(build, tmp_path):
    told = build(*prepared(DEMOS[0], tmp_path, workspace_mib=0))
    assert (told["kind"], "--workspace-mib" in told["message"]) == ("other", True), told


def test_the_child_builds_and_says_that_no_gpu_can_run_the_plan(
    rtx_environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", rtx_environment["PYTHONPATH"])
    wanted = request(tmp_path, replace(ORIN, tensorrt="11.4.0"), pixels=PixelInput())
    seen = []
    result = run_build(wanted, seen.append, threading.Event())
    assert [progress.state for progress in seen][-1] == "testing"
    assert result.failure == "other"
    assert "driver" in result.message or "pycuda" in result.message, result.message
