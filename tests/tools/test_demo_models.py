"""The measures of the demo models, worked out by hand, and the pictures they are measured on."""

from __future__ import annotations

import numpy as np
import pytest

from tools.demo_models.held_out import held_out
from tools.demo_models.metrics import (
    Instances,
    mask_overlap,
    mean_iou,
    micro_f1,
    point_overlap,
    top1_accuracy,
)

MODELS = ["demo-parts-seg", "demo-wrenches", "demo-surfaces", "demo-trays", "demo-corrosion"]
BOX = np.array([[0, 0, 10, 10]])
CLASS = np.array([0])


def test_masks_overlap_by_shared_pixels():
    left, right = np.zeros((2, 1, 4, 4), bool)
    left[0, :, :2] = True
    right[0, :, 1:3] = True
    found, truth = Instances(BOX, CLASS, masks=left), Instances(BOX, CLASS, masks=right)
    assert mask_overlap(found, truth) == pytest.approx(4 / 12)
    none = np.array([], int)
    assert mask_overlap(found[none], truth).shape == (0, 1)
    assert mask_overlap(found, truth[none]).shape == (1, 0)


def test_points_are_alike_by_distance_in_sizes_of_the_box_and_hidden_ones_do_not_count():
    truth = Instances(BOX, CLASS, points=np.array([[[2, 2, 1], [5, 5, 1], [9, 9, 0]]]))
    found = Instances(BOX, CLASS, points=np.array([[[2, 2], [5, 6], [0, 0]]]))
    # Exact, and one pixel off at an area of 100 with k = 0.1: exp(-1 / 2).
    assert point_overlap(found, truth) == pytest.approx((1 + np.exp(-0.5)) / 2)


def test_classes_and_labels():
    assert top1_accuracy([1, 2, 0, 0], [1, 2, 0, 4]) == 0.75
    found = np.array([[True, True, False], [False, False, True]])
    truth = np.array([[True, False, False], [False, True, True]])
    assert micro_f1(found, truth) == pytest.approx(2 * 2 / (3 + 3))


def test_iou_of_classes_is_of_all_pictures_together():
    found = [np.array([[0, 0, 1, 1]], np.uint8), np.array([[1, 1]], np.uint8)]
    truth = [np.array([[0, 1, 1, 1]], np.uint8), np.array([[1, 1]], np.uint8)]
    mean, per_class = mean_iou(found, truth, 2)
    assert per_class == pytest.approx([1 / 2, 4 / 5])
    assert mean == pytest.approx(0.65)


@pytest.mark.parametrize("name", MODELS)
def test_a_held_out_picture_is_always_the_same(name):
    (first, _), (again, _), (other, _) = (held_out(name, index) for index in (3, 3, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_truth_lies_within_the_picture():
    picture, parts = held_out("demo-parts-seg", 1)
    height, width = picture.shape[:2]
    assert parts.masks.shape == (len(parts.boxes), height, width)
    for mask, (x1, y1, x2, y2) in zip(parts.masks, parts.boxes.astype(int), strict=True):
        assert mask.any()
        assert not np.delete(mask, np.s_[y1:y2], 0).any()
        assert not np.delete(mask, np.s_[x1:x2], 1).any()
