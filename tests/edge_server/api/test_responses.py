"""Predictions of every task to JSON bodies, against bodies that Roboflow Inference gave."""

from __future__ import annotations

import base64
import uuid
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest

from edge_server.api.responses import Drawing, answer, prediction_response
from edge_server.vision.predictions import (
    ClassScores,
    InstanceMasks,
    KeyPoints,
    SemanticMap,
)
from tests.predictions import detections

ANIMALS = ["cat", "dog", "bird"]
# What float32 makes of the scores below; the API does not round them.
NINE, EIGHT, SIX, SEVEN, THREE = (
    0.8999999761581421, 0.800000011920929, 0.6000000238418579, 0.699999988079071,
    0.30000001192092896,
)  # fmt: skip


def picture(width, height):
    return np.zeros((height, width, 3), np.uint8)


def polygon(*points):
    return np.array(points, np.int32).reshape(-1, 2)


def body(image, prediction, class_names, keypoint_names=()):
    """The body as a client reads it, without the random ids of the detections."""
    response = prediction_response(image, prediction, class_names, keypoint_names)
    response = msgspec.json.decode(msgspec.json.encode(response))
    assert (response.pop("inference_id"), response.pop("time")) == ("", 0.0)
    if isinstance(response["predictions"], list):
        for item in response["predictions"]:
            if "detection_id" in item:
                uuid.UUID(item.pop("detection_id"))
    return response


def box(x, y, width, height, confidence, name, class_id):
    return {
        "x": x, "y": y, "width": width, "height": height, "confidence": confidence,
        "class": name, "class_id": class_id,
    }  # fmt: skip


def test_boxes():
    found = detections((14, 12, 52, 42, 0.9, 0), (44, 28, 88, 72, 0.8, 5))
    assert body(picture(96, 80), found, ANIMALS) == {
        "image": {"width": 96, "height": 80},
        "predictions": [
            box(33.0, 27.0, 38.0, 30.0, NINE, "cat", 0),
            box(66.0, 50.0, 44.0, 44.0, EIGHT, "5", 5),
        ],
    }


def test_every_detection_has_an_id_of_its_own():
    found = detections(*[(0, 0, 9, 9, 0.9, 0)] * 3)
    items = prediction_response(picture(9, 9), found, ["cat"]).predictions
    assert len({item.detection_id for item in items}) == 3


def test_outlines_as_polygons():
    masks = InstanceMasks(
        detections((14, 12, 52, 42, 0.9, 0), (45, 12, 75, 28, 0.6, 2)),
        polygons=(polygon((32, 10), (27, 15), (20, 15)), polygon()),
        rles=None,
        size=(96, 80),
    )
    points = [{"x": 32.0, "y": 10.0}, {"x": 27.0, "y": 15.0}, {"x": 20.0, "y": 15.0}]
    assert body(picture(96, 80), masks, ANIMALS) == {
        "image": {"width": 96, "height": 80},
        "predictions": [
            {
                **box(33.0, 27.0, 38.0, 30.0, NINE, "cat", 0),
                "points": points,
                "mask_format": "polygon",
            },
            {
                **box(60.0, 20.0, 30.0, 16.0, SIX, "bird", 2),
                "points": [],
                "mask_format": "polygon",
            },
        ],
    }


def test_points_are_floats():
    masks = InstanceMasks(
        detections((0, 0, 9, 9, 0.9, 0)), (polygon((1, 2), (3, 4), (5, 6)),), None, (9, 9)
    )
    (item,) = prediction_response(picture(9, 9), masks, ANIMALS).predictions
    assert {type(value) for point in item.points for value in (point.x, point.y)} == {float}


def test_masks_as_run_lengths():
    counts = "fh36Y22N2O00000000000000O00J06001000000000000001N2Nek1"
    masks = InstanceMasks(
        detections((45, 12, 75, 28, 0.6, 2)),
        polygons=(polygon((62, 10), (60, 12), (60, 18)),),
        rles=(counts,),
        size=(96, 80),
    )
    assert body(picture(96, 80), masks, ANIMALS)["predictions"] == [
        {
            **box(60.0, 20.0, 30.0, 16.0, SIX, "bird", 2),
            "rle": {"size": [80, 96], "counts": counts},
            "mask_format": "rle",
        }
    ]


