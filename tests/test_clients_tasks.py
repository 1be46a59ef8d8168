"""The clients our users have, unchanged, with a demo model of every task."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support import ROOT


@dataclass(frozen=True)
class Demo:
    """A bundled model and its example picture."""

    model: str

    @property
    def picture(self) -> Path:
        return sorted((self._folder / "examples").glob("*.jpg"))[0]

    @property
    def classes(self) -> list[str]:
        return (self._folder / "class_names.txt").read_text(encoding="utf-8").split("\n")[:-1]

    @property
    def size(self) -> dict[str, int]:
        height, width = cv2.imread(str(self.picture)).shape[:2]
        return {"width": width, "height": height}

    @property
    def _folder(self) -> Path:
        return ROOT / "edge_server" / "bundled" / self.model


MASKS = Demo("demo-parts-seg/1")
KEYPOINTS = Demo("demo-wrenches/1")
CLASS = Demo("demo-surfaces/1")
LABELS = Demo("demo-trays/1")
PIXELS = Demo("demo-corrosion/1")
ALL = [MASKS, KEYPOINTS, CLASS, LABELS, PIXELS]

modes = pytest.mark.parametrize("mode", ["v0", "v1"])


def each(demos):
    return pytest.mark.parametrize("demo", demos, ids=lambda demo: demo.model)


@pytest.fixture
def infer(ask, server: str):
    """Answers of ``tasks.py`` to one configuration after another, by name."""

    def run(demo: Demo, mode: str, **configurations: dict) -> dict:
        text = json.dumps({"default": {}, **configurations})
        return ask("tasks.py", server, mode, demo.model, demo.picture, text)

    return run


def check_boxes(answer: dict, demo: Demo) -> None:
    size = demo.size
    assert answer["image"] == size
    assert answer["predictions"], "the example shows something"
    for item in answer["predictions"]:
        assert item["class"] == demo.classes[item["class_id"]]
        assert 0.4 < item["confidence"] <= 1
        assert 0 <= item["x"] - item["width"] / 2 <= item["x"] <= size["width"]
        assert 0 <= item["y"] - item["height"] / 2 <= item["y"] <= size["height"]


def summary(answer: dict) -> list:
    """What was found where, without random ids and times."""
    predictions = answer["predictions"]
    if isinstance(predictions, dict):
        return [answer.get("predicted_classes"), predictions]
    kept = ("class", "confidence", "x", "y", "points", "rle", "keypoints")
    return [[item.get(name) for name in kept] for item in predictions]


# Instance segmentation


@modes
def test_outlines(infer, mode: str):
    answers = infer(MASKS, mode, rle={"response_mask_format": "rle"})
    check_boxes(answers["default"], MASKS)
    for item in answers["default"]["predictions"]:
        assert item["mask_format"] == "polygon"
        assert "rle" not in item
        assert len(item["points"]) > 5
        assert {type(value) for point in item["points"] for value in point.values()} == {float}
    check_boxes(answers["rle"], MASKS)
    for item in answers["rle"]["predictions"]:
        assert item["mask_format"] == "rle"
        assert "points" not in item
        assert item["rle"]["size"] == [MASKS.size["height"], MASKS.size["width"]]


@modes
def test_coarser_masks_come_only_when_allowed(infer, mode: str):
    allowed = {"allow_reduced_mask_resolution": True}
    answers = infer(
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
    report = ask("masks.py", server, mode, MASKS.model, MASKS.picture)
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
def test_keypoints(infer, mode: str):
    answers = infer(
        KEYPOINTS,
        mode,
        sure={"keypoint_confidence_threshold": 0.9},
        impossible={"keypoint_confidence_threshold": 1.1},
        best={"confidence_threshold": "best"},
    )
    check_boxes(answers["default"], KEYPOINTS)
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
def test_keypoints_become_supervision_keypoints_and_are_drawn(ask, server: str, mode: str):
    report = ask("keypoints.py", server, mode, KEYPOINTS.model, KEYPOINTS.picture)
    items = report["answer"]["predictions"]
    assert report["class names"] == [item["class"] for item in items]
    assert report["class ids"] == [item["class_id"] for item in items]
    assert len(report["boxes"]) == len(items)
    for points, item in zip(report["xy"], items, strict=True):
        for point in item["keypoints"]:
            assert points[point["class_id"]] == pytest.approx([point["x"], point["y"]])
    assert report["drawn"] > 50
    assert report["empty"] == 0


# Classification


@modes
def test_the_class_of_a_picture(infer, mode: str):
    answers = infer(CLASS, mode, impossible={"confidence_threshold": 0.9999999})
    answer = answers["default"]
    assert answer["image"] == CLASS.size
    assert answer["top"] in CLASS.classes
    best = answer["predictions"][0]
    assert best["class"] == answer["top"] == CLASS.classes[best["class_id"]]
    assert best["confidence"] == answer["confidence"] == round(answer["confidence"], 4) > 0.4
    nothing = answers["impossible"]
    assert (nothing["predictions"], nothing["top"], nothing["confidence"]) == ([], "", 0.0)


@modes
def test_all_classes_of_a_picture(infer, mode: str):
    answers = infer(
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
    report = ask("classes.py", server, demo.model, demo.picture)
    items = report["answer"]["predictions"]
    scores = [item["confidence"] for item in (items.values() if demo is LABELS else items)]
    assert len(scores) == len(demo.classes)
    assert report["best"][1] == max(scores)


# Semantic segmentation


def test_the_class_of_every_pixel(infer):
    answers = infer(PIXELS, "v0", impossible={"confidence_threshold": 0.9999})
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


def test_the_sdk_does_not_ask_for_class_maps_by_v1(infer):
    answer = infer(PIXELS, "v1")["default"]
    assert answer == {"raised": "ModelTaskTypeNotSupportedError"}


# All of them


@pytest.mark.parametrize(
    ("demo", "mode"),
    [
        pytest.param(demo, mode, id=f"{demo.model} {mode}")
        for demo in ALL
        for mode in ("v0", "v1")
        if (demo, mode) != (PIXELS, "v1")  # which the client refuses to ask
    ],
)
def test_the_server_draws(infer, demo: Demo, mode: str):
    wish = {
        "visualize_predictions": True,
        "visualize_labels": True,
        "stroke_width": 3,
        "output_visualisation_format": "numpy",
    }
    if mode == "v0":
        wish["format"] = "image"
    size = demo.size
    answers = infer(demo, mode, drawn=wish)
    assert answers["drawn"]["visualization"] == [size["height"], size["width"], 3]
    if mode == "v1":
        assert summary(answers["drawn"]) == summary(answers["default"])


@each([demo for demo in ALL if demo is not PIXELS])
def test_batches_and_shrunk_pictures(ask, server: str, demo: Demo):
    answers = ask("task_batches.py", server, demo.model, demo.picture)
    one, (first, half, last) = answers["one"], answers["batch"]
    size = demo.size
    assert first["image"] == last["image"] == size
    assert half["image"] == {"width": size["width"] // 2, "height": size["height"] // 2}
    for answer in (first, last):
        assert set(answer) == set(one)
        if demo in (MASKS, KEYPOINTS):
            assert [item["class"] for item in answer["predictions"]] == [
                item["class"] for item in one["predictions"]
            ]
    downsized = answers["downsized"]["image"]
    assert downsized["width"] == pytest.approx(2 * size["width"], abs=5)
    assert downsized["height"] == pytest.approx(2 * size["height"], abs=5)
    if demo is MASKS:  # the client brings outlines back to the size of its picture
        spread = max(
            point["x"] for item in answers["downsized"]["predictions"] for point in item["points"]
        )
        assert size["width"] < spread <= 2 * size["width"]
