"""POST /infer/object_detection: what it answers, and what it says to bad requests."""

from __future__ import annotations

import base64
import json
import uuid

import cv2
import numpy as np
import pytest

from edge_server.api.inference import _passes
from tests.edge_server.api.conftest import as_object, picture, post, send

IMAGE = as_object(picture())


@pytest.fixture
def infer(known):
    def ask(**fields):
        return post(
            f"{known}/infer/object_detection", {"model_id": "boxes/1", "image": IMAGE, **fields}
        )

    return ask


def classes(answer):
    assert answer.status == 200, answer.body
    return [item["class"] for item in answer.json["predictions"]]


def test_a_picture_is_answered_with_boxes_in_its_own_pixels(infer):
    answer = infer(id="my-id")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json
    assert set(body) == {"inference_id", "time", "image", "predictions"}
    assert body["inference_id"] == "my-id"
    assert body["image"] == {"width": 128, "height": 128}
    assert body["time"] > 0
    first, second, third = body["predictions"]
    uuid.UUID(first.pop("detection_id"))
    assert first.pop("confidence") == pytest.approx(0.9)
    assert first == {
        "x": 32.0, "y": 32.0, "width": 32.0, "height": 32.0, "class": "cat", "class_id": 0,
    }  # fmt: skip
    assert (second["class"], second["x"], third["class"]) == ("dog", 32.0, "cat")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["cat", "dog", "cat"]),
        ({"confidence": 0.5}, ["cat", "dog"]),
        ({"confidence": "0.5"}, ["cat", "dog"]),
        ({"confidence": "best"}, ["cat", "dog", "cat"]),
        ({"confidence": "default"}, ["cat", "dog", "cat"]),
        ({"confidence": 40}, []),
        ({"iou_threshold": 0.9}, ["cat", "cat", "dog", "cat"]),
        ({"iou_threshold": None, "class_filter": None}, ["cat", "dog", "cat"]),
        ({"max_detections": None}, ["cat", "dog", "cat"]),
        ({"class_agnostic_nms": True}, ["cat", "cat"]),
        ({"class_agnostic_nms": "yes"}, ["cat", "cat"]),
        ({"class_filter": ["dog"]}, ["dog"]),
        ({"class_filter": []}, ["cat", "dog", "cat"]),
        ({"class_filter": ["dog"], "max_detections": 1}, []),
        ({"max_detections": 1}, ["cat"]),
        ({"max_detections": "2"}, ["cat", "dog"]),
        ({"max_detections": 0}, []),
        ({"unknown_field": {"is": "ignored"}}, ["cat", "dog", "cat"]),
        ({"model_id": "boxes-of-two/1"}, ["cat", "dog", "cat"]),
        ({"model_id": "word"}, ["cat", "dog", "cat"]),
        ({"response_mask_format": "rle"}, ["cat", "dog", "cat"]),
        ({"mask_decode_mode": "fast", "tradeoff_factor": "0.5"}, ["cat", "dog", "cat"]),
        ({"keypoint_confidence": 0.5, "include_anomaly_map": True}, ["cat", "dog", "cat"]),
    ],
)  # fmt: skip
def test_parameters_do_what_they_say(infer, fields, expected):
    assert classes(infer(**fields)) == expected


@pytest.mark.parametrize(
    "route",
    [
        "object_detection",
        "instance_segmentation",
        "keypoints_detection",
        "classification",
        "semantic_segmentation",
    ],
)
def test_the_model_decides_about_the_answer_not_the_route(known, route):
    answer = post(f"{known}/infer/{route}", {"model_id": "boxes/1", "image": IMAGE})
    assert classes(answer) == ["cat", "dog", "cat"]
    assert set(answer.json) == {"inference_id", "time", "image", "predictions"}


def test_a_list_is_answered_with_a_list_in_its_order(infer):
    sizes = [(128, 64), (64, 128), (100, 100)]
    answer = infer(image=[as_object(picture(*size)) for size in sizes], id="batch")
    assert [(a["image"]["width"], a["image"]["height"]) for a in answer.json] == sizes
    assert {a["inference_id"] for a in answer.json} == {"batch"}
    assert len(infer(image=[IMAGE]).json) == 1
    assert infer(image=[]).json == []


def test_a_fixed_batch_answers_odd_lists(infer):
    answer = infer(model_id="boxes-of-two/1", image=[IMAGE] * 3)
    assert [len(item["predictions"]) for item in answer.json] == [3, 3, 3]


def test_the_annotated_picture_comes_when_asked_for(infer):
    body = infer(visualize_predictions=True, visualization_labels=True).json
    encoded = base64.b64decode(body["visualization"])
    assert encoded[:3] == b"\xff\xd8\xff"
    drawn = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (128, 128, 3)
    assert np.abs(drawn.astype(int) - 120).max() > 50
    assert "visualization" in infer(image=[IMAGE], visualize_predictions=True).json[0]


