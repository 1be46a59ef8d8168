"""Answers of the API for people: a short table, and the annotated picture as a file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_server.errors import RequestError

Rows = Sequence[Mapping[str, Any]]

_MOST_CLASSES = 10  # of a classifier that knows a thousand, nobody wants to read the rest


def prediction_table(answer: Mapping[str, Any]) -> str:
    """What the model found, a line each: boxes, classes of the picture, or of its pixels.

    Raises:
        RequestError: the answer holds a mask that cannot be read.
    """
    predictions = answer["predictions"]
    if "segmentation_mask" in predictions:
        return _class_map_table(predictions)
    if "predicted_classes" in answer:
        return _label_table(predictions, answer["predicted_classes"])
    if not predictions:
        return "Nothing found."
    if "top" in answer:
        return _ranking_table(predictions)
    return _box_table(predictions)


def write_visualization(answer: Mapping[str, Any], path: Path) -> None:
    """Write the annotated picture that the answer holds.

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.write_bytes(base64.b64decode(answer["visualization"]))


def _box_table(predictions: Rows) -> str:
    """Class, confidence in percent, box in pixels, and what else the task finds in a box."""
    names = _width(item["class"] for item in predictions)
    extra, describe = _box_extra(predictions[0])
    lines = [f"{'class':<{names}}  confidence  left   top  width  height{extra}"]
    for item in predictions:
        left = item["x"] - item["width"] / 2
        top = item["y"] - item["height"] / 2
        lines.append(
            f"{item['class']:<{names}}  {item['confidence']:>9.0%}  {left:>5.0f} {top:>5.0f}  "
            f"{item['width']:>5.0f}  {item['height']:>6.0f}{describe(item)}"
        )
    return "\n".join(lines)


def _box_extra(item: Mapping[str, Any]) -> tuple[str, Callable[[Mapping[str, Any]], str]]:
    """The last column of a table of boxes: its title, and the text for one prediction."""
    if "keypoints" in item:
        return "  keypoints", lambda item: f"  {len(item['keypoints']):>9}"
    if "points" in item:
        return "  corners", lambda item: f"  {len(item['points']):>7}"
    return "", lambda item: ""


def _ranking_table(predictions: Rows) -> str:
    """The classes above the threshold, the best first."""
    shown = predictions[:_MOST_CLASSES]
    names = _width(item["class"] for item in shown)
    lines = [f"{item['class']:<{names}}  {item['confidence']:>10.1%}" for item in shown]
    return "\n".join([f"{'class':<{names}}  confidence", *lines])


def _label_table(predictions: Mapping[str, Mapping[str, Any]], predicted: Sequence[str]) -> str:
    """The likeliest classes, and whether each is above the threshold."""
    by_score = sorted(predictions.items(), key=lambda entry: -entry[1]["confidence"])
    shown = by_score[: max(_MOST_CLASSES, len(predicted))]
    names = _width(name for name, _ in shown)
    lines = [
        f"{name:<{names}}  {label['confidence']:>10.1%}  {'yes' if name in predicted else 'no'}"
        for name, label in shown
    ]
    return "\n".join([f"{'class':<{names}}  confidence  found", *lines])


def _class_map_table(predictions: Mapping[str, Any]) -> str:
    """Which share of the picture belongs to each class, the largest first."""
    import cv2
    import numpy as np

    encoded = np.frombuffer(base64.b64decode(predictions["segmentation_mask"]), np.uint8)
    class_ids = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if class_ids is None:
        raise RequestError("The answer is damaged: its segmentation_mask is not a PNG.")
    counts = cv2.calcHist([class_ids], [0], None, [256], [0, 256]).ravel()
    present = [int(class_id) for class_id in np.argsort(-counts, kind="stable") if counts[class_id]]
    class_map = predictions["class_map"]
    rows = [(class_map[str(class_id)], counts[class_id] / class_ids.size) for class_id in present]
    names = _width(name for name, _ in rows)
    lines = [f"{name:<{names}}  {share:>20.1%}" for name, share in rows]
    return "\n".join([f"{'class':<{names}}  share of the picture", *lines])


def _width(names: Iterable[str]) -> int:
    return max(len("class"), *map(len, names))
