"""The reference's own numbers: every answer that it gave to raw network outputs.

Each fixture holds the outputs of a network and what Roboflow Inference made of them; see its
``what``. Preprocessing has a test of its own.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.masks import longest_outline, run_lengths
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import ClassScores, InstanceMasks, KeyPoints, SemanticMap
from edge_server.vision.preprocess import StaticCrop
from edge_server.vision.yolo import anchor_free, end_to_end, objectness

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "reference"

FAMILIES = {
    "dec_im_rfdetr": ("object-detection", "rfdetr"),
    "dec_im_yolo26": ("object-detection", "yolo26"),
    "dec_im_yololite": ("object-detection", "yololite"),
    "dec_im_yolonas": ("object-detection", "yolonas"),
    "dec_im_yolov10": ("object-detection", "yolov10"),
    "dec_im_yolov5": ("object-detection", "yolov5"),
    "dec_im_yolov8": ("object-detection", "yolov8"),
    "seg_im_rfdetr": ("instance-segmentation", "rfdetr"),
    "seg_im_yolo26": ("instance-segmentation", "yolo26"),
    "seg_im_yolov5": ("instance-segmentation", "yolov5"),
    "seg_im_yolov7": ("instance-segmentation", "yolov7"),
    "seg_im_yolov8": ("instance-segmentation", "yolov8"),
    "kp_im_yolo26": ("keypoint-detection", "yolo26"),
    "kp_im_yolov8": ("keypoint-detection", "yolov8"),
    "cls_im_multilabel": ("multi-label-classification", "resnet"),
    "cls_im_softmax": ("classification", "resnet"),
    "sem_im_rfdetr": ("semantic-segmentation", "rfdetr"),
    "sem_im_": ("semantic-segmentation", "deeplabv3plus"),
}
# The file says it in words only.
RECOMMENDED = {"dec_im_yolov8_best": Thresholds(0.5, {"cat": 0.85, "bird": 0.6})}
NOT_SERVED = {
    "seg_im_yolact": "YOLACT is not a family of this server",
    "kp_im_rfdetr": "keypoints of RF-DETR are not served",
    "depth_im_letterbox": "depth is not a task of this server",
}
# Fixtures of another kind, by the beginning of their names, and the test that runs them.
ELSEWHERE = {
    "pre_im_": "test_reference_preprocess.py",
    "load_exif_and_modes": "images/test_decode.py",
    "visualise_boxes": "images/test_draw.py",
    "nms_im_": "test_suppression_keeps_the_same_boxes",
    "confidence_resolution": "test_thresholds_are_resolved_the_same_way",
    "mask_to_polygon_and_rle": "test_masks_become_the_same_polygons_and_run_lengths",
    "kp_im_http_threshold_ignored": "test_keypoints_below_the_threshold_are_left_out_…",
    "static_crop_bookkeeping": "test_a_static_crop_is_cut_and_undone_at_the_same_pixels",
}
WHOLE = Placement((64, 64), (0, 0, 64, 64), (64, 64), (1.0, 1.0), (0, 0, 0, 0))


def load(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def served():
    names = sorted(path.stem for path in FIXTURES.glob("*.json"))
    assert names
    return [
        name for name in names if name not in NOT_SERVED and not name.startswith(tuple(ELSEWHERE))
    ]


def tensor(description):
    shape = description["shape"]
    if "data" in description:
        return np.array(description["data"], np.float32).reshape(shape)
    assert description["formula"].startswith("all zero except: ch0 = 1; ch1 = round((x-7.5)/7.5,4)")
    protos = np.zeros(shape, np.float32)
    y, x = np.mgrid[: shape[2], : shape[3]]
    protos[0, :5] = [
        np.ones_like(x),
        np.round((x - 7.5) / 7.5, 4),
        np.round((y - 7.5) / 7.5, 4),
        np.where((x - 5) ** 2 + (y - 5) ** 2 <= 9, 1, -1),
        np.where((x // 2 + y // 2) % 2 == 0, 1, -1),
    ]
    return protos


def exact(rounded):
    """The ratio of two small sizes behind a number that the file rounds to six decimals."""
    return float(Fraction(rounded).limit_denominator(1000))


def placement_of(meta):
    meta = meta[0] if isinstance(meta, list) else meta
    crop, original = meta["static_crop_offset"], meta["original_size"]
    frame = meta["nonsquare_intermediate_size"] or meta["inference_size"]
    return Placement(
        original=(original["width"], original["height"]),
        crop=(crop["offset_x"], crop["offset_y"], crop["crop_width"], crop["crop_height"]),
        frame=(frame["width"], frame["height"]),
        scale=(exact(meta["scale_width"]), exact(meta["scale_height"])),
        pad=tuple(meta[f"pad_{side}"] for side in ("left", "top", "right", "bottom")),
    )


def head_spec(fixture, outputs):
    params = fixture["params"]
    config = params.get("inference_config", {})
    post_processing = config.get("post_processing") or params.get("post_processing") or {}
    skeletons = fixture["inputs"].get("keypoints_metadata.json", [])
    return HeadSpec(
        class_names=tuple(params["class_names"]),
        output_shapes=tuple(output.shape for output in outputs.values()),
        thresholds=RECOMMENDED.get(fixture["name"], Thresholds()),
        fused=post_processing.get("fused", False),
        # The fixtures name the classes that are left; the one taken out stood first.
        removed_columns=(0,) if config.get("class_names_operations") else (),
        keypoint_counts=tuple(len(skeleton["keypoints"]) for skeleton in skeletons),
    )


def infer_params(fixture):
    params = fixture["params"]
    request = params.get("request") or {"confidence": params["confidence"]}
    resolution = None
    if request.get("allow_reduced_mask_resolution"):
        resolution = request["tradeoff_factor"]
    return InferParams(
        confidence=request["confidence"],
        iou_threshold=request.get("iou_threshold", 0.3),
        class_agnostic_nms=request.get("class_agnostic_nms", False),
        class_filter=tuple(request.get("class_filter") or ()),
        max_detections=request.get("max_detections", 300),
        # At 0 the family's own decides: over HTTP the reference never sees the caller's.
        keypoint_confidence=request.get("keypoint_confidence") or None,
        rle_masks=request.get("response_mask_format") == "rle",
        mask_resolution=resolution,
    )


def predictions_of(name):
    fixture = load(name)
    onnx_outputs = fixture["inputs"]["onnx_outputs"]
    outputs = {f"output{i}": tensor(output) for i, output in enumerate(onnx_outputs)}
    if name == "dec_im_yolonas":  # the reference's own function takes the two outputs joined
        joined = outputs.pop("output0")
        outputs = {"boxes": joined[..., :4], "scores": joined[..., 4:]}
    metadata = fixture["params"].get("preprocessing_metadata")
    if metadata is None:
        height, width = np.shape(fixture["expected"].get("segmentation_map", np.zeros((16, 16))))
        whole = Placement((width, height), (0, 0, width, height), (16, 16), (1.0, 1.0), (0,) * 4)
        placements = [whole] * len(next(iter(outputs.values())))
    else:
        placements = [placement_of(meta) for meta in metadata]
    task_and_family = next(value for key, value in FAMILIES.items() if name.startswith(key))
    decode = DECODERS[task_and_family](head_spec(fixture, outputs))
    return fixture, decode(outputs, placements, infer_params(fixture))


@pytest.mark.parametrize("name", served())
def test_raw_outputs_give_the_same_answers(name):
    fixture, predictions = predictions_of(name)
    expected = fixture["expected"]
    answers = expected.get("responses") or [expected.get("response_with_decoded_png") or expected]
    if name.endswith("_offby1"):  # an error of the reference: its class ids start at objectness
        cat, dog = answers[0]["predictions"]
        cat.update(confidence=0.9)
        dog.update({"class": "dog", "class_id": 1})
    for prediction, answer in zip(predictions, answers, strict=True):
        check(prediction, answer, fixture)


def check(prediction, answer, fixture):
    names = fixture["params"]["class_names"]
    if isinstance(prediction, ClassScores):
        check_classes(prediction, answer, names)
    elif isinstance(prediction, SemanticMap):
        check_map(prediction, answer, fixture["tolerance"])
    else:
        detections = getattr(prediction, "detections", prediction)
        check_boxes(detections, answer["predictions"], names, fixture["tolerance"]["abs"])
        if isinstance(prediction, InstanceMasks):
            check_masks(prediction, answer)
        elif isinstance(prediction, KeyPoints):
            check_keypoints(prediction, answer["predictions"])


def check_boxes(found, expected, names, tolerance):
    assert found.class_ids.tolist() == [item["class_id"] for item in expected]
    for class_id, item in zip(found.class_ids, expected, strict=True):
        assert item["class"] == (names[class_id] if class_id < len(names) else str(class_id))
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    rows = np.column_stack([centres, found.boxes[:, 2:] - found.boxes[:, :2], found.scores])
    keys = ("x", "y", "width", "height", "confidence")
    wanted = np.array([[item[key] for key in keys] for item in expected]).reshape(-1, 5)
    np.testing.assert_allclose(rows, wanted, atol=tolerance)


def check_masks(found, answer):
    assert found.size == (answer["image"]["width"], answer["image"]["height"])
    for index, item in enumerate(answer["predictions"]):
        if "rle" in item:
            assert item["rle"]["size"] == [found.size[1], found.size[0]]
            assert found.rles[index] == item["rle"]["counts"]
        else:
            points = [[point["x"], point["y"]] for point in item["points"]]
            assert found.polygons[index].tolist() == points


def check_keypoints(found, expected):
    for points, confidences, item in zip(found.points, found.confidences, expected, strict=True):
        shown = np.flatnonzero(confidences > 0)
        rows = np.column_stack([points[shown], confidences[shown], shown])
        keys = ("x", "y", "confidence", "class_id")
        wanted = [[point[key] for key in keys] for point in item["keypoints"]]
        np.testing.assert_allclose(rows, np.array(wanted).reshape(-1, 4), atol=1e-4)


def check_classes(found, answer, names):
    if found.multi_label:
        scores = {name: item["confidence"] for name, item in answer["predictions"].items()}
        assert dict(zip(names, found.scores, strict=True)) == pytest.approx(scores, abs=1e-4)
        assert [names[i] for i in np.flatnonzero(found.above)] == answer["predicted_classes"]
    else:
        scores = {item["class"]: item["confidence"] for item in answer["predictions"]}
        shown = {names[i]: found.scores[i] for i in np.flatnonzero(found.above)}
        assert shown == pytest.approx(scores, abs=1e-4)


def check_map(found, answer, tolerance):
    answer = answer.get("predictions", answer)
    wanted = np.array(answer.get("segmentation_mask", answer.get("segmentation_map")))
    assert (found.class_ids != wanted).sum() <= tolerance["mismatch_pixels"]
    confidences = answer.get("confidence_mask")
    if confidences is None:
        confidences = np.floor(np.array(answer["confidence"]) * 255)
    difference = np.abs(found.confidences.astype(int) - np.array(confidences))
    assert (difference > 1).sum() <= tolerance["mismatch_pixels"]


@pytest.mark.parametrize("number", range(4))
def test_keypoints_below_the_threshold_are_left_out_which_the_reference_forgets(number):
    """Over HTTP it uses the family's threshold whatever the caller asks; ours is honoured."""
    fixture = load("kp_im_http_threshold_ignored")
    case = fixture["expected"]["cases"][number]
    outputs = {"output0": tensor(case["onnx_output"])}
    spec = HeadSpec(
        class_names=("p",), output_shapes=(outputs["output0"].shape,), keypoint_counts=(3,)
    )
    decode = DECODERS["keypoint-detection", case["family"]](spec)
    (found,) = decode(outputs, [WHOLE], InferParams())
    check_keypoints(found, case["response"]["predictions"])
    (found,) = decode(outputs, [WHOLE], InferParams(keypoint_confidence=0.6))
    assert (found.confidences > 0).tolist() == [[True, False, False]]


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("nms_im_*.json")))
def test_suppression_keeps_the_same_boxes(name):
    fixture = load(name)
    params, output = fixture["params"], tensor(fixture["inputs"]["output"])
    make_head = anchor_free
    if name == "nms_im_yolov5":
        make_head, output = objectness, output.transpose(0, 2, 1)
    elif name == "nms_im_fused_inclusive":
        make_head = end_to_end
    thresholds, confidence = Thresholds(), params["conf_thresh"]
    if isinstance(confidence, list):
        thresholds = Thresholds(0.4, {"a": confidence[0], "b": confidence[1]})
        confidence = "best"
    head = make_head(HeadSpec(("a", "b"), (output.shape,), thresholds), 0, 0.4)
    kept = head(
        [output[0]],
        WHOLE,
        InferParams(
            confidence=confidence,
            iou_threshold=params.get("iou_thresh", 0.3),
            class_agnostic_nms=params.get("class_agnostic", False),
            max_detections=params.get("max_detections", 300),
        ),
    )
    expected = fixture["expected"]["detections"][0]
    if name == "nms_im_coordinate_trick_leak":  # an error of the reference: the two never meet
        expected = [*expected, [-11, -11, -1, -1, 0.8, 1]]
    found = np.column_stack([kept.boxes, kept.scores, kept.class_ids])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masks_become_the_same_polygons_and_run_lengths():
    fixture = load("mask_to_polygon_and_rle")
    for name, picture in fixture["inputs"]["masks"].items():
        expected = fixture["expected"][name]
        mask = np.array([[letter == "#" for letter in row] for row in picture], np.uint8)
        height, width = mask.shape
        assert longest_outline(mask).tolist() == expected["polygon_single"], name
        counts = run_lengths(mask, (0, 0), (width, height))
        assert {"size": [height, width], "counts": counts} == expected["coco_rle"], name


