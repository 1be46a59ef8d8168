"""Boxes as (N, 4) float32 arrays: conversion, IoU, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

# Candidates compared with each other at once: bounds the memory of a flood of boxes.
_BLOCK = 128


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Centre, width and height (N, 4) to corners (N, 4), left, top, right, bottom."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def iou(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of boxes (N, 4) with others (M, 4), all xyxy, as float32 (N, M).

    NaN where both boxes have no area.
    """
    left, top, right, bottom = boxes.T[..., None]
    other_left, other_top, other_right, other_bottom = np.ascontiguousarray(others.T)
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
    waiting = np.argsort(-scores, kind="stable")
    # As Python's float the threshold makes NumPy compare in float32; the reference does not.
    limit = np.float64(iou_threshold)

    def covers(rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        covered: NDArray[np.bool_] = iou(boxes[rows], boxes[others]) > limit
        if not class_agnostic:
            covered &= class_ids[rows][:, None] == class_ids[others]
        return covered

    kept = [waiting[:0]]
    count = 0
    while len(waiting) and count < max_detections:
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        within = np.triu(covers(block, block), 1)
        alive = np.ones(len(block), np.bool_)
        for rank in np.flatnonzero(within.any(axis=1)):
            if alive[rank]:
                alive &= ~within[rank]
        winners = block[alive]
        if len(waiting):
            waiting = waiting[~covers(winners, waiting).any(axis=0)]
        kept.append(winners)
        count += len(winners)
    return np.concatenate(kept)[:max_detections]
