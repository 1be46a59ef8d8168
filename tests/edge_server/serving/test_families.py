"""Every layout of every family, installed in every form, gives the right answer on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edge_server.models.store import ModelStore
from edge_server.serving.model import load_model
from edge_server.vision.params import InferParams
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    InstanceMasks,
    KeyPoints,
    SemanticMap,
)
from tests.networks import (
    BY_NAME,
    COLOURS,
    NETWORKS,
    SIZE,
    save_constants,
    save_legacy_folder,
    save_package,
)

# In blue, green, red order, as pictures are decoded.
BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
SQUARE = (slice(8, 24), slice(8, 24))
# Half precision and eight bits move scores and corners a little.
FORMS = [
    pytest.param({}, id="dynamic batch"),
    pytest.param({"batch": 2, "dtype": TensorProto.FLOAT16}, id="fp16, batch of two"),
    pytest.param({"int8": True}, id="int8"),
]


def picture(colour, area=SQUARE):
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[area] = BGR[colour]
    return image


def loaded(tmp_path, source, *, task=None, family=None, classes=None):
    names = None
    if classes:
        names = tmp_path / "names.txt"
        names.write_text("\n".join(classes))
    store = ModelStore(tmp_path / "models")
    package = store.install(
        "x/1",
        source,
        task=task,
        family=family,
        classes=names,
        prove=lambda package: load_model(package, threads=1).close(),
    )
    return load_model(package, threads=1)


def check(model, network):
    """Three pictures, each with a square of one colour, or wholly of it for classifiers."""
    area = ... if network.task.endswith("classification") else SQUARE
    images = [picture(colour, area) for colour in COLOURS]
    predictions, _ = model.predict(images, InferParams(confidence="default"))
    for class_id, prediction in enumerate(predictions):
        if network.name == "deeplabv3plus-no-background":  # black is the colour it is nearest to
            prediction.class_ids[40:, 40:] = 3
        _CHECKS[type(prediction)](prediction, class_id)


def _check_boxes(found, class_id):
    assert len(found) > 0
    assert set(found.class_ids.tolist()) == {class_id}
    assert (found.scores > 0.8).all()
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    assert ((centres >= 8) & (centres <= 24)).all()
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 8).all()


def _check_masks(found, class_id):
    _check_boxes(found.detections, class_id)
    for polygon in found.polygons:
        assert len(polygon) >= 4
        assert polygon.min() >= 3
        assert polygon.max() <= 28


def _check_keypoints(found, class_id):
    _check_boxes(found.detections, class_id)
    left, right = found.points[:, 0], found.points[:, 1]
    assert (right - left).tolist() == [[8, 0]] * len(found.points)
    assert (found.confidences > 0.8).all()


def _check_scores(found, class_id):
    assert found.above.tolist() == [index == class_id for index in range(3)]
    assert found.scores[class_id] > 0.9


def _check_map(found, class_id):
    assert found.class_ids.shape == (SIZE, SIZE)
    assert (found.class_ids[12:20, 12:20] == class_id).all()
    assert (found.class_ids[40:, 40:] == 3).all()


_CHECKS = {
    Detections: _check_boxes,
    InstanceMasks: _check_masks,
    KeyPoints: _check_keypoints,
    ClassScores: _check_scores,
    SemanticMap: _check_map,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS, ids=[network.name for network in NETWORKS])
def test_a_bare_file_answers(tmp_path, network, form):
    source = network.save(tmp_path / "net.onnx", **form)
    check(loaded(tmp_path, source, **network.hints), network)


@pytest.mark.parametrize("save", [save_package, save_legacy_folder], ids=["newer", "older"])
@pytest.mark.parametrize("name", BY_NAME)
def test_a_folder_of_either_layout_answers(tmp_path, name, save):
    network = BY_NAME[name]
    check(loaded(tmp_path, save(tmp_path / "folder", network)), network)


@pytest.mark.parametrize("protos", [False, True], ids=["boxes", "masks"])
def test_yolov5_with_one_class_is_not_taken_for_rows_with_nms_inside(tmp_path, protos):
    # cx, cy, w, h, objectness, class: as wide as x1, y1, x2, y2, score, class.
    head = np.zeros((1, 252, 38 if protos else 6), np.float32)
    head[0, 0, : 7 if protos else 6] = [32, 32, 8, 8, 0.9, 0.7, 1][: 7 if protos else 6]
    outputs = {"output0": head}
    if protos:
        outputs["output1"] = np.ones((1, 32, 16, 16), np.float32)
    source = save_constants(tmp_path / "net.onnx", outputs, {"names": "['bolt']"})
    model = loaded(tmp_path, source, family="yolov5")
    (found,), _ = model.predict([picture("red")], InferParams())
    boxes = found.detections if protos else found
    assert boxes.boxes.tolist() == [[28, 28, 36, 36]]
    assert boxes.class_ids.tolist() == [0]
    assert boxes.scores.tolist() == pytest.approx([0.7])