def test_a_coarser_grid_names_itself_and_the_picture():
    masks = InstanceMasks(
        detections((2.25, 2.5, 8.75, 8.5, 0.9, 0)),
        polygons=(polygon((5, 2), (4, 3), (3, 3)),),
        rles=None,
        size=(16, 16),
    )
    points = [{"x": 5.0, "y": 2.0}, {"x": 4.0, "y": 3.0}, {"x": 3.0, "y": 3.0}]
    assert body(picture(96, 80), masks, ANIMALS) == {
        "image": {"width": 16, "height": 16},
        "predictions": [
            {
                **box(5.5, 5.5, 6.5, 6.0, NINE, "cat", 0),
                "points": points,
                "mask_format": "polygon",
            }
        ],
        "original_image": {"width": 96, "height": 80},
        "mask_metadata": {
            "coordinate_system": "mask_grid",
            "width": 16,
            "height": 16,
            "scale_x": 6.0,
            "scale_y": 5.0,
        },
    }


def test_a_coarser_grid_in_run_lengths():
    counts = "P;1^12O0K:J2O000000000N2O1001O1O1O000000001N5H5N10QU1"
    masks = InstanceMasks(
        detections((7.875, 7.5, 30.625, 25.5, 0.9, 0)), (polygon(),), (counts,), (56, 48)
    )
    answer = body(picture(96, 80), masks, ANIMALS)
    assert answer["image"] == {"width": 56, "height": 48}
    assert answer["predictions"][0]["rle"] == {"size": [48, 56], "counts": counts}
    assert answer["mask_metadata"]["scale_x"] == pytest.approx(1.714286, abs=1e-6)
    assert answer["mask_metadata"]["scale_y"] == pytest.approx(1.666667, abs=1e-6)


def test_nothing_segmented():
    masks = InstanceMasks(detections(), (), None, (96, 80))
    empty = {"image": {"width": 96, "height": 80}, "predictions": []}
    assert body(picture(96, 80), masks, ANIMALS) == empty


