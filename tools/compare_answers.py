"""Compare two answers to the same question, field by field, box by box. No network here."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Answer = dict[str, Any]
Mask = NDArray[np.uint8]

# Differ from answer to answer, or tell about the server and not about the picture.
INCIDENTAL = {"inference_id", "time", "frame_id", "resolved_model", "visualization"}
_SAME_THING_PX = 10  # boxes of one class that lie further apart are different things


@dataclass(frozen=True)
class Limits:
    """How far two answers may differ and still agree.

    Attributes:
        box_px: largest difference of a box corner along an axis.
        confidence: largest difference of a confidence or a class score.
        mask_iou: smallest overlap of two masks.
        keypoint_px: largest difference of a keypoint along an axis.
        pixels: smallest share of pixels of a class map that are the same.
    """

    box_px: float = 1.0
    confidence: float = 0.001
    mask_iou: float = 0.98
    keypoint_px: float = 1.0
    pixels: float = 0.98


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        counts: how many predictions A and B gave.
        measures: by name of a limit, the worst value that was measured.
        differences: what does not agree, one sentence each; empty when all does.
    """

    limits: Limits
    counts: tuple[int, int] = (0, 0)
    measures: dict[str, float] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def measure(self, name: str, value: float, what: str) -> None:
        """Keep the worst value of one kind; note a difference when it is past its limit."""
        at_least = name in ("mask_iou", "pixels")
        worst = min if at_least else max
        self.measures[name] = worst(self.measures.get(name, value), value)
        limit = getattr(self.limits, name)
        if (value < limit) if at_least else (value > limit):
            self.differences.append(f"{what}: {name} {value:.4g}, limit {limit:g}")

    def same(self, what: str, a: object, b: object) -> None:
        """Note a difference unless both are equal."""
        if a != b:
            self.differences.append(f"{what}: A has {a!r}, B has {b!r}")


def compare(a: Answer, b: Answer, limits: Limits) -> Comparison:
    """Compare two answers to the same question.

    Args:
        a: the body that server A answered for one picture.
        b: the body that server B answered.
        limits: what still counts as agreement.
    """
    found = Comparison(limits)
    found.same("fields", sorted(a.keys() - INCIDENTAL), sorted(b.keys() - INCIDENTAL))
    found.same("image", a.get("image"), b.get("image"))
    parts = a.get("predictions"), b.get("predictions")
    forms = [_form(part) for part in parts]
    if forms[0] != forms[1]:
        found.same("form of the answer", *forms)
        return found
    if forms[0] == "class map":
        _compare_class_maps(*parts, found)
        return found
    found.counts = len(parts[0]), len(parts[1])
    found.same("number of predictions", *found.counts)
    if forms[0] == "labels" or "top" in a:
        _compare_scores(_scores(parts[0]), _scores(parts[1]), found)
        for name in ("top", "predicted_classes"):
            found.same(name, a.get(name), b.get(name))
    else:
        _compare_boxes(a, b, found)
    return found


def box_corners(items: list[Answer]) -> NDArray[np.float64]:
    """Corners (N, 4) x0, y0, x1, y1 of predictions that give centre and size."""
    rows = [[item[name] for name in ("x", "y", "width", "height")] for item in items]
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    half = boxes[:, 2:] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def pair(a: list[Answer], b: list[Answer]) -> list[tuple[int, int]]:
    """Indices of predictions that mean the same thing: of one class, nearest boxes first.

    Confidence tells boxes with the same corners apart. Each prediction is in one pair at most.
    """
    if not a or not b:
        return []
    apart = np.abs(box_corners(a)[:, None] - box_corners(b)[None]).max(axis=2)
    classes = [np.array([item["class"] for item in items]) for items in (a, b)]
    scores = [np.array([item["confidence"] for item in items]) for items in (a, b)]
    possible = (classes[0][:, None] == classes[1][None]) & (apart <= _SAME_THING_PX)
    cost = apart + np.abs(scores[0][:, None] - scores[1][None])
    free = [set(range(len(a))), set(range(len(b)))]
    pairs = []
    for index in np.argsort(cost, axis=None, kind="stable").tolist():
        i, j = divmod(index, len(b))
        if possible[i, j] and i in free[0] and j in free[1]:
            pairs.append((i, j))
            free[0].remove(i)
            free[1].remove(j)
    return sorted(pairs)


def mask_of(item: Answer, size_wh: tuple[int, int]) -> Mask:
    """The mask (H, W) of a prediction, 1 inside, from its run lengths or its polygon."""
    if "rle" in item:
        height, width = item["rle"]["size"]
        return decode_rle(item["rle"]["counts"], (width, height))
    mask = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    points = np.array([[point["x"], point["y"]] for point in item["points"]], np.float64)
    if len(points):
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    return mask


