"""Average precision of a detector, as the field counts it (COCO's 101-point interpolation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """What is, or what was found, in one picture.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        class_ids: (N,).
        scores: (N,); None for the truth.
    """

    boxes: NDArray[np.floating]
    class_ids: NDArray[np.integer]
    scores: NDArray[np.floating] | None = None


def mean_average_precision(
    found: Sequence[Boxes], truth: Sequence[Boxes], num_classes: int, iou: float = 0.5
) -> tuple[float, Array]:
    """Mean over the classes, and each class's average precision (NaN for a class without truth).

    Args:
        found: per picture, with scores.
        truth: per picture, in the same order.
        num_classes: class ids are below it.
        iou: overlap from which a detection counts as right.
    """
    per_class = np.array([_average_precision(found, truth, c, iou) for c in range(num_classes)])
    return float(np.nanmean(per_class)), per_class


def iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
    """IoU of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), both xyxy: (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None]
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def _average_precision(
    found: Sequence[Boxes], truth: Sequence[Boxes], class_id: int, iou: float
) -> float:
    scores: list[float] = []
    right: list[bool] = []
    total = 0
    for prediction, real in zip(found, truth, strict=True):
        targets = real.boxes[real.class_ids == class_id]
        total += len(targets)
        if prediction.scores is None:
            raise ValueError("Found boxes need scores.")
        mine = np.flatnonzero(prediction.class_ids == class_id)
        mine = mine[np.argsort(-prediction.scores[mine], kind="stable")]
        overlaps = iou_matrix(prediction.boxes[mine], targets)
        scores += prediction.scores[mine].tolist()
        right += _match(overlaps, iou)
    if total == 0:
        return float("nan")
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, bool)[order])
    recall = hits / total
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def _match(overlaps: Array, iou: float) -> list[bool]:
    """For detections in falling order of score: does each claim a target that is still free?"""
    free = np.ones(overlaps.shape[1], bool)
    right = []
    for row in overlaps:
        candidates = np.where(free, row, 0)
        best = int(candidates.argmax()) if len(candidates) else -1
        claimed = best >= 0 and candidates[best] >= iou
        if claimed:
            free[best] = False
        right.append(claimed)
    return right
