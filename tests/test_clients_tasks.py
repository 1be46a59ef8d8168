"""The Python client, unchanged, with a demo model of every task."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from tests.demos import (
    ALL,
    BOXES,
    CLASS,
    KEYPOINTS,
    LABELS,
    MASKS,
    PIXELS,
    Demo,
    check,
    check_same,
    summary,
)

modes = pytest.mark.parametrize("mode", ["v0", "v1"])
twins = pytest.mark.parametrize("twin", ["sync", "async"])
# All but what the client refuses to ask, see ``test_the_sdk_does_not_ask_for_class_maps_by_v1``.
every_task = pytest.mark.parametrize(
    ("demo", "mode"),
    [
        pytest.param(demo, mode, id=f"{demo.model} {mode}")
        for demo in ALL
        for mode in ("v0", "v1")
        if (demo, mode) != (PIXELS, "v1")
    ],
)


def each(demos):
    return pytest.mark.parametrize("demo", demos, ids=lambda demo: demo.model)


@pytest.fixture
def infer(ask, server: str):
    """Ask a demo model about its example picture, see ``tests/clients/infer.py``."""

    def run(demo: Demo, form: str = "path", file=None, **arguments):
        pictures = [form, file or demo.picture]
        return ask(
            "infer", **{"server": server, "model": demo.model, "pictures": pictures, **arguments}
        )

    return run


@pytest.fixture
def configured(infer):
    """Answers about one example in one configuration after another, by name."""

    def run(demo: Demo, mode: str, **configurations: dict) -> dict:
        return {
            name: infer(demo, mode=mode, configuration=fields)
            for name, fields in {"default": {}, **configurations}.items()
        }

    return run


# Every task


@every_task
@twins
def test_every_form_of_picture(infer, picture_url, demo: Demo, mode: str, twin: str):
    """Acceptance vectors 4, 6 and 16."""
    how = {"mode": mode, "twin": twin}
    reference = infer(demo, **how)
    check(reference, demo)
    # The client passes these bytes on as they are ...
    for form in ("base64", "data URI"):
        assert summary(infer(demo, form, **how)) == summary(reference), form
    downloaded = infer(demo, "address", picture_url(demo.picture), **how)
    assert summary(downloaded) == summary(reference)
    # ... and makes a JPEG of its own of these.
    for form in ("array", "pil"):
        answer = infer(demo, form, **how)
        check(answer, demo)
        check_same(answer, reference)


@every_task
@twins
def test_the_server_draws(infer, demo: Demo, mode: str, twin: str):
    """Acceptance vector 6: the drawing comes alone or beside the JSON, as the client likes it."""
    how = {"mode": mode, "twin": twin}
    height, width = demo.size["height"], demo.size["width"]
    plain = infer(demo, **how)
    assert "visualization" not in plain
    wish = {"visualize_labels": True, "stroke_width": 3, "visualize_predictions": True}
    drawings = set()
    for change in ({}, {"stroke_width": 9}, {"visualize_labels": False}):
        answer = infer(demo, configuration={**wish, "format": "image_and_json", **change}, **how)
        assert summary(answer) == summary(plain)
        drawings.add(answer["visualization"])
    assert len(drawings) > 1 or demo in (CLASS, LABELS, PIXELS), "labels and strokes are seen"
    for picture_type, kind in (("numpy", "ndarray"), ("pillow", "JpegImageFile")):
        wish["output_visualisation_format"] = picture_type
        answer = infer(demo, configuration={**wish, "format": "image"}, **how)
        assert answer["visualization"] == [kind, height, width, 3]
        assert ("predictions" in answer) == (mode == "v1")


@each([demo for demo in ALL if demo is not PIXELS])
@twins
def test_pictures_of_several_sizes_at_once(infer, demo: Demo, twin: str, tmp_path):
    half = tmp_path / "half.png"
    cv2.imwrite(str(half), cv2.resize(cv2.imread(str(demo.picture)), None, fx=0.5, fy=0.5))
    pictures = [["path", demo.picture], ["path", half], ["path", demo.picture]]
    first, small, last = infer(
        demo, pictures=pictures, twin=twin, configuration={"max_batch_size": 4}
    )
    assert small["image"] == {name: length // 2 for name, length in demo.size.items()}
    for answer in (first, last):
        check(answer, demo)
        check_same(answer, infer(demo), pixels=2)


@every_task
@twins
def test_pictures_that_the_client_shrinks(infer, demo: Demo, mode: str, twin: str, tmp_path):
    """Acceptance vector 14: the client brings boxes, outlines and keypoints back to its size."""
    double = tmp_path / "double.png"
    cv2.imwrite(str(double), cv2.resize(cv2.imread(str(demo.picture)), None, fx=2, fy=2))
    small = {"client_downsizing_disabled": False, "default_max_input_size": 400}
    answer = infer(demo, file=double, mode=mode, twin=twin, configuration=small)
    for name, length in demo.size.items():
        assert answer["image"][name] == pytest.approx(2 * length, abs=5)
    for name in ("points", "keypoints"):
        xs = [point["x"] for item in _items(answer) for point in item.get(name, ())]
        assert not xs or demo.size["width"] < max(xs) <= 2.05 * demo.size["width"]


def _items(answer: dict) -> list[dict]:
    return answer["predictions"] if isinstance(answer["predictions"], list) else []


# Object detection


def test_boxes_become_supervision_detections_and_are_drawn(ask, server: str):
    report = ask("drawing", server=server, file=BOXES.picture)
    items = report["answer"]["predictions"]
    assert report["class names"] == [item["class"] for item in items]
    for (left, top, right, bottom), item in zip(report["xyxy"], items, strict=True):
        assert (left + right) / 2 == pytest.approx(item["x"], abs=0.01)
        assert (top + bottom) / 2 == pytest.approx(item["y"], abs=0.01)
        assert right - left == pytest.approx(item["width"], abs=0.01)
        assert bottom - top == pytest.approx(item["height"], abs=0.01)
    assert report["changed by boxes"] > 500
    assert report["changed by labels"] > 500
    assert report["empty"] == 0
    shape, changed = report["drawn by the server"]
    assert shape == [BOXES.size["height"], BOXES.size["width"], 3]
    assert changed > 500


# Instance segmentation


@modes
def test_outlines(configured, mode: str):
    answers = configured(MASKS, mode, rle={"response_mask_format": "rle"})
    check(answers["default"], MASKS)
    for item in answers["default"]["predictions"]:
        assert item["mask_format"] == "polygon"
        assert "rle" not in item
        assert len(item["points"]) > 5
        assert {type(value) for point in item["points"] for value in point.values()} == {float}
    check(answers["rle"], MASKS)
    for item in answers["rle"]["predictions"]:
        assert item["mask_format"] == "rle"
        assert "points" not in item
        assert item["rle"]["size"] == [MASKS.size["height"], MASKS.size["width"]]


@modes
def test_coarser_masks_come_only_when_allowed(configured, mode: str):
    allowed = {"allow_reduced_mask_resolution": True}
    answers = configured(
        MASKS,
        mode,
        fast={"mask_decode_mode": "fast"},
        allowed=allowed,
        **{"fast, allowed": {**allowed, "mask_decode_mode": "fast"}},
        half={**allowed, "mask_decode_mode": "tradeoff", "tradeoff_factor": 0.5},
        unknown={"mask_decode_mode": "exact"},
        beyond={"mask_decode_mode": "tradeoff", "tradeoff_factor": 1.5},
    )
    size = MASKS.size
    for name in ("default", "fast", "allowed"):
        assert answers[name]["image"] == size
        assert "mask_metadata" not in answers[name]
    assert summary(answers["fast"]) == summary(answers["default"])
    widths = []
    for name in ("fast, allowed", "half"):
        grid = answers[name]["image"]
        widths.append(grid["width"])
        assert answers[name]["original_image"] == size
        assert answers[name]["mask_metadata"] == {
            "coordinate_system": "mask_grid",
            **grid,
            "scale_x": size["width"] / grid["width"],
            "scale_y": size["height"] / grid["height"],
        }
        for item in answers[name]["predictions"]:
            assert all(0 <= point["x"] < grid["width"] for point in item["points"])
            assert all(0 <= point["y"] < grid["height"] for point in item["points"])
    assert widths[0] < widths[1] < size["width"]
    for name in ("unknown", "beyond"):
        assert answers[name]["status"] == 400


@modes
def test_masks_become_supervision_detections_and_are_drawn(ask, server: str, mode: str):
    report = ask("masks", server=server, mode=mode, model=MASKS.model, file=MASKS.picture)
    size = MASKS.size
    for form in ("polygon", "rle"):
        seen = report[form]
        items = seen["answer"]["predictions"]
        assert seen["class names"] == [item["class"] for item in items]
        assert seen["shape"] == [len(items), size["height"], size["width"]]
        for area, item in zip(seen["areas"], items, strict=True):
            assert 0.05 < area / (item["width"] * item["height"]) < 1.1
        assert min(seen["inside boxes"]) > 0.95
        assert seen["drawn"] > 1000
        assert seen["outlined"] > 100
    # A polygon is the longest outline only: it fills the holes of washers.
    assert min(report["covered"]) > 0.95


# Keypoints


@modes
def test_keypoints(configured, mode: str):
    answers = configured(
        KEYPOINTS,
        mode,
        sure={"keypoint_confidence_threshold": 0.9},
        impossible={"keypoint_confidence_threshold": 1.1},
        best={"confidence_threshold": "best"},
    )
    check(answers["default"], KEYPOINTS)
    size = KEYPOINTS.size
    for item in answers["default"]["predictions"]:
        slots = [point["class_id"] for point in item["keypoints"]]
        assert slots == sorted(set(slots))
        assert slots
        for point in item["keypoints"]:
            assert set(point) == {"x", "y", "confidence", "class_id", "class"}
            assert 0 < point["confidence"] <= 1
            assert -20 <= point["x"] <= size["width"] + 20
            assert -20 <= point["y"] <= size["height"] + 20
    for item in answers["sure"]["predictions"]:
        assert all(point["confidence"] >= 0.9 for point in item["keypoints"])
    for item in answers["impossible"]["predictions"]:
        assert item["keypoints"] == []
    assert answers["best"]["status"] == 422


@modes
@pytest.mark.parametrize(
    ("threshold", "missing"),
    [pytest.param(0.0, 0, id="all"), pytest.param(0.95, 1, id="the first one dropped")],
)
def test_keypoints_become_supervision_keypoints(
    ask, server: str, mode: str, threshold: float, missing: int
):
    """Acceptance vector 13: a keypoint keeps its slot when another is missing."""
    report = ask(
        "keypoints",
        file=KEYPOINTS.picture,
        model=KEYPOINTS.model,
        server=server,
        mode=mode,
        configuration={"keypoint_confidence_threshold": threshold},
    )
    items = report["answer"]["predictions"]
    assert report["class names"] == [item["class"] for item in items]
    assert report["class ids"] == [item["class_id"] for item in items]
    assert len(report["boxes"]) == len(items)
    assert sum(4 - len(item["keypoints"]) for item in items) == missing
    for points, item in zip(report["xy"], items, strict=True):
        assert len(points) == 4
        for point in item["keypoints"]:
            assert points[point["class_id"]] == pytest.approx([point["x"], point["y"]])
    assert report["drawn"] > 50
    assert report["empty"] == 0


# Classification


@modes
def test_the_class_of_a_picture(configured, mode: str):
    answers = configured(CLASS, mode, impossible={"confidence_threshold": 0.9999999})
    answer = answers["default"]
    assert answer["image"] == CLASS.size
    assert answer["top"] in CLASS.classes
    best = answer["predictions"][0]
    assert best["class"] == answer["top"] == CLASS.classes[best["class_id"]]
    assert best["confidence"] == answer["confidence"] == round(answer["confidence"], 4) > 0.4
    nothing = answers["impossible"]
    assert (nothing["predictions"], nothing["top"], nothing["confidence"]) == ([], "", 0.0)


@modes
def test_all_classes_of_a_picture(configured, mode: str):
    answers = configured(
        LABELS, mode, low={"confidence_threshold": 0.01}, high={"confidence_threshold": 0.999}
    )
    answer = answers["default"]
    assert answer["image"] == LABELS.size
    assert "top" not in answer
    assert "confidence" not in answer
    assert list(answer["predictions"]) == LABELS.classes
    assert [item["class_id"] for item in answer["predictions"].values()] == list(
        range(len(LABELS.classes))
    )
    assert answer["predicted_classes"] == [
        name for name, item in answer["predictions"].items() if item["confidence"] >= 0.4
    ]
    assert answer["predicted_classes"]
    count = {name: len(answer["predicted_classes"]) for name, answer in answers.items()}
    assert count["low"] >= count["default"] >= count["high"]
    assert answers["low"]["predictions"] == answer["predictions"]


@each([CLASS, LABELS])
def test_scores_become_supervision_classifications(ask, server: str, demo: Demo):
    report = ask("classes", server=server, model=demo.model, file=demo.picture)
    items = report["answer"]["predictions"]
    scores = [item["confidence"] for item in (items.values() if demo is LABELS else items)]
    assert len(scores) == len(demo.classes)
    assert report["best"][1] == max(scores)


# Semantic segmentation


def test_the_class_of_every_pixel(configured):
    answers = configured(PIXELS, "v0", impossible={"confidence_threshold": 0.9999})
    answer, nothing = answers["default"], answers["impossible"]
    size = PIXELS.size
    assert answer["image"] == size
    predictions = answer["predictions"]
    class_ids, confidences = (
        cv2.imdecode(np.frombuffer(base64.b64decode(predictions[field]), np.uint8), -1)
        for field in ("segmentation_mask", "confidence_mask")
    )
    assert class_ids.shape == confidences.shape == (size["height"], size["width"])
    assert class_ids.dtype == confidences.dtype == np.uint8
    assert predictions["class_map"] == {
        str(class_id): name for class_id, name in enumerate(PIXELS.classes)
    }
    assert predictions["present_class_ids"] == np.unique(class_ids).tolist()
    assert len(predictions["present_class_ids"]) > 1
    assert confidences[class_ids > 0].min() >= 102  # 255 times the default of 0.4, truncated
    background = [name.lower() for name in PIXELS.classes].index("background")
    assert nothing["predictions"]["present_class_ids"] == [background]


@twins
def test_the_sdk_does_not_ask_for_class_maps_by_v1(infer, twin: str):
    answer = infer(PIXELS, twin=twin)
    assert answer == {"raised": "ModelTaskTypeNotSupportedError"}