def test_exif_orientation_is_applied_unless_disabled(infer):
    exif = base64.b64decode(
        "RXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA="
    )  # one entry: orientation 6, a quarter turn
    plain = picture(100, 50)
    turned = as_object(
        plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    )
    assert infer(image=turned).json["image"] == {"width": 50, "height": 100}
    kept = infer(image=turned, disable_preproc_auto_orient=True).json
    assert kept["image"] == {"width": 100, "height": 50}


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "a/b+json"]
)
def test_json_is_read_whatever_the_header_says(known, content_type):
    body = json.dumps({"model_id": "boxes/1", "image": IMAGE}).encode()
    assert classes(send(f"{known}/infer/object_detection", body, content_type)) == [
        "cat",
        "dog",
        "cat",
    ]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"type": "base64", "value": ""}, "empty"),
        ({"type": "base64", "value": "A"}, "base64"),
        ({"type": "base64", "value": base64.b64encode(b"hello, world").decode()}, "JPEG"),
        ({"type": "base64", "value": base64.b64encode(picture()[:200]).decode()}, ""),
        ({"type": "base64", "value": None}, ""),
        ({"type": "numpy", "value": "gASVAA=="}, "base64"),
        ({"type": "file", "value": "/etc/passwd"}, "base64"),
        ({"type": "hologram", "value": "x"}, "hologram"),
        ({"type": "url", "value": "http://127.0.0.2:1/a.jpg"}, "127.0.0.2"),
        ({"type": "url", "value": "file:///etc/passwd"}, "http"),
    ],
)
def test_pictures_that_cannot_be_loaded_are_a_400_that_says_why(infer, image, message):
    answer = infer(image=image)
    assert answer.status == 400
    assert message in answer.json["message"]
    assert "Traceback" not in answer.json["message"]


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"image": "text"}, "image"),
        ({"image": 7}, "image"),
        ({"image": None}, "image"),
        ({"image": ["text"]}, "image"),
        ({"image": {"value": "x"}}, "image"),
        ({"model_id": 7}, "model_id"),
        ({"model_id": None}, "model_id"),
        ({"confidence": None}, "confidence"),
        ({"confidence": "much"}, "confidence"),
        ({"confidence": [0.4]}, "confidence"),
        ({"confidence": "nan"}, "confidence"),
        ({"iou_threshold": "x"}, "iou_threshold"),
        ({"max_detections": 1.5}, "max_detections"),
        ({"class_filter": "dog"}, "class_filter"),
        ({"class_filter": [1]}, "class_filter"),
        ({"class_agnostic_nms": "perhaps"}, "class_agnostic_nms"),
        ({"id": 7}, "id"),
        ({"id": None}, "id"),
        ({"response_mask_format": "dense"}, "response_mask_format"),
        ({"tradeoff_factor": "x"}, "tradeoff_factor"),
        ({"keypoint_confidence": "x"}, "keypoint_confidence"),
        ({"disable_preproc_contrast": "x"}, "disable_preproc_contrast"),
    ],
)
def test_fields_of_a_wrong_type_are_a_422_that_names_them(infer, fields, location):
    answer = infer(**fields)
    assert answer.status == 422
    (detail,) = answer.json["detail"]
    assert detail["loc"][:2] == ["body", location]
    assert location in detail["msg"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_decode_mode": "exact"}, "mask_decode_mode is 'exact'; expected one of accurate"),
        ({"tradeoff_factor": 1.5}, "tradeoff_factor is 1.5; expected a number from 0 to 1"),
    ],
)
def test_values_that_are_not_allowed_are_a_400_that_names_them(infer, fields, message):
    answer = infer(**fields)
    assert answer.status == 400
    assert message in answer.json["message"]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (b"", ["body"]),
        (b"{", ["body", 1]),
        (b"[]", ["body"]),
        (b"\xff\xfe", ["body", 0]),
        (b"[" * 100_000, None),
        (b'{"model_id": NaN}', ["body", 13]),
    ],
)
def test_a_body_that_is_no_json_object_is_a_422(known, body, location):
    answer = send(f"{known}/infer/object_detection", body, "application/json")
    assert answer.status == 422
    assert answer.json["detail"][0]["msg"]
    if location is not None:
        assert answer.json["detail"][0]["loc"] == location


def test_everything_that_is_missing_is_named_at_once(known):
    answer = post(f"{known}/infer/object_detection", {"confidence": "x"})
    assert answer.status == 422
    assert {detail["loc"][1] for detail in answer.json["detail"]} == {
        "model_id",
        "image",
        "confidence",
    }
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("model_id", "status", "message"),
    [
        ("boxes/2", 404, "available: boxes-of-two/1, boxes/1"),
        ("nothing", 404, "edge-server models add nothing SOURCE"),
        ("a/b/c", 400, "not valid"),
        ("../../etc", 400, "not valid"),
        ("", 400, "not valid"),
        ("broken/1", 500, "broken/1 cannot be loaded: weights.onnx"),
    ],
)
def test_models_that_cannot_be_asked_say_so(infer, model_id, status, message):
    answer = infer(model_id=model_id)
    assert answer.status == status
    assert message in answer.json["message"]


def test_no_message_shows_a_path_of_this_machine(infer):
    answer = infer(model_id="broken/1")
    assert "/" not in answer.json["message"].replace("broken/1", "")


def test_pictures_of_a_list_stand_in_memory_in_parts():
    """As many as the network takes at once, and fewer when they are large."""
    sizes = [10, 10, 10, 60, 60, 10]
    images = (np.zeros((size, 1, 3), np.uint8) for size in sizes)
    parts = [[len(image) for image in part] for part in _passes(images, count=2, pixels=50)]
    assert parts == [[10, 10], [10, 60], [60], [10]]
