"""Whether two engines answer alike: the predictions of one against those of the other.

Pure comparison. The numbers are those that a reader of an answer may rely on: a new engine that
passes may take over from the weights without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.vision.params import InferParams
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    InstanceMasks,
    KeyPoints,
    Polygon,
    Prediction,
    SemanticMap,
)

_MOST = 100
_SAME_PIXELS = 0.99
_MASK_IOU = 0.9
_LEAST_MASK_PIXELS = 100  # of smaller masks the edge is a large part
_KEYPOINT_SHIFT = 0.02  # of the diagonal of its box
_EQUAL = 0.01  # pixels
_MOST_TOLD = 5


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be off: in ``confidence`` at most, in ``iou`` of boxes at least."""

    confidence: float
    iou: float


TOLERANCES = {
    "fp32": Tolerance(0.001, 0.98),
    "fp16": Tolerance(0.02, 0.98),
    "int8": Tolerance(0.05, 0.9),
}


def wishes(confidence: float) -> InferParams:
    """What to ask of both engines.

    No box removes another: of two that are nearly equal either may win, and that is no difference
    between engines.
    """
    return InferParams(
        confidence=confidence,
        iou_threshold=1.0,
        max_detections=_MOST,
        mask_resolution=1.0,  # by default boxes lie on whole pixels, and a small one jumps
    )