def decode_rle(counts: str, size_wh: tuple[int, int]) -> Mask:
    """The mask (H, W) of compressed COCO run lengths: columns first, the first run is of zeros.

    Raises:
        ValueError: the runs do not fill the mask.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii"):
        group = byte - 48  # five bits of the number, and whether more follow
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    width, height = size_wh
    if sum(runs) != width * height or min(runs, default=0) < 0:
        raise ValueError(f"run lengths of {sum(runs)} pixels for a mask of {width} x {height}")
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    return flat.reshape(width, height).T.astype(np.uint8)


def mask_iou(a: Mask, b: Mask) -> float:
    """Overlap of two masks from 0 to 1: shared pixels by all; 1 when both are empty."""
    if a.shape != b.shape:
        return 0.0
    either = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / either if either else 1.0


def _form(part: object) -> str:
    if isinstance(part, dict):
        return "class map" if "segmentation_mask" in part else "labels"
    return "list" if isinstance(part, list) else "nothing"


def _compare_boxes(a: Answer, b: Answer, found: Comparison) -> None:
    items_a, items_b = a["predictions"], b["predictions"]
    pairs = pair(items_a, items_b)
    for name, items, side in (("A", items_a, 0), ("B", items_b, 1)):
        for index in sorted(set(range(len(items))) - {match[side] for match in pairs}):
            found.differences.append(f"only {name} has {_name(items[index])}")
    corners_a, corners_b = box_corners(items_a), box_corners(items_b)
    size = a["image"]["width"], a["image"]["height"]
    for i, j in pairs:
        one, other, what = items_a[i], items_b[j], _name(items_a[i])
        found.measure("box_px", float(np.abs(corners_a[i] - corners_b[j]).max()), what)
        found.measure("confidence", abs(one["confidence"] - other["confidence"]), what)
        found.same(f"{what}: fields", sorted(one), sorted(other))
        found.same(f"{what}: class_id", one["class_id"], other["class_id"])
        if all("points" in item or "rle" in item for item in (one, other)):
            overlap = mask_iou(mask_of(one, size), mask_of(other, size))
            found.measure("mask_iou", overlap, what)
        _compare_keypoints(one.get("keypoints", []), other.get("keypoints", []), what, found)


def _compare_keypoints(a: list[Answer], b: list[Answer], what: str, found: Comparison) -> None:
    by_id = [{point["class_id"]: point for point in points} for points in (a, b)]
    found.same(f"{what}: keypoints", *(sorted(points) for points in by_id))
    for class_id in sorted(by_id[0].keys() & by_id[1].keys()):
        one, other = by_id[0][class_id], by_id[1][class_id]
        point = f"{what}, keypoint {one['class']}"
        found.same(f"{point}: class", one["class"], other["class"])
        apart = max(abs(one["x"] - other["x"]), abs(one["y"] - other["y"]))
        found.measure("keypoint_px", apart, point)
        found.measure("confidence", abs(one["confidence"] - other["confidence"]), point)


def _scores(predictions: list[Answer] | Answer) -> dict[str, Answer]:
    if isinstance(predictions, dict):
        return predictions
    return {item["class"]: item for item in predictions}


def _compare_scores(a: dict[str, Answer], b: dict[str, Answer], found: Comparison) -> None:
    for side, more, less in (("A", a, b), ("B", b, a)):
        for name in sorted(more.keys() - less.keys()):
            found.differences.append(f"only {side} has {name} {more[name]['confidence']:.4f}")
    for name in sorted(a.keys() & b.keys()):
        found.same(f"{name}: class_id", a[name]["class_id"], b[name]["class_id"])
        found.measure("confidence", abs(a[name]["confidence"] - b[name]["confidence"]), name)


def _compare_class_maps(a: Answer, b: Answer, found: Comparison) -> None:
    found.same("fields of predictions", sorted(a), sorted(b))
    found.same("class_map", a.get("class_map"), b.get("class_map"))
    # Confidences are stored in steps of 1/255; one step apart is the same.
    for name, step in (("segmentation_mask", 0), ("confidence_mask", 1)):
        if name not in a or name not in b:
            continue
        one, other = (_grey_png(part[name]) for part in (a, b))
        if one.shape != other.shape:
            found.same(f"{name}: rows and columns", one.shape, other.shape)
        else:
            found.measure("pixels", float((cv2.absdiff(one, other) <= step).mean()), name)


def _grey_png(text: str) -> Mask:
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


def _name(item: Answer) -> str:
    return f"{item['class']} {item['confidence']:.4f} at {item['x']:g},{item['y']:g}"
