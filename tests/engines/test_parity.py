"""One table over every engine: the same network and the same pictures give the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from engines.base import Engine, EngineError, FeedError
from engines.onnx_cpu import open_onnx
from tests.doubles.gpu import FakeGpu
from tests.doubles.install import doubles
from tests.doubles.plans import make_artifact
from tests.doubles.tensorrt import VERSIONS
from tests.engines.graphs import from_bytes, rows_above
from tests.networks import NETWORKS

Open = Callable[[Path], Engine]
ENGINES = [
    pytest.param(None, True, id="onnxruntime-cpu"),
    *(pytest.param(version, True, id=f"tensorrt {version}") for version in VERSIONS),
    pytest.param("10.3.0", False, id="tensorrt 10.3.0 on a GPU with memory of its own"),
]
LAYOUTS = {network.name: network for network in NETWORKS}


NETS = [
    pytest.param(lambda path: LAYOUTS["yolov8-raw"].save(path), id="detector, any batch"),
    pytest.param(
        lambda path: LAYOUTS["yolov8-raw"].save(path, batch=2), id="detector, batch of two"
    ),
    pytest.param(lambda path: LAYOUTS["yolov8-seg"].save(path), id="two outputs"),
    pytest.param(
        lambda path: LAYOUTS["yolov8-raw"].save(path, dtype=TensorProto.FLOAT16),
        id="half precision",
    ),
    pytest.param(lambda path: LAYOUTS["yolov8-raw"].save(path, int8=True), id="int8"),
    pytest.param(from_bytes, id="uint8 pixels"),
    pytest.param(rows_above, id="as many rows as the data says"),
]


@pytest.fixture(params=[param.values for param in ENGINES], ids=[param.id for param in ENGINES])
def open_engine(request: pytest.FixtureRequest) -> Iterator[Open]:
    version, integrated = request.param
    if version is None:
        yield lambda path: open_onnx(path, threads=1)
        return
    with doubles(version, FakeGpu(integrated=integrated)) as installed:
        opened = []

        def open_(path: Path) -> Engine:
            artifact = make_artifact(installed.gpu, installed.tensorrt, path)
            opened.append(installed.module("engines.trt").open_tensorrt(artifact))
            return opened[-1]

        yield open_
        for engine in opened:
            engine.close()
        assert installed.gpu.left == {}
        assert installed.gpu.violations == []


def pictures(engine: Engine, batch: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feeds = {}
    for spec in engine.inputs:
        shape = [batch if dim is None else dim for dim in spec.shape]
        values = random.integers(0, 256, shape)
        feeds[spec.name] = (values if spec.dtype == np.uint8 else values / 255).astype(spec.dtype)
    return feeds


@pytest.mark.parametrize("save", NETS)
def test_every_engine_gives_the_answers_of_onnx_runtime(open_engine, tmp_path, save):
    path = save(tmp_path / "net.onnx")
    reference, engine = open_onnx(path, threads=1), open_engine(path)
    assert engine.inputs == reference.inputs
    assert [spec.name for spec in engine.outputs] == [spec.name for spec in reference.outputs]
    assert [spec.shape for spec in engine.outputs] == [spec.shape for spec in reference.outputs]
    for seed, batch in enumerate((1, 4, 2)):
        feeds = pictures(engine, batch, seed)
        expected, answers = reference.run(feeds), engine.run(feeds)
        assert list(answers) == [spec.name for spec in engine.outputs]
        for name, answer in answers.items():
            np.testing.assert_allclose(answer, expected[name], rtol=1e-3, atol=1e-3)
            assert answer.dtype == {s.name: s.dtype for s in engine.outputs}[name]


def test_outputs_belong_to_the_caller(open_engine, tmp_path):
    engine = open_engine(from_bytes(tmp_path / "net.onnx"))
    first = engine.run(pictures(engine, 2, 1))["output0"]
    before = first.copy()
    second = engine.run(pictures(engine, 2, 2))["output0"]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, before)
    first[:] = 7


@pytest.mark.parametrize(
    "feeds",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"other": np.zeros((1, 8, 8, 3), np.uint8)}, id="another name"),
        pytest.param({"pixels": np.zeros((1, 8, 8, 3), np.float32)}, id="another type"),
        pytest.param({"pixels": np.zeros((1, 8, 9, 3), np.uint8)}, id="another size"),
        pytest.param({"pixels": np.zeros((8, 8, 3), np.uint8)}, id="no batch"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(open_engine, tmp_path, feeds):
    engine = open_engine(from_bytes(tmp_path / "net.onnx"))
    with pytest.raises(FeedError):
        engine.run(feeds)
    assert engine.run(pictures(engine, 1, 0))["output0"].shape == (1, 3, 8, 8)


def test_a_closed_engine_says_so(open_engine, tmp_path):
    engine = open_engine(from_bytes(tmp_path / "net.onnx"))
    assert engine.nbytes > 0
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(pictures_for_bytes())


def pictures_for_bytes() -> dict[str, np.ndarray]:
    return {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}
