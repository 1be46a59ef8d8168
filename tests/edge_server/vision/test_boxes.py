"""Non-maximum suppression against the plainest possible one."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.boxes import iou, nms

RNG = np.random.default_rng(1)


def random_boxes(count):
    corners = RNG.uniform(0, 100, (count, 2, 2))
    boxes = np.hstack([corners.min(1), corners.max(1)]).astype(np.float32)
    scores = RNG.integers(0, 20, count).astype(np.float32) / 20  # many ties
    return boxes, scores, RNG.integers(0, 3, count)


def plain_nms(boxes, scores, class_ids, iou_threshold, class_agnostic):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [k for k in kept if class_agnostic or class_ids[k] == class_ids[index]]
        if all(float(iou(boxes[k], boxes[index][None])[0]) <= iou_threshold for k in rivals):
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
