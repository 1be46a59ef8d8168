"""What the anchor-free decoder promises beyond the reference's fixtures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections
from edge_server.vision.yolo import AnchorFreeDecoder

PLACEMENT = Placement(original=(64, 64), crop=(0, 0), scale=(1.0, 1.0), pad=(0, 0))
BEST = Thresholds(confidence=0.5, per_class={"cat": 0.3, "dog": 0.8})


def head(*class_scores, dtype=np.float32):
    """One cell per row of class scores, far from each other."""
    scores = np.array(class_scores, dtype)
    centres = 6 * np.arange(1, len(scores) + 1)
    boxes = np.stack([centres, centres, np.full_like(centres, 4), np.full_like(centres, 4)])
    return np.concatenate([boxes.astype(dtype), scores.T])[None]


def decode(output, params, thresholds=BEST, placements=(PLACEMENT,)):
    return AnchorFreeDecoder(["cat", "dog"], thresholds)({"output0": output}, placements, params)


def test_every_class_has_its_own_threshold_and_a_nameless_one_the_general():
    output = head([0.4, 0, 0], [0, 0.75, 0], [0, 0.9, 0], [0, 0, 0.45], [0, 0, 0.6])
    (found,) = decode(output, InferParams(confidence="best"))
    assert found.class_ids.tolist() == [1, 2, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.4])


@pytest.mark.parametrize(("wanted", "class_ids"), [(("dog",), [1]), (("2", "cat"), [0, 2])])
def test_a_filter_knows_classes_by_the_names_in_the_answer(wanted, class_ids):
    output = head([0.9, 0, 0], [0, 0.8, 0], [0, 0, 0.7])
    (found,) = decode(output, InferParams(class_filter=wanted))
    assert found.class_ids.tolist() == class_ids


def test_a_score_must_exceed_the_threshold_as_float32():
    output = head([np.float32(0.4), 0], [np.nextafter(np.float32(0.4), np.float32(1)), 0])
    (found,) = decode(output, InferParams(confidence=0.4))
    assert len(found) == 1


def test_pictures_that_fill_up_a_batch_are_not_answered():
    output = np.concatenate([head([0.9, 0]), head([0.8, 0])])
    assert len(decode(output, InferParams())) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_answers_have_the_types_they_promise(dtype):
    for scores in ([0.9, 0], [0.1, 0]):
        (found,) = decode(head(scores, dtype=dtype), InferParams())
        kinds = (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype)
        assert kinds == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("shape", [(1, 5, 10), (6, 10), (1, 10, 6, 1)])
def test_an_output_of_another_family_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 4 \+ 2 classes, cells\)"):
        decode(np.zeros(shape, np.float32), InferParams())


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64))
