"""Steps stored with a model change what it sees, unless the request switches them off."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest

from benchmarks.networks import Graph
from edge_server.models.store import ModelStore
from tests.edge_server.api.conftest import as_object, post
from tests.networks import BY_NAME, save_package
from tests.support import running_server

SIZE = 64
# The network sees pure colours only; each step below takes them away, or brings them out.
STEPS = {
    "grey": {"grayscale": {"enabled": True}},
    "right": {
        "static-crop": {"enabled": True, "x_min": 50, "x_max": 100, "y_min": 0, "y_max": 100}
    },
    "contrast": {"contrast": {"enabled": True, "type": "Contrast Stretching"}},
}


def picture(level=255):
    """A red square in the left half."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[8:24, 8:24] = (0, 0, level)
    return as_object(cv2.imencode(".png", image)[1].tobytes())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    store = ModelStore(folder / "data" / "models")
    for name, steps in STEPS.items():
        package = save_package(folder / name, BY_NAME["yolov8-raw"])
        config = json.loads((package / "inference_config.json").read_text())
        config["image_pre_processing"] = steps
        (package / "inference_config.json").write_text(json.dumps(config))
        store.install(f"{name}/1", package, prove=lambda package: None)
    package = save_package(folder / "nan", BY_NAME["yolov8-raw"])
    save_detector_that_fails_on_white(package / "weights.onnx")
    store.install("nan/1", package, prove=lambda package: None)
    with running_server(folder / "data") as url:
        yield url


def save_detector_that_fails_on_white(path) -> None:
    """The square root of half minus the brightness: a number on black, none on white."""
    graph = Graph()
    brightness = graph.add("ReduceMean", "images", axes=[1, 2, 3], keepdims=1)
    root = graph.add("Sqrt", graph.add("Sub", graph.constant(np.array(0.5)), brightness))
    row = graph.reshape(root, 0, 1, 1)
    head = graph.add("Mul", row, graph.constant(np.full((1, 7, 84), 0.01)))
    graph.save(path, {"output0": head}, size=(SIZE, SIZE), batch="batch")
    assert onnx.load(path)


@pytest.mark.parametrize(
    ("model", "switch", "found_with", "found_without"),
    [
        pytest.param("grey/1", "disable_preproc_grayscale", 0, 1, id="greyscale hides the colour"),
        pytest.param("right/1", "disable_preproc_static_crop", 0, 1, id="the crop cuts it off"),
        pytest.param("contrast/1", "disable_preproc_contrast", 1, 0, id="contrast brings it out"),
    ],
)
def test_steps_are_done_unless_switched_off(server, model, switch, found_with, found_without):
    image = picture(level=100 if model == "contrast/1" else 255)
    for value, expected in ((False, found_with), (True, found_without)):
        body = {"model_id": model, "image": image, "class_agnostic_nms": True, switch: value}
        answer = post(f"{server}/infer/object_detection", body).json
        assert bool(answer["predictions"]) == bool(expected), answer
        assert answer["image"] == {"width": SIZE, "height": SIZE}


def test_a_network_that_gives_no_numbers_is_an_error_with_a_message(server):
    white = as_object(cv2.imencode(".png", np.full((SIZE, SIZE, 3), 255, np.uint8))[1].tobytes())
    answer = post(f"{server}/infer/object_detection", {"model_id": "nan/1", "image": white})
    assert answer.status == 500
    assert "Model nan/1 failed" in answer.json["message"]
    assert "NaN or infinity" in answer.json["message"]
    fine = post(f"{server}/infer/object_detection", {"model_id": "nan/1", "image": picture()})
    assert fine.status == 200
