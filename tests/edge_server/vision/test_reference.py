"""The reference's own numbers: suppressed boxes and answers that it gave.

Each fixture holds an input and what Roboflow Inference made of it; see its ``what``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_server.vision.boxes import nms, xywh_to_xyxy
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.preprocess import NetworkInput, StaticCrop, make_preprocess
from edge_server.vision.yolo import AnchorFreeDecoder

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "vision"


def fixtures(pattern):
    paths = sorted(FIXTURES.glob(pattern))
    assert paths
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in paths]


def network_input(config):
    network, steps = config["network_input"], config["image_pre_processing"] or {}
    crop = steps.get("static-crop")
    edges = {key: crop[key] for key in ("x_min", "x_max", "y_min", "y_max")} if crop else None
    mode = network["resize_mode"]
    return NetworkInput(
        height=network["training_input_size"]["height"],
        width=network["training_input_size"]["width"],
        resize_mode="letterbox" if mode == "letterbox-reflect-edges" else mode,
        padding_value=network["padding_value"] or 0,
        color_mode=network["color_mode"],
        scaling_factor=network["scaling_factor"],
        normalization=network["normalization"],
        static_crop=StaticCrop(**edges) if edges else None,
        grayscale=steps.get("grayscale", {}).get("enabled", False),
    )


@pytest.mark.parametrize("fixture", fixtures("nms_im_*.json"))
def test_suppression_keeps_the_same_boxes(fixture):
    params = fixture["params"]
    rows = np.array(fixture["inputs"]["output"]["data"], np.float32)[0]
    limits = np.atleast_1d(np.float32(params["conf_thresh"]))
    class_ids = rows[4:].argmax(0)
    above = rows[4:].max(0) > (limits[class_ids] if len(limits) > 1 else limits)
    rows, class_ids = rows[:, above], class_ids[above]
    boxes, scores = xywh_to_xyxy(rows[:4].T), rows[4:].max(0)
    kept = nms(
        boxes,
        scores,
        class_ids,
        iou_threshold=params["iou_thresh"],
        class_agnostic=params["class_agnostic"],
        max_detections=params["max_detections"],
    )
    found = np.column_stack([boxes[kept], scores[kept], class_ids[kept]])
    np.testing.assert_allclose(found, fixture["expected"]["detections"][0], atol=1e-5)


@pytest.mark.parametrize("fixture", fixtures("dec_im_yolov8_*.json"))
def test_decoding_gives_the_same_answers(fixture):
    params, request = fixture["params"], fixture["params"]["request"]
    recommended = params.get("recommended_parameters") or {}
    names = params["class_names"]
    decode = AnchorFreeDecoder(
        names,
        Thresholds(recommended.get("confidence"), recommended.get("per_class_confidence") or {}),
    )
    sizes = fixture["inputs"]["original_sizes_wh"]
    blanks = [np.zeros((height, width, 3), np.uint8) for width, height in sizes]
    _, placements = make_preprocess(network_input(params["inference_config"]))(
        blanks, InferParams()
    )
    head = np.array(fixture["inputs"]["onnx_outputs"][0]["data"], np.float32)
    answers = decode(
        {"output0": head},
        placements,
        InferParams(
            confidence=request["confidence"],
            iou_threshold=request["iou_threshold"],
            class_agnostic_nms=request["class_agnostic_nms"],
            max_detections=request["max_detections"],
            class_filter=tuple(request["class_filter"] or ()),
        ),
    )
    for found, response in zip(answers, fixture["expected"]["responses"], strict=True):
        expected = response["predictions"]
        assert found.class_ids.tolist() == [item["class_id"] for item in expected]
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        rows = np.column_stack([centres, sizes, found.scores])
        keys = ("x", "y", "width", "height", "confidence")
        np.testing.assert_allclose(
            rows, [[item[key] for key in keys] for item in expected], atol=1e-4
        )


def test_thresholds_are_resolved_the_same_way():
    fixture = json.loads((FIXTURES / "confidence_resolution.json").read_text())
    names = fixture["params"]["class_names"]
    for case in fixture["expected"]["cases"]:
        if type(case["confidence"]) is int:
            continue  # over HTTP every number is a float
        recommended = case["recommended_parameters"] or {}
        thresholds = Thresholds(
            recommended.get("confidence"), recommended.get("per_class_confidence") or {}
        )
        np.testing.assert_allclose(
            thresholds.resolve(case["confidence"], names), np.atleast_1d(case["threshold"])
        )


def test_boxes_of_other_classes_never_suppress_each_other():
    """The reference's coordinate trick lets these two collide; a true per-class NMS keeps both."""
    boxes = np.array([[90, 90, 100, 100], [-11, -11, -1, -1]], np.float32)
    kept = nms(
        boxes,
        np.array([0.9, 0.8], np.float32),
        np.array([0, 1]),
        iou_threshold=0.3,
        class_agnostic=False,
        max_detections=300,
    )
    assert kept.tolist() == [0, 1]


def test_a_placement_from_the_reference_is_inverted_exactly():
    placement = Placement(original=(200, 121), crop=(30, 12), scale=(64 / 140,) * 2, pad=(0, 14))
    box = np.array([[32, 20, 64, 50]], np.float32)
    assert placement.to_original(box).tolist() == [[100, 25, 170, 91]]
