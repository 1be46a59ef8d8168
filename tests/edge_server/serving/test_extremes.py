"""Pictures, class lists and outputs at the edge of what can be sent: an answer, or an error."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edge_server.api import responses
from edge_server.api.responses import Drawing
from edge_server.errors import ModelFailedError
from edge_server.models.store import ModelStore
from edge_server.serving.model import load_model
from edge_server.vision.params import InferParams
from tests.networks import BY_NAME, save_constants, save_package

SIZES = [(1, 1), (1, 5000), (5000, 1), (2, 3)]
LARGE = ["yolov8-seg", "rfdetr-seg", "yolov8-pose", "resnet", "deeplabv3plus"]


def install(tmp_path, source, **hints):
    return ModelStore(tmp_path / "models").install(
        "x/1", source, prove=lambda package: load_model(package, threads=1).close(), **hints
    )


def answer(model, image, params=None):
    """The JSON of one answer, after every step that a request goes through."""
    (found,), _ = model.predict([image], params or InferParams(confidence=0.1, rle_masks=True))
    body, jpeg = responses.answer(model.package, image, found, Drawing(labels=True, stroke=2))
    assert jpeg
    return msgspec.json.decode(msgspec.json.encode(body))


@pytest.mark.parametrize("name", BY_NAME)
def test_pictures_of_any_shape_are_answered(tmp_path, name):
    package = install(tmp_path, save_package(tmp_path / "package", BY_NAME[name]))
    model = load_model(package, threads=1)
    for width, height in SIZES:
        body = answer(model, np.full((height, width, 3), (0, 0, 255), np.uint8))
        assert body["image"] == {"width": width, "height": height}
        for found in body["predictions"] if isinstance(body["predictions"], list) else ():
            assert 0 <= found.get("x", 0) <= width


@pytest.mark.parametrize("name", LARGE)
def test_a_picture_of_48_megapixels_is_answered(tmp_path, name):
    package = install(tmp_path, save_package(tmp_path / "package", BY_NAME[name]))
    image = np.zeros((6000, 8000, 3), np.uint8)
    image[1000:2000, 1000:2000] = (0, 0, 255)
    body = answer(load_model(package, threads=1), image)
    assert body["image"] == {"width": 8000, "height": 6000}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("task", "family", "shapes"),
    [
        ("object-detection", "yolov8", [(1, 7, 84)]),
        ("object-detection", "yolov10", [(1, 300, 6)]),
        ("object-detection", "rfdetr", [(1, 20, 4), (1, 20, 3)]),
        ("object-detection", "yolonas", [(1, 84, 4), (1, 84, 3)]),
        ("instance-segmentation", "yolov8", [(1, 39, 84), (1, 32, 16, 16)]),
        ("classification", "resnet", [(1, 3)]),
        ("multi-label-classification", "vit", [(1, 3)]),
        ("semantic-segmentation", "deeplabv3plus", [(1, 3, 16, 16)]),
    ],
)
def test_weights_that_give_no_numbers_are_refused(tmp_path, task, family, shapes, value):
    outputs = {f"output{index}": np.full(s, value, np.float32) for index, s in enumerate(shapes)}
    folder = tmp_path / "package"
    network = next(item for item in BY_NAME.values() if (item.task, item.family) == (task, family))
    save_package(folder, network)
    save_constants(folder / "weights.onnx", outputs)
    with pytest.raises(ModelFailedError, match="NaN or infinity"):
        install(tmp_path, folder)


def test_a_detector_of_a_thousand_classes(tmp_path):
    head = np.zeros((1, 1004, 84), np.float32)
    head[0, :4, 0] = [32, 32, 8, 8]
    head[0, 4 + 777, 0] = 0.9
    names = str({index: f"part {index}" for index in range(1000)})
    source = save_constants(
        tmp_path / "net.onnx", {"output0": head}, {"task": "detect", "names": names}
    )
    body = answer(load_model(install(tmp_path, source), threads=1), np.zeros((64, 64, 3), np.uint8))
    assert [found["class"] for found in body["predictions"]] == ["part 777"]


def test_a_picture_with_nothing_on_it_gives_an_empty_answer(tmp_path):
    for name in ("yolov8-seg", "yolov8-pose", "rfdetr", "yolo26-end2end"):
        folder = save_package(tmp_path / name, BY_NAME[name])
        package = ModelStore(tmp_path / "models").install(
            f"x/{name}", folder, prove=lambda package: None
        )
        body = answer(load_model(package, threads=1), np.zeros((50, 40, 3), np.uint8))
        assert body["predictions"] == []
