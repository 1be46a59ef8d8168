"""The engine every device has: what it accepts, what it answers, how it fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from onnxruntime.quantization import quantize_dynamic

from edge_server.models.store import BUNDLED_MODELS
from engines.base import EngineError, EngineOpenError, FeedError, TensorSpec
from engines.onnx_cpu import OnnxCpuEngine, open_onnx
from tests.networks import head_rows, save_detector

ROWS = head_rows([[10, 10, 4, 4]], [[0.9, 0.1]], 84)
GAIN = np.ones_like(ROWS)


@pytest.fixture
def engine(tmp_path: Path) -> OnnxCpuEngine:
    return open_onnx(save_detector(tmp_path / "net.onnx", ROWS, gain=GAIN), threads=1)


def pictures(*levels: float) -> np.ndarray:
    return np.stack([np.full((3, 64, 64), level, np.float32) for level in levels])


def test_declares_inputs_and_outputs_with_dynamic_dimensions_as_none(engine):
    assert engine.inputs == (TensorSpec("images", np.dtype(np.float32), (None, 3, 64, 64)),)
    assert engine.outputs == (TensorSpec("output0", np.dtype(np.float32), (None, 6, 84)),)
    assert engine.name == "onnxruntime-cpu"


def test_holds_at_least_its_weights(tmp_path):
    path = save_detector(tmp_path / "net.onnx", ROWS)
    assert open_onnx(path, threads=1).nbytes == path.stat().st_size


def test_runs_batches_of_any_size(engine):
    for levels in ([0.5], [0.0, 1.0, 2.0]):
        output = engine.run({"images": pictures(*levels)})["output0"]
        np.testing.assert_allclose(output, ROWS[None] + np.reshape(levels, (-1, 1, 1)), rtol=1e-5)


def test_outputs_belong_to_the_caller(engine):
    first = engine.run({"images": pictures(0.0)})["output0"]
    before = first.copy()
    second = engine.run({"images": pictures(1.0)})["output0"]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, before)
    first[:] = 7  # writable: nobody else reads it


def test_many_threads_get_their_own_answers(engine):
    levels = [index / 100 for index in range(64)]
    with ThreadPoolExecutor(8) as threads:
        outputs = list(
            threads.map(lambda x: engine.run({"images": pictures(x)})["output0"], levels)
        )
    for level, output in zip(levels, outputs, strict=True):
        np.testing.assert_allclose(output, ROWS[None] + level, atol=1e-3)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "the engine has the inputs"),
        ({"pictures": pictures(0)}, "pictures"),
        ({"images": pictures(0).astype(np.float64)}, "float64"),
        ({"images": pictures(0)[:, :, :32]}, r"\(1, 3, 32, 64\)"),
        ({"images": pictures(0)[0]}, r"\(3, 64, 64\)"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_by_name(engine, feeds, message):
    with pytest.raises(FeedError, match=message):
        engine.run(feeds)


def test_half_precision_weights_take_half_precision_pictures(tmp_path):
    path = save_detector(tmp_path / "half.onnx", ROWS, gain=GAIN, dtype=TensorProto.FLOAT16)
    engine = open_onnx(path, threads=1)
    output = engine.run({"images": pictures(1.0).astype(np.float16)})["output0"]
    assert output.dtype == np.float16
    assert engine.precision == "fp16"


def test_tells_the_precision_of_the_weights_that_users_have(tmp_path):
    weights = BUNDLED_MODELS / "demo-trays" / "1" / "weights.onnx"
    quantize_dynamic(weights, tmp_path / "int8.onnx")
    assert open_onnx(weights, threads=1).precision == "fp32"
    assert open_onnx(tmp_path / "int8.onnx", threads=1).precision == "int8"


def test_metadata_is_what_the_exporter_wrote(tmp_path):
    path = save_detector(tmp_path / "net.onnx", ROWS, metadata={"task": "detect"})
    assert open_onnx(path, threads=1).description.metadata == {"task": "detect"}


@pytest.mark.parametrize("content", [b"", b"not a network", None])
def test_files_that_are_no_network_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineOpenError, match=r"^broken\.onnx cannot be opened: [^\n]+$"):
        open_onnx(path, threads=1)


def test_a_closed_engine_says_so(engine):
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": pictures(0)})


def test_idle_threads_do_not_spin(tmp_path, monkeypatch):
    entries = {}
    import onnxruntime as ort

    class Recorder(ort.SessionOptions):
        def add_session_config_entry(self, key, value):
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(ort, "SessionOptions", Recorder)
    open_onnx(save_detector(tmp_path / "net.onnx", ROWS), threads=2)
    assert entries["session.intra_op.allow_spinning"] == "0"