def test_keypoints():
    """A person has three keypoints, a box only two; what was not found is left out."""
    found = KeyPoints(
        detections((38, 26, 88, 49, 0.9, 0), (119, 47, 181, 103, 0.8, 1)),
        points=np.array(
            [[[47, 30], [69, 34], [50, 41]], [[125, 56], [178, 98], [150, 75]]], np.float32
        ),
        confidences=np.array([[0.9, 0.3, 0], [0.8, 0.6, 0.9]], np.float32),
    )
    names = (("nose", "eye", "ear"), ("tl", "br"))
    assert body(picture(200, 120), found, ["person", "box"], names) == {
        "image": {"width": 200, "height": 120},
        "predictions": [
            {
                **box(63.0, 37.5, 50.0, 23.0, NINE, "person", 0),
                "keypoints": [
                    {"x": 47.0, "y": 30.0, "confidence": NINE, "class_id": 0, "class": "nose"},
                    {"x": 69.0, "y": 34.0, "confidence": THREE, "class_id": 1, "class": "eye"},
                ],
            },
            {
                **box(150.0, 75.0, 62.0, 56.0, EIGHT, "box", 1),
                "keypoints": [
                    {"x": 125.0, "y": 56.0, "confidence": EIGHT, "class_id": 0, "class": "tl"},
                    {"x": 178.0, "y": 98.0, "confidence": SIX, "class_id": 1, "class": "br"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("names", "slots"),
    [
        pytest.param((("a", "b", "c"),), [0, 2], id="gaps keep their slots"),
        pytest.param((("a",),), [0], id="slots beyond the names"),
        pytest.param((), [], id="a class without keypoint names"),
    ],
)
def test_a_keypoint_keeps_its_slot(names, slots):
    found = KeyPoints(
        detections((-30, -30, 20, 20, 0.9, 0)),
        points=np.array([[[-16, 112], [0, 0], [219, 141]]], np.float32),
        confidences=np.array([[0.6, 0, 0.7]], np.float32),
    )
    (item,) = body(picture(9, 9), found, ["person"], names)["predictions"]
    assert [point["class_id"] for point in item["keypoints"]] == slots


def test_nobody_to_have_keypoints():
    found = KeyPoints(detections(), np.zeros((0, 3, 2), np.float32), np.zeros((0, 3), np.float32))
    assert body(picture(9, 9), found, ["person"], (("a",),))["predictions"] == []


def scores(values, threshold, *, multi_label=False):
    array = np.array(values, np.float32)
    return ClassScores(array, array >= threshold, multi_label)


def ranked(name, class_id, confidence):
    return {"class": name, "class_id": class_id, "confidence": confidence}


@pytest.mark.parametrize(
    ("found", "predictions", "top", "confidence"),
    [
        pytest.param(
            scores([0.70538, 0.25950, 0.03512], 0.2),
            [ranked("a", 0, 0.7054), ranked("b", 1, 0.2595)],
            "a",
            0.7054,
            id="four decimals, only those above",
        ),
        pytest.param(
            scores([0.1, 0.2, 0.7], 0.15),
            [ranked("c", 2, 0.7), ranked("b", 1, 0.2)],
            "c",
            0.7,
            id="the best first",
        ),
        pytest.param(
            scores([0.25, 0.5, 0.25], 0.2),
            [ranked("b", 1, 0.5), ranked("a", 0, 0.25), ranked("c", 2, 0.25)],
            "b",
            0.5,
            id="ties in the order of the classes",
        ),
        pytest.param(
            scores([0.33331, 0.33333, 0.33336], 0.2),
            [ranked("c", 2, 0.3334), ranked("a", 0, 0.3333), ranked("b", 1, 0.3333)],
            "c",
            0.3334,
            id="equal after rounding is a tie",
        ),
        pytest.param(scores([0.4, 0.3, 0.3], 0.9), [], "", 0.0, id="none above"),
    ],
)
def test_the_class_of_a_picture(found, predictions, top, confidence):
    assert body(picture(20, 10), found, ["a", "b", "c"]) == {
        "image": {"width": 20, "height": 10},
        "predictions": predictions,
        "top": top,
        "confidence": confidence,
    }


def test_all_classes_of_a_picture_that_may_have_several():
    found = scores([0.7, 0.6, 0.3], 0.6, multi_label=True)
    assert body(picture(20, 10), found, ["a", "b"]) == {
        "image": {"width": 20, "height": 10},
        "predictions": {
            "a": {"confidence": SEVEN, "class_id": 0},
            "b": {"confidence": SIX, "class_id": 1},
            "2": {"confidence": THREE, "class_id": 2},
        },
        "predicted_classes": ["a", "b"],
    }


def test_predicted_classes_are_in_the_order_of_the_classes():
    found = scores([0.6, 0.2, 0.9], 0.5, multi_label=True)
    assert body(picture(20, 10), found, ["a", "b", "c"])["predicted_classes"] == ["a", "c"]
    nothing = scores([0.1, 0.2, 0.3], 0.5, multi_label=True)
    assert body(picture(20, 10), nothing, ["a", "b", "c"])["predicted_classes"] == []


def test_the_class_of_every_pixel():
    class_ids = np.array([[0, 1, 1, 0], [0, 0, 3, 3]], np.uint8)
    confidences = np.array([[0, 215, 237, 0], [0, 0, 142, 206]], np.uint8)
    answer = body(picture(4, 2), SemanticMap(class_ids, confidences), ["background", "road", "car"])
    predictions = answer.pop("predictions")
    assert answer == {"image": {"width": 4, "height": 2}}
    for field, expected in (("segmentation_mask", class_ids), ("confidence_mask", confidences)):
        encoded = base64.b64decode(predictions.pop(field), validate=True)
        assert encoded.startswith(b"\x89PNG")
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, expected)
    assert predictions == {
        "class_map": {"0": "background", "1": "road", "2": "car", "3": "3"},
        "present_class_ids": [0, 1, 3],
    }


def test_an_annotated_picture_is_a_jpeg_of_its_size():
    package = SimpleNamespace(class_names=("cat",), keypoints=())
    body, encoded = answer(package, picture(40, 30), scores([0.9], 0.5), Drawing(True, 2))
    assert base64.b64decode(body.visualization) == encoded
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert encoded.startswith(b"\xff\xd8\xff")
    assert decoded.shape == (30, 40, 3)
