"""Boxes as (N, 4) float32 arrays: conversion, IoU, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Centre, width and height (N, 4) to corners (N, 4), left, top, right, bottom."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def iou(box: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box (4,) with others (N, 4), all xyxy, as float32 (N,).

    NaN where both boxes have no area. Fastest when ``others`` is in column-major order.
    """
    left, top, right, bottom = others.T
    width = np.minimum(box[2], right) - np.maximum(box[0], left)
    height = np.minimum(box[3], bottom) - np.maximum(box[1], top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (right - left) * (bottom - top)
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
    order = np.argsort(-scores, kind="stable")
    ranked, classes = np.asfortranarray(boxes[order]), class_ids[order]
    # As Python's float the threshold makes NumPy compare in float32; the reference does not.
    limit = np.float64(iou_threshold)
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for rank in range(len(order)):
        if len(kept) >= max_detections:
            break
        if not alive[rank]:
            continue
        kept.append(rank)
        covered = iou(ranked[rank], ranked[rank + 1 :]) > limit
        if not class_agnostic:
            covered &= classes[rank + 1 :] == classes[rank]
        alive[rank + 1 :] &= ~covered
    return order[np.array(kept, np.int64)]
