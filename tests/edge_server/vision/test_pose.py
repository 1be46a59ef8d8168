"""What keypoints promise beyond the reference's fixtures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement

PLACEMENT = Placement((64, 64), (0, 0, 64, 64), (64, 64), (1.0, 1.0), (0, 0, 0, 0))


def spec(shape, *, names=("cat", "dog"), counts=(2, 1)):
    return HeadSpec(names, (shape,), keypoint_counts=counts)


def decode(rows, family="yolo26"):
    """End-to-end rows: x1 y1 x2 y2 score class, then two keypoints."""
    output = np.array([rows], np.float32)
    decoder = DECODERS["keypoint-detection", family](spec(output.shape))
    (found,) = decoder({"output0": output}, [PLACEMENT], InferParams())
    return found


def row(class_id, *points):
    return [10, 10, 30, 30, 0.9, class_id, *np.ravel(points)]


def test_a_class_has_only_its_own_keypoints():
    found = decode([row(0, (1, 2, 0.8), (3, 4, 0.7)), row(1, (1, 2, 0.8), (3, 4, 0.7))])
    assert (found.confidences > 0).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("class_id", [-1, 2, 77])
def test_a_class_that_the_package_does_not_have_has_no_keypoints(class_id):
    found = decode([row(class_id, (1, 2, 0.8), (3, 4, 0.7))])
    assert found.detections.class_ids.tolist() == [class_id]
    assert not found.confidences.any()


def test_nothing_found_has_no_keypoints():
    found = decode([[0] * 12])
    assert found.points.shape == (0, 2, 2)


def test_keypoints_beyond_all_numbers_are_an_error():
    with pytest.raises(ValueError, match="NaN or infinity"):
        decode([row(0, (1, np.inf, 0.8), (3, 4, 0.7))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"names": ("cat",), "counts": (2,)}, "for 1 classes", id="a class too few"),
        pytest.param({"counts": (1, 1)}, "for 2 classes", id="a keypoint too few"),
        pytest.param({"counts": (2,)}, "describes the keypoints of 1 classes", id="none for dog"),
    ],
)
def test_a_package_that_splits_the_channels_wrongly_is_refused(changes, message):
    """Nothing but the package says where the class scores end and the keypoints begin."""
    with pytest.raises(ValueError, match=message):
        DECODERS["keypoint-detection", "yolov8"](spec((1, 4 + 2 + 6, 84), **changes))