@dataclass
class Agreement:
    """How well two engines agree.

    Attributes:
        compared: boxes, or whole pictures for tasks without boxes.
        confidence: largest difference.
        iou: smallest overlap of two boxes of the same thing.
        differences: what is beyond the tolerance, in words; empty when they agree.
    """

    compared: int = 0
    confidence: float = 0.0
    iou: float = 1.0
    differences: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The measured numbers, for a manifest."""
        return {
            "compared": self.compared,
            "largest_confidence_difference": round(self.confidence, 5),
            "smallest_iou": round(self.iou, 4),
        }

    def __str__(self) -> str:
        told = "; ".join(self.differences[:_MOST_TOLD])
        more = len(self.differences) - _MOST_TOLD
        return f"{told}; and {more} more" if more > 0 else told


def compare(
    expected: Sequence[Prediction],
    actual: Sequence[Prediction],
    tolerance: Tolerance,
    limit: float,
) -> Agreement:
    """Compare two engines on the same pictures, asked with ``wishes(limit)``.

    Args:
        expected: by picture, of the engine that is trusted.
        actual: of the other one.
        tolerance: how far it may be off.
        limit: the confidence that was asked for: detections as near to it as the tolerance may
            be found by one engine alone.
    """
    found = Agreement()
    for number, (one, other) in enumerate(zip(expected, actual, strict=True), start=1):
        told = _Picture(f"picture {number}", tolerance, limit, found)
        if isinstance(one, ClassScores) and isinstance(other, ClassScores):
            told.scores(one, other)
        elif isinstance(one, SemanticMap) and isinstance(other, SemanticMap):
            told.maps(one, other)
        else:
            told.objects(one, other)
    return found


def is_empty(prediction: Prediction) -> bool:
    """Whether there is nothing to compare in it: no detection was found."""
    return not isinstance(prediction, (ClassScores, SemanticMap)) and not len(_boxes(prediction))


@dataclass(frozen=True)
class _Picture:
    name: str
    tolerance: Tolerance
    limit: float
    found: Agreement

    def scores(self, one: ClassScores, other: ClassScores) -> None:
        self.found.compared += 1
        self._confidence(float(np.abs(one.scores - other.scores).max()), "a class score")
        top, claimed = int(one.scores.argmax()), int(other.scores.argmax())
        if one.scores[claimed] < one.scores[top] - self.tolerance.confidence:
            self._differ(f"class {claimed} is the best instead of class {top}")

    def maps(self, one: SemanticMap, other: SemanticMap) -> None:
        self.found.compared += 1
        same = float((one.class_ids == other.class_ids).mean())
        if same < _SAME_PIXELS:
            self._differ(f"only {100 * same:.1f} % of the pixels have the same class")

    def objects(self, one: Prediction, other: Prediction) -> None:
        mine, theirs = _boxes(one), _boxes(other)
        ious = _ious(mine.boxes, theirs.boxes) * (
            mine.class_ids[:, None] == theirs.class_ids[None, :]
        )
        left = set(range(len(theirs)))
        for index in range(len(mine)):
            match = max(left, key=lambda j: ious[index, j], default=None)
            if match is None or ious[index, match] < self.tolerance.iou:
                near = 0.0 if match is None else float(ious[index, match])
                self._alone(mine, index, f"is missing (nearest IoU {near:.2f})")
                continue
            left.remove(match)
            self.found.compared += 1
            self.found.iou = min(self.found.iou, float(ious[index, match]))
            shift = abs(float(mine.scores[index] - theirs.scores[match]))
            self._confidence(shift, _name(mine, index))
            self._details(one, other, index, match)
        for index in sorted(left):
            self._alone(theirs, index, "is too much")

    def _details(self, one: Prediction, other: Prediction, index: int, match: int) -> None:
        if isinstance(one, InstanceMasks) and isinstance(other, InstanceMasks):
            iou = _mask_iou(one.polygons[index], other.polygons[match])
            if iou < _MASK_IOU:
                self._differ(f"{_name(one.detections, index)}: the masks have an IoU of {iou:.2f}")
        if isinstance(one, KeyPoints) and isinstance(other, KeyPoints):
            seen = (one.confidences[index] > 0) & (other.confidences[match] > 0)
            shift = np.linalg.norm(one.points[index] - other.points[match], axis=1)[seen]
            left, top, right, bottom = one.detections.boxes[index]
            allowed = max(1.0, _KEYPOINT_SHIFT * float(np.hypot(right - left, bottom - top)))
            if seen.any() and shift.max() > allowed:
                self._differ(
                    f"{_name(one.detections, index)}: a keypoint is off by {shift.max():.1f} pixels"
                )

    def _alone(self, boxes: Detections, index: int, what: str) -> None:
        """A detection that one engine has alone: fine only as near to where lists are cut."""
        cut = self.limit
        if len(boxes) >= _MOST:
            cut = max(cut, float(boxes.scores.min()))
        if boxes.scores[index] > cut + self.tolerance.confidence:
            self._differ(f"{_name(boxes, index)} {what}")

    def _confidence(self, difference: float, what: str) -> None:
        self.found.confidence = max(self.found.confidence, difference)
        # NaN, what a broken engine answers, is no small difference either.
        if not difference <= self.tolerance.confidence + 1e-6:
            self._differ(f"{what} is off by {difference:.3f}")

    def _differ(self, text: str) -> None:
        self.found.differences.append(f"{self.name}: {text}")


def _boxes(prediction: Prediction) -> Detections:
    if isinstance(prediction, (InstanceMasks, KeyPoints)):
        return prediction.detections
    if not isinstance(prediction, Detections):
        raise TypeError(f"{type(prediction).__name__} has no boxes")
    return prediction


def _name(boxes: Detections, index: int) -> str:
    corners = ", ".join(f"{value:.0f}" for value in boxes.boxes[index])
    return f"class {boxes.class_ids[index]} with {boxes.scores[index]:.2f} at ({corners})"


def _ious(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Overlap of each box with each: (N, M); 1.0 for equal ones without an area, too."""
    a, b = one.astype(np.float64)[:, None], other.astype(np.float64)[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (a, b)]
    ious = shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)
    return np.where(np.abs(a - b).max(axis=-1, initial=0) < _EQUAL, 1.0, ious)


def _mask_iou(one: Polygon, other: Polygon) -> float:
    """Overlap of two outlines; 1.0 where they are too small to tell."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    both = np.concatenate([one, other])
    corner = both.min(axis=0)
    width, height = both.max(axis=0) - corner + 1
    masks = [np.zeros((height, width), np.uint8) for _ in range(2)]
    for mask, outline in zip(masks, (one, other), strict=True):
        cv2.fillPoly(mask, [outline - corner], (1,))
    union = int((masks[0] | masks[1]).sum())
    return 1.0 if union < _LEAST_MASK_PIXELS else float((masks[0] & masks[1]).sum() / union)
