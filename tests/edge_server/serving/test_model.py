"""A loaded model: batches of any size, fixed-batch networks, honest failures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.errors import ModelFailedError
from edge_server.models.package import ModelPackage
from edge_server.serving import model as serving_model
from edge_server.serving.model import Model, load_model
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.preprocess import NetworkInput
from engines.base import EngineError
from engines.onnx_cpu import OnnxCpuEngine
from tests.networks import cells, head_rows, save_detector

CELLS = cells(64, 64)
# The box moves right with the brightness of the picture: which answer is whose is visible.
ROWS = head_rows([[20, 32, 8, 8]], [[0.9, 0.1]], CELLS)
GAIN = np.zeros_like(ROWS)
GAIN[0, 0] = 20


def package(tmp_path, *, max_batch_size=8, batch="batch", rows=ROWS, size=(64, 64), names="ab"):
    weights = save_detector(tmp_path / "weights.onnx", rows, gain=GAIN, batch=batch, size=size)
    return ModelPackage(
        model_id="x/1",
        task="object-detection",
        family="yolov8",
        class_names=tuple(names),
        network_input=NetworkInput(height=64, width=64, resize_mode="stretch"),
        thresholds=Thresholds(),
        max_batch_size=max_batch_size,
        weights=weights,
    )


def pictures(*levels):
    return [np.full((64, 64, 3), level, np.uint8) for level in levels]


def centres(predictions):
    return [float((box[0] + box[2]) / 2) for found in predictions for box in found.boxes]


@pytest.mark.parametrize(("batch", "limit"), [("batch", 8), ("batch", 2), (1, 8), (2, 8), (4, 1)])
def test_every_picture_gets_its_own_answer_in_order(tmp_path, batch, limit):
    model = load_model(package(tmp_path, batch=batch, max_batch_size=limit), threads=1)
    predictions, timings = model.predict(pictures(0, 51, 102, 153, 255), InferParams())
    assert centres(predictions) == [20, 24, 28, 32, 40]
    assert timings.preprocess > 0
    assert timings.engine > 0
    assert timings.decode > 0


def test_no_pass_is_larger_than_the_package_allows(tmp_path, monkeypatch):
    model = load_model(package(tmp_path, max_batch_size=3), threads=1)
    sizes = []
    run = OnnxCpuEngine.run
    monkeypatch.setattr(
        OnnxCpuEngine,
        "run",
        lambda self, feeds: sizes.append(len(feeds["images"])) or run(self, feeds),
    )
    model.predict(pictures(*range(7)), InferParams())
    assert sizes == [3, 3, 1]


def test_a_loaded_model_tells_what_runs_it_and_what_it_did(tmp_path):
    model = load_model(package(tmp_path), threads=1)
    assert (model.engine_name, model.precision) == ("onnxruntime-cpu", "fp32")
    assert model.inferences == 0
    model.predict(pictures(0, 1, 2), InferParams())
    model.predict(pictures(3), InferParams())
    assert model.inferences == 4


def test_a_model_holds_what_the_process_grew_by_and_at_least_its_weights(tmp_path, monkeypatch):
    least = load_model(package(tmp_path), threads=1).package.weights.stat().st_size
    for readings, held in [((100, 100), least), ((100, 100 + 5 * least), 5 * least)]:
        monkeypatch.setattr(serving_model, "private_bytes", iter(readings).__next__)
        assert load_model(package(tmp_path), threads=1).nbytes == held


def test_no_pictures_give_no_predictions(tmp_path):
    predictions, _ = load_model(package(tmp_path), threads=1).predict([], InferParams())
    assert predictions == []


def test_a_model_has_run_once_before_it_counts_as_loaded(tmp_path, monkeypatch):
    runs = []
    run = OnnxCpuEngine.run
    monkeypatch.setattr(
        OnnxCpuEngine, "run", lambda self, feeds: runs.append(1) or run(self, feeds)
    )
    load_model(package(tmp_path), threads=1)
    assert runs == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (32, 64)}, r"\(\?, 3, 32, 64\); expected float \(batch, 3, 64, 64\)"),
        (
            {"names": "abc"},
            r"its outputs are \(1, 6, 84\); expected \(batch, 4 \+ classes \+ 0, cells\) for 3",
        ),
    ],
)
def test_weights_that_are_not_what_the_package_says_are_refused(tmp_path, changes, message):
    with pytest.raises(ModelFailedError, match=message):
        load_model(package(tmp_path, **changes), threads=1)


def test_damaged_weights_are_refused(tmp_path):
    broken = package(tmp_path)
    broken.weights.write_bytes(b"")
    with pytest.raises(ModelFailedError, match=r"x/1 cannot be loaded: weights\.onnx"):
        load_model(broken, threads=1)


def test_an_engine_that_fails_is_reported_with_the_model(tmp_path, monkeypatch):
    model: Model = load_model(package(tmp_path), threads=1)

    def fail(self, feeds):
        raise EngineError("out of memory")

    monkeypatch.setattr(OnnxCpuEngine, "run", fail)
    with pytest.raises(ModelFailedError, match=r"Model x/1 failed: out of memory"):
        model.predict(pictures(0), InferParams())
