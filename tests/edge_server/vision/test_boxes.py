"""Non-maximum suppression against the plainest possible one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from edge_server.vision.boxes import iou, nms

RNG = np.random.default_rng(1)


def random_boxes(count):
    corners = RNG.uniform(0, 100, (count, 2, 2))
    boxes = np.hstack([corners.min(1), corners.max(1)]).astype(np.float32)
    scores = RNG.integers(0, 20, count).astype(np.float32) / 20  # many ties
    return boxes, scores, RNG.integers(0, 3, count)


def plain_iou(one, other):
    """Written without any of our code, in float32 scalars."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]), np.float32(0))
    height = max(min(one[3], other[3]) - max(one[1], other[1]), np.float32(0))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def plain_nms(boxes, scores, class_ids, iou_threshold, class_agnostic):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [k for k in kept if class_agnostic or class_ids[k] == class_ids[index]]
        if all(plain_iou(boxes[k], boxes[index]) <= iou_threshold for k in rivals):
            kept.append(index)
    return kept


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("iou_threshold", [-1.0, 0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_suppression_equals_the_plain_loop(count, iou_threshold, class_agnostic):
    boxes, scores, class_ids = random_boxes(count)
    arguments = {"iou_threshold": iou_threshold, "class_agnostic": class_agnostic}
    kept = nms(boxes, scores, class_ids, max_detections=1000, **arguments)
    assert kept.tolist() == plain_nms(boxes, scores, class_ids, **arguments)


@pytest.mark.parametrize("limit", [-1, 0, 1, 5])
def test_the_best_are_kept(limit):
    boxes, scores, class_ids = random_boxes(50)
    arguments = {"iou_threshold": 0.9, "class_agnostic": False}
    everything = nms(boxes, scores, class_ids, max_detections=1000, **arguments)
    some = nms(boxes, scores, class_ids, max_detections=limit, **arguments)
    assert some.tolist() == everything[: max(limit, 0)].tolist()


def test_overlap_of_known_boxes():
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20]], np.float32)
    np.testing.assert_allclose(iou(box, others), [1, 1 / 3, 0], rtol=1e-6)


def test_boxes_without_area_or_end_are_kept_in_silence():
    """Half-precision engines overflow; such boxes overlap nothing, and nothing is warned of."""
    endless = np.float32(np.inf)
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [-endless, 0, endless, 9]], np.float32)
    scores, class_ids = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    arguments = {"iou_threshold": 0.3, "class_agnostic": False, "max_detections": 300}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nms(boxes, scores, class_ids, **arguments).tolist() == [0, 1, 2]
