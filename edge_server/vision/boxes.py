"""Boxes as (N, 4) float32 arrays: conversion, IoU, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

# Candidates compared with each other at once: bounds the memory of a flood of boxes.
_BLOCK = 128
_LATER = np.triu(np.ones((_BLOCK, _BLOCK), np.bool_), 1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Centre, width and height (N, 4) to corners (N, 4), left, top, right, bottom."""
    corners = np.empty_like(boxes, order="C")
    half = boxes[:, 2:] / 2
    np.subtract(boxes[:, :2], half, out=corners[:, :2])
    np.add(boxes[:, :2], half, out=corners[:, 2:])
    return corners


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def iou(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of boxes (..., 4) with others (..., 4), all xyxy, as float32 (...).

    The leading dimensions are broadcast. NaN where both boxes have no area.
    """
    left, top, right, bottom = (boxes[..., side] for side in range(4))
    other_left, other_top, other_right, other_bottom = (others[..., side] for side in range(4))
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (right - left) * (bottom - top)
    other_areas = (other_right - other_left) * (other_bottom - other_top)
    return np.asarray(shared / (areas + other_areas - shared), np.float32)


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
    # As Python's float the threshold makes NumPy compare in float32; the reference does not.
    limit = np.float64(iou_threshold)
    if class_agnostic:
        class_ids = np.zeros_like(class_ids)
    waiting = np.argsort(-scores, kind="stable")
    kept = [waiting[:0]]
    count = 0
    while len(waiting) and count < max_detections:
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        winners = block[_winners(boxes[block], class_ids[block], limit)]
        if len(waiting):
            covered = iou(boxes[winners, None], boxes[waiting]) > limit
            covered &= class_ids[winners, None] == class_ids[waiting]
            waiting = waiting[~covered.any(axis=0)]
        kept.append(winners)
        count += len(winners)
    return np.concatenate(kept)[:max_detections]


def _winners(boxes: Boxes, class_ids: NDArray[np.int64], limit: np.float64) -> NDArray[np.bool_]:
    """Which of at most ``_BLOCK`` boxes, by falling score, none that is kept covers."""
    count = len(boxes)
    alive = np.ones(count, np.bool_)
    rivals = np.equal.outer(class_ids, class_ids)
    rivals &= _LATER[:count, :count]
    better, worse = np.divmod(np.flatnonzero(rivals), count)  # nonzero is slower
    covered = iou(boxes[better], boxes[worse]) > limit
    for row, other in zip(better[covered].tolist(), worse[covered].tolist(), strict=True):
        if alive[row]:
            alive[other] = False
    return alive
