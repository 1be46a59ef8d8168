"""What the YOLO heads promise beyond the reference's fixtures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections

PLACEMENT = Placement((64, 64), (0, 0, 64, 64), (64, 64), (1.0, 1.0), (0, 0, 0, 0))
BEST = Thresholds(confidence=0.5, per_class={"cat": 0.3, "dog": 0.8})


def head(*class_scores, dtype=np.float32):
    """One cell per row of class scores, far from each other."""
    scores = np.array(class_scores, dtype)
    centres = 6 * np.arange(1, len(scores) + 1)
    boxes = np.stack([centres, centres, np.full_like(centres, 4), np.full_like(centres, 4)])
    return np.concatenate([boxes.astype(dtype), scores.T])[None]


def decode(output, params, *, family="yolov8", placements=(PLACEMENT,), fused=False):
    spec = HeadSpec(("cat", "dog"), (output.shape,), BEST, fused)
    decoder = DECODERS["object-detection", family](spec)
    return decoder({"output0": output}, placements, params)


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 2, 4, 5], ids=["x", "width", "cat", "dog"])
def test_an_output_that_is_no_number_is_an_error_not_an_empty_answer(row, value):
    output = head([0.9, 0.1], [0.8, 0.2])
    output[0, row, 0] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        decode(output, InferParams())


@pytest.mark.parametrize("shape", [(1, 5, 10), (6, 10), (1, 10, 6, 1)])
def test_an_output_of_another_family_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 4 \+ classes \+ 0, cells\) for 2"):
        decode(np.zeros(shape, np.float32), InferParams())


@pytest.mark.parametrize(
    ("family", "kept"),
    [
        pytest.param("yolov8", [0.9, 0.4, 0.3], id="NMS in the graph: all that reach it"),
        pytest.param("yolov10", [0.9, 0.4], id="YOLOv10: exceeds, and max_detections counts"),
        pytest.param("yolo26", [0.9, 0.4, 0.3], id="YOLO26: all that reach it"),
    ],
)
def test_end_to_end_heads_are_only_filtered(family, kept):
    rows = [[0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.4, 1], [1, 1, 9, 9, 0.3, 0], [0] * 6]
    params = InferParams(confidence=0.3, max_detections=2)
    (found,) = decode(np.array([rows], np.float32), params, family=family, fused=True)
    assert found.scores.tolist() == pytest.approx(kept)


@pytest.mark.parametrize("family", ["yolov10", "yolo26"])
def test_a_family_named_end_to_end_is_read_raw_when_its_shape_says_so(family):
    output = np.concatenate([head([0.9, 0], [0.8, 0], [0, 0.7])] * 3, axis=2)
    (found,) = decode(output, InferParams(), family=family)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


@pytest.mark.parametrize(
    ("limit", "agnostic", "kept"),
    [
        pytest.param(0.3, False, [0, 2], id="the same class only"),
        pytest.param(0.3, True, [0], id="all classes"),
        pytest.param(1.0, False, [0, 1, 2], id="nothing overlaps more than wholly"),
    ],
)
def test_suppression(limit, agnostic, kept):
    output = head([0.9, 0], [0.8, 0], [0, 0.7])
    output[0, :2] = 20
    params = InferParams(iou_threshold=limit, class_agnostic_nms=agnostic)
    (found,) = decode(output, params)
    assert found.scores.tolist() == pytest.approx([[0.9, 0.8, 0.7][index] for index in kept])


def test_a_flood_of_boxes_is_suppressed_across_blocks():
    """1000 boxes on 10 places: each place keeps its best, wherever it stands in the order."""
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(10), 100)
    output = np.zeros((1, 6, 1000), np.float32)
    output[0, 0] = output[0, 1] = 30 * places + 20
    output[0, 2] = output[0, 3] = 10
    output[0, 4] = rng.permutation(np.linspace(0.5, 0.9, 1000))
    placement = Placement((400, 400), (0, 0, 400, 400), (400, 400), (1.0, 1.0), (0, 0, 0, 0))
    (found,) = decode(output, InferParams(), placements=[placement])
    best = output[0, 4].reshape(10, 100).max(axis=1)
    assert found.scores.tolist() == sorted(best.tolist(), reverse=True)
    (found,) = decode(output, InferParams(max_detections=3), placements=[placement])
    assert len(found) == 3


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("family", "shapes", "message"),
    [
        ("yolonas", [(1, 84, 4), (1, 80, 2)], "as many rows in each"),
        ("yolonas", [(1, 84, 4)], "expected 2 of three dimensions"),
        ("yololite", [(1, 84, 4), (1, 84, 1), (1, 80, 2)], "as many rows in each"),
    ],
)
def test_outputs_that_do_not_belong_together_are_refused(family, shapes, message):
    spec = HeadSpec(("cat", "dog"), tuple(shapes))
    with pytest.raises(ValueError, match=message):
        DECODERS["object-detection", family](spec)


@pytest.mark.parametrize("limit", [0, 2])
def test_no_more_rows_than_asked_for(limit):
    rows = [[0, 0, 9, 9, score, 1] for score in (0.9, 0.8, 0.7)]
    params = InferParams(max_detections=limit)
    (found,) = decode(np.array([rows], np.float32), params, family="yolov10")
    assert len(found) == limit
