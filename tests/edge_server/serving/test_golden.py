"""What counts as the same answer of two engines, and what does not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_server.serving.golden import TOLERANCES, compare, is_empty
from edge_server.serving.upgrade import RecentPictures
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    InstanceMasks,
    KeyPoints,
    SemanticMap,
)

LIMIT = 0.4


def boxes(*rows):
    """Rows of left, top, right, bottom, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


CAT, DOG = (10, 10, 110, 110, 0.9, 0), (10, 10, 110, 110, 0.6, 1)
FAINT = (200, 10, 300, 110, 0.41, 0)


def masks(shift=0, detections=None):
    square = np.array([[20, 20], [80, 20], [80, 80], [20, 80]], np.int32) + [shift, 0]
    return InstanceMasks(detections or boxes(CAT), (square.astype(np.int32),), None, (320, 240))


def points(x=50.0, confidence=0.9):
    return KeyPoints(
        boxes(CAT),
        np.array([[[x, 50], [60, 60]]], np.float32),
        np.array([[confidence, 0]], np.float32),
    )


def scores(*values):
    array = np.array(values, np.float32)
    return ClassScores(array, array > 0.5, multi_label=False)


def class_map(share):
    """A map of 100 by 100 pixels, that share of them of class 1."""
    ids = (np.arange(10_000) < share * 10_000).astype(np.uint8).reshape(100, 100)
    return SemanticMap(ids, ids * 200)


@pytest.mark.parametrize(
    ("precision", "expected", "actual", "difference"),
    [
        pytest.param("fp32", boxes(CAT, DOG), boxes(CAT, DOG), None, id="equal"),
        pytest.param("fp32", boxes(CAT, DOG), boxes(DOG, CAT), None, id="another order"),
        pytest.param("fp32", boxes(), boxes(), None, id="nothing"),
        pytest.param(
            "fp16", boxes(CAT), boxes((*CAT[:4], 0.885, 0)), None, id="slightly less sure"
        ),
        pytest.param(
            "fp32", boxes(CAT), boxes((*CAT[:4], 0.885, 0)), "off by 0.015", id="not for fp32"
        ),
        pytest.param("fp16", boxes(CAT), boxes((*CAT[:4], 0.87, 0)), "off by 0.03", id="less sure"),
        pytest.param(
            "fp16", boxes(CAT), boxes((*CAT[:4], np.nan, 0)), "off by nan", id="no number"
        ),
        pytest.param("fp16", boxes(CAT), boxes((11, *CAT[1:])), None, id="one pixel"),
        pytest.param(
            "fp16", boxes(CAT), boxes((14, *CAT[1:])), "is missing (nearest IoU 0.96)", id="moved"
        ),
        pytest.param("fp16", boxes(CAT), boxes((*CAT[:5], 1)), "is missing", id="another class"),
        pytest.param("fp16", boxes(CAT, FAINT), boxes(CAT), None, id="borderline and gone"),
        pytest.param("fp16", boxes(CAT), boxes(CAT, FAINT), None, id="borderline and new"),
        pytest.param("fp32", boxes(CAT), boxes(CAT, FAINT), "is too much", id="too far for fp32"),
        pytest.param("fp16", boxes(CAT), boxes(CAT, DOG), "is too much", id="an invention"),
        pytest.param("fp16", boxes(CAT, CAT), boxes(CAT), "is missing", id="one for two"),
        pytest.param(
            "fp32", boxes((5, 5, 5, 5, 0.9, 0)), boxes((5, 5, 5, 5, 0.9, 0)), None, id="a point"
        ),
        pytest.param("fp16", masks(), masks(1), None, id="a mask nearly the same"),
        pytest.param(
            "fp16", masks(), masks(10), "the masks have an IoU of 0.72", id="another mask"
        ),
        pytest.param("fp16", points(), points(51), None, id="a keypoint nearly there"),
        pytest.param("fp16", points(), points(60), "off by 10.0 pixels", id="a keypoint elsewhere"),
        pytest.param("fp16", points(), points(60, 0), None, id="a keypoint not seen"),
        pytest.param("fp16", scores(0.7, 0.3), scores(0.69, 0.31), None, id="classes"),
        pytest.param("fp16", scores(0.7, 0.3), scores(0.6, 0.4), "off by 0.100", id="unsure"),
        pytest.param("fp16", scores(0.5, 0.49), scores(0.49, 0.5), None, id="a tie"),
        pytest.param(
            "int8", scores(0.6, 0.4), scores(0.4, 0.6), "class 1 is the best instead", id="upset"
        ),
        pytest.param("fp16", class_map(0.5), class_map(0.505), None, id="a map nearly the same"),
        pytest.param("fp16", class_map(0.5), class_map(0.6), "only 90.0 %", id="another map"),
    ],
)
def test_engines_agree_or_the_difference_is_told(precision, expected, actual, difference):
    found = compare([expected], [actual], TOLERANCES[precision], LIMIT)
    if difference is None:
        assert found.differences == []
    else:
        assert found.differences
        assert difference in str(found)
        assert str(found).startswith("picture 1: ")


def test_what_was_measured_is_told():
    moved = boxes((11, 10, 110, 110, 0.89, 0))
    found = compare([boxes(CAT), scores(1)], [moved, scores(1)], TOLERANCES["fp16"], LIMIT)
    assert found.facts() == {
        "compared": 2,
        "largest_confidence_difference": pytest.approx(0.01, abs=1e-4),
        "smallest_iou": pytest.approx(0.99),
    }


def test_lists_that_are_cut_may_end_differently():
    full = boxes(
        *[(index * 20, 0, index * 20 + 10, 10, 0.9 - index / 1000, 0) for index in range(100)]
    )
    other = replace(full, boxes=full.boxes.copy())
    other.boxes[-1] = (0, 500, 10, 510)
    assert compare([full], [other], TOLERANCES["fp16"], LIMIT).differences == []


def test_many_differences_are_counted():
    found = compare([boxes(*[CAT] * 9)], [boxes()], TOLERANCES["fp16"], LIMIT)
    assert str(found).endswith("; and 4 more")


def test_only_detections_can_be_none():
    assert [is_empty(p) for p in (boxes(), boxes(CAT), points(), scores(1), class_map(0))] == [
        True,
        *[False] * 4,
    ]


def test_few_recent_pictures_are_kept_and_only_small_ones():
    recent, small = RecentPictures(), np.zeros((8, 8, 3), np.uint8)
    recent.add([small])
    recent.add([small])
    assert len(recent.pictures()) == 1, "one a second"
    large = RecentPictures()
    large.add([np.zeros((4000, 4000, 3), np.uint8)])
    assert large.pictures() == []


def test_a_kept_picture_is_a_copy():
    recent, picture = RecentPictures(), np.zeros((8, 8, 3), np.uint8)
    recent.add([picture])
    cv2.circle(picture, (4, 4), 3, (255, 255, 255))
    assert not recent.pictures()[0].any()