def test_thresholds_are_resolved_the_same_way():
    fixture = load("confidence_resolution")
    names = fixture["params"]["class_names"]
    for case in fixture["expected"]["cases"]:
        if type(case["confidence"]) is int:
            continue  # over HTTP every number is a float
        recommended = case["recommended_parameters"] or {}
        thresholds = Thresholds(
            recommended.get("confidence"), recommended.get("per_class_confidence") or {}
        )
        np.testing.assert_allclose(
            thresholds.resolve(case["confidence"], names, 0.4), np.atleast_1d(case["threshold"])
        )


def test_a_static_crop_is_cut_and_undone_at_the_same_pixels():
    """Where the older stack rounds on the way back what it truncated on the way in."""
    for case in load("static_crop_bookkeeping")["expected"]["cases"]:
        width, height = case["image_wh"]
        image = np.zeros((height, width, 3), np.uint8)
        cropped, corner = StaticCrop(**case["crop"]).apply(image)
        offset = case["im_offset"]
        assert list(cropped.shape[:2]) == case["actual_crop_hw"]
        assert corner == (offset["offset_x"], offset["offset_y"])
        crop = (*corner, offset["crop_width"], offset["crop_height"])
        placement = Placement((width, height), crop, crop[2:], (1.0, 1.0), (0, 0, 0, 0))
        assert placement.to_original(np.zeros((1, 2), np.float32)).tolist() == [list(corner)]
