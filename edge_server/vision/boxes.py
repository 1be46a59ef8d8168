"""Boxes as (N, 4) float32 arrays: conversion, IoU, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Centre and size to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def iou(box: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box (4,) with others (N, 4), all xyxy, as float32 (N,).

    NaN where both boxes have no area.
    """
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    area = (box[2:] - box[:2]).prod()
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shared / (area + areas - shared), np.float32)


def nms(
    boxes: Boxes,
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    *,
    iou_threshold: float,
    class_agnostic: bool,
    max_detections: int,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression, each class by itself unless ``class_agnostic``.

    A box goes when its float32 IoU with a kept one exceeds the double-precision threshold;
    of equal scores the earlier row wins. Both are what torchvision's per-class NMS does.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        class_ids: (N,).
        iou_threshold: see above.
        class_agnostic: boxes of different classes remove each other too.
        max_detections: stop after so many, counted over all classes.

    Returns:
        indices of the kept rows, by falling score.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting) and len(kept) < max_detections:
        best, rest = waiting[0], waiting[1:]
        kept.append(int(best))
        # As Python's float the threshold makes NumPy compare in float32; the reference does not.
        covered = iou(boxes[best], boxes[rest]).astype(np.float64) > iou_threshold
        if not class_agnostic:
            covered &= class_ids[rest] == class_ids[best]
        waiting = rest[~covered]
    return np.array(kept, np.int64)
