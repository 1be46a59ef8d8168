"""The bundled models, their example pictures, and what holds of every answer about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

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


BOXES = Demo("demo-parts/1")
MASKS = Demo("demo-parts-seg/1")
KEYPOINTS = Demo("demo-wrenches/1")
CLASS = Demo("demo-surfaces/1")
LABELS = Demo("demo-trays/1")
PIXELS = Demo("demo-corrosion/1")
ALL = [BOXES, MASKS, KEYPOINTS, CLASS, LABELS, PIXELS]


def check(answer: dict[str, Any], demo: Demo) -> None:
    """The example shows something, and all that was found can be."""
    size, predictions = demo.size, answer["predictions"]
    assert answer["image"] == size
    if demo is CLASS:
        assert answer["top"] in demo.classes
    elif demo is LABELS:
        assert list(predictions) == demo.classes
        assert answer["predicted_classes"]
    elif demo is PIXELS:
        assert len(predictions["present_class_ids"]) > 1
    else:
        assert len(predictions) >= 2
        for item in predictions:
            assert item["class"] == demo.classes[item["class_id"]]
            assert 0.4 <= item["confidence"] <= 1
            assert 0 <= item["x"] - item["width"] / 2 <= item["x"] <= size["width"]
            assert 0 <= item["y"] - item["height"] / 2 <= item["y"] <= size["height"]


def check_same(
    answer: dict[str, Any], reference: dict[str, Any], scale: float = 1.0, pixels: float = 12
) -> None:
    """All that is surely on ``reference`` is on ``answer``, at the same place."""
    found, expected = answer["predictions"], reference["predictions"]
    if isinstance(expected, dict):
        for holder in ((answer, reference), (found, expected)):
            for name in ("predicted_classes", "present_class_ids"):
                assert holder[0].get(name) == holder[1].get(name)
        return
    sure = [item for item in expected if item["confidence"] > 0.6]
    assert sure
    for item in sure:
        near = [other for other in found if _near(other, item, scale, pixels)]
        assert near, f"{item} is missing from {found}"


def _near(one: dict[str, Any], other: dict[str, Any], scale: float, pixels: float) -> bool:
    if one["class"] != other["class"]:
        return False
    bounds = {"x": pixels, "y": pixels, "width": 2 * pixels, "height": 2 * pixels}
    return all(
        abs(one[name] - other[name] * scale) <= bound
        for name, bound in bounds.items()
        if name in other
    )


def summary(answer: dict[str, Any]) -> list[Any]:
    """What was found where, without random ids and times."""
    predictions = answer["predictions"]
    if isinstance(predictions, dict):
        return [answer.get("predicted_classes"), predictions]
    kept = ("class", "confidence", "x", "y", "width", "height", "points", "rle", "keypoints")
    return [[item.get(name) for name in kept] for item in predictions]
